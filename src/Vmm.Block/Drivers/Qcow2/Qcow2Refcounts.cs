using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>
/// Reference counts of the clusters of an image file, and the search for free ones. All methods that return a task run under the image's
/// lock. Counts that grow are in the cache only; <see cref="Qcow2Metadata"/> has them written before what refers to the clusters.
/// </summary>
internal sealed class Qcow2Refcounts
{
    private const long MaxCountedBehindFile = 1 << 24;

    private readonly Qcow2Metadata _metadata;
    private readonly Qcow2Limbo _limbo;
    private readonly int _clusterBits;
    private readonly int _order;
    private readonly int _blockBits;
    private long _freeIndex;

    internal Qcow2Refcounts(Qcow2Metadata metadata, Qcow2Header header, Qcow2Table table, Qcow2Cache blocks, Qcow2Limbo limbo)
    {
        _metadata = metadata;
        _limbo = limbo;
        _clusterBits = header.ClusterBits;
        _order = header.RefcountOrder;
        _blockBits = header.ClusterBits + 3 - header.RefcountOrder;
        Table = table;
        TableOffset = header.RefcountTableOffset;
        Blocks = blocks;
    }

    /// <summary>Offsets of the refcount blocks.</summary>
    internal Qcow2Table Table { get; private set; }

    /// <summary>Where the table is in the file.</summary>
    internal long TableOffset { get; private set; }

    /// <summary>Refcount blocks in memory.</summary>
    internal Qcow2Cache Blocks { get; set; }

    /// <summary>Clusters from here on have never been used in this image while it was open, nor lain within its file.</summary>
    internal long NeverUsed { get; set; }

    /// <summary>The clusters that were allocated last had never been used: the file reads as zeroes there.</summary>
    internal bool IsLastNew { get; private set; }

    /// <summary>Highest count that fits.</summary>
    internal ulong Max => _order == 6 ? ulong.MaxValue : (1UL << (1 << _order)) - 1;

    /// <summary>True when there is a block that counts a cluster.</summary>
    internal bool HasBlock(long cluster) => cluster >> _blockBits < Table.Length && (Table[(int)(cluster >> _blockBits)] & Qcow2Format.RefcountTableMask) != 0;

    /// <summary>Binary logarithm of the clusters that a block counts.</summary>
    internal int BlockBits => _blockBits;

    private int ClusterBytes => 1 << _clusterBits;

    /// <summary>Reads a count out of a block.</summary>
    internal static ulong Get(ReadOnlySpan<byte> block, int index, int order) => order switch
    {
        < 3 => (ulong)(block[index >> (3 - order)] >> ((index & ((8 >> order) - 1)) << order)) & ((1UL << (1 << order)) - 1),
        3 => block[index],
        4 => BinaryPrimitives.ReadUInt16BigEndian(block[(index * 2)..]),
        5 => BinaryPrimitives.ReadUInt32BigEndian(block[(index * 4)..]),
        _ => BinaryPrimitives.ReadUInt64BigEndian(block[(index * 8)..]),
    };

    /// <summary>Puts a count into a block.</summary>
    internal static void Set(Span<byte> block, int index, int order, ulong value)
    {
        switch (order)
        {
            case < 3:
                int shift = (index & ((8 >> order) - 1)) << order;
                int mask = ((1 << (1 << order)) - 1) << shift;
                ref byte target = ref block[index >> (3 - order)];
                target = (byte)((target & ~mask) | ((int)value << shift));
                break;
            case 3:
                block[index] = (byte)value;
                break;
            case 4:
                BinaryPrimitives.WriteUInt16BigEndian(block[(index * 2)..], (ushort)value);
                break;
            case 5:
                BinaryPrimitives.WriteUInt32BigEndian(block[(index * 4)..], (uint)value);
                break;
            default:
                BinaryPrimitives.WriteUInt64BigEndian(block[(index * 8)..], value);
                break;
        }
    }

    /// <summary>The count of a cluster; a negative errno when its block cannot be read.</summary>
    internal async IoTask<(int Result, ulong Count)> GetAsync(long cluster)
    {
        long block = BlockOffset(cluster);
        if (block <= 0)
        {
            return (block < 0 ? BlockResult.Io : 0, 0);
        }

        int result = await Blocks.LoadAsync(block);
        return result < 0 ? (result, 0) : (0, Get(Blocks.Find(block)!.Span, IndexInBlock(cluster), _order));
    }

