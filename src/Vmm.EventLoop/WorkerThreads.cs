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
/// Threads that run what is queued, oldest first. They start when work waits and nobody is idle, and end after ten idle seconds. Any thread.
/// </summary>
/// <param name="maxThreads">Most threads at a time.</param>
/// <param name="stackBytes">Stack of each.</param>
internal sealed class WorkerThreads(int maxThreads, int stackBytes)
{
    private const int IdleMs = 10_000;

    private readonly object _gate = new();
    private QueuedWork? _first;
    private QueuedWork? _last;
    private int _queued;
    private int _threads;
    private int _idle;
    private bool _isClosed;

    /// <summary>Queues work.</summary>
    /// <exception cref="ObjectDisposedException">No more work is taken.</exception>
    internal void Submit(QueuedWork work)
    {
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
            _queued++;
            if (_idle >= _queued)
            {
                Monitor.Pulse(_gate);
            }
            else if (_threads < maxThreads)
            {
                _threads++;
                new Thread(Main, stackBytes) { IsBackground = true, Name = "worker" }.Start();
            }
        }
    }

    /// <summary>Takes no more work and cancels what has not begun.</summary>
    internal void Close()
    {
        lock (_gate)
        {
            _isClosed = true;
            while (_first is not null)
            {
                Dequeue().Cancel();
            }

            Monitor.PulseAll(_gate);
        }
    }

    private void Main()
    {
        while (Take() is { } work)
        {
            work.Run();
        }
    }

    private QueuedWork? Take()
    {
        lock (_gate)
        {
            while (_first is null)
            {
                _idle++;
                bool signalled = !_isClosed && Monitor.Wait(_gate, IdleMs);
                _idle--;
                if (!signalled && _first is null)
                {
                    _threads--;
                    return null;
                }
            }

            return Dequeue();
        }
    }

    private QueuedWork Dequeue()
    {
        QueuedWork work = _first!;
        _first = work.Next;
        if (_first is null)
        {
            _last = null;
        }

        _queued--;
        return work;
    }
}
