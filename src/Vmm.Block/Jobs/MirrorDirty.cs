using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;

namespace Vmm.Block.Jobs;

/// <summary>What a mirror has still to copy. Writes are recorded on the node's loop while the job takes from it on the main loop.</summary>
internal sealed class MirrorDirty(long length, long granularity) : IWriteObserver
{
    private readonly Lock _gate = new();
    private readonly BitSet _bits = new(length, granularity);
    private readonly List<(long Start, long End)> _copied = [];
    private long _cursor;

    /// <summary>Bytes to copy, in whole granules.</summary>
    public long Bytes
    {
        get
        {
            lock (_gate)
            {
                return _bits.Count * _bits.Granularity;
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
            if (TryForgive(offset, offset + bytes))
            {
                return;
            }

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

    /// <summary>
    /// A range is about to be written by someone who writes it to the target as well: the next report of this write means nothing. What covers whole
    /// granules need not be copied any more.
    /// </summary>
    public void BeginCopied(long offset, long bytes)
    {
        lock (_gate)
        {
            long mask = _bits.Granularity - 1;
            long end = offset + bytes;
            long wholeStart = (offset + mask) & ~mask;
            long wholeEnd = end >= _bits.Length ? _bits.Length : end & ~mask;
            if (wholeEnd > wholeStart)
            {
                _bits.Reset(wholeStart, wholeEnd - wholeStart);
            }

            _copied.Add((offset, end));
        }
    }

    /// <summary>Ends <see cref="BeginCopied"/>; true when both sides have the write, else it is to be copied.</summary>
    public void EndCopied(long offset, long bytes, bool isCopied)
    {
        lock (_gate)
        {
            _copied.Remove((offset, offset + bytes));
            if (!isCopied)
            {
                _bits.Set(offset, bytes);
            }
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

    /// <summary>Marks the end of a range that was taken: it is taken again next.</summary>
    public void GiveBack(long offset, long bytes)
    {
        lock (_gate)
        {
            _bits.Set(offset, bytes);
            _cursor = offset;
        }
    }

    /// <summary>True when a granule is to be copied.</summary>
    public bool IsDirty(long offset)
    {
        lock (_gate)
        {
            return _bits[offset];
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

    // The node may have extended the write to what it can address, with what was there. Another write of the same range is marked.
    private bool TryForgive(long start, long end)
    {
        long mask = _bits.Granularity - 1;
        for (int i = 0; i < _copied.Count; i++)
        {
            (long from, long to) = _copied[i];
            if (start <= from && end >= to && start >= (from & ~mask) && end <= ((to + mask) & ~mask))
            {
                _copied.RemoveAt(i);
                return true;
            }
        }

        return false;
    }
}