    /// <summary>Adds one to, or takes one from, the counts of the clusters that a range of the file touches.</summary>
    /// <returns>0; or a negative errno, with all counts as they were.</returns>
    internal async IoTask<int> UpdateAsync(long offset, long bytes, bool isUp)
    {
        if (bytes == 0)
        {
            return 0;
        }

        long first = offset >> _clusterBits;
        long last = (offset + bytes - 1) >> _clusterBits;
        for (long cluster = first; cluster <= last; cluster++)
        {
            int result = await StepAsync(cluster, isUp);
            if (result < 0)
            {
                for (long undo = first; undo < cluster; undo++)
                {
                    await StepAsync(undo, !isUp);
                }

                return result;
            }
        }

        return 0;
    }

    /// <summary>Finds contiguous free clusters and counts them.</summary>
    /// <param name="count">How many.</param>
    /// <param name="head">Where what is to be written begins in the first of them.</param>
    /// <param name="bytes">How much is to be written; 0 for all.</param>
    /// <param name="isTable">They are for an L2 table.</param>
    /// <returns>The offset, or a negative errno.</returns>
    internal async IoTask<long> AllocateAsync(long count, int head = 0, long bytes = 0, bool isTable = false)
    {
        int freed = await _metadata.FreeSoonAsync();
        if (freed < 0)
        {
            return freed;
        }

        while (true)
        {
            long searched = _freeIndex;
            long first = await FindFreeAsync(count);
            if (first < 0)
            {
                return first;
            }

            int result = await EnsureBlocksAsync(first, count);
            if (result == -(int)Errno.EAGAIN)
            {
                // A block took one of them.
                continue;
            }

            if (result >= 0 && first == 0 && isTable)
            {
                _metadata.OnCorruption("Preventing invalid allocation of L2 table at offset 0", -1, -1);
                result = BlockResult.Io;
            }

            if (result >= 0)
            {
                result = await CountNewAsync(first, count, head, bytes);
            }

            if (result < 0)
            {
                return result;
            }

            if (count == 1 || first == searched)
            {
                _freeIndex = first + count;
            }

            return first << _clusterBits;
        }
    }

    /// <summary>Takes clusters at a given place, as many as are free there from its beginning on.</summary>
    /// <returns>How many, or a negative errno.</returns>
    internal async IoTask<long> AllocateAtAsync(long offset, long count, long bytes = 0)
    {
        long first = offset >> _clusterBits;
        long free = 0;
        for (; free < count; free++)
        {
            var (result, value) = await GetAsync(first + free);
            if (result < 0)
            {
                return result;
            }

            if (value != 0 || _limbo.Holds(first + free))
            {
                break;
            }
        }

        if (free == 0)
        {
            return 0;
        }

        int ensured = await EnsureBlocksAsync(first, free);
        if (ensured == -(int)Errno.EAGAIN)
        {
            return 0;
        }

        int updated = ensured < 0 ? ensured : await CountNewAsync(first, free, 0, bytes);
        return updated < 0 ? updated : free;
    }

    /// <summary>Where the next search for a free cluster begins.</summary>
    internal void SearchFrom(long cluster) => _freeIndex = Math.Min(_freeIndex, cluster);

    /// <summary>Where the next search for a free cluster begins, whatever is free before.</summary>
    internal void RestartSearch(long cluster) => _freeIndex = cluster;

    /// <summary>Sets a count that was found to be wrong.</summary>
    internal async IoTask<int> SetAsync(long cluster, ulong value)
    {
        if (value > Max)
        {
            return BlockResult.Invalid;
        }

        int result = BlockOffset(cluster) == 0 ? await EnsureBlocksAsync(cluster, 1) : 0;
        if (result < 0 && result != -(int)Errno.EAGAIN)
        {
            return result;
        }

        long block = BlockOffset(cluster);
        result = block <= 0 ? BlockResult.Io : await Blocks.LoadAsync(block);
        if (result >= 0)
        {
            Qcow2Cache.Slot slot = Blocks.Find(block)!;
            Set(slot.Span, IndexInBlock(cluster), _order, value);
            Blocks.MarkDirty(slot);
        }

        return result;
    }

    /// <summary>Puts another table, which is in the file at the offset, into use.</summary>
    internal void ReplaceTable(Qcow2Table table, long offset)
    {
        Table = table;
        TableOffset = offset;
    }

    private async IoTask<int> CountNewAsync(long first, long count, int head, long bytes)
    {
        long offset = first << _clusterBits;
        long all = count << _clusterBits;
        int result = _metadata.CheckOverlap(offset, all, offset + head, bytes == 0 ? all : Math.Min(bytes, all - head));
        IsLastNew = first >= NeverUsed;
        return result < 0 ? result : await UpdateAsync(first << _clusterBits, count << _clusterBits, isUp: true);
    }

    private int IndexInBlock(long cluster) => (int)(cluster & ((1L << _blockBits) - 1));

