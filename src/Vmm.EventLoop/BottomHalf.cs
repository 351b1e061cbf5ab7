namespace Vmm.EventLoop;

/// <summary>
/// A callback to be run soon on its loop. Scheduling is allowed on any thread, does not allocate, and several requests before the
/// callback begins make one call. A request made by the callback itself is served in the loop's next round.
/// </summary>
public sealed class BottomHalf : IDisposable
{
    private const int Idle = 0;
    private const int Scheduled = 1;
    private const int Cancelled = 2;

    private readonly EventLoop _loop;
    private readonly Action _callback;
    private int _state;

    internal BottomHalf(EventLoop loop, Action callback)
    {
        _loop = loop;
        _callback = callback;
    }

    /// <summary>True from a request until its call begins.</summary>
    public bool IsScheduled => Volatile.Read(ref _state) == Scheduled;

    /// <summary>Requests a call.</summary>
    public void Schedule()
    {
        // A cancelled one still has its place in the queue.
        if (Interlocked.Exchange(ref _state, Scheduled) == Idle)
        {
            _loop.Enqueue(this, null);
        }
    }

    /// <summary>Takes the request back. On the home thread: the callback does not run any more.</summary>
    public void Cancel() => Interlocked.CompareExchange(ref _state, Cancelled, Scheduled);

    /// <summary>As <see cref="Cancel"/>.</summary>
    public void Dispose() => Cancel();

    internal void Run()
    {
        if (Interlocked.Exchange(ref _state, Idle) == Scheduled)
        {
            _callback();
        }
    }
}
