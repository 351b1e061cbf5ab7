namespace Vmm.EventLoop.Tasks;

/// <summary>
/// Methods on one loop that wait for a condition, first come first served. Those woken continue from the loop's queue, not inside the
/// caller, so that a long chain of them does not grow the stack. Home: the loop on which it is used. No allocation in steady state.
/// </summary>
public sealed class LoopWaitQueue
{
    private readonly Queue<Waiter> _waiting = new();
    private readonly Stack<Waiter> _free = new();

    /// <summary>Number of methods that wait.</summary>
    public int Count => _waiting.Count;

    /// <summary>Waits to be woken.</summary>
    public IoTask<bool> WaitAsync()
    {
        Waiter waiter = _free.Count > 0 ? _free.Pop() : new Waiter(this);
        waiter.Loop = EventLoop.Current ?? throw new InvalidOperationException("waiting outside of an event loop");
        _waiting.Enqueue(waiter);
        return waiter.Completion.Task;
    }

    /// <summary>Wakes the one that has waited longest; false when none waits.</summary>
    public bool WakeOne()
    {
        if (!_waiting.TryDequeue(out Waiter? waiter))
        {
            return false;
        }

        waiter.Loop!.Enqueue(waiter.Run, null);
        return true;
    }

    /// <summary>Wakes all that wait now.</summary>
    public void WakeAll()
    {
        for (int count = _waiting.Count; count > 0; count--)
        {
            WakeOne();
        }
    }

    private sealed class Waiter
    {
        private readonly LoopWaitQueue _queue;

        internal Waiter(LoopWaitQueue queue)
        {
            _queue = queue;
            Run = Wake;
        }

        internal IoCompletion<bool> Completion { get; } = new();

        internal Action Run { get; }

        internal EventLoop? Loop { get; set; }

        private void Wake()
        {
            Completion.SetResult(true);
            _queue._free.Push(this);
        }
    }
}

/// <summary>Mutual exclusion of methods on one loop, first come first served: what one method holds across its awaits. Not recursive.</summary>
public sealed class LoopMutex
{
    private readonly LoopWaitQueue _queue = new();

    /// <summary>True while somebody has it.</summary>
    public bool IsHeld { get; private set; }

    /// <summary>Waits for the mutex and takes it.</summary>
    public async IoTask EnterAsync()
    {
        if (!IsHeld)
        {
            IsHeld = true;
            return;
        }

        // It is handed over: it stays held, and who comes in between cannot overtake.
        await _queue.WaitAsync();
    }

    /// <summary>Gives the mutex to the one that has waited longest.</summary>
    public void Exit()
    {
        if (!IsHeld)
        {
            throw new InvalidOperationException("a mutex is released that nobody has");
        }

        IsHeld = _queue.WakeOne();
    }
}