    // 0 when there is no block, -1 when the table is corrupt.
    private long BlockOffset(long cluster)
    {
        long index = cluster >> _blockBits;
        if (index >= Table.Length)
        {
            return 0;
        }

        long offset = (long)(Table[(int)index] & Qcow2Format.RefcountTableMask);
        if (offset > 0 && (offset & (ClusterBytes - 1)) == 0)
        {
            return offset;
        }

        if (offset != 0)
        {
            _metadata.OnCorruption($"Refblock offset {Qcow2Text.Hex(offset)} unaligned (reftable index: {Qcow2Text.Hex(index)})", -1, -1);
        }

        return offset == 0 ? 0 : -1;
    }

    private async IoTask<int> StepAsync(long cluster, bool isUp)
    {
        long block = BlockOffset(cluster);
        if (block == 0 && isUp)
        {
            int made = await EnsureBlocksAsync(cluster, 1);
            if (made < 0 && made != -(int)Errno.EAGAIN)
            {
                return made;
            }

            block = BlockOffset(cluster);
        }

        if (block <= 0)
        {
            return isUp ? BlockResult.Io : BlockResult.Invalid;
        }

        int result = await Blocks.LoadAsync(block);
        if (result < 0)
        {
            return result;
        }

        Qcow2Cache.Slot slot = Blocks.Find(block)!;
        int index = IndexInBlock(cluster);
        ulong value = Get(slot.Span, index, _order);
        if (isUp ? value == Max : value == 0)
        {
            return BlockResult.Invalid;
        }

        Set(slot.Span, index, _order, isUp ? value + 1 : value - 1);
        Blocks.MarkDirty(slot);
        if (isUp)
        {
            NeverUsed = Math.Max(NeverUsed, cluster + 1);
            _metadata.NeedsRefcountsFirst = true;
        }
        else if (value == 1)
        {
            _freeIndex = Math.Min(_freeIndex, cluster);
            _limbo.Add(cluster);
            _metadata.OnFreed(cluster << _clusterBits, ClusterBytes);
        }

        return 0;
    }

    private async IoTask<long> FindFreeAsync(long count)
    {
        long run = 0;
        long cluster = _freeIndex;
        long limit = 1L << (56 - _clusterBits);
        long fileEnd = Math.Max(_metadata.File.Length >> _clusterBits, NeverUsed);
        while (run < count)
        {
            // Counts of clusters far behind the file are nobody's, and could go on for ever.
            if (cluster >= limit || cluster - run > fileEnd + MaxCountedBehindFile)
            {
                return -(long)Errno.EFBIG;
            }

            long block = BlockOffset(cluster);
            if (block < 0)
            {
                return BlockResult.Io;
            }

            if (block == 0)
            {
                // Nothing is counted here: free to the end of what the block would count.
                long end = ((cluster >> _blockBits) + 1) << _blockBits;
                run += end - cluster;
                cluster = end;
                continue;
            }

            int result = await Blocks.LoadAsync(block);
            if (result < 0)
            {
                return result;
            }

            run = Scan(Blocks.Find(block)!.Span, ref cluster, run, count);
        }

        return cluster - run;
    }

    // To the end of the block, or until the run is long enough.
    private long Scan(ReadOnlySpan<byte> block, ref long cluster, long run, long count)
    {
        int index = IndexInBlock(cluster);
        int end = 1 << _blockBits;
        while (index < end && run < count)
        {
            bool isFree = Get(block, index, _order) == 0 && (_limbo.IsEmpty || !_limbo.Holds(cluster));
            run = isFree ? run + 1 : 0;
            index++;
            cluster++;
        }

        return run;
    }

    /// <summary>
    /// Has blocks for a range of clusters. EAGAIN: a block was made, and may have taken clusters of the range.
    /// </summary>
    private async IoTask<int> EnsureBlocksAsync(long cluster, long count)
    {
        long last = (cluster + count - 1) >> _blockBits;
        for (long index = cluster >> _blockBits; index <= last; index++)
        {
            if (index < Table.Length && (Table[(int)index] & Qcow2Format.RefcountTableMask) != 0)
            {
                continue;
            }

            int result = index >= Table.Length ? await GrowTableAsync(index + 1) : await CreateBlockAsync(index);
            return result < 0 ? result : -(int)Errno.EAGAIN;
        }

        return 0;
    }

