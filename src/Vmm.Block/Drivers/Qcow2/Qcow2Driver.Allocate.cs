using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Places for clusters, and their entries in the tables. Under the lock.</content>
public sealed partial class Qcow2Driver
{
    private const long MaxAllocationBytes = 16 << 20;

    private readonly Stack<NativeBuffer> _copyBuffers = new();
    private Qcow2Metadata _metadata = null!;

    /// <summary>
    /// Finds places for the beginning of a range, which has none of its own. The allocation says for how much of it.
    /// </summary>
    private async IoTask<int> AllocateAsync(Qcow2Allocation allocation, long offset, long bytes)
    {
        int result = await EnsureTableAsync(offset);
        if (result >= 0)
        {
            result = await _mapping.LoadAsync(offset);
        }

        if (result < 0)
        {
            return result;
        }

        int clusterBytes = Header.ClusterBytes;
        long start = offset & ~(clusterBytes - 1L);
        bytes = Math.Min(bytes, _mapping.SliceSpan - (offset & (_mapping.SliceSpan - 1)));
        (ulong entry, bool isReused, int clusters) = CountAlike(offset, bytes);
        allocation.GuestOffset = start;
        allocation.IsReused = isReused;
        allocation.IsNew = false;
        if (isReused)
        {
            allocation.HostOffset = (long)(entry & Qcow2Format.OffsetMask);
        }
        else if (Header.HasDataFile)
        {
            allocation.HostOffset = start;
        }
        else
        {
            long place = await AllocatePlaceAsync(start, clusters, (int)(offset - start), bytes);
            if (place < 0)
            {
                return (int)place;
            }

            allocation.HostOffset = place;
            clusters = _lastAllocated;
            allocation.IsNew = _metadata.Refcounts.IsLastNew && Data.Driver.HasZeroInit;

            // In an image that contradicts itself, freeing clusters may have taken the table away.
            result = await _mapping.LoadAsync(offset);
            if (result < 0 || _mapping.Slices.Find(_mapping.SliceOffset(offset)) is null)
            {
                await _metadata.FreeNowAsync(place, (long)clusters << Header.ClusterBits);
                return BlockResult.Io;
            }
        }

        allocation.GuestEnd = start + ((long)clusters << Header.ClusterBits);
        allocation.DataOffset = offset;
        allocation.DataBytes = Math.Min(bytes, allocation.GuestEnd - offset);
        SetSurroundings(allocation);
        return 0;
    }

    // Clusters from the beginning of a range on, within one slice, that either keep their contiguous places or all need new ones.
    private (ulong Entry, bool IsReused, int Clusters) CountAlike(long offset, long bytes)
    {
        ReadOnlySpan<byte> slice = _mapping.Slices.Find(_mapping.SliceOffset(offset))!.Span;
        int first = _mapping.SliceIndex(offset);
        int inCluster = (int)(offset & (Header.ClusterBytes - 1));
        int needed = (int)((inCluster + bytes + Header.ClusterBytes - 1) >> Header.ClusterBits);
        ulong entry = _mapping.Entry(slice, first);
        bool isReused = KeepsPlace(entry);
        int count = 1;
        while (count < needed && first + count < _mapping.SliceEntries)
        {
            ulong next = _mapping.Entry(slice, first + count);
            bool isInPlace = (next & Qcow2Format.Copied) != 0 && _mapping.Classify(next, _mapping.Bitmap(slice, first + count), 0) == Qcow2Kind.Normal;
            ulong expected = entry + ((ulong)count << Header.ClusterBits);
            if (KeepsPlace(next) != isReused || isInPlace || (isReused && ((next ^ expected) & Qcow2Format.OffsetMask) != 0))
            {
                break;
            }

            count++;
        }

        return (entry, isReused, count);
    }

    // A place that nobody else uses: preallocated zeroes, a cluster with other subclusters.
    private bool KeepsPlace(ulong entry) =>
        (entry & (Qcow2Format.Copied | Qcow2Format.Compressed)) == Qcow2Format.Copied
        && ((entry & Qcow2Format.OffsetMask) != 0 || Header.HasDataFile)
        && (entry & Qcow2Format.OffsetMask & (ulong)(Header.ClusterBytes - 1)) == 0;

    private int _lastAllocated;

