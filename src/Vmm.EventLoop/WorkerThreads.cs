using Vmm.Interop;

namespace Vmm.EventLoop;

/// <summary>Work that waits for a thread of <see cref="WorkerThreads"/>; in one queue at a time.</summary>
public abstract class QueuedWork
{
    internal QueuedWork? Next { get; set; }

    /// <summary>The work. Worker thread; must not throw.</summary>
    internal abstract void Run();

    /// <summary>It will not be run.</summary>
    internal virtual void Cancel()
    {
    }
}

/// <summary>
/// Threads that run what is queued, oldest first. They start when work waits and nobody is idle, and end after ten idle seconds. Of those that
/// are idle the last one to become so is woken first, outside of the lock that it needs next. Any thread.
/// </summary>
/// <param name="maxThreads">Most threads at a time.</param>
/// <param name="stackBytes">Stack of each.</param>
internal sealed class WorkerThreads(int maxThreads, int stackBytes)
{
    private const long IdleNs = 10_000_000_000;

    private readonly Lock _gate = new();
    private QueuedWork? _first;
    private QueuedWork? _last;
    private Worker? _idle;
    private int _threads;
    private bool _isClosed;

    /// <summary>Queues work.</summary>
    /// <exception cref="ObjectDisposedException">No more work is taken.</exception>
    internal void Submit(QueuedWork work)
    {
        Worker? idle;
        bool isStarting = false;
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isClosed, this);
            work.Next = null;
            if (_last is null)
            {
                _first = work;
            }
            else
            {
                _last.Next = work;
            }

            _last = work;
            idle = _idle;
            if (idle is not null)
            {
                _idle = idle.Next;
            }
            else if (_threads < maxThreads)
            {
                _threads++;
                isStarting = true;
            }
        }

        idle?.Wake();
        if (isStarting)
        {
            new Thread(new Worker(this).Run, stackBytes) { IsBackground = true, Name = "worker" }.Start();
        }
    }

    /// <summary>Takes no more work and cancels what has not begun.</summary>
    internal void Close()
    {
        QueuedWork? cancelled;
        Worker? idle;
        lock (_gate)
        {
            _isClosed = true;
            cancelled = _first;
            _first = _last = null;
            idle = _idle;
            _idle = null;
        }

        while (cancelled is not null)
        {
            QueuedWork? next = cancelled.Next;
            cancelled.Cancel();
            cancelled = next;
        }

        while (idle is not null)
        {
            Worker? next = idle.Next;
            idle.Wake();
            idle = next;
        }
    }

    // Takes work, or puts the worker to those that are idle. False when it has to end.
    private bool TryTake(Worker worker, bool mustEnd, out QueuedWork? work)
    {
        lock (_gate)
        {
            work = _first;
            if (work is not null)
            {
                _first = work.Next;
                _last = _first is null ? null : _last;
                return true;
            }

            if (mustEnd || _isClosed)
            {
                _threads--;
                return false;
            }

            worker.Next = _idle;
            _idle = worker;
            worker.PrepareSleep();
            return true;
        }
    }

    // False when somebody is about to wake it.
    private bool TryRemoveIdle(Worker worker)
    {
        lock (_gate)
        {
            if (_idle == worker)
            {
                _idle = worker.Next;
                return true;
            }

            for (Worker? other = _idle; other is not null; other = other.Next)
            {
                if (other.Next == worker)
                {
                    other.Next = worker.Next;
                    return true;
                }
            }

            return false;
        }
    }

    private sealed class Worker(WorkerThreads owner)
    {
        private readonly FutexWord _isAwake = new();

        // Under the owner's lock: the one that became idle before.
        internal Worker? Next;

        internal void Run()
        {
            bool mustEnd = false;
            while (owner.TryTake(this, mustEnd, out QueuedWork? work))
            {
                if (work is not null)
                {
                    work.Run();
                }
                else
                {
                    mustEnd = !Sleep();
                }
            }

            _isAwake.Dispose();
        }

        internal void PrepareSleep() => Volatile.Write(ref _isAwake.Value, 0);

        internal void Wake()
        {
            Volatile.Write(ref _isAwake.Value, 1);
            _isAwake.Wake(1);
        }

        // False when nobody wanted it for long.
        private bool Sleep()
        {
            while (Volatile.Read(ref _isAwake.Value) == 0)
            {
                if (!_isAwake.Wait(0, IdleNs) && owner.TryRemoveIdle(this))
                {
                    return false;
                }
            }

            return true;
        }
    }
}