    /// <summary>Makes a block; it lies within what it counts itself, or where an existing block counts.</summary>
    private async IoTask<int> CreateBlockAsync(long index)
    {
        while (true)
        {
            long cluster = await FindFreeAsync(1);
            if (cluster < 0)
            {
                return (int)cluster;
            }

            long own = cluster >> _blockBits;
            if (own >= Table.Length)
            {
                return await GrowTableAsync(own + 1);
            }

            bool isSelf = (Table[(int)own] & Qcow2Format.RefcountTableMask) == 0;
            long target = isSelf ? own : index;
            long offset = cluster << _clusterBits;
            if (offset == 0)
            {
                _metadata.OnCorruption("Preventing invalid allocation of refcount block at offset 0", -1, -1);
                return BlockResult.Io;
            }

            int result = _metadata.CheckOverlap(offset, ClusterBytes);
            if (result >= 0 && !isSelf)
            {
                result = await StepAsync(cluster, isUp: true);
            }

            if (result >= 0)
            {
                result = await Blocks.CreateAsync(offset);
            }

            if (result < 0)
            {
                return result;
            }

            if (isSelf)
            {
                Set(Blocks.Find(offset)!.Span, IndexInBlock(cluster), _order, 1);
                NeverUsed = Math.Max(NeverUsed, cluster + 1);
            }

            _freeIndex = cluster + 1;
            result = await HookAsync(target, offset);
            if (result < 0 || target == index)
            {
                return result;
            }
        }
    }

    // The block and the count of its cluster are in the file before the table refers to it.
    private async IoTask<int> HookAsync(long index, long offset)
    {
        int result = await _metadata.WriteRefcountsAsync();
        if (result >= 0)
        {
            result = await _metadata.File.BarrierAsync();
        }

        if (result < 0)
        {
            return result;
        }

        Table[(int)index] = (ulong)offset;
        result = _metadata.CheckOverlap(TableOffset + (8 * index), 8, Qcow2Structures.RefcountTable);
        result = result < 0 ? result : await _metadata.File.WriteTableAsync(TableOffset, Table, (int)index, 1);
        if (result < 0)
        {
            Table[(int)index] = 0;
            return result;
        }

        _metadata.Map.AddBlock(offset);
        return 0;
    }

    /// <summary>
    /// Moves the table to a greater place behind everything that it counts now, together with the blocks that count this place.
    /// </summary>
    private async IoTask<int> GrowTableAsync(long least)
    {
        if (least > Qcow2Format.MaxRefcountTableBytes / 8)
        {
            return -(int)Errno.EFBIG;
        }

        long perTableCluster = ClusterBytes / 8;
        long start = (long)Table.Length << _blockBits;
        long entries = Math.Max(least, Table.Length + (Table.Length / 2));
        long tableClusters;
        long blocks;
        while (true)
        {
            tableClusters = (entries + perTableCluster - 1) / perTableCluster;
            blocks = 1;
            while (blocks << _blockBits < tableClusters + blocks)
            {
                blocks++;
            }

            if (tableClusters * perTableCluster >= Table.Length + blocks)
            {
                break;
            }

            entries = Table.Length + blocks;
        }

        if (tableClusters << _clusterBits > Qcow2Format.MaxRefcountTableBytes || (start + tableClusters + blocks) << _clusterBits >= 1L << 56)
        {
            return -(int)Errno.EFBIG;
        }

        Qcow2Table table = Table.Copy((int)(tableClusters * perTableCluster));
        int result = 0;
        for (long i = 0; i < blocks && result >= 0; i++)
        {
            table[(int)(Table.Length + i)] = (ulong)((start + i) << _clusterBits);
            result = await Blocks.CreateAsync((start + i) << _clusterBits);
            if (result >= 0)
            {
                Qcow2Cache.Slot slot = Blocks.Find((start + i) << _clusterBits)!;
                long used = Math.Clamp(blocks + tableClusters - (i << _blockBits), 0, 1L << _blockBits);
                for (int k = 0; k < used; k++)
                {
                    Set(slot.Span, k, _order, 1);
                }

                Blocks.MarkDirty(slot);
            }
        }

        NeverUsed = Math.Max(NeverUsed, start + blocks + tableClusters);
        return result < 0 ? result : await SwitchTableAsync(table, (start + blocks) << _clusterBits, (int)tableClusters);
    }

    private async IoTask<int> SwitchTableAsync(Qcow2Table table, long offset, int clusters)
    {
        int result = await _metadata.WriteRefcountsAsync();
        if (result >= 0)
        {
            result = await _metadata.File.WriteTableAsync(offset, table, 0, table.Length);
        }

        if (result >= 0)
        {
            result = await _metadata.File.BarrierAsync();
        }

        if (result >= 0)
        {
            result = await _metadata.SetRefcountTableAsync(offset, clusters);
        }

        if (result < 0)
        {
            return result;
        }

        for (int i = table.Next(Table.Length); i < table.Length; i = table.Next(i + 1))
        {
            _metadata.Map.AddBlock((long)table[i]);
        }

        (long oldOffset, long oldBytes) = (TableOffset, Table.Bytes);
        ReplaceTable(table, offset);
        _metadata.LocateTables();
        _metadata.FreeLater(oldOffset, oldBytes);
        return 0;
    }
}