    private async IoTask<long> AllocatePlaceAsync(long start, int clusters, int head, long bytes)
    {
        await _file.DebugAsync(BlkdebugEvent.ClusterAlloc);

        // Behind the cluster before, if there is room: what is written one after the other is read so.
        if (start > 0 && (start & (_mapping.SliceSpan - 1)) != 0)
        {
            if (_mapping.TryLookup(start - 1, 1, out Qcow2Extent before) && before.Kind == Qcow2Kind.Normal)
            {
                long wanted = before.HostOffset + 1;
                long got = await _metadata.Refcounts.AllocateAtAsync(wanted, clusters, bytes);
                if (got != 0)
                {
                    _lastAllocated = (int)got;
                    return got < 0 ? got : wanted;
                }
            }
        }

        _lastAllocated = clusters;
        return await _metadata.Refcounts.AllocateAsync(clusters, head, bytes);
    }

    // What of the first and the last cluster must be copied.
    private void SetSurroundings(Qcow2Allocation allocation)
    {
        ReadOnlySpan<byte> slice = _mapping.Slices.Find(_mapping.SliceOffset(allocation.DataOffset))!.Span;
        int first = _mapping.SliceIndex(allocation.DataOffset);
        long dataEnd = allocation.DataOffset + allocation.DataBytes;
        int last = _mapping.SliceIndex(dataEnd - 1);
        bool isWhole = !_mapping.HasSubclusters;
        for (int i = first; i <= last && !isWhole && !allocation.IsReused; i++)
        {
            // Subclusters that have data in another place must come along.
            ulong entry = _mapping.Entry(slice, i);
            isWhole = (entry & Qcow2Format.Compressed) != 0 || ((entry & Qcow2Format.OffsetMask) != 0 && (_mapping.Bitmap(slice, i) & Qcow2Format.AllAllocated) != 0);
        }

        allocation.IsWhole = isWhole;
        long unit = isWhole ? Header.ClusterBytes : 1L << _mapping.SubclusterBits;
        allocation.HeadBytes = (int)(allocation.DataOffset & (unit - 1));
        allocation.TailBytes = (int)(((dataEnd + unit - 1) & ~(unit - 1)) - dataEnd);
        if (allocation.IsReused && _mapping.HasSubclusters)
        {
            // Data beside ours in the same subcluster is in its place.
            allocation.HeadBytes = HasData(allocation.DataOffset) ? 0 : allocation.HeadBytes;
            allocation.TailBytes = HasData(dataEnd - 1) ? 0 : allocation.TailBytes;
        }

        allocation.IsSurroundingZero = (allocation.HeadBytes == 0 || IsKnownZero(allocation.DataOffset, allocation.HeadBytes))
            && (allocation.TailBytes == 0 || IsKnownZero(dataEnd - 1, allocation.TailBytes));
    }

    private bool HasData(long offset) => _mapping.TryLookup(offset, 1, out Qcow2Extent extent) && extent.Kind == Qcow2Kind.Normal;

    // The part of a cluster that is copied reads as zeroes, as far as the tables say. The byte is in the cluster, beside the part.
    private bool IsKnownZero(long offset, int bytes)
    {
        if (bytes == 0 || !_mapping.TryLookup(offset, 1, out Qcow2Extent extent))
        {
            return bytes == 0;
        }

        // With subclusters the rest of a whole cluster may be something else.
        bool isUniform = !_mapping.HasSubclusters || bytes < 1 << _mapping.SubclusterBits;
        return isUniform && extent.Kind switch
        {
            Qcow2Kind.Zero or Qcow2Kind.ZeroPlaced => true,
            Qcow2Kind.Unallocated or Qcow2Kind.UnallocatedPlaced => Node.Backing is null,
            _ => false,
        };
    }

    /// <summary>Has the tables refer to an allocation whose clusters are filled.</summary>
    private async IoTask<int> LinkAsync(Qcow2Allocation allocation)
    {
        int result = await MarkStaleAsync();
        if (result >= 0)
        {
            // The table may have been replaced by a snapshot's copy meanwhile.
            result = await EnsureTableAsync(allocation.GuestOffset);
        }

        if (result >= 0)
        {
            result = await _mapping.LoadAsync(allocation.GuestOffset);
        }

        if (result < 0)
        {
            return result;
        }

        Qcow2Cache.Slot slot = _mapping.Slices.Find(_mapping.SliceOffset(allocation.GuestOffset))!;
        int first = _mapping.SliceIndex(allocation.GuestOffset);
        int clusters = (int)(allocation.HostBytes >> Header.ClusterBits);
        for (int i = 0; i < clusters; i++)
        {
            LinkCluster(allocation, slot.Span, first, i);
        }

        _mapping.Slices.MarkDirty(slot);
        return 0;
    }

