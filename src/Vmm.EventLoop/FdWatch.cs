namespace Vmm.EventLoop;

/// <summary>What a descriptor is ready for, or what somebody waits for. Error and HangUp are always reported.</summary>
[Flags]
public enum FdEvents
{
    /// <summary>Nothing: the watch is suspended, and not even errors are reported.</summary>
    None = 0,

    /// <summary>Can be read without blocking (end of file included).</summary>
    Readable = 1,

    /// <summary>Urgent data.</summary>
    Priority = 2,

    /// <summary>Can be written without blocking.</summary>
    Writable = 4,

    /// <summary>An error is pending.</summary>
    Error = 8,

    /// <summary>Both directions are shut down.</summary>
    HangUp = 16,

    /// <summary>The peer will send no more; reported only when asked for.</summary>
    ReadHangUp = 0x2000,
}

/// <summary>A way to see that a watch's event has happened without a system call, for a loop's busy polling.</summary>
public interface IPollSource
{
    /// <summary>Polling begins: notifications through the descriptor may be switched off. Home thread.</summary>
    void PollBegin();

    /// <summary>True when there is something to do; the watch's callback is then called with Readable. Home thread, fast.</summary>
    bool Poll();

    /// <summary>Polling ends: notifications must be on again; what happened meanwhile must be seen by a further <see cref="Poll"/>.</summary>
    void PollEnd();
}

/// <summary>
/// Watches a descriptor, level-triggered; the callback runs on the loop with what is ready. Usable from any thread. After
/// <see cref="Dispose"/> on the home thread (or, for a loop with a machine lock, under that lock) the callback does not run any more. Must be
/// disposed before the descriptor is closed. A descriptor that cannot be polled (a regular file) counts as always ready.
/// </summary>
public sealed class FdWatch : IDisposable
{
    private readonly EventLoop _loop;
    private readonly Action<FdEvents> _callback;
    private FdEvents _interest;

    internal FdWatch(EventLoop loop, int fd, Action<FdEvents> callback)
    {
        _loop = loop;
        Fd = fd;
        _callback = callback;
    }

    /// <summary>The descriptor.</summary>
    public int Fd { get; }

    /// <summary>What the callback is called for; setting it is cheap when nothing changes.</summary>
    public FdEvents Interest
    {
        get => _interest;
        set
        {
            if (value != _interest)
            {
                _loop.SetInterest(this, value);
            }
        }
    }

    /// <summary>For busy polling; null when the descriptor alone tells.</summary>
    public IPollSource? PollSource { get; init; }

    internal bool IsDisposed { get; set; }

    internal int Slot { get; set; } = -1;

    internal uint Generation { get; set; }

    internal bool IsInEpoll { get; set; }

    internal bool IsAlwaysReady { get; set; }

    /// <summary>Ends the watch.</summary>
    public void Dispose() => _loop.Remove(this);

    internal void StoreInterest(FdEvents interest) => _interest = interest;

    internal void Invoke(FdEvents ready)
    {
        if (!IsDisposed && _interest != FdEvents.None)
        {
            _callback(ready);
        }
    }
}
