using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Run;

/// <summary>The machine is going to be shut down, or has been stopped instead of that.</summary>
/// <param name="Guest">True when the guest asked for it.</param>
/// <param name="Reason">Who asked, and how.</param>
[QmpEvent("SHUTDOWN")]
public sealed partial record ShutdownEvent(bool Guest, ShutdownCause Reason);

/// <summary>The machine was reset.</summary>
/// <param name="Guest">True when the guest asked for it.</param>
/// <param name="Reason">Who asked, and how.</param>
[QmpEvent("RESET")]
public sealed partial record ResetEvent(bool Guest, ShutdownCause Reason);

/// <summary>The power button was pressed.</summary>
[QmpEvent("POWERDOWN")]
public sealed partial record PowerdownEvent;

/// <summary>The vCPUs have stopped.</summary>
[QmpEvent("STOP")]
public sealed partial record StopEvent;

/// <summary>The vCPUs run again.</summary>
[QmpEvent("RESUME")]
public sealed partial record ResumeEvent;

/// <summary>The guest is suspended to RAM.</summary>
[QmpEvent("SUSPEND")]
public sealed partial record SuspendEvent;

/// <summary>The guest was woken from suspension.</summary>
[QmpEvent("WAKEUP")]
public sealed partial record WakeupEvent;

/// <summary>A watchdog expired.</summary>
/// <param name="Action">What is done about it.</param>
[QmpEvent("WATCHDOG", RateLimitMs = 1000)]
public sealed partial record WatchdogEvent(WatchdogAction Action);

/// <summary>The guest said that it crashed.</summary>
/// <param name="Action">What is done about it.</param>
/// <param name="Info">Details, where the guest gave some.</param>
[QmpEvent("GUEST_PANICKED")]
public sealed partial record GuestPanickedEvent(GuestPanicAction Action, GuestPanicInformation? Info);

/// <summary>The guest said that it crashed and that its crash handler goes on.</summary>
/// <param name="Action">What is done about it.</param>
/// <param name="Info">Details, where the guest gave some.</param>
[QmpEvent("GUEST_CRASHLOADED")]
public sealed partial record GuestCrashLoadedEvent(GuestPanicAction Action, GuestPanicInformation? Info);
