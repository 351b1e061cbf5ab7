using Vmm.Qapi;

namespace Vmm.Devices.Qmp;

/// <summary>What a hotplug slot holds.</summary>
[QapiEnum]
[QapiName("ACPISlotType")]
public enum AcpiSlotType
{
    /// <summary>A memory device.</summary>
    [QapiName("DIMM")]
    Dimm,

    /// <summary>A CPU.</summary>
    [QapiName("CPU")]
    Cpu,
}

/// <summary>What the guest's operating system said about a hotplug slot (_OST).</summary>
[QapiStruct]
[QapiName("ACPIOSTInfo")]
public sealed partial record AcpiOstInfo
{
    /// <summary>Id of the device in it.</summary>
    public string? Device { get; init; }

    /// <summary>Number of the slot.</summary>
    public required string Slot { get; init; }

    /// <summary>Kind of slot.</summary>
    [QapiName("slot-type")]
    public required AcpiSlotType SlotType { get; init; }

    /// <summary>Source event.</summary>
    public required long Source { get; init; }

    /// <summary>Status code.</summary>
    public required long Status { get; init; }
}
