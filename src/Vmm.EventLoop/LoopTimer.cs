namespace Vmm.EventLoop;

/// <summary>
/// A one-shot timer whose callback runs on its loop. Arming and cancelling are allowed on any thread and never allocate in steady state.
/// After <see cref="Cancel"/> on the home thread (or, for a loop with a machine lock, under that lock) the callback does not run any more;
/// from elsewhere one that has begun may still be running.
/// </summary>
public sealed class LoopTimer : IDisposable
{
    private readonly EventLoop _loop;
    private readonly Action _callback;

    // Guarded by the heap's lock. Index in the heap, -1 when not armed.
    internal int Index = -1;
    internal long Deadline;
    internal long Order;

    internal LoopTimer(EventLoop loop, ClockType clock, Action callback)
    {
        _loop = loop;
        Clock = clock;
        _callback = callback;
    }

    /// <summary>The clock of the deadlines.</summary>
    public ClockType Clock { get; }

    /// <summary>True from arming until the callback begins.</summary>
    public bool IsArmed => Volatile.Read(ref Index) >= 0;

    /// <summary>The deadline; long.MaxValue when not armed.</summary>
    public long DeadlineNs => _loop.Heap(Clock).DeadlineOf(this);

    /// <summary>Arms or re-arms for an absolute time. A time that is past fires in the loop's next round; long.MaxValue never.</summary>
    public void ArmAt(long deadlineNs) => _loop.Arm(this, deadlineNs);

    /// <summary>Arms or re-arms for <paramref name="ns"/> from now.</summary>
    public void ArmAfter(long ns)
    {
        long now = _loop.Clocks.NowNs(Clock);
        _loop.Arm(this, ns > 0 && now > long.MaxValue - ns ? long.MaxValue : now + ns);
    }

    /// <summary>Disarms; nothing when not armed.</summary>
    public void Cancel() => _loop.Heap(Clock).Remove(this);

    /// <summary>As <see cref="Cancel"/>.</summary>
    public void Dispose() => Cancel();

    internal void Invoke() => _callback();
}

/// <summary>A binary heap of timers, nearest deadline first, timers of equal deadlines in the order of arming. Thread-safe.</summary>
internal sealed class TimerHeap
{
    private readonly Lock _gate = new();
    private LoopTimer?[] _items = new LoopTimer?[8];
    private int _count;
    private long _order;
    private long _nearest = long.MaxValue;

    /// <summary>The nearest deadline; long.MaxValue when no timer is armed.</summary>
    internal long NearestNs => Volatile.Read(ref _nearest);

    /// <summary>Order numbers given out so far: timers armed later have a greater one.</summary>
    internal long LastOrder
    {
        get
        {
            lock (_gate)
            {
                return _order;
            }
        }
    }

    internal long DeadlineOf(LoopTimer timer)
    {
        lock (_gate)
        {
            return timer.Index >= 0 ? timer.Deadline : long.MaxValue;
        }
    }

    /// <summary>True when the timer now is the nearest one.</summary>
    internal bool Add(LoopTimer timer, long deadline)
    {
        lock (_gate)
        {
            if (timer.Index >= 0)
            {
                RemoveCore(timer);
            }

            timer.Deadline = deadline;
            timer.Order = ++_order;
            if (_count == _items.Length)
            {
                Array.Resize(ref _items, 2 * _count);
            }

            SiftUp(timer, _count++);
            Volatile.Write(ref _nearest, _items[0]!.Deadline);
            return timer.Index == 0;
        }
    }

    internal void Remove(LoopTimer timer)
    {
        lock (_gate)
        {
            if (timer.Index >= 0)
            {
                RemoveCore(timer);
                Volatile.Write(ref _nearest, _count > 0 ? _items[0]!.Deadline : long.MaxValue);
            }
        }
    }

    /// <summary>Takes the nearest timer if it is due at <paramref name="now"/> and was armed no later than <paramref name="lastOrder"/>.</summary>
    internal LoopTimer? TakeDue(long now, long lastOrder)
    {
        if (NearestNs > now)
        {
            return null;
        }

        lock (_gate)
        {
            if (_count == 0 || _items[0]!.Deadline > now || _items[0]!.Order > lastOrder)
            {
                return null;
            }

            LoopTimer timer = _items[0]!;
            RemoveCore(timer);
            Volatile.Write(ref _nearest, _count > 0 ? _items[0]!.Deadline : long.MaxValue);
            return timer;
        }
    }

    private static bool Before(LoopTimer a, LoopTimer b) =>
        a.Deadline != b.Deadline ? a.Deadline < b.Deadline : a.Order < b.Order;

    private void RemoveCore(LoopTimer timer)
    {
        int index = timer.Index;
        LoopTimer last = _items[--_count]!;
        _items[_count] = null;
        Volatile.Write(ref timer.Index, -1);
        if (last == timer)
        {
            return;
        }

        last.Index = index;
        if (index > 0 && Before(last, _items[(index - 1) / 2]!))
        {
            SiftUp(last, index);
        }
        else
        {
            SiftDown(last, index);
        }
    }

    private void SiftUp(LoopTimer timer, int index)
    {
        while (index > 0 && Before(timer, _items[(index - 1) / 2]!))
        {
            Place(_items[(index - 1) / 2]!, index);
            index = (index - 1) / 2;
        }

        Place(timer, index);
    }

    private void SiftDown(LoopTimer timer, int index)
    {
        while (true)
        {
            int child = 2 * index + 1;
            if (child >= _count)
            {
                break;
            }

            if (child + 1 < _count && Before(_items[child + 1]!, _items[child]!))
            {
                child++;
            }

            if (!Before(_items[child]!, timer))
            {
                break;
            }

            Place(_items[child]!, index);
            index = child;
        }

        Place(timer, index);
    }

    private void Place(LoopTimer timer, int index)
    {
        _items[index] = timer;
        Volatile.Write(ref timer.Index, index);
    }
}
