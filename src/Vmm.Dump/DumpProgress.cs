namespace Vmm.Dump;

/// <summary>How far a dump is. Any thread.</summary>
/// <param name="total">Bytes of guest memory to dump.</param>
internal sealed class DumpProgress(ulong total)
{
    private long _completed;
    private volatile bool _isCancelled;

    /// <summary>Bytes of guest memory to dump.</summary>
    internal ulong Total => total;

    /// <summary>Bytes of guest memory that are dumped; never less than before.</summary>
    internal ulong Completed => Math.Min((ulong)Volatile.Read(ref _completed), total);

    /// <summary>Counts bytes; pages of which only a part is memory may be counted whole.</summary>
    internal void Add(ulong bytes) => Interlocked.Add(ref _completed, (long)bytes);

    /// <summary>A thread of the dump has failed.</summary>
    internal void Cancel() => _isCancelled = true;

    /// <summary>Ends a thread of a dump that is given up.</summary>
    /// <exception cref="OperationCanceledException">It is.</exception>
    internal void ThrowIfCancelled()
    {
        if (_isCancelled)
        {
            throw new OperationCanceledException();
        }
    }
}
