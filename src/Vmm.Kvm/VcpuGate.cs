using Vmm.Interop;

namespace Vmm.Kvm;

/// <summary>
/// A lock with a condition. Whoever is notified is woken after the lock was given back, so that a hand-over between two threads costs one
/// system call on each side and nobody wakes up only to wait for the lock. Not recursive, allocates nothing. Usable from any thread.
/// </summary>
internal sealed class VcpuGate
{
    private const int Free = 0;
    private const int Held = 1;
    private const int HeldWithWaiters = 2;

    private readonly FutexWord _lock = new();
    private readonly FutexWord _epoch = new();

    // Under the lock.
    private int _waiters;
    private bool _notified;

    /// <summary>Holds the lock until the result is disposed.</summary>
    public Holder Hold()
    {
        Enter();
        return new Holder(this);
    }

    /// <summary>Takes the lock.</summary>
    public void Enter()
    {
        if (Interlocked.CompareExchange(ref _lock.Value, Held, Free) == Free)
        {
            return;
        }

        while (Interlocked.Exchange(ref _lock.Value, HeldWithWaiters) != Free)
        {
            _lock.Wait(HeldWithWaiters);
        }
    }

    /// <summary>Gives the lock back and wakes those who were notified meanwhile.</summary>
    public void Exit()
    {
        bool notified = _notified;
        _notified = false;
        if (Interlocked.Exchange(ref _lock.Value, Free) == HeldWithWaiters)
        {
            _lock.Wake(1);
        }

        if (notified)
        {
            _epoch.Wake(int.MaxValue);
        }
    }

    /// <summary>With the lock held: gives it back until a notification; may return for no reason.</summary>
    public void Wait()
    {
        int epoch = Volatile.Read(ref _epoch.Value);
        _waiters++;
        Exit();
        _epoch.Wait(epoch);
        Enter();
        _waiters--;
    }

    /// <summary>With the lock held: ends the waits of all threads once it is given back.</summary>
    public void NotifyAll()
    {
        if (_waiters > 0)
        {
            Volatile.Write(ref _epoch.Value, _epoch.Value + 1);
            _notified = true;
        }
    }

    /// <summary>See <see cref="Hold"/>.</summary>
    public readonly ref struct Holder(VcpuGate gate)
    {
        /// <summary>Gives the lock back.</summary>
        public void Dispose() => gate.Exit();
    }
}
