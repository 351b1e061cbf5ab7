using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Devices;

/// <summary>
/// What a machine offers the devices that are plugged into it. A device gets it in <c>Realize</c>, and reaches nothing else.
/// </summary>
public interface IMachineServices
{
    /// <summary>The main loop; home of machine state.</summary>
    EventLoop.EventLoop MainLoop { get; }

    /// <summary>Clocks of this machine. Models read the virtual clock only.</summary>
    Clocks Clocks { get; }

    /// <summary>The big lock under which chipset handlers run.</summary>
    MachineLock Lock { get; }

    /// <summary>Root of the physical address space.</summary>
    MemoryRegion SystemMemory { get; }

    /// <summary>Root of the port space, 64 KiB.</summary>
    MemoryRegion SystemIo { get; }

    /// <summary>Physical address space as vCPUs and DMA see it.</summary>
    AddressSpace Memory { get; }

    /// <summary>Port space.</summary>
    AddressSpace Ports { get; }

    /// <summary>Run state: shutdown, reset, panic requests go there.</summary>
    IRunControl Run { get; }

    /// <summary>Where QMP events go.</summary>
    IEventEmitter Events { get; }

    /// <summary>The object tree.</summary>
    QomTree Objects { get; }

    /// <summary>Realizes the devices that a device is made of.</summary>
    DeviceFactory Devices { get; }

    /// <summary>The accelerator that runs this machine.</summary>
    IAccelerator Accelerator { get; }

    /// <summary>The disks of the process.</summary>
    IBlockBackends Blocks { get; }

    /// <summary>Global System Interrupts (24 for a PC): input lines of the machine's interrupt controllers. Never null entries.</summary>
    IReadOnlyList<InterruptLine> Gsi { get; }

    /// <summary>Adds a callback that runs at each system reset after devices were reset, in order of addition.</summary>
    void AddResetHandler(Action reset);
}
