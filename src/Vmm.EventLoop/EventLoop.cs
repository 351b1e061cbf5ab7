using System.IO.Pipelines;
using Vmm.Interop;

namespace Vmm.EventLoop;

/// <summary>
/// An epoll loop of one thread, its home. In each round it waits, then runs the callbacks of ready descriptors, of due timers, and what
/// was posted or scheduled, in that order. With a machine lock, callbacks run under it and only the wait is without: the thread that calls
/// Run or RunOnce holds the lock already and holds it again afterwards. A round allocates nothing. An exception that escapes from a
/// callback ends the process. Members are for the home thread unless they say otherwise.
/// </summary>
public sealed partial class EventLoop : IDisposable
{
    private const ulong WakeCookie = ulong.MaxValue;

    [ThreadStatic]
    private static EventLoop? s_current;

    private readonly MachineLock? _lock;
    private readonly Epoll _epoll = Epoll.Create();
    private readonly EventFd _wake = EventFd.Create();
    private readonly TimerHeap[] _heaps = new TimerHeap[Clocks.Count];
    private readonly LoopSynchronizationContext _context;
    private PipeScheduler? _scheduler;
    private int _homeThread;
    private int _waiting;
    private volatile bool _stop;
    private bool _isDisposed;

    /// <summary>A loop without a home yet: the first thread that binds or runs it becomes its home.</summary>
    /// <param name="name">For messages, for example "main" or "iothread0".</param>
    /// <param name="clocks">The clocks of its timers.</param>
    /// <param name="machineLock">Held during callbacks; null for a loop that runs without.</param>
    public EventLoop(string name, Clocks clocks, MachineLock? machineLock = null)
    {
        Name = name;
        Clocks = clocks;
        _lock = machineLock;
        for (int i = 0; i < _heaps.Length; i++)
        {
            _heaps[i] = new TimerHeap();
        }

        _context = new LoopSynchronizationContext(this);
        Errno errno = _epoll.Add(_wake.Fd, Libc.EPOLLIN, WakeCookie);
        if (errno != Errno.OK)
        {
            throw new InvalidOperationException("epoll_ctl: " + errno.Message());
        }

        clocks.Register(this);
    }

    /// <summary>The loop whose home is the calling thread; null when there is none.</summary>
    public static EventLoop? Current => s_current;

    /// <summary>Its name. Any thread.</summary>
    public string Name { get; }

    /// <summary>The clocks. Any thread.</summary>
    public Clocks Clocks { get; }

    /// <summary>True on the loop's own thread. Any thread.</summary>
    public bool IsHomeThread => Volatile.Read(ref _homeThread) == Environment.CurrentManagedThreadId;

    /// <summary>Awaits that capture it continue on this loop. Any thread.</summary>
    public SynchronizationContext SynchronizationContext => _context;

    /// <summary>Runs the callbacks of pipes on this loop. Any thread.</summary>
    public PipeScheduler Scheduler => _scheduler ??= new LoopPipeScheduler(this);

    /// <summary>True once the loop has a home that serves it, until its end.</summary>
    internal bool IsAlive => Volatile.Read(ref _homeThread) != 0;

    /// <summary>What happens to an escaped exception; the process ends when it returns false.</summary>
    internal Func<Exception, bool>? EscapedException { get; set; }

    /// <summary>Makes the calling thread the loop's home and sets its synchronization context. Nothing when it is already.</summary>
    public void Bind()
    {
        if (IsHomeThread)
        {
            return;
        }

        if (Interlocked.CompareExchange(ref _homeThread, Environment.CurrentManagedThreadId, 0) != 0)
        {
            throw new InvalidOperationException($"event loop {Name} has another home thread");
        }

        s_current = this;
        SynchronizationContext.SetSynchronizationContext(_context);
    }

    /// <summary>Throws when the caller is not on this loop's thread: a bug of the caller. Any thread.</summary>
    public void AssertOnHomeLoop()
    {
        if (!IsHomeThread)
        {
            throw new InvalidOperationException($"not on the home thread of event loop {Name}");
        }
    }

    /// <summary>Runs rounds until <see cref="Stop"/>, at once when that was called before; then runs what is still queued, once.</summary>
    public void Run()
    {
        Bind();
        while (!_stop)
        {
            RunOnce(block: true);
        }

        _stop = false;
        RunOnce(block: false);
    }

    /// <summary>Makes <see cref="Run"/> return after the present round. Any thread.</summary>
    public void Stop()
    {
        _stop = true;
        Wake();
    }

    /// <summary>
    /// One round; waits for something to do when <paramref name="block"/> is set. True when a callback ran. May be called from a callback, to
    /// wait for a condition that this loop brings about.
    /// </summary>
    public bool RunOnce(bool block)
    {
        Bind();
        _lock?.AssertHeld();
        try
        {
            return RunRound(block);
        }
        catch (Exception exception) when (!(EscapedException?.Invoke(exception) ?? false))
        {
            Environment.FailFast($"exception escaped from a callback of event loop {Name}: {exception}", exception);
            return false;
        }
    }

    /// <summary>A timer of this loop. Any thread.</summary>
    public LoopTimer CreateTimer(ClockType clock, Action callback) => new(this, clock, callback);

