using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Zeroes, discards, flushes.</content>
public sealed partial class Qcow2Driver
{
    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => BlockRequestFlags.MayUnmap | BlockRequestFlags.NoFallback;

    /// <inheritdoc/>
    public override async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        long unit = 1L << _mapping.SubclusterBits;
        long end = offset + bytes;
        Qcow2Change change = (flags & BlockRequestFlags.MayUnmap) != 0 ? Qcow2Change.ZeroUnmap : Qcow2Change.Zero;
        bool isWhole = (offset & (unit - 1)) == 0 && ((end & (unit - 1)) == 0 || end == Header.Size);
        if (!isWhole)
        {
            // The rest of the subcluster may be zero already.
            long start = offset & ~(unit - 1);
            long stop = Math.Min((end + unit - 1) & ~(unit - 1), Header.Size);
            if (stop - start > unit || !await ReadsZeroAsync(start, offset - start) || !await ReadsZeroAsync(end, stop - end))
            {
                return BlockResult.NotSupported;
            }

            (offset, end) = (start, stop);
        }

        // The end of the disk may lie within a subcluster.
        end = (end + unit - 1) & ~(unit - 1);
        return await ChangeAsync(offset, end - offset, change, onlyWithoutData: !isWhole);
    }

    /// <inheritdoc/>
    public override async IoTask<int> DiscardAsync(long offset, long bytes)
    {
        if (_isFailed)
        {
            return BlockResult.NoMedium;
        }

        // Version 2 has no zero clusters: what was discarded would show the backing file.
        if (Header.Version < 3 && Node.Backing is not null)
        {
            return BlockResult.NotSupported;
        }

        long end = offset + bytes;
        long mask = Header.ClusterBytes - 1;
        if ((offset & mask) != 0 || ((end & mask) != 0 && end != Header.Size))
        {
            return BlockResult.NotSupported;
        }

        return await ChangeAsync(offset, ((end + mask) & ~mask) - offset, Qcow2Change.Discard);
    }

    /// <inheritdoc/>
    public override async IoTask<int> FlushToOsAsync()
    {
        if (_isFailed || Node.IsReadOnly)
        {
            return 0;
        }

        await _lock.EnterAsync();
        int result = await _metadata.WriteAsync();
        _lock.Exit();
        return result;
    }

    private async IoTask<bool> ReadsZeroAsync(long offset, long bytes)
    {
        while (bytes > 0)
        {
            BlockStatus status = await Node.StatusAboveAsync(null, offset, bytes);
            if (status.Result < 0 || (status.Flags & BlockStatusFlags.Zero) == 0 || status.Bytes <= 0)
            {
                return false;
            }

            offset += status.Bytes;
            bytes -= status.Bytes;
        }

        return true;
    }

    /// <summary>Zeroes or forgets whole subclusters, slice by slice.</summary>
    private async IoTask<int> ChangeAsync(long offset, long bytes, Qcow2Change change, bool onlyWithoutData = false)
    {
        await _lock.EnterAsync();
        int result = 0;
        if (onlyWithoutData)
        {
            // Somebody may have written beside the zeroes since we looked.
            await WaitForAllAllocationsAsync(offset, bytes);
            result = await _mapping.LoadAsync(offset);
            bool isFound = _mapping.TryLookup(offset, bytes, out Qcow2Extent extent);
            if (result >= 0 && (!isFound || extent.Kind is Qcow2Kind.Normal or Qcow2Kind.Compressed or Qcow2Kind.Invalid))
            {
                result = BlockResult.NotSupported;
            }
        }

        if (result >= 0 && Header.IsDataFileRaw && change != Qcow2Change.DiscardFully)
        {
            result = await Data.WriteZeroesAsync(offset, Math.Min(bytes, Header.Size - offset));
        }

        while (bytes > 0 && result >= 0)
        {
            long part = Math.Min(bytes, StepFrom(offset, change));
            await WaitForAllAllocationsAsync(offset, part);
            result = _isFailed ? BlockResult.NoMedium : await ChangeSliceAsync(offset, part, change);
            if (result >= 0)
            {
                result = await _metadata.FreeSoonAsync();
            }

            offset += part;
            bytes -= part;
        }

        _lock.Exit();
        return result;
    }

    // Zeroes are said also where nothing is below: the image may be put above another one later.
    private bool NeedsTable(Qcow2Change change) =>
        change is Qcow2Change.Zero or Qcow2Change.ZeroUnmap || (change == Qcow2Change.Discard && Node.Backing is not null);

    // To the end of the slice; to the end of the table where there is none and none is needed.
    private long StepFrom(long offset, Qcow2Change change)
    {
        long span = !NeedsTable(change) && _mapping.SliceOffset(offset) == 0 ? _mapping.TableSpan : _mapping.SliceSpan;
        return span - (offset & (span - 1));
    }

    private async IoTask<int> ChangeSliceAsync(long offset, long bytes, Qcow2Change change)
    {
        // Version 2 cannot say zeroes.
        if (change is Qcow2Change.Zero or Qcow2Change.ZeroUnmap && Header.Version < 3)
        {
            return BlockResult.NotSupported;
        }

        if (_mapping.SliceOffset(offset) == 0 && !NeedsTable(change))
        {
            return 0;
        }

        int result = await MarkStaleAsync();
        if (result >= 0)
        {
            result = await EnsureTableAsync(offset);
        }

        if (result >= 0)
        {
            result = await _mapping.LoadAsync(offset);
        }

        if (result < 0 || IsPartCompressed(offset, bytes))
        {
            return result < 0 ? result : BlockResult.NotSupported;
        }

        ChangeEntries(offset, bytes, change);
        return 0;
    }

    // A part of a compressed cluster has no state of its own: it must be written.
    private bool IsPartCompressed(long offset, long bytes)
    {
        int mask = Header.ClusterBytes - 1;
        return ((offset & mask) != 0 && IsCompressed(offset)) || (((offset + bytes) & mask) != 0 && IsCompressed(offset + bytes - 1));

        bool IsCompressed(long at) => _mapping.TryLookup(at, 1, out Qcow2Extent extent) && extent.Kind == Qcow2Kind.Compressed;
    }

    private void ChangeEntries(long offset, long bytes, Qcow2Change change)
    {
        Qcow2Cache.Slot slot = _mapping.Slices.Find(_mapping.SliceOffset(offset))!;
        Span<byte> slice = slot.Span;
        int clusterBytes = Header.ClusterBytes;
        for (long end = offset + bytes; offset < end;)
        {
            int inCluster = (int)(offset & (clusterBytes - 1));
            int part = (int)Math.Min(clusterBytes - inCluster, end - offset);
            int index = _mapping.SliceIndex(offset);
            ulong entry = _mapping.Entry(slice, index);
            ulong bitmap = _mapping.Bitmap(slice, index);
            (ulong newEntry, ulong newBitmap) = part == clusterBytes
                ? Whole(entry, bitmap, change)
                : (entry, ZeroSubclusters(bitmap, inCluster, part));
            if (newEntry != entry || newBitmap != bitmap)
            {
                _mapping.SetEntry(slice, index, newEntry);
                _mapping.SetBitmap(slice, index, newBitmap);
                _mapping.Slices.MarkDirty(slot);
                if ((newEntry & Qcow2Format.OffsetMask) != (entry & Qcow2Format.OffsetMask))
                {
                    FreeEntry(entry, Qcow2FreeReason.Request);
                    DiscardData(entry, offset);
                }
            }

            offset += part;
        }
    }

    // A cluster in an external file keeps its place, but need not keep its contents.
    private void DiscardData(ulong entry, long offset)
    {
        if (Header.HasDataFile && !Header.IsDataFileRaw && _metadata.PassesDiscard[(int)Qcow2FreeReason.Request] && (entry & Qcow2Format.Copied) != 0)
        {
            Data.DiscardAsync(offset, Header.ClusterBytes).Forget();
        }
    }

    private (ulong Entry, ulong Bitmap) Whole(ulong entry, ulong bitmap, Qcow2Change change)
    {
        bool isCompressed = (entry & Qcow2Format.Compressed) != 0;
        bool isAllocated = isCompressed || (entry & Qcow2Format.OffsetMask) != 0 || (Header.HasDataFile && (entry & Qcow2Format.Copied) != 0);
        switch (change)
        {
            case Qcow2Change.DiscardFully:
                return (0, 0);
            case Qcow2Change.Discard when !isAllocated && Node.Backing is null:
                return (entry, bitmap);
            case Qcow2Change.Discard when _mapping.HasSubclusters:
                return (0, Qcow2Format.AllZero);
            case Qcow2Change.Discard:
                return (Header.Version >= 3 ? Qcow2Format.ZeroFlag : 0, 0);
            default:
                // Zeroes keep the place of the cluster, unless they may unmap.
                ulong kept = isCompressed || change == Qcow2Change.ZeroUnmap ? 0 : entry;
                return _mapping.HasSubclusters ? (kept, Qcow2Format.AllZero) : (kept | Qcow2Format.ZeroFlag, 0);
        }
    }

    private ulong ZeroSubclusters(ulong bitmap, int inCluster, int bytes)
    {
        int from = inCluster >> _mapping.SubclusterBits;
        int to = (inCluster + bytes) >> _mapping.SubclusterBits;
        ulong mask = ((1UL << to) - 1) & ~((1UL << from) - 1);
        return (bitmap & ~mask) | (mask << 32);
    }
}

/// <summary>What is made of clusters.</summary>
internal enum Qcow2Change
{
    /// <summary>They read as zeroes and keep their places.</summary>
    Zero,

    /// <summary>They read as zeroes and give up their places.</summary>
    ZeroUnmap,

    /// <summary>They give up their places and do not show the backing file.</summary>
    Discard,

    /// <summary>As if they had never been.</summary>
    DiscardFully,
}
