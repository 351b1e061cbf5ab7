using Vmm.Devices.Pci;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Piix;

public sealed partial class Piix4Pm : IVmStateful
{
    /// <inheritdoc/>
    public string VmStateName => "piix4_pm";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new Piix4PmState
    {
        Pci = CapturePci(),
        Status = _pm.SavedStatus,
        Enable = _pm.Enable,
        Control = _pm.Control,
        ApmCommand = _apmCommand,
        ApmStatus = _apmStatus,
        Smbus = _smbus.Capture(),
        TimerDeadlineNs = _pm.TimerDeadlineNs,
        OverflowNs = _pm.OverflowNs,
        GpeStatus = _pm.GpeStatus,
        GpeEnable = _pm.GpeEnable,
        MemoryHotplug = new Piix4MemoryHotplugState(),
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        Piix4PmState s = Piix4PmState.Load(reader, version);
        if (ValidatePci(s.Pci) is { } error)
        {
            throw new VmStateException(error);
        }

        ApplyPci(s.Pci);
        _apmCommand = s.ApmCommand;
        _apmStatus = s.ApmStatus;
        _smbus.Apply(s.Smbus);
        _pm.Restore(s.Status, s.Enable, s.Control, s.TimerDeadlineNs, s.OverflowNs, s.GpeStatus, s.GpeEnable);
        UpdatePmMapping();
        UpdateSmbusMapping();
    }
}

/// <summary>Migration section of the power management function.</summary>
[VmState("piix4_pm", Version = 3, MinimumVersion = 3)]
public sealed partial record Piix4PmState
{
    /// <summary>Configuration space.</summary>
    public PciDeviceState Pci { get; init; } = new();

    /// <summary>PM1 status.</summary>
    public ushort Status { get; init; }

    /// <summary>PM1 enable.</summary>
    public ushort Enable { get; init; }

    /// <summary>PM1 control.</summary>
    public ushort Control { get; init; }

    /// <summary>SMI command port.</summary>
    public byte ApmCommand { get; init; }

    /// <summary>SMI status port.</summary>
    public byte ApmStatus { get; init; }

    /// <summary>SMBus controller.</summary>
    public PmSmbusState Smbus { get; init; } = new();

    /// <summary>Overflow timer; -1 when not armed.</summary>
    public long TimerDeadlineNs { get; init; }

    /// <summary>Next overflow of the PM timer.</summary>
    public long OverflowNs { get; init; }

    /// <summary>General purpose events.</summary>
    public ushort GpeStatus { get; init; }

    /// <summary>General purpose event enables.</summary>
    public ushort GpeEnable { get; init; }

    /// <summary>Bus selected by the guest's hotplug code.</summary>
    public uint HotplugSelect { get; init; }

    /// <summary>Hotplug state of 256 buses: slots up and down.</summary>
    [VmArray(512)]
    public uint[] HotplugSlots { get; init; } = new uint[512];

    /// <summary>ACPI index of the device last selected.</summary>
    public uint AcpiIndex { get; init; }

    /// <summary>Memory hotplug.</summary>
    [VmSubsection]
    public Piix4MemoryHotplugState? MemoryHotplug { get; init; }
}

/// <summary>Memory hotplug registers.</summary>
[VmState("piix4_pm/memhp")]
public sealed partial record Piix4MemoryHotplugState
{
    /// <summary>Slot selected by the guest.</summary>
    public uint Selector { get; init; }
}
