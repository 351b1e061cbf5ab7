using Vmm.Interop;

namespace Vmm.EventLoop;

/// <content>Descriptors, and busy polling.</content>
public sealed partial class EventLoop
{
    private const long PollStartNs = 4000;

    private readonly Lock _watchGate = new();
    private FdWatch?[] _watches = new FdWatch?[8];
    private uint _generation;
    private int _activeCount;
    private int _alwaysReadyCount;
    private int _pollableCount;
    private long _pollNs;

    /// <summary>
    /// Longest busy polling before a wait, in ns; 0 switches it off. Polling happens only while every active watch has an
    /// <see cref="IPollSource"/> and the loop has no machine lock.
    /// </summary>
    public long PollMaxNs { get; set; }

    /// <summary>Factor by which polling time grows when it was too short; 0 means 2.</summary>
    public long PollGrow { get; set; }

    /// <summary>Divisor by which polling time shrinks when it was in vain; 0 makes it 0.</summary>
    public long PollShrink { get; set; }

    /// <summary>The present polling time in ns.</summary>
    internal long PollNs => _pollNs;

    private bool HasAlwaysReady => Volatile.Read(ref _alwaysReadyCount) != 0;

    /// <summary>
    /// Watches a descriptor; see <see cref="FdWatch"/>. A descriptor has one watch per loop at most. Any thread. Throws for a descriptor that is
    /// closed or watched already: a bug of the caller.
    /// </summary>
    public FdWatch Watch(int fd, FdEvents interest, Action<FdEvents> callback, IPollSource? pollSource = null)
    {
        FdWatch watch = new(this, fd, callback) { PollSource = pollSource };
        lock (_watchGate)
        {
            int slot = Array.IndexOf(_watches, null);
            if (slot < 0)
            {
                slot = _watches.Length;
                Array.Resize(ref _watches, 2 * slot);
            }

            watch.Slot = slot;
            watch.Generation = ++_generation;
            _watches[slot] = watch;
            try
            {
                SetInterestCore(watch, interest);
            }
            catch
            {
                _watches[slot] = null;
                throw;
            }
        }

        return watch;
    }

    internal void SetInterest(FdWatch watch, FdEvents interest)
    {
        lock (_watchGate)
        {
            ObjectDisposedException.ThrowIf(watch.IsDisposed, watch);
            SetInterestCore(watch, interest);
        }
    }

    internal void Remove(FdWatch watch)
    {
        lock (_watchGate)
        {
            if (!watch.IsDisposed)
            {
                SetInterestCore(watch, FdEvents.None);
                watch.IsDisposed = true;
                _watches[watch.Slot] = null;
            }
        }
    }

    private void SetInterestCore(FdWatch watch, FdEvents interest)
    {
        FdEvents old = watch.Interest;
        if (interest == old)
        {
            return;
        }

        // A hung-up descriptor reports that whatever is asked for, so a suspended watch leaves the epoll set.
        Errno errno = Errno.OK;
        ulong cookie = ((ulong)watch.Generation << 32) | (uint)watch.Slot;
        if (watch.IsInEpoll)
        {
            errno = interest == FdEvents.None ? _epoll.Remove(watch.Fd) : _epoll.Modify(watch.Fd, (uint)interest, cookie);
            watch.IsInEpoll = interest != FdEvents.None;
        }
        else if (!watch.IsAlwaysReady)
        {
            errno = _epoll.Add(watch.Fd, (uint)interest, cookie);
            watch.IsInEpoll = errno == Errno.OK;
            if (errno == Errno.EPERM)
            {
                watch.IsAlwaysReady = true;
                errno = Errno.OK;
            }
        }

        // A descriptor that was closed under its watch cannot be removed any more; only adding and changing must succeed.
        if (errno != Errno.OK && interest != FdEvents.None)
        {
            throw new InvalidOperationException($"event loop {Name} cannot watch descriptor {watch.Fd}: {errno.Message()}");
        }

        int change = (interest != FdEvents.None ? 1 : 0) - (old != FdEvents.None ? 1 : 0);
        _activeCount += change;
        _pollableCount += watch.PollSource is null ? 0 : change;
        Volatile.Write(ref _alwaysReadyCount, _alwaysReadyCount + (watch.IsAlwaysReady ? change : 0));
        watch.StoreInterest(interest);
        if (watch.IsAlwaysReady)
        {
            Wake();
        }
    }

