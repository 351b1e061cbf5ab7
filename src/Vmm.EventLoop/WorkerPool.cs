namespace Vmm.EventLoop;

/// <summary>
/// A few dedicated threads for host calls that block. Threads start with the first work, are reused while there is some, and end after ten
/// idle seconds. Usable from any thread.
/// </summary>
public sealed class WorkerPool : IDisposable
{
    private const int StackBytes = 1 << 20;
    private const int IdleMs = 10_000;

    private readonly Queue<WorkItem> _queue = new();
    private readonly int _maxThreads;
    private int _threads;
    private int _idle;
    private bool _isClosed;

    /// <summary>A pool of at most <paramref name="maxThreads"/> threads, none of which runs yet.</summary>
    public WorkerPool(int maxThreads = 8)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxThreads, 1);
        _maxThreads = maxThreads;
    }

    /// <summary>
    /// Runs the call on a worker. An await of the task on an event loop continues there; its exception comes out of the await. A call that
    /// has not begun when the pool is closed is cancelled.
    /// </summary>
    public Task<T> RunAsync<T>(Func<T> call)
    {
        WorkItem<T> item = new(call);
        lock (_queue)
        {
            ObjectDisposedException.ThrowIf(_isClosed, this);
            _queue.Enqueue(item);
            if (_idle >= _queue.Count)
            {
                Monitor.Pulse(_queue);
            }
            else if (_threads < _maxThreads)
            {
                _threads++;
                new Thread(Main, StackBytes) { IsBackground = true, Name = "worker" }.Start();
            }
        }

        return item.Task;
    }

    /// <summary>Runs the call on a worker; see <see cref="RunAsync{T}"/>.</summary>
    public Task RunAsync(Action call) => RunAsync(() =>
    {
        call();
        return true;
    });

    /// <summary>Takes no more work and cancels what has not begun; calls that run go on to their end on their threads.</summary>
    public void Dispose()
    {
        lock (_queue)
        {
            _isClosed = true;
            while (_queue.TryDequeue(out WorkItem? item))
            {
                item.Cancel();
            }

            Monitor.PulseAll(_queue);
        }
    }

    private void Main()
    {
        while (TryTake(out WorkItem? item))
        {
            item.Run();
        }
    }

    private bool TryTake([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out WorkItem? item)
    {
        lock (_queue)
        {
            while (!_queue.TryDequeue(out item))
            {
                _idle++;
                bool signalled = !_isClosed && Monitor.Wait(_queue, IdleMs);
                _idle--;
                if (!signalled && _queue.Count == 0)
                {
                    _threads--;
                    return false;
                }
            }

            return true;
        }
    }

    private abstract class WorkItem
    {
        internal abstract void Run();

        internal abstract void Cancel();
    }

    // Continuations run where their awaiter was: the loop's synchronization context posts them. No thread pool is involved.
    private sealed class WorkItem<T>(Func<T> call) : WorkItem
    {
        private readonly TaskCompletionSource<T> _completion = new();

        internal Task<T> Task => _completion.Task;

        internal override void Run()
        {
            T result;
            try
            {
                result = call();
            }
            catch (Exception exception)
            {
                _completion.SetException(exception);
                return;
            }

            _completion.SetResult(result);
        }

        internal override void Cancel() => _completion.TrySetCanceled();
    }
}
