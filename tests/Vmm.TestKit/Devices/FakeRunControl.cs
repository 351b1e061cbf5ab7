using Vmm.ObjectModel.Run;
using Vmm.Qapi.Types;

namespace Vmm.TestKit.Devices;

/// <summary>Run control that only remembers what was asked of it.</summary>
public sealed class FakeRunControl : IRunControl
{
    private readonly List<VmStateChangeHandler> _stateHandlers = [];
    private readonly List<Action> _powerdown = [];
    private readonly List<Action<WakeupReason>> _wakeup = [];
    private readonly List<Action> _suspend = [];

    /// <summary>Requests in order, as text such as <c>reset GuestReset</c>.</summary>
    public List<string> Requests { get; } = [];

    /// <summary>False to remember nothing, for tests that count allocations.</summary>
    public bool IsRecording { get; set; } = true;

    /// <inheritdoc/>
    public RunState State { get; set; } = RunState.Running;

    /// <inheritdoc/>
    public bool IsRunning => State == RunState.Running;

    /// <inheritdoc/>
    public void RequestShutdown(ShutdownCause cause) => Add(IsRecording ? $"shutdown {cause}" : null);

    /// <inheritdoc/>
    public void RequestReset(ShutdownCause cause) => Add(IsRecording ? $"reset {cause}" : null);

    /// <inheritdoc/>
    public void RequestPowerdown()
    {
        Add(IsRecording ? "powerdown" : null);
        _powerdown.ForEach(static n => n());
    }

    /// <inheritdoc/>
    public void RequestSuspend()
    {
        Add(IsRecording ? "suspend" : null);
        _suspend.ForEach(static n => n());
        State = RunState.Suspended;
    }

    /// <inheritdoc/>
    public void RequestWakeup(WakeupReason reason)
    {
        Add(IsRecording ? $"wakeup {reason}" : null);
        State = RunState.Running;
        _wakeup.ForEach(n => n(reason));
    }

    /// <inheritdoc/>
    public void RequestVmStop(RunState state) => Add(IsRecording ? $"stop {state}" : null);

    /// <inheritdoc/>
    public void GuestPanicked(GuestPanicInformation? info) => Add(IsRecording ? "panicked" : null);

    /// <inheritdoc/>
    public void GuestCrashLoaded(GuestPanicInformation? info) => Add(IsRecording ? "crashloaded" : null);

    /// <inheritdoc/>
    public void WatchdogExpired() => Add(IsRecording ? "watchdog" : null);

    /// <inheritdoc/>
    public void RequestExit(int status) => Add(IsRecording ? $"exit {status}" : null);

    /// <inheritdoc/>
    public void EnableWakeup(WakeupReason reason, bool enabled) => Add(IsRecording ? $"wakeup-enable {reason} {enabled}" : null);

    /// <inheritdoc/>
    public void AddPowerdownNotifier(Action notify) => _powerdown.Add(notify);

    /// <inheritdoc/>
    public void AddSuspendNotifier(Action notify) => _suspend.Add(notify);

    /// <inheritdoc/>
    public void AddWakeupNotifier(Action<WakeupReason> notify) => _wakeup.Add(notify);

    /// <inheritdoc/>
    public IDisposable AddVmStateChangeHandler(VmStateChangeHandler handler, int priority = 0)
    {
        _stateHandlers.Add(handler);
        return new Registration();
    }

    /// <summary>Stops the machine, or lets it go on.</summary>
    public void ChangeState(bool isRunning)
    {
        State = isRunning ? RunState.Running : RunState.Paused;
        _stateHandlers.ForEach(h => h(isRunning, State));
    }

    // Random register tests make millions of requests: only the last ones are of interest.
    private void Add(string? request)
    {
        if (request is null)
        {
            return;
        }

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