    private bool DispatchEvents(int ready)
    {
        bool progress = false;
        for (int i = 0; i < ready; i++)
        {
            EpollEvent ev = _epoll.GetEvent(i);
            if (ev.data == WakeCookie)
            {
                _wake.Drain();
                continue;
            }

            FdWatch? watch;
            lock (_watchGate)
            {
                int slot = (int)(uint)ev.data;
                watch = slot < _watches.Length ? _watches[slot] : null;
            }

            if (watch is not null && watch.Generation == (uint)(ev.data >> 32))
            {
                FdEvents events = (FdEvents)ev.events & (watch.Interest | FdEvents.Error | FdEvents.HangUp);
                if (events != FdEvents.None)
                {
                    watch.Invoke(events);
                    progress = true;
                }
            }
        }

        return HasAlwaysReady ? DispatchAlwaysReady() || progress : progress;
    }

    private bool DispatchAlwaysReady()
    {
        bool progress = false;
        for (int slot = 0; slot < _watches.Length; slot++)
        {
            FdWatch? watch;
            lock (_watchGate)
            {
                watch = _watches[slot];
            }

            FdEvents events = watch is { IsAlwaysReady: true } ? watch.Interest & (FdEvents.Readable | FdEvents.Writable) : FdEvents.None;
            if (events != FdEvents.None)
            {
                watch!.Invoke(events);
                progress = true;
            }
        }

        return progress;
    }

    private bool CanBusyPoll =>
        PollMaxNs > 0 && _lock is null && _pollableCount != 0 && _pollableCount == _activeCount && !HasQueued;

    /// <summary>Spins on the poll sources for the present polling time; true when there was something to do.</summary>
    private bool BusyPoll(long start)
    {
        if (_pollNs == 0)
        {
            return false;
        }

        long timeout = TimeoutNs();
        long end = start + (timeout >= 0 ? Math.Min(timeout, _pollNs) : _pollNs);
        PollBeginOrEnd(begin: true);
        bool progress;
        do
        {
            progress = PollAll();
        }
        while (!progress && !HasQueued && !_stop && Clocks.NowNs(ClockType.Realtime) < end);
        PollBeginOrEnd(begin: false);

        // What happened before notifications were on again would otherwise be lost.
        return PollAll() || progress;
    }

    /// <summary>
    /// Idle time within the present polling time: keep it. Longer than the maximum: polling is in vain, shrink. Between: a longer polling
    /// would have caught it, grow.
    /// </summary>
    internal void AdaptPolling(long idleNs)
    {
        if (idleNs <= _pollNs)
        {
            return;
        }

        if (idleNs > PollMaxNs)
        {
            _pollNs = PollShrink == 0 ? 0 : _pollNs / PollShrink;
        }
        else if (_pollNs < PollMaxNs)
        {
            long factor = PollGrow == 0 ? 2 : PollGrow;
            long wanted = _pollNs == 0 ? PollStartNs : _pollNs > PollMaxNs / factor ? PollMaxNs : _pollNs * factor;
            _pollNs = Math.Min(wanted, PollMaxNs);
        }
    }

    private bool PollAll()
    {
        bool progress = false;
        for (int slot = 0; slot < _watches.Length; slot++)
        {
            FdWatch? watch = Volatile.Read(ref _watches[slot]);
            if (watch is { PollSource: not null } && watch.Interest != FdEvents.None && watch.PollSource.Poll())
            {
                watch.Invoke(FdEvents.Readable);
                progress = true;
            }
        }

        return progress;
    }

    private void PollBeginOrEnd(bool begin)
    {
        for (int slot = 0; slot < _watches.Length; slot++)
        {
            FdWatch? watch = Volatile.Read(ref _watches[slot]);
            if (watch is not { PollSource: not null } || watch.Interest == FdEvents.None)
            {
                continue;
            }

            if (begin)
            {
                watch.PollSource.PollBegin();
            }
            else
            {
                watch.PollSource.PollEnd();
            }
        }
    }
}
