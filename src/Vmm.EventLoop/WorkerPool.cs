namespace Vmm.EventLoop;

/// <summary>
/// A few dedicated threads for host calls that block. Threads start with the first work, are reused while there is some, and end after ten
/// idle seconds. Usable from any thread.
/// </summary>
public sealed class WorkerPool : IDisposable
{
    private const int StackBytes = 1 << 20;

    private readonly WorkerThreads _threads;

    /// <summary>A pool of at most <paramref name="maxThreads"/> threads, none of which runs yet.</summary>
    public WorkerPool(int maxThreads = 8)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxThreads, 1);
        _threads = new WorkerThreads(maxThreads, StackBytes);
    }

    /// <summary>
    /// Runs the call on a worker. An await of the task on an event loop continues there; its exception comes out of the await. A call that
    /// has not begun when the pool is closed is cancelled.
    /// </summary>
    public Task<T> RunAsync<T>(Func<T> call)
    {
        WorkItem<T> item = new(call);
        _threads.Submit(item);
        return item.Task;
    }

    /// <summary>Runs the call on a worker; see <see cref="RunAsync{T}"/>.</summary>
    public Task RunAsync(Action call) => RunAsync(() =>
    {
        call();
        return true;
    });

    /// <summary>Takes no more work and cancels what has not begun; calls that run go on to their end on their threads.</summary>
    public void Dispose() => _threads.Close();

    // Continuations run where their awaiter was: the loop's synchronization context posts them. No thread pool is involved.
    private sealed class WorkItem<T>(Func<T> call) : QueuedWork
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
