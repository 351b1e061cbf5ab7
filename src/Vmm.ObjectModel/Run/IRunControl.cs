using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Run;

/// <summary>Told of every change between running and stopped. Called under the machine lock on the main loop.</summary>
/// <param name="running">True when vCPUs are about to run, false when they have stopped.</param>
/// <param name="state">The run state entered.</param>
public delegate void VmStateChangeHandler(bool running, RunState state);

/// <summary>
/// The run state of the machine. Requests may come from any thread (vCPU exits, devices, signals, monitors); they are carried
/// out by the main loop, in QEMU's order: debug, suspend, shutdown, reset, wakeup, powerdown, vmstop.
/// </summary>
public interface IRunControl
{
    /// <summary>Present state.</summary>
    RunState State { get; }

    /// <summary>True when vCPUs are (to be) executing.</summary>
    bool IsRunning { get; }

    /// <summary>Asks for a shutdown with this cause; whether the process ends is up to the action policy. Any thread.</summary>
    void RequestShutdown(ShutdownCause cause);

    /// <summary>Asks for a system reset with this cause (turned into a shutdown under <c>-no-reboot</c>). Any thread.</summary>
    void RequestReset(ShutdownCause cause);

    /// <summary>Says whether an event of this kind may wake a suspended guest; all may until a device says otherwise. Main loop.</summary>
    void EnableWakeup(WakeupReason reason, bool enabled);

    /// <summary>Presses the power button: event POWERDOWN and notifiers. Any thread.</summary>
    void RequestPowerdown();

    /// <summary>Guest asks to be suspended to RAM (S3). Any thread.</summary>
    void RequestSuspend();

    /// <summary>Wakes a suspended guest; the error text is QEMU's when it is not suspended. Main loop.</summary>
    void RequestWakeup(WakeupReason reason);

    /// <summary>Asks to stop the vCPUs and enter <paramref name="state"/>. Any thread.</summary>
    void RequestVmStop(RunState state);

    /// <summary>The guest said that it crashed: event GUEST_PANICKED and the panic action. Any thread.</summary>
    void GuestPanicked(GuestPanicInformation? info);

    /// <summary>The guest said that it crashed but goes on with its own crash handler: event GUEST_CRASHLOADED. Any thread.</summary>
    void GuestCrashLoaded(GuestPanicInformation? info);

    /// <summary>A watchdog expired: event WATCHDOG and the watchdog action. Any thread; the machine lock is held.</summary>
    void WatchdogExpired();

    /// <summary>Ends the process at once with this exit status (0 to 255), whatever the policies, without a SHUTDOWN event. Any thread.</summary>
    void RequestExit(int status);

    /// <summary>Called when the power button is pressed (ACPI raises its event there). Main loop.</summary>
    void AddPowerdownNotifier(Action notify);

    /// <summary>Called when the guest is about to be suspended. Main loop.</summary>
    void AddSuspendNotifier(Action notify);

    /// <summary>Called when a suspended guest is woken. Main loop.</summary>
    void AddWakeupNotifier(Action<WakeupReason> notify);

    /// <summary>Called on each transition between running and stopped; higher priority is called first on start and last on stop.</summary>
    IDisposable AddVmStateChangeHandler(VmStateChangeHandler handler, int priority = 0);
}

/// <summary>What woke a suspended guest.</summary>
public enum WakeupReason
{
    /// <summary>The real-time clock's alarm.</summary>
    Rtc,

    /// <summary>The power management timer.</summary>
    PmTimer,

    /// <summary>Anything else: an operator, a network packet, a key.</summary>
    Other,
}
