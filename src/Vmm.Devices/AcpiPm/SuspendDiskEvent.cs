using Vmm.Qapi;

namespace Vmm.Devices.AcpiPm;

/// <summary>The guest suspended itself to disk; the machine powers off.</summary>
[QmpEvent("SUSPEND_DISK")]
public sealed partial record SuspendDiskEvent;