    /// <summary>A bottom half of this loop. Any thread.</summary>
    public BottomHalf CreateBottomHalf(Action callback) => new(this, callback);

    /// <summary>Closes the loop. Its watches and timers must not be used any more.</summary>
    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        Unbind();
        Clocks.Unregister(this);
        _epoll.Dispose();
        _wake.Dispose();
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    internal TimerHeap Heap(ClockType clock) => _heaps[(int)clock];

    internal void Arm(LoopTimer timer, long deadlineNs)
    {
        if (Heap(timer.Clock).Add(timer, deadlineNs))
        {
            Wake();
        }
    }

    /// <summary>The nearest deadline on a clock; long.MaxValue when there is none.</summary>
    internal long DeadlineNs(ClockType clock) => Heap(clock).NearestNs;

    /// <summary>Ends a wait of the loop's thread, with one system call if it is waiting and none otherwise.</summary>
    internal void Wake()
    {
        // The store of the new work must be visible before the flag is read, as the loop sets the flag before it looks for work.
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _waiting) != 0 && Interlocked.Exchange(ref _waiting, 0) != 0)
        {
            _wake.Signal();
        }
    }

    /// <summary>Runs the timers due on the manual virtual clock: here when the caller is at home, else on the loop's thread, waited for.</summary>
    internal void RunVirtualTimersNow()
    {
        if (IsHomeThread)
        {
            RunTimers(ClockType.Virtual, Clocks.NowNs(ClockType.Virtual), long.MaxValue);
            return;
        }

        ManualResetEventSlim done = new(false);
        Post(static state =>
        {
            try
            {
                state.Loop.RunVirtualTimersNow();
            }
            finally
            {
                state.Done.Set();
            }
        }, (Loop: this, Done: done));
        MachineLock? held = Current?._lock;
        held = held is { IsHeldByCurrentThread: true } ? held : null;
        held?.Exit();
        while (!done.Wait(10) && IsAlive)
        {
        }

        held?.Enter();
    }

    /// <summary>Gives the home up: the loop's thread ends.</summary>
    internal void Unbind()
    {
        if (IsHomeThread)
        {
            s_current = null;
            SynchronizationContext.SetSynchronizationContext(null);
        }

        Volatile.Write(ref _homeThread, 0);
    }

    private bool RunRound(bool block)
    {
        bool isPolled = block && CanBusyPoll;
        long start = isPolled ? Clocks.NowNs(ClockType.Realtime) : 0;
        bool progress = isPolled && BusyPoll(start);
        bool isWaiting = block && !progress && !_stop && !HasQueued;
        int ready = Wait(isWaiting);
        if (isPolled && isWaiting)
        {
            AdaptPolling(Clocks.NowNs(ClockType.Realtime) - start);
        }

        progress |= DispatchEvents(ready);
        progress |= RunAllTimers();
        progress |= RunQueue();
        return progress;
    }

    private int Wait(bool block)
    {
        _lock?.Exit();
        int ready = !block ? _epoll.Wait(0) : _expectsSoon && !HasAlwaysReady ? WaitExpecting() : Sleep();
        _lock?.Enter();
        return ready;
    }

    private int Sleep()
    {
        // From here on, whoever adds work wakes us; what came before is seen by the checks below.
        Interlocked.Exchange(ref _waiting, 1);
        int ready = _epoll.Wait(HasQueued || HasAlwaysReady || _stop ? 0 : TimeoutNs());
        Interlocked.Exchange(ref _waiting, 0);
        return ready;
    }

    private long TimeoutNs()
    {
        long nearest = -1;
        for (int i = 0; i < _heaps.Length; i++)
        {
            long deadline = _heaps[i].NearestNs;
            ClockType clock = (ClockType)i;
            if (deadline == long.MaxValue || (clock == ClockType.Virtual && !Clocks.IsVirtualRunning))
            {
                continue;
            }

            long now = Clocks.NowNs(clock);
            if (clock == ClockType.Virtual && Clocks.IsManual && deadline > now)
            {
                continue;
            }

            long left = deadline <= now ? 0 : deadline - Math.Max(now, 0);
            nearest = nearest < 0 ? left : Math.Min(nearest, left);
        }

        return nearest;
    }

    private bool RunAllTimers()
    {
        bool progress = false;
        for (int i = 0; i < _heaps.Length; i++)
        {
            if (_heaps[i].NearestNs == long.MaxValue)
            {
                continue;
            }

            ClockType clock = (ClockType)i;
            if (clock == ClockType.Virtual && !Clocks.IsVirtualRunning)
            {
                continue;
            }

            // Timers armed by these callbacks wait for the next round, or one that always re-arms itself for now would keep us here.
            progress |= RunTimers(clock, Clocks.NowNs(clock), _heaps[i].LastOrder);
        }

        return progress;
    }

    private bool RunTimers(ClockType clock, long now, long lastOrder)
    {
        bool progress = false;
        while (Heap(clock).TakeDue(Math.Min(now, long.MaxValue - 1), lastOrder) is LoopTimer timer)
        {
            timer.Invoke();
            progress = true;
        }

        return progress;
    }
}
