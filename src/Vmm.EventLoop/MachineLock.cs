using System.Diagnostics;
using Vmm.Interop;

namespace Vmm.EventLoop;

/// <summary>
/// The lock of the machine: chipset device handlers on vCPU threads and all callbacks of the main loop run under it. Not recursive, no
/// allocation. Free-running threads may overtake a sleeping waiter once; a waiter that woke up and still lost makes everybody who comes
/// later stand back until it has had its turn, so a vCPU that exits without pause cannot starve the main loop. Usable from any thread.
/// </summary>
public sealed class MachineLock
{
    private const int Free = 0;
    private const int Held = 1;
    private const int HeldWithWaiters = 2;
    private const int SpinLimit = 40;

    private readonly FutexWord _state = new();
    private readonly FutexWord _starving = new();
    private int _owner;

    /// <summary>True when the calling thread holds the lock.</summary>
    public bool IsHeldByCurrentThread => Volatile.Read(ref _owner) == Environment.CurrentManagedThreadId;

    /// <summary>Takes the lock. The caller must not hold it.</summary>
    public void Enter()
    {
        Debug.Assert(!IsHeldByCurrentThread, "the machine lock is not recursive");
        if (Volatile.Read(ref _starving.Value) != 0 || Interlocked.CompareExchange(ref _state.Value, Held, Free) != Free)
        {
            EnterContended();
        }

        Volatile.Write(ref _owner, Environment.CurrentManagedThreadId);
    }

    /// <summary>Takes the lock if nobody has it or waits for it in need.</summary>
    public bool TryEnter()
    {
        if (Volatile.Read(ref _starving.Value) != 0 || Interlocked.CompareExchange(ref _state.Value, Held, Free) != Free)
        {
            return false;
        }

        Volatile.Write(ref _owner, Environment.CurrentManagedThreadId);
        return true;
    }

    /// <summary>Gives the lock back. The caller must hold it.</summary>
    public void Exit()
    {
        if (!IsHeldByCurrentThread)
        {
            ThrowNotHeld();
        }

        Volatile.Write(ref _owner, 0);
        if (Interlocked.Exchange(ref _state.Value, Free) == HeldWithWaiters)
        {
            _state.Wake(1);
        }
    }

    /// <summary>Throws when the calling thread does not hold the lock: a bug of the caller.</summary>
    public void AssertHeld()
    {
        if (!IsHeldByCurrentThread)
        {
            ThrowNotHeld();
        }
    }

    private static void ThrowNotHeld() => throw new InvalidOperationException("the machine lock is not held by this thread");

    private void EnterContended()
    {
        for (int i = 0; i < SpinLimit && Environment.ProcessorCount > 1; i++)
        {
            if (Volatile.Read(ref _starving.Value) == 0 && Interlocked.CompareExchange(ref _state.Value, Held, Free) == Free)
            {
                return;
            }

            Thread.SpinWait(8);
        }

        // Stand back for a starving waiter. A thread gets here only before its first sleep on the state word, so that a wake-up given
        // to a sleeper never goes to somebody who then stands back.
        int starving;
        while ((starving = Volatile.Read(ref _starving.Value)) != 0)
        {
            _starving.Wait(starving);
        }

        bool isStarving = false;
        while (Interlocked.Exchange(ref _state.Value, HeldWithWaiters) != Free)
        {
            _state.Wait(HeldWithWaiters);
            if (Interlocked.Exchange(ref _state.Value, HeldWithWaiters) == Free)
            {
                break;
            }

            if (!isStarving)
            {
                isStarving = true;
                Interlocked.Increment(ref _starving.Value);
            }
        }

        if (isStarving && Interlocked.Decrement(ref _starving.Value) == 0)
        {
            _starving.Wake(int.MaxValue);
        }
    }
}
