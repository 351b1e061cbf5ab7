namespace Vmm.EventLoop.Tasks;

/// <summary>
/// A call that may block, which a worker thread runs for a loop. The object is reused, one run at a time, so that a steady stream of calls
/// allocates nothing. Home: the loop that runs it; <see cref="Execute"/> is on a worker.
/// </summary>
public abstract class LoopWork
{
    private readonly IoCompletion<long> _completion = new();
    private readonly Action _complete;
    private EventLoop? _loop;
    private long _result;

    /// <summary>A call that is not under way.</summary>
    protected LoopWork()
    {
        _complete = () => _completion.SetResult(_result);
    }

    internal LoopWork? Next { get; set; }

    /// <summary>Has a worker run the call; the result comes back on the calling thread's loop.</summary>
    public IoTask<long> RunAsync(LoopWorkers workers)
    {
        _loop = EventLoop.Current ?? throw new InvalidOperationException("work is given out outside of an event loop");
        IoTask<long> task = _completion.Task;
        workers.Submit(this);
        return task;
    }

    /// <summary>The call. Worker thread; must not throw.</summary>
    protected abstract long Execute();

    internal void Run()
    {
        _result = Execute();
        _loop!.Enqueue(_complete, null);
    }
}

/// <summary>
/// Threads for <see cref="LoopWork"/>. They start when work waits and nobody is idle, and end after ten idle seconds. Any thread.
/// </summary>
public sealed class LoopWorkers
{
    private const int StackBytes = 256 << 10;
    private const int IdleMs = 10_000;

    private readonly object _gate = new();
    private readonly int _maxThreads;
    private LoopWork? _first;
    private LoopWork? _last;
    private int _queued;
    private int _threads;
    private int _idle;

    /// <summary>At most so many threads, none of which runs yet.</summary>
    public LoopWorkers(int maxThreads = 64)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxThreads, 1);
        _maxThreads = maxThreads;
    }

    internal void Submit(LoopWork work)
    {
        lock (_gate)
        {
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
            else if (_threads < _maxThreads)
            {
                _threads++;
                new Thread(Main, StackBytes) { IsBackground = true, Name = "worker" }.Start();
            }
        }
    }

    private void Main()
    {
        while (Take() is { } work)
        {
            work.Run();
        }
    }

    private LoopWork? Take()
    {
        lock (_gate)
        {
            while (_first is null)
            {
                _idle++;
                bool signalled = Monitor.Wait(_gate, IdleMs);
                _idle--;
                if (!signalled && _first is null)
                {
                    _threads--;
                    return null;
                }
            }

            LoopWork work = _first;
            _first = work.Next;
            if (_first is null)
            {
                _last = null;
            }

            _queued--;
            return work;
        }
    }
}