    private void LinkCluster(Qcow2Allocation allocation, Span<byte> slice, int first, int i)
    {
        ulong old = _mapping.Entry(slice, first + i);
        long offset = (long)i << Header.ClusterBits;
        _mapping.SetEntry(slice, first + i, (ulong)(allocation.HostOffset + offset) | Qcow2Format.Copied);
        if (_mapping.HasSubclusters)
        {
            long start = Math.Max(allocation.DataOffset - allocation.HeadBytes - allocation.GuestOffset - offset, 0);
            long end = Math.Min(allocation.DataOffset + allocation.DataBytes + allocation.TailBytes - allocation.GuestOffset - offset, Header.ClusterBytes);
            int from = (int)(start >> _mapping.SubclusterBits);
            int to = (int)((end + (1L << _mapping.SubclusterBits) - 1) >> _mapping.SubclusterBits);
            ulong written = ((1UL << to) - 1) & ~((1UL << from) - 1);
            ulong bitmap = (old & Qcow2Format.Compressed) != 0 ? 0 : _mapping.Bitmap(slice, first + i);
            _mapping.SetBitmap(slice, first + i, (bitmap | written) & ~(written << 32));
        }

        if (!allocation.IsReused)
        {
            FreeEntry(old, Qcow2FreeReason.Other);
        }
    }

    /// <summary>The tables refer no longer to what an entry refers to.</summary>
    private void FreeEntry(ulong entry, Qcow2FreeReason reason, bool isTable = false)
    {
        if ((entry & Qcow2Format.Compressed) != 0)
        {
            _metadata.FreeLater(_mapping.CompressedOffset(entry) & ~511L, ((_mapping.CompressedOffset(entry) & 511) + _mapping.CompressedBytes(entry)), reason);
            return;
        }

        long place = (long)(entry & Qcow2Format.OffsetMask);
        if (place == 0)
        {
            return;
        }

        if ((place & (Header.ClusterBytes - 1)) != 0)
        {
            Corrupt(isFatal: false, -1, -1, $"Cannot free unaligned cluster {Qcow2Text.Hex(place)}");
            return;
        }

        if (!Header.HasDataFile || isTable)
        {
            _metadata.FreeLater(place, Header.ClusterBytes, reason);
        }
    }

    /// <summary>With lazy refcounts: the file says that they are stale before anything depends on it.</summary>
    private async IoTask<int> MarkStaleAsync()
    {
        if (!_isLazy || _metadata.IsMarkedDirty)
        {
            return 0;
        }

        return await _metadata.SetIncompatibleAsync(_metadata.Header.Incompatible | Qcow2Incompatible.Dirty);
    }

    /// <summary>Has an L2 table of the active image's own for an offset.</summary>
    private async IoTask<int> EnsureTableAsync(long offset)
    {
        int index = _mapping.L1Index(offset);
        if (index >= _mapping.L1.Length)
        {
            return BlockResult.Io;
        }

        ulong old = _mapping.L1[index];
        long source = (long)(old & Qcow2Format.OffsetMask);
        if ((source & (Header.ClusterBytes - 1)) != 0)
        {
            Corrupt(isFatal: true, -1, -1, TableUnaligned(index, source));
            return BlockResult.Io;
        }

        if (source != 0 && (old & Qcow2Format.Copied) != 0)
        {
            return 0;
        }

        if (source != 0)
        {
            // The copy is made in the file.
            int flushed = await _metadata.WriteAsync();
            if (flushed < 0)
            {
                return flushed;
            }
        }

        long place = await _metadata.Refcounts.AllocateAsync(1, 0, _mapping.Slices.EntryBytes, isTable: true);
        if (place < 0)
        {
            return (int)place;
        }

        int result = source == 0 ? await ZeroTableAsync(place) : await CopyTableAsync(source, place);
        if (result < 0)
        {
            await _metadata.FreeNowAsync(place, Header.ClusterBytes);
            return result;
        }

        _metadata.Map.AddTable(place);
        _mapping.SetL1(index, (ulong)place | Qcow2Format.Copied);
        _metadata.FreeLater(source == 0 ? 0 : source, source == 0 ? 0 : Header.ClusterBytes);
        return 0;
    }

    private async IoTask<int> ZeroTableAsync(long place)
    {
        using NativeBuffer zeroes = new(Header.ClusterBytes, zeroed: true);
        await _file.DebugAsync(BlkdebugEvent.L2AllocWrite);
        return await _file.WriteAsync(place, zeroes, 0, zeroes.Length);
    }

    // What both tables refer to belongs to neither alone; the counts of the clusters say so since the snapshot was made.
    private async IoTask<int> CopyTableAsync(long source, long place)
    {
        using NativeBuffer table = new(Header.ClusterBytes);
        await _file.DebugAsync(BlkdebugEvent.L2AllocCowRead);
        int result = await _file.ReadAsync(source, table, 0, table.Length);
        return result < 0 ? result : await _file.WriteAsync(place, table, 0, table.Length);
    }
}
