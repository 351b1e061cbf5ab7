using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Jobs;

/// <summary>
/// Copies clusters of a node to another one, each once: those that a backup comes to, and those that are about to be written. Home: the
/// source's loop; what is left to copy may be asked on any thread.
/// </summary>
public sealed class BlockCopy : IDisposable
{
    /// <summary>Smallest cluster: what the copy takes in one piece.</summary>
    public const int MinCluster = 65536;

    private readonly Lock _gate = new();
    private readonly BlockNode _source;
    private readonly BitSet _left;
    private readonly RangeLock _ranges = new();
    private readonly RangeCopier _copier;
    private readonly int _targetCluster;
    private long _inFlight;

    /// <summary>Nothing is left to copy.</summary>
    public BlockCopy(BlockNode source, BlockNode target)
    {
        _source = source;
        _targetCluster = target.Driver.ClusterBytes;
        _copier = new RangeCopier(source, target, BlockRequestFlags.MayUnmap) { BufferBytes = Math.Max(RangeCopier.MaxBytes, _targetCluster) };
        Cluster = Math.Max(MinCluster, _targetCluster);
        _left = new BitSet(source.Length, Cluster);
    }

    /// <summary>Bytes of a cluster of the copy.</summary>
    public int Cluster { get; }

    /// <summary>The target's clusters are compressed.</summary>
    public bool IsCompressing { get; init; }

    /// <summary>The image below which nothing is copied; null for the end of the chain.</summary>
    public BlockNode? Bottom { get; init; }

    /// <summary>Only what is above <see cref="Bottom"/> is copied.</summary>
    public bool SkipsUnallocated { get; set; }

    /// <summary>Everything is copied: zeroes are left out where the target has them.</summary>
    public bool SkipsZeroes
    {
        init => _copier.SkipsZeroes = value;
    }

    /// <summary>Bytes that were copied.</summary>
    public long Copied { get; private set; }

    /// <summary>Bytes left to copy that nobody copies now, in whole clusters.</summary>
    public long Left
    {
        get
        {
            lock (_gate)
            {
                return _left.Count * _left.Granularity;
            }
        }
    }

    /// <summary>Bytes that are not copied yet, in whole clusters.</summary>
    public long Remaining
    {
        get
        {
            lock (_gate)
            {
                return (_left.Count * _left.Granularity) + _inFlight;
            }
        }
    }

    /// <summary>Has a range copied.</summary>
    public void Add(long offset, long bytes)
    {
        lock (_gate)
        {
            _left.Set(offset, bytes);
        }
    }

    /// <summary>Has what a bitmap has copied.</summary>
    public void Add(BitSet bits)
    {
        lock (_gate)
        {
            _left.Merge(bits);
        }
    }

    /// <summary>Has a range not copied.</summary>
    public void Remove(long offset, long bytes)
    {
        lock (_gate)
        {
            _left.Reset(offset, bytes);
        }
    }

    /// <summary>Puts what is left into a bitmap as well.</summary>
    public void MergeLeftInto(BitSet bits)
    {
        lock (_gate)
        {
            bits.Merge(_left);
        }
    }

    /// <summary>Finds what is left from an offset on.</summary>
    public bool Next(ref long offset, long max, out long bytes)
    {
        lock (_gate)
        {
            return _left.NextArea(ref offset, _left.Length, max, out bytes);
        }
    }

    /// <summary>Copies what is left of the clusters of a range. What another call copies is waited for.</summary>
    /// <returns>0 or a negative errno, and whether a read has failed.</returns>
    public async IoTask<(int Result, bool IsRead)> CopyAsync(long offset, long bytes)
    {
        long start = offset / Cluster * Cluster;
        long end = Math.Min((offset + bytes + Cluster - 1) / Cluster * Cluster, _left.Length);
        int result = 0;
        bool isRead = false;
        if (start >= end)
        {
            return (0, false);
        }

        await _ranges.EnterAsync(start, end);
        for (long at = start; result >= 0 && Take(ref at, end, Math.Max(RangeCopier.MaxBytes, Cluster), out long part);)
        {
            (result, isRead) = await CopyPartAsync(at, part);
            Finish(at, part, result);
            at += part;
        }

        _ranges.Exit(start, end);
        return (result, isRead);
    }

