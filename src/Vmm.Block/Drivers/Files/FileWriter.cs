using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Drivers.Files;

/// <summary>
/// Carries the writes of a file out one after the other, on one worker. The kernel lets one write at a time into the page cache of a file:
/// several workers would only spin for its lock, and each small write would cost a change of threads. Home: the loop of the node.
/// </summary>
internal sealed class FileWriter : LoopWork
{
    // Those that wait for a reply hear of it at the latest after so much.
    private const int NoticeCount = 16;
    private const long NoticeBytes = 256 << 10;

    private readonly LoopWorkers _workers;
    private readonly Action _deliver;
    private readonly Lock _gate = new();
    private readonly Queue<FileRequest> _waiting = new();
    private readonly Queue<FileRequest> _done = new();
    private EventLoop.EventLoop? _loop;
    private bool _isNoticed;
    private bool _isRunning;

    internal FileWriter(LoopWorkers workers)
    {
        _workers = workers;
        _deliver = Deliver;
    }

    /// <summary>Carries a request out behind those that wait: 0 or a negative errno.</summary>
    internal IoTask<int> WriteAsync(FileRequest request)
    {
        _loop = EventLoop.EventLoop.Current;
        IoTask<int> task = request.Done.Task;
        lock (_gate)
        {
            _waiting.Enqueue(request);
        }

        if (!_isRunning)
        {
            WorkAsync().Forget();
        }

        return task;
    }

    /// <inheritdoc/>
    protected override long Execute()
    {
        int count = 0;
        long bytes = 0;
        while (true)
        {
            FileRequest? request;
            lock (_gate)
            {
                if (!_waiting.TryDequeue(out request))
                {
                    return 0;
                }
            }

            request.Result = request.Perform();
            count++;
            bytes += request.Bytes;
            bool isDue = count >= NoticeCount || bytes >= NoticeBytes;
            lock (_gate)
            {
                _done.Enqueue(request);
                isDue &= !_isNoticed;
                _isNoticed |= isDue;
            }

            if (isDue)
            {
                (count, bytes) = (0, 0);
                _loop!.Post(_deliver);
            }
        }
    }

    private async IoTask WorkAsync()
    {
        _isRunning = true;
        bool hasMore = true;
        while (hasMore)
        {
            await RunAsync(_workers);
            Deliver();
            lock (_gate)
            {
                hasMore = _waiting.Count > 0;
            }
        }

        _isRunning = false;
    }

    // Who is woken may run the loop itself until another write is done: nothing is held here but what is delivered.
    private void Deliver()
    {
        while (true)
        {
            FileRequest? request;
            lock (_gate)
            {
                _isNoticed = false;
                if (!_done.TryDequeue(out request))
                {
                    return;
                }
            }

            request.Done.SetResult((int)request.Result);
        }
    }
}
