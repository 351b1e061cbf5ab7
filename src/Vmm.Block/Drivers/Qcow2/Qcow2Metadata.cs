using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>Why a cluster was given up, which decides whether the file is told.</summary>
internal enum Qcow2FreeReason
{
    /// <summary>The guest has discarded it.</summary>
    Request,

    /// <summary>Its snapshot was deleted.</summary>
    Snapshot,

    /// <summary>It was replaced, or an operation failed.</summary>
    Other,
}

/// <summary>
/// All metadata of an open image and the order in which it is written: refcounts that grow, then L2 tables, then L1, with a barrier between
/// each. Refcounts shrink in memory only when nothing in the file refers to the cluster any more, and so reach the file with the next
/// round. Whatever is lost in between leaves clusters that are counted too often, never too seldom. Under the image's lock, on the home loop.
/// </summary>
internal sealed class Qcow2Metadata : IDisposable
{
    // Clusters that wait to be freed before a write of all metadata is worth its barriers.
    private const int MaxPending = 512;

    private readonly List<(long Offset, long Bytes, Qcow2FreeReason Reason)> _pending = [];
    private readonly List<(long Offset, long Bytes)> _discards = [];
    private long _pendingClusters;
    private bool _needsBarrier;

    internal Qcow2Metadata(Qcow2File file, Qcow2Header header)
    {
        File = file;
        Header = header;
        Map = new Qcow2MetadataMap(header.ClusterBits);
    }

    /// <summary>Where the image's metadata is.</summary>
    internal Qcow2MetadataMap Map { get; }

    /// <summary>The image's file.</summary>
    internal Qcow2File File { get; }

    /// <summary>The header as the file has it.</summary>
    internal Qcow2Header Header { get; set; }

    /// <summary>The mapping.</summary>
    internal Qcow2Mapping Mapping { get; set; } = null!;

    /// <summary>The refcounts.</summary>
    internal Qcow2Refcounts Refcounts { get; set; } = null!;

    /// <summary>Where the next compressed cluster goes; 0 for a new cluster of the file.</summary>
    internal long PackOffset { get; set; }

    /// <summary>Whether freed clusters are discarded in the file, for each reason.</summary>
    internal bool[] PassesDiscard { get; } = new bool[3];

    /// <summary>Why clusters are being freed.</summary>
    internal Qcow2FreeReason Reason { get; set; }

    /// <summary>Tables in memory refer to clusters whose counts the file does not have yet.</summary>
    internal bool NeedsRefcountsFirst { get; set; }

    /// <summary>The file says that refcounts are stale: they need not be written.</summary>
    internal bool IsMarkedDirty => (Header.Incompatible & Qcow2Incompatible.Dirty) != 0;

    /// <summary>The image contradicts itself: how, where in the file and for how many bytes; -1 where that is not known.</summary>
    internal required Action<string, long, long> OnCorruption { get; init; }

    private int ClusterBytes => Header.ClusterBytes;

    /// <summary>Writes all that the file does not have, in order, and frees what is referred to no longer.</summary>
    internal async IoTask<int> WriteAsync()
    {
        int result = 0;
        if (!IsMarkedDirty)
        {
            result = await WriteRefcountsAsync();
        }

        if (result >= 0 && Mapping.Slices.IsDirty)
        {
            result = await OrderAsync();
            if (result >= 0)
            {
                result = await Mapping.Slices.WriteAsync();
                _needsBarrier = true;
            }
        }

        if (result >= 0 && Mapping.L1Dirty.Last >= 0)
        {
            result = await OrderAsync();
            if (result >= 0 && _needsBarrier)
            {
                result = await File.BarrierAsync();
            }

            if (result >= 0)
            {
                await File.DebugAsync(BlkdebugEvent.L1Update);
                result = await WriteL1Async();
                _needsBarrier = true;
            }
        }

        return result < 0 ? result : await FreePendingAsync();
    }

    /// <summary>Writes refcounts; counts that have shrunk follow what referred to the clusters.</summary>
    internal async IoTask<int> WriteRefcountsAsync()
    {
        if (!Refcounts.Blocks.IsDirty)
        {
            return 0;
        }

        if (_needsBarrier)
        {
            int barrier = await File.BarrierAsync();
            if (barrier < 0)
            {
                return barrier;
            }

            _needsBarrier = false;
        }

        return await Refcounts.Blocks.WriteAsync();
    }

