using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Files;

/// <summary>
/// Has the kernel begin to write out what a job has put into the page cache while the job goes on: the flush at its end, which would else
/// take as long as the copy, finds little left. A hint: failures are those of the flush. One step at a time. Home: the loop of the node.
/// </summary>
internal sealed class FileWriteOut(LoopWorkers workers) : LoopWork
{
    // A step costs a change of threads; what is not begun at the end is what the flush waits for.
    private const long StepBytes = 8 << 20;

    private long _start = long.MaxValue;
    private long _end;
    private long _bytes;
    private int _fd;
    private (long Offset, long Bytes) _step;

    /// <summary>A step is under way: the descriptor is in use.</summary>
    internal bool IsRunning { get; private set; }

    /// <summary>Steps so far.</summary>
    internal long Steps { get; private set; }

    /// <summary>A range has been written; true when a step is due.</summary>
    internal bool Add(long offset, long bytes)
    {
        _start = Math.Min(_start, offset);
        _end = Math.Max(_end, offset + bytes);
        _bytes += bytes;
        return _bytes >= StepBytes && !IsRunning;
    }

    /// <summary>Takes a step over what was written since the last one.</summary>
    internal async IoTask StepAsync(int fd)
    {
        IsRunning = true;
        (_fd, _step) = (fd, (_start, _end - _start));
        (_start, _end, _bytes) = (long.MaxValue, 0, 0);
        await RunAsync(workers);
        Steps++;
        IsRunning = false;
    }

    /// <inheritdoc/>
    protected override long Execute() => -(long)Libc.StartWriteOut(_fd, _step.Offset, _step.Bytes);
}
