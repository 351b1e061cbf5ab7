namespace Vmm.EventLoop.Tasks;

/// <summary>
/// A call that may block, which a worker thread runs for a loop. The object is reused, one run at a time, so that a steady stream of calls
/// allocates nothing. Home: the loop that runs it; <see cref="Execute"/> is on a worker.
/// </summary>
public abstract class LoopWork : QueuedWork
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

    internal sealed override void Run()
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

    private readonly WorkerThreads _threads;

    /// <summary>At most so many threads, none of which runs yet.</summary>
    public LoopWorkers(int maxThreads = 64)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxThreads, 1);
        _threads = new WorkerThreads(maxThreads, StackBytes);
    }

    internal void Submit(LoopWork work) => _threads.Submit(work);
}