    /// <summary>What a range of the file was used for refers to it no longer, as soon as the file says so.</summary>
    internal void FreeLater(long offset, long bytes, Qcow2FreeReason reason = Qcow2FreeReason.Other)
    {
        if (bytes > 0)
        {
            _pending.Add((offset, bytes, reason));
            _pendingClusters += ((offset + bytes - 1) >> Header.ClusterBits) - (offset >> Header.ClusterBits) + 1;
        }
    }

    /// <summary>Something was written that must be in the file before counts shrink.</summary>
    internal void NeedsBarrier() => _needsBarrier = true;

    /// <summary>Frees what waits for it when that is much.</summary>
    internal IoTask<int> FreeSoonAsync() => _pendingClusters > MaxPending ? WriteAsync() : new(0);

    /// <summary>Frees at once what nothing in the file refers to: an allocation that was not used.</summary>
    internal async IoTask<int> FreeNowAsync(long offset, long bytes)
    {
        Reason = Qcow2FreeReason.Other;
        int result = await Refcounts.UpdateAsync(offset, bytes, isUp: false);
        await DiscardAsync();
        return result;
    }

    /// <summary>A cluster has become free.</summary>
    internal void OnFreed(long offset, int bytes)
    {
        Mapping.Slices.Forget(offset, bytes);
        Refcounts.Blocks.Forget(offset, bytes);
        Map.Remove(offset);
        if (PackOffset >= offset && PackOffset < offset + bytes)
        {
            PackOffset = 0;
        }

        if (!PassesDiscard[(int)Reason])
        {
            return;
        }

        if (_discards.Count > 0 && _discards[^1].Offset + _discards[^1].Bytes == offset)
        {
            _discards[^1] = (_discards[^1].Offset, _discards[^1].Bytes + bytes);
        }
        else
        {
            _discards.Add((offset, bytes));
        }
    }

    /// <summary>Learns where tables and refcount blocks are.</summary>
    internal void FindMetadataClusters()
    {
        Map.ClearActive();
        for (int i = Mapping.L1.Next(0); i < Mapping.L1.Length; i = Mapping.L1.Next(i + 1))
        {
            if ((Mapping.L1[i] & Qcow2Format.OffsetMask) is not 0 and ulong table)
            {
                Map.AddTable((long)table);
            }
        }

        for (int i = Refcounts.Table.Next(0); i < Refcounts.Table.Length; i = Refcounts.Table.Next(i + 1))
        {
            if ((Refcounts.Table[i] & Qcow2Format.RefcountTableMask) is not 0 and ulong block)
            {
                Map.AddBlock((long)block);
            }
        }

        LocateTables();
    }

    /// <summary>Learns where the tables are of which there is one.</summary>
    internal void LocateTables()
    {
        Map.L1 = (Mapping.L1Offset, Mapping.L1Offset + Mapping.L1.Bytes);
        Map.RefcountTable = (Refcounts.TableOffset, Refcounts.TableOffset + Refcounts.Table.Bytes);
        Map.SnapshotTable = (Header.SnapshotsOffset, Header.SnapshotsOffset + SnapshotTableBytes);
        Map.BitmapDirectory = Header.BitmapDirectory;
    }

    /// <summary>EIO, and the image is reported as corrupt, when a write to a range of the file would hit metadata.</summary>
    /// <param name="offset">Where.</param>
    /// <param name="bytes">How much.</param>
    /// <param name="ignored">What is written.</param>
    internal int CheckOverlap(long offset, long bytes, Qcow2Structures ignored = Qcow2Structures.None) =>
        CheckOverlap(offset, bytes, offset, bytes, ignored);

    /// <summary>As the other; the report is about a part of the range.</summary>
    internal int CheckOverlap(long offset, long bytes, long reportedOffset, long reportedBytes, Qcow2Structures ignored = Qcow2Structures.None)
    {
        Qcow2Structures hit = Map.Find(offset, bytes, ignored);
        if (hit == Qcow2Structures.None)
        {
            return 0;
        }

        OnCorruption($"Preventing invalid write on metadata (overlaps with {Qcow2MetadataMap.Name(hit)})", reportedOffset, reportedBytes);
        return BlockResult.Io;
    }

    /// <summary>Bytes of the snapshot table.</summary>
    internal long SnapshotTableBytes { get; set; }