    /// <summary>What was copied last is all zeroes: <see cref="SkipAsync"/> may find more of it.</summary>
    public bool MaySkip => _copier.WasZero;

    /// <summary>
    /// Finds out whether what follows an offset, a multiple of a cluster, is above <see cref="Bottom"/>; where it is not, it is not copied.
    /// </summary>
    /// <returns>For how many bytes, in whole clusters; or a negative errno.</returns>
    public async IoTask<long> ForgetUnallocatedAsync(long offset)
    {
        long total = 0;
        bool isAllocated = false;
        while (!isAllocated && total < Cluster && offset + total < _left.Length)
        {
            BlockStatus status = await _source.StatusAboveAsync(Bottom, offset + total, _left.Length - offset - total, wantZero: false);
            if (status.Result < 0)
            {
                return status.Result;
            }

            // A cluster of which a part is there is copied whole.
            isAllocated = (status.Flags & BlockStatusFlags.Allocated) != 0;
            total += Math.Max(status.Bytes, 1);
        }

        bool isRoundedUp = isAllocated || offset + total >= _left.Length;
        total = (total + (isRoundedUp ? Cluster - 1 : 0)) / Cluster * Cluster;
        if (!isAllocated)
        {
            Remove(offset, total);
        }

        return total;
    }

    /// <summary>For how many bytes of a range, in whole clusters, the source says the same of itself: a negative errno is left to the copy.</summary>
    public async IoTask<long> CountAlikeAsync(long offset, long bytes)
    {
        BlockStatus status = await _source.StatusAboveAsync(null, offset, bytes);
        return status.Result < 0 || status.Bytes >= bytes ? bytes : Math.Max(status.Bytes / Cluster * Cluster, Cluster);
    }

    /// <summary>Copies the zeroes with which a range begins in one piece.</summary>
    /// <returns>How many bytes, in whole clusters; or a negative errno.</returns>
    public async IoTask<long> SkipAsync(long offset)
    {
        long bytes = Math.Min(_left.Length - offset, RangeCopier.MaxZeroes);
        bytes = await _copier.CountZeroesAsync(offset, bytes, Cluster);
        if (bytes == 0)
        {
            return 0;
        }

        // What is left was not written since the copy began to watch: it is what it was just now.
        await _ranges.EnterAsync(offset, offset + bytes);
        int result = 0;
        for (long at = offset; result >= 0 && Take(ref at, offset + bytes, RangeCopier.MaxZeroes, out long part); at += part)
        {
            result = await _copier.WriteZeroesAsync(at, part);
            Copied += result >= 0 ? WholeClusters(part) : 0;
            Finish(at, part, result);
        }

        _ranges.Exit(offset, offset + bytes);
        return result < 0 ? result : bytes;
    }

    /// <inheritdoc/>
    public void Dispose() => _copier.Dispose();

    // In whole clusters: there is one bit for each.
    private bool Take(ref long offset, long end, long max, out long bytes)
    {
        lock (_gate)
        {
            if (!_left.NextArea(ref offset, end, max, out bytes))
            {
                return false;
            }

            _left.Reset(offset, bytes);
            _inFlight += WholeClusters(bytes);
            return true;
        }
    }

    private long WholeClusters(long bytes) => (bytes + Cluster - 1) / Cluster * Cluster;

    private void Finish(long offset, long bytes, int result)
    {
        lock (_gate)
        {
            _inFlight -= WholeClusters(bytes);
            if (result < 0)
            {
                _left.Set(offset, bytes);
            }
        }
    }

    private async IoTask<(int Result, bool IsRead)> CopyPartAsync(long offset, long bytes)
    {
        if (SkipsUnallocated)
        {
            BlockStatus status = await _source.StatusAboveAsync(Bottom, offset, bytes, wantZero: false);
            if (status.Result >= 0 && (status.Flags & BlockStatusFlags.Allocated) == 0 && status.Bytes >= bytes)
            {
                return (0, false);
            }
        }

        (int Result, bool IsRead) copied = await _copier.CopyAsync(offset, bytes, IsCompressing ? _targetCluster : 0);
        Copied += copied.Result >= 0 ? WholeClusters(bytes) : 0;
        return copied;
    }
}
