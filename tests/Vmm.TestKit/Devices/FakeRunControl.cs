using Vmm.ObjectModel.Run;
using Vmm.Qapi.Types;

namespace Vmm.TestKit.Devices;

/// <summary>Run control that only remembers what was asked of it.</summary>
public sealed class FakeRunControl : IRunControl
{
    private readonly List<Action> _powerdown = [];
    private readonly List<Action<WakeupReason>> _wakeup = [];

    /// <summary>Requests in order, as text such as <c>reset guest-reset</c>.</summary>
    public List<string> Requests { get; } = [];

    /// <inheritdoc/>
    public RunState State { get; set; } = RunState.Running;

    /// <inheritdoc/>
    public bool IsRunning => State == RunState.Running;

    /// <inheritdoc/>
    public void RequestShutdown(ShutdownCause cause) => Add($"shutdown {cause}");

    /// <inheritdoc/>
    public void RequestReset(ShutdownCause cause) => Add($"reset {cause}");

    /// <inheritdoc/>
    public void RequestPowerdown()
    {
        Add("powerdown");
        _powerdown.ForEach(static n => n());
    }

    /// <inheritdoc/>
    public void RequestSuspend()
    {
        Add("suspend");
        State = RunState.Suspended;
    }

    /// <inheritdoc/>
    public void RequestWakeup(WakeupReason reason)
    {
        Add($"wakeup {reason}");
        State = RunState.Running;
        _wakeup.ForEach(n => n(reason));
    }

    /// <inheritdoc/>
    public void RequestVmStop(RunState state) => Add($"stop {state}");

    /// <inheritdoc/>
    public void GuestPanicked(GuestPanicInformation? info) => Add("panicked");

    /// <inheritdoc/>
    public void GuestCrashLoaded(GuestPanicInformation? info) => Add("crashloaded");

    /// <inheritdoc/>
    public void WatchdogExpired() => Add("watchdog");

    /// <inheritdoc/>
    public void RequestExit(int status) => Add($"exit {status}");

    /// <inheritdoc/>
    public void EnableWakeup(WakeupReason reason, bool enabled) => Add($"wakeup-enable {reason} {enabled}");

    /// <inheritdoc/>
    public void AddPowerdownNotifier(Action notify) => _powerdown.Add(notify);

    /// <inheritdoc/>
    public void AddWakeupNotifier(Action<WakeupReason> notify) => _wakeup.Add(notify);

    /// <inheritdoc/>
    public IDisposable AddVmStateChangeHandler(VmStateChangeHandler handler, int priority = 0) => new Registration();

    // Random register tests make millions of requests: only the last ones are of interest.
    private void Add(string request)
    {
        if (Requests.Count > 1000)
        {
            Requests.RemoveRange(0, 500);
        }

        Requests.Add(request);
    }

    private sealed class Registration : IDisposable
    {
        public void Dispose()
        {
        }
    }
}
