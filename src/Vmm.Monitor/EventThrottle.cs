using Vmm.EventLoop;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>
/// The interval after a rate-limited event: further ones wait for its end, the last one wins and keeps the time at which it happened.
/// </summary>
internal sealed class EventThrottle
{
    private readonly MonitorCore _core;
    private readonly LoopTimer _timer;
    private readonly long _intervalNs;
    private readonly Action _remove;
    private IQmpEvent? _pending;
    private long _pendingNs;

    public EventThrottle(MonitorCore core, int intervalMs, Action remove)
    {
        _core = core;
        _intervalNs = intervalMs * 1_000_000L;
        _remove = remove;
        _timer = core.Loop.CreateTimer(core.EventClock, OnTimer);
        _timer.ArmAfter(_intervalNs);
    }

    public void Postpone(IQmpEvent qmpEvent, long timestampNs)
    {
        _pending = qmpEvent;
        _pendingNs = timestampNs;
    }

    private void OnTimer()
    {
        if (_pending is not { } qmpEvent)
        {
            _timer.Dispose();
            _remove();
            return;
        }

        _pending = null;
        _timer.ArmAfter(_intervalNs);
        _core.Broadcast(qmpEvent, _pendingNs);
    }
}
