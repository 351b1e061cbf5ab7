using Vmm.Devices.SystemBus;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi.Types;

namespace Vmm.Devices.Ged;

/// <summary>
/// The generic event device of hardware-reduced ACPI (QOM <c>acpi-ged-x86</c>): an event selector that the guest's AML reads on
/// each interrupt, and the sleep and reset registers that the FADT names.
/// </summary>
/// <remarks>Source: ACPI specification 6.4, 4.1 and 5.6.9. Home: the machine lock.</remarks>
[QomType("acpi-ged-x86", UserCreatable = false)]
public sealed partial class AcpiGed : SysBusDevice, IVmStateful, IInterruptOutputs
{
    /// <summary>Event bit of the power button.</summary>
    public const uint PowerDownEvent = 0x02;

    /// <summary>Offset of the sleep control register.</summary>
    public const int SleepControlOffset = 0;

    /// <summary>Offset of the sleep status register.</summary>
    public const int SleepStatusOffset = 1;

    /// <summary>Offset of the reset register.</summary>
    public const int ResetOffset = 2;

    /// <summary>Value of the reset register that resets the machine.</summary>
    public const byte ResetValue = 0x42;

    /// <summary>Sleep type of power-off.</summary>
    public const int SleepTypeS5 = 5;

    private const byte SleepEnable = 0x20;
    private const int SleepTypeShift = 2;
    private const uint EventRegisterSize = 4;
    private const uint ControlRegistersSize = 3;

    private uint _selector;

    /// <summary>Events that the board's AML handles.</summary>
    [QomProperty("ged-event", Default = "0")]
    public uint Events { get; set; } = PowerDownEvent;

    /// <summary>Where the board maps the selector.</summary>
    public ulong EventAddress { get; set; } = 0xfea00000;

    /// <summary>Where the board maps sleep and reset registers.</summary>
    public ulong RegistersAddress { get; set; } = 0xfea00200;

    /// <summary>Interrupt line; pulsed for each event.</summary>
    public InterruptLine Irq { get; set; } = new();

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Outputs => [Irq];

    /// <inheritdoc/>
    public string VmStateName => "acpi-ged";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <summary>Signals events to the guest; those that it does not handle are dropped.</summary>
    public void Raise(uint events)
    {
        if ((events & Events) != 0)
        {
            _selector |= events & Events;
            Irq.Pulse();
        }
    }

    /// <inheritdoc/>
    public override void Reset() => _selector = 0;

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) =>
        new AcpiGedState { Selector = _selector, MemoryHotplug = new AcpiGedMemoryHotplugState() }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version) => _selector = AcpiGedState.Load(reader, version).Selector;

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        MapMemory("acpi-ged", EventAddress, EventRegisterSize, new IoWindow(ReadSelector, static (_, _, _) => { }), new IoConstraints(4, 4, 4, 4));
        MapMemory("acpi-ged-regs", RegistersAddress, ControlRegistersSize, new IoWindow(static (_, _) => 0, WriteControl), IoConstraints.Bytes);
        Machine.Run.AddPowerdownNotifier(() => Raise(PowerDownEvent));
    }

    // Reading takes the events: the AML handles all that it gets.
    private ulong ReadSelector(ulong offset, int size)
    {
        uint events = _selector;
        _selector = 0;
        return events;
    }

    private void WriteControl(ulong offset, ulong value, int size)
    {
        if (offset == SleepControlOffset)
        {
            if ((value & SleepEnable) != 0 && ((value >> SleepTypeShift) & 7) == SleepTypeS5)
            {
                Machine.Run.RequestShutdown(ShutdownCause.GuestShutdown);
            }
        }
        else if (offset == ResetOffset && (byte)value == ResetValue)
        {
            Machine.Run.RequestReset(ShutdownCause.GuestReset);
        }
    }
}

/// <summary>Migration section of the event device.</summary>
[VmState("acpi-ged")]
public sealed partial record AcpiGedState
{
    /// <summary>Events not read yet.</summary>
    public uint Selector { get; init; }

    /// <summary>Memory hotplug.</summary>
    [VmSubsection]
    public AcpiGedMemoryHotplugState? MemoryHotplug { get; init; }
}

/// <summary>Memory hotplug registers.</summary>
[VmState("acpi-ged/memhp")]
public sealed partial record AcpiGedMemoryHotplugState
{
    /// <summary>Slot selected by the guest.</summary>
    public uint Selector { get; init; }
}