    /// <summary>Points the header to a refcount table.</summary>
    internal async IoTask<int> SetRefcountTableAsync(long offset, int clusters)
    {
        byte[] fields = new byte[12];
        BinaryPrimitives.WriteInt64BigEndian(fields, offset);
        BinaryPrimitives.WriteInt32BigEndian(fields.AsSpan(8), clusters);
        int result = await File.WriteBytesAsync(48, fields);
        if (result >= 0)
        {
            Header = Header with { RefcountTableOffset = offset, RefcountTableClusters = clusters };
            _needsBarrier = true;
        }

        return result;
    }

    /// <summary>Sets the incompatible features in the file.</summary>
    internal async IoTask<int> SetIncompatibleAsync(Qcow2Incompatible features)
    {
        byte[] field = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(field, (ulong)features);
        int result = await File.WriteBytesAsync(72, field);
        if (result >= 0)
        {
            result = await File.BarrierAsync();
        }

        if (result >= 0)
        {
            Header = Header with { Incompatible = features };
        }

        return result;
    }

    /// <summary>Writes the first cluster anew.</summary>
    internal async IoTask<int> WriteHeaderAsync(Qcow2Header header)
    {
        if (header.TryWrite() is not { } bytes)
        {
            return BlockResult.NoSpace;
        }

        int result = await File.WriteBytesAsync(0, bytes);
        if (result >= 0)
        {
            Header = header;
            _needsBarrier = true;
        }

        return result;
    }

    /// <summary>Writes all, takes the mark away that refcounts are stale.</summary>
    internal async IoTask<int> CleanAsync()
    {
        int result = await WriteAsync();
        if (result >= 0)
        {
            // Those that the last round has freed.
            result = await WriteRefcountsAsync();
        }

        if (result >= 0 && IsMarkedDirty)
        {
            result = await File.BarrierAsync();
            if (result >= 0)
            {
                result = await SetIncompatibleAsync(Header.Incompatible & ~Qcow2Incompatible.Dirty);
            }
        }

        return result;
    }

    /// <summary>The image has been repaired: the marks of damage go.</summary>
    internal async IoTask<int> ForgetDamageAsync()
    {
        const Qcow2Incompatible Marks = Qcow2Incompatible.Dirty | Qcow2Incompatible.Corrupt;
        if ((Header.Incompatible & Marks) == 0)
        {
            return 0;
        }

        int result = await File.BarrierAsync();
        return result < 0 ? result : await SetIncompatibleAsync(Header.Incompatible & ~Marks);
    }

    /// <summary>Forgets everything in memory that the file has as well.</summary>
    internal void ForgetCaches()
    {
        Mapping.Slices.Clear();
        Refcounts.Blocks.Clear();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Mapping.Slices.Dispose();
        Refcounts.Blocks.Dispose();
    }

    private async IoTask<int> OrderAsync()
    {
        if (!NeedsRefcountsFirst || IsMarkedDirty)
        {
            return 0;
        }

        int result = await File.BarrierAsync();
        if (result >= 0)
        {
            NeedsRefcountsFirst = false;
            _needsBarrier = false;
        }

        return result;
    }

    private async IoTask<int> WriteL1Async()
    {
        var (first, last) = Mapping.L1Dirty;
        int result = CheckOverlap(Mapping.L1Offset + (8L * first), 8L * (last - first + 1), Qcow2Structures.ActiveL1);
        result = result < 0 ? result : await File.WriteTableAsync(Mapping.L1Offset, Mapping.L1, first, last - first + 1);
        if (result >= 0)
        {
            Mapping.L1Dirty = (int.MaxValue, -1);
        }

        return result;
    }

    private async IoTask<int> FreePendingAsync()
    {
        int result = 0;
        for (int i = 0; i < _pending.Count; i++)
        {
            Reason = _pending[i].Reason;
            int freed = await Refcounts.UpdateAsync(_pending[i].Offset, _pending[i].Bytes, isUp: false);
            if (freed < 0 && freed != BlockResult.Invalid)
            {
                // The clusters are lost, which a check will find.
                result = freed;
            }
        }

        _pending.Clear();
        _pendingClusters = 0;
        await DiscardAsync();
        return result;
    }

    /// <summary>Tells the file about clusters that have become free.</summary>
    internal async IoTask DiscardAsync()
    {
        for (int i = 0; i < _discards.Count; i++)
        {
            // A hint; failure is none.
            await File.Node.DiscardAsync(_discards[i].Offset, _discards[i].Bytes);
        }

        _discards.Clear();
    }
}
