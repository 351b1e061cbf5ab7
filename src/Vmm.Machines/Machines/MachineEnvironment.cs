using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>What a machine is built into: the process around it.</summary>
public sealed record MachineEnvironment
{
    /// <summary>The main loop.</summary>
    public required EventLoop.EventLoop MainLoop { get; init; }

    /// <summary>Clocks of the process.</summary>
    public required Clocks Clocks { get; init; }

    /// <summary>The big lock.</summary>
    public required MachineLock Lock { get; init; }

    /// <summary>The big lock as address spaces take it.</summary>
    public required IIoLock IoLock { get; init; }

    /// <summary>Run state.</summary>
    public required RunControl Run { get; init; }

    /// <summary>Where events go.</summary>
    public required IEventEmitter Events { get; init; }

    /// <summary>The object tree.</summary>
    public required QomTree Objects { get; init; }

    /// <summary>Makes devices.</summary>
    public required DeviceFactory Devices { get; init; }

    /// <summary>Disks for devices.</summary>
    public required IBlockBackends Blocks { get; init; }

    /// <summary>Runs the guest.</summary>
    public required IAccelerator Accelerator { get; init; }

    /// <summary>The in-kernel interrupt controllers asked for by the accelerator's options; null for the machine's default.</summary>
    public KernelIrqchipMode? Irqchip { get; init; }

    /// <summary>Takes the blocks of guest RAM and ROM.</summary>
    public RamList Ram { get; init; } = new();

    /// <summary>Takes the images that are loaded.</summary>
    public RomList Roms { get; init; } = new();

    /// <summary>Warnings for standard error, without program name.</summary>
    public required Action<string> Warn { get; init; }

    /// <summary>Errors for standard error that do not keep the machine from starting.</summary>
    public required Action<string> Report { get; init; }
}
