using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;

namespace Vmm.Block.Jobs;

/// <summary>What a mirror has still to copy. Writes are recorded on the node's loop while the job takes from it on the main loop.</summary>
internal sealed class MirrorDirty(long length, long granularity) : IWriteObserver
{
    private readonly Lock _gate = new();
    private readonly BitSet _bits = new(length, granularity);
    private long _cursor;

    /// <summary>Bytes to copy, in whole granules.</summary>
    public long Bytes
    {
        get
        {
            lock (_gate)
            {
                return Math.Min(_bits.Count * _bits.Granularity, _bits.Length);
            }
        }
    }

    /// <summary>Someone has written.</summary>
    public Action? Written { get; set; }

    /// <inheritdoc/>
    public void OnWritten(long offset, long bytes)
    {
        lock (_gate)
        {
            _bits.Set(offset, bytes);
        }

        Written?.Invoke();
    }

    /// <inheritdoc/>
    public void OnTruncated(long length)
    {
        lock (_gate)
        {
            _bits.Resize(length);
        }
    }

    /// <summary>Marks a range to be copied.</summary>
    public void Add(long offset, long bytes)
    {
        lock (_gate)
        {
            _bits.Set(offset, bytes);
        }
    }

    /// <summary>True when nothing of a range is to be copied.</summary>
    public bool IsClean(long offset, long bytes)
    {
        lock (_gate)
        {
            return _bits.NextDirty(offset, offset + bytes) < 0;
        }
    }

    /// <summary>A range has been copied.</summary>
    public void Take(long offset, long bytes)
    {
        lock (_gate)
        {
            _bits.Reset(offset, bytes);
        }
    }

    /// <summary>Takes the next range to copy, beginning where the last one ended.</summary>
    public bool TryTake(long max, out long offset, out long bytes)
    {
        lock (_gate)
        {
            offset = _cursor;
            if (!_bits.NextArea(ref offset, _bits.Length, max, out bytes))
            {
                offset = 0;
                if (!_bits.NextArea(ref offset, _bits.Length, max, out bytes))
                {
                    return false;
                }
            }

            // Before it is read: what is written from now on is copied again.
            _bits.Reset(offset, bytes);
            _cursor = offset + bytes;
            return true;
        }
    }
}
