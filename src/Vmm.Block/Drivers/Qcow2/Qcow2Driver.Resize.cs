using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>The size of the disk.</content>
public sealed partial class Qcow2Driver
{
    /// <inheritdoc/>
    public override bool HasZeroInit => !Header.HasDataFile || Data.Driver.HasZeroInit;

    /// <inheritdoc/>
    public override async IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed)
    {
        if ((length & 511) != 0)
        {
            throw new QapiException("The new size must be a multiple of 512");
        }

        await _lock.EnterAsync();
        try
        {
            if (_isFailed)
            {
                throw new QapiException("No medium inserted");
            }

            if (_snapshots.Count > 0 && Header.Version < 3)
            {
                throw new QapiException("Can't resize a v2 image which has snapshots");
            }

            // One that the image has is stored again with the new size.
            foreach (Qcow2BitmapEntry entry in _bitmapEntries)
            {
                Node.FindBitmap(entry.Name)?.CheckUsable(changes: true);
            }

            await WaitForAllAllocationsAsync(0, long.MaxValue >> 1);
            _hasHoles = null;
            if (length < Header.Size)
            {
                await ShrinkAsync(length, prealloc);
            }
            else if (length > Header.Size)
            {
                await GrowAsync(length, prealloc, zeroed);
            }
        }
        finally
        {
            _lock.Exit();
        }
    }

    private async IoTask GrowAsync(long length, PreallocMode prealloc, bool zeroed)
    {
        long old = Header.Size;
        long entries = Qcow2Header.L1EntriesFor(length, Header.ClusterBits, Header.L2Bits);
        Check(await GrowL1Async(entries), "Failed to grow the L1 table");

        // What a longer backing file has there must not come to light.
        bool isCovered = Node.Backing is { } backing && backing.Node.Length > old;
        if (prealloc == PreallocMode.Off && Header.IsDataFileRaw)
        {
            // The data file by itself and the image through its tables must be the same disk.
            prealloc = PreallocMode.Metadata;
        }

        if (prealloc != PreallocMode.Off)
        {
            await PreallocateAsync(await FirstToPreallocateAsync(old), length, prealloc);
        }

        await ZeroRestAsync(old, length);
        if (prealloc == PreallocMode.Off && (zeroed || isCovered))
        {
            await ZeroNewAsync(old, length);
        }

        if (Header.HasDataFile && prealloc != PreallocMode.Off)
        {
            await Data.TruncateAsync(length, exact: false, prealloc is PreallocMode.Metadata ? PreallocMode.Off : prealloc);
        }

        Check(await _metadata.WriteAsync(), "Failed to flush metadata");
        Check(await SetSizeAsync(length), "Failed to update the image size");
    }

    /// <summary>What the last cluster has behind the end of the disk comes to light as zeroes.</summary>
    private async IoTask ZeroRestAsync(long old, long length)
    {
        Check(await _mapping.LoadAsync(old), "Failed to zero out the new area");
        _mapping.TryLookup(old, 1, out Qcow2Extent extent);
        bool isZero = extent.Kind is Qcow2Kind.Zero or Qcow2Kind.ZeroPlaced
            || (extent.Kind is Qcow2Kind.Unallocated or Qcow2Kind.UnallocatedPlaced && Node.Backing is null);
        long clusterEnd = (old | (Header.ClusterBytes - 1L)) + 1;
        long mask = extent.Kind == Qcow2Kind.Compressed ? Header.ClusterBytes - 1 : (1L << _mapping.SubclusterBits) - 1;
        long start = (old + mask) & ~mask;
        long part = Math.Min(start, length) - old;
        if (part > 0 && !isZero)
        {
            // A write like the guest's, which needs the new size; if it fails the image keeps the old one.
            _metadata.Header = Header with { Size = length };
            _lock.Exit();
            IoVectors zeroes = ZeroMemory.Rent(part);
            int written = await WritePartsAsync(old, zeroes);
            zeroes.Return();
            await _lock.EnterAsync();
            _metadata.Header = Header with { Size = old };
            Check(written, "Failed to zero out the new area");
        }

        if (_mapping.HasSubclusters && (old & (Header.ClusterBytes - 1)) != 0 && start < clusterEnd && _mapping.SliceOffset(start) != 0)
        {
            Check(await ChangeSliceAsync(start, clusterEnd - start, Qcow2Change.Zero), "Failed to zero out the new area");
        }
    }

    private async IoTask ZeroNewAsync(long old, long length)
    {
        long mask = (1L << _mapping.SubclusterBits) - 1;
        for (long offset = (old + mask) & ~mask; offset < length;)
        {
            long part = Math.Min(((length + mask) & ~mask) - offset, StepFrom(offset, Qcow2Change.Zero));
            Check(await ChangeSliceAsync(offset, part, Qcow2Change.Zero), "Failed to zero out the new area");
            offset += part;
        }
    }

    /// <summary>
    /// Where places may be given from on, without looking at what is there: the cluster in which the disk has ended may have data in a place that
    /// is not its own.
    /// </summary>
    private async IoTask<long> FirstToPreallocateAsync(long old)
    {
        long start = old & ~(Header.ClusterBytes - 1L);
        if (start == old)
        {
            return old;
        }

        Check(await _mapping.LoadAsync(start), "Could not preallocate metadata");
        _mapping.TryLookup(start, old - start, out Qcow2Extent extent);
        bool isEmpty = Node.Backing is null && extent.Bytes == old - start && extent.Kind is Qcow2Kind.Unallocated or Qcow2Kind.Zero;
        return isEmpty ? old : start + Header.ClusterBytes;
    }

    /// <summary>Gives places to all clusters of a range that have none.</summary>
    private async IoTask PreallocateAsync(long start, long end, PreallocMode prealloc)
    {
        Qcow2Allocation allocation = new();
        for (long offset = start; offset < end;)
        {
            Check(await _mapping.LoadAsync(offset), "Could not preallocate metadata");
            _mapping.TryLookup(offset, end - offset, out Qcow2Extent extent);
            if (IsInPlace(extent))
            {
                offset += extent.Bytes;
                continue;
            }

            Check(await AllocateAsync(allocation, offset, Math.Min(end - offset, MaxAllocationBytes)), "Could not preallocate metadata");
            if (!Header.HasDataFile)
            {
                await FillPreallocatedAsync(allocation, prealloc);
            }

            // All of the clusters, whatever was asked for.
            allocation.DataOffset = allocation.GuestOffset;
            allocation.DataBytes = allocation.HostBytes;
            allocation.HeadBytes = allocation.TailBytes = 0;
            Check(await LinkAsync(allocation), "Could not preallocate metadata");
            offset = allocation.GuestEnd;
        }
    }

    // New clusters must read as zeroes; those behind the end of the file do so when the file is made longer.
    private async IoTask FillPreallocatedAsync(Qcow2Allocation allocation, PreallocMode prealloc)
    {
        long end = allocation.HostOffset + allocation.HostBytes;
        if (allocation.IsNew && allocation.HostOffset >= _file.Length)
        {
            await _file.Node.TruncateAsync(end, exact: false, prealloc == PreallocMode.Metadata ? PreallocMode.Off : prealloc);
            return;
        }

        Check(await _file.ZeroAsync(allocation.HostOffset, allocation.HostBytes), "Could not preallocate data");
    }

    private async IoTask ShrinkAsync(long length, PreallocMode prealloc)
    {
        if (prealloc != PreallocMode.Off)
        {
            throw new QapiException("Preallocation can't be used for shrinking files");
        }

        long mask = Header.ClusterBytes - 1;
        long end = (Header.Size + mask) & ~mask;
        for (long offset = (length + mask) & ~mask; offset < end;)
        {
            long part = Math.Min(end - offset, StepFrom(offset, Qcow2Change.DiscardFully));
            Check(await ChangeSliceAsync(offset, part, Qcow2Change.DiscardFully), "Failed to discard cropped clusters");
            Check(await _metadata.FreeSoonAsync(), "Failed to discard cropped clusters");
            offset += part;
        }

        int needed = (int)Qcow2Header.L1EntriesFor(length, Header.ClusterBits, Header.L2Bits);
        for (int i = _mapping.L1.Next(needed); i < _mapping.L1.Length; i = _mapping.L1.Next(i + 1))
        {
            ulong entry = _mapping.L1[i];
            _mapping.SetL1(i, 0);
            FreeEntry(entry & Qcow2Format.OffsetMask, Qcow2FreeReason.Other, isTable: true);
            Check(await _metadata.FreeSoonAsync(), "Failed to reduce the number of L2 tables");
        }

        // The guest's new end is in the file before what was behind it is used again.
        Check(await SetSizeAsync(length), "Failed to update the image size");

        // The disk has its new size now. Tables that cannot be written stay dirty: the next flush writes them, and says so when it cannot.
        await _metadata.WriteAsync();
        if (Header.IsDataFileRaw)
        {
            await Data.TruncateAsync(length, exact: false);
        }
    }

    /// <inheritdoc/>
    public override async IoTask<int> MakeEmptyAsync()
    {
        await _lock.EnterAsync();
        int result = 0;
        long mask = Header.ClusterBytes - 1;
        long end = (Header.Size + mask) & ~mask;
        for (long offset = 0; offset < end && result >= 0;)
        {
            long part = Math.Min(end - offset, StepFrom(offset, Qcow2Change.DiscardFully));
            result = await ChangeSliceAsync(offset, part, Qcow2Change.DiscardFully);
            result = result < 0 ? result : await _metadata.FreeSoonAsync();
            offset += part;
        }

        _lock.Exit();
        return result;
    }

    private async IoTask<int> SetSizeAsync(long length)
    {
        byte[] field = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(field, length);
        int result = await _file.WriteBytesAsync(24, field);
        if (result >= 0)
        {
            _metadata.Header = Header with { Size = length };
            return result;
        }

        // A write that failed may have been done.
        BinaryPrimitives.WriteInt64BigEndian(field, Header.Size);
        await _file.WriteBytesAsync(24, field);
        return result;
    }

    /// <summary>Has room for entries in L1.</summary>
    private async IoTask<int> GrowL1Async(long entries)
    {
        if (entries <= _mapping.L1.Length)
        {
            return 0;
        }

        // As often as it grows by one, it need not move.
        entries = Math.Max(entries, Math.Min(_mapping.L1.Length * 3L / 2, Qcow2Format.MaxL1Bytes / 8));
        if (entries > Qcow2Format.MaxL1Bytes / 8)
        {
            return -(int)Interop.Errno.EFBIG;
        }

        Qcow2Table table = _mapping.L1.Copy((int)entries);
        int result = await _metadata.WriteAsync();
        if (result < 0)
        {
            return result;
        }

        long clusters = ((entries * 8) + Header.ClusterBytes - 1) >> Header.ClusterBits;
        long place = await _metadata.Refcounts.AllocateAsync(clusters);
        if (place < 0)
        {
            return (int)place;
        }

        result = await ReplaceL1Async(table, place);
        if (result < 0)
        {
            await _metadata.FreeNowAsync(place, clusters << Header.ClusterBits);
        }

        return result;
    }

    /// <summary>Puts another active L1, at a place that is allocated, into use, and frees the old one.</summary>
    private async IoTask<int> ReplaceL1Async(Qcow2Table table, long place)
    {
        await _file.DebugAsync(BlkdebugEvent.L1GrowWriteTable);
        int result = await _file.WriteTableAsync(place, table, 0, table.Length);
        if (result >= 0)
        {
            result = await _metadata.WriteRefcountsAsync();
        }

        if (result >= 0)
        {
            result = await _file.BarrierAsync();
        }

        if (result < 0)
        {
            return result;
        }

        await _file.DebugAsync(BlkdebugEvent.L1GrowActivateTable);
        byte[] fields = new byte[12];
        BinaryPrimitives.WriteInt32BigEndian(fields, table.Length);
        BinaryPrimitives.WriteInt64BigEndian(fields.AsSpan(4), place);
        result = await _file.WriteBytesAsync(36, fields);
        if (result < 0)
        {
            return result;
        }

        (long oldOffset, long oldBytes) = (_mapping.L1Offset, _mapping.L1.Bytes);
        _mapping.L1 = table;
        _mapping.L1Offset = place;
        _mapping.L1Dirty = (int.MaxValue, -1);
        _metadata.Header = Header with { L1Offset = place, L1Entries = table.Length };
        _metadata.LocateTables();
        _metadata.NeedsBarrier();
        _metadata.FreeLater(oldOffset, oldBytes);
        return 0;
    }
}
