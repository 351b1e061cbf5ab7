using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>What a check of an image has found.</summary>
public sealed class Qcow2CheckResult
{
    /// <summary>Clusters that are used more often than they are counted, entries that cannot be right.</summary>
    public long Corruptions { get; internal set; }

    /// <summary>Clusters that are counted more often than they are used.</summary>
    public long Leaks { get; internal set; }

    /// <summary>Corruptions that were repaired.</summary>
    public long CorruptionsFixed { get; internal set; }

    /// <summary>Leaks that were repaired.</summary>
    public long LeaksFixed { get; internal set; }

    /// <summary>Reads or writes that failed.</summary>
    public long CheckErrors { get; internal set; }

    /// <summary>End of the highest cluster in use, in bytes of the file.</summary>
    public long ImageEndOffset { get; internal set; }

    /// <summary>Clusters of the guest's disk.</summary>
    public long TotalClusters { get; internal set; }

    /// <summary>Those with data.</summary>
    public long AllocatedClusters { get; internal set; }

    /// <summary>Those that do not follow their predecessor in the file.</summary>
    public long FragmentedClusters { get; internal set; }

    /// <summary>Those that are compressed.</summary>
    public long CompressedClusters { get; internal set; }
}

/// <summary>What a check repairs.</summary>
[Flags]
public enum Qcow2Repair
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Clusters that are counted too often.</summary>
    Leaks = 1,

    /// <summary>Everything else.</summary>
    Errors = 2,
}

/// <summary>
/// Compares how often clusters are used with how often they are counted. Under the image's lock, with nothing dirty in memory.
/// </summary>
internal sealed class Qcow2Checker
{
    private readonly Qcow2Metadata _metadata;
    private readonly Qcow2Repair _repair;
    private readonly Dictionary<long, uint[]> _used = [];
    private long _next = -1;
    private long _highest;

    internal Qcow2Checker(Qcow2Metadata metadata, Qcow2Repair repair)
    {
        _metadata = metadata;
        _repair = repair;
        Result.TotalClusters = (Header.Size + Header.ClusterBytes - 1) >> Header.ClusterBits;
    }

    internal Qcow2CheckResult Result { get; } = new();

    private const int PageBits = 12;

    private Qcow2Header Header => _metadata.Header;

    private int ClusterMask => Header.ClusterBytes - 1;

    /// <summary>Runs the check.</summary>
    /// <param name="snapshots">The image's snapshots.</param>
    internal async IoTask RunAsync(IReadOnlyList<Qcow2Snapshot> snapshots)
    {
        Use(0, Header.ClusterBytes);
        Use(_metadata.Mapping.L1Offset, _metadata.Mapping.L1.Bytes);
        await WalkAsync(_metadata.Mapping.L1, isActive: true);
        foreach (Qcow2Snapshot snapshot in snapshots)
        {
            if (snapshot.L1Entries is < 0 or > Qcow2Format.MaxL1Bytes / 8 || snapshot.L1Offset < 0 || (snapshot.L1Offset & ClusterMask) != 0)
            {
                Result.Corruptions++;
                continue;
            }

            Qcow2Table l1 = new(snapshot.L1Entries);
            if (await _metadata.File.ReadTableAsync(snapshot.L1Offset, l1) < 0)
            {
                Result.CheckErrors++;
                continue;
            }

            if (Use(snapshot.L1Offset, l1.Bytes))
            {
                await WalkAsync(l1, isActive: false);
            }
        }

        Use(Header.SnapshotsOffset, _metadata.SnapshotTableBytes);
        Use(Header.CryptoPlace.Offset, Header.CryptoPlace.Bytes);
        await UseBitmapsAsync();
        UseRefcounts();
        await CompareAsync();
        if (Result.CheckErrors == 0)
        {
            await FixMarksAsync();
        }

        Result.ImageEndOffset = (_highest + 1) << Header.ClusterBits;
    }

    /// <summary>Counts a range; false when it cannot be a part of the file.</summary>
    private bool Use(long offset, long bytes)
    {
        if (bytes <= 0)
        {
            return true;
        }

        // The last cluster may be there in part. Nothing lies further behind: memory stays bounded by the file.
        if (offset < 0 || offset > long.MaxValue - bytes || offset + bytes - _metadata.File.Length >= Header.ClusterBytes)
        {
            Result.Corruptions++;
            return false;
        }

        for (long cluster = offset >> Header.ClusterBits; cluster <= (offset + bytes - 1) >> Header.ClusterBits; cluster++)
        {
            if (!_used.TryGetValue(cluster >> PageBits, out uint[]? page))
            {
                page = new uint[1 << PageBits];
                _used.Add(cluster >> PageBits, page);
            }

            page[cluster & ((1 << PageBits) - 1)]++;
            _highest = Math.Max(_highest, cluster);
        }

        return true;
    }

    private uint Used(long cluster) =>
        _used.TryGetValue(cluster >> PageBits, out uint[]? page) ? page[cluster & ((1 << PageBits) - 1)] : 0;

    private async IoTask WalkAsync(Qcow2Table l1, bool isActive)
    {
        using NativeBuffer table = new(Header.ClusterBytes);
        for (int index = l1.Next(0); index < l1.Length; index = l1.Next(index + 1))
        {
            long place = (long)(l1[index] & Qcow2Format.OffsetMask);
            if (place == 0)
            {
                continue;
            }

            if ((place & ClusterMask) != 0)
            {
                Result.Corruptions++;
                continue;
            }

            if (!Use(place, Header.ClusterBytes))
            {
                continue;
            }

            if (await _metadata.File.ReadAsync(place, table, 0, table.Length) < 0)
            {
                Result.CheckErrors++;
                continue;
            }

            for (int i = 0; i < 1 << Header.L2Bits; i++)
            {
                UseEntry(_metadata.Mapping.Entry(table.Span, i), isActive);
            }
        }
    }

    private void UseEntry(ulong entry, bool isActive)
    {
        if ((entry & Qcow2Format.Compressed) != 0)
        {
            long offset = _metadata.Mapping.CompressedOffset(entry);
            Use(offset & ~511L, (offset & 511) + _metadata.Mapping.CompressedBytes(entry));
            if ((entry & Qcow2Format.Copied) != 0 || Header.HasDataFile)
            {
                Result.Corruptions++;
            }

            if (isActive)
            {
                // Compressed clusters never begin where a cluster does: all of them are fragments.
                Result.AllocatedClusters++;
                Result.CompressedClusters++;
                Result.FragmentedClusters++;
            }

            return;
        }

        long place = (long)(entry & Qcow2Format.OffsetMask);
        if (place == 0)
        {
            return;
        }

        if ((place & ClusterMask) != 0)
        {
            Result.Corruptions++;
            return;
        }

        if (!Header.HasDataFile)
        {
            Use(place, Header.ClusterBytes);
        }

        if (isActive)
        {
            Result.AllocatedClusters++;
            Result.FragmentedClusters += _next >= 0 && place != _next ? 1 : 0;
            _next = place + Header.ClusterBytes;
        }
    }

    private void UseRefcounts()
    {
        Use(_metadata.Refcounts.TableOffset, _metadata.Refcounts.Table.Bytes);
        Qcow2Table refcounts = _metadata.Refcounts.Table;
        for (int i = refcounts.Next(0); i < refcounts.Length; i = refcounts.Next(i + 1))
        {
            long block = (long)(refcounts[i] & Qcow2Format.RefcountTableMask);
            if (block != 0)
            {
                if (block < 0 || (block & ClusterMask) != 0)
                {
                    Result.Corruptions++;
                    continue;
                }

                Use(block, Header.ClusterBytes);
            }
        }
    }

    /// <summary>The clusters of persistent bitmaps: directory, tables, data.</summary>
    private async IoTask UseBitmapsAsync()
    {
        byte[]? extension = Header.Extensions.FirstOrDefault(static e => e.Type == Qcow2Format.ExtensionBitmaps).Data;
        if (extension is not { Length: >= 24 } || (Header.Autoclear & Qcow2Autoclear.Bitmaps) == 0)
        {
            return;
        }

        uint count = BinaryPrimitives.ReadUInt32BigEndian(extension);
        long directoryBytes = BinaryPrimitives.ReadInt64BigEndian(extension.AsSpan(8));
        long directoryOffset = BinaryPrimitives.ReadInt64BigEndian(extension.AsSpan(16));
        if (directoryBytes is < 0 or > Qcow2Format.MaxBitmapDirectoryBytes || count > Qcow2Format.MaxBitmaps)
        {
            Result.Corruptions++;
            return;
        }

        if (!Use(directoryOffset, directoryBytes))
        {
            return;
        }

        byte[] directory = new byte[directoryBytes];
        if (await _metadata.File.ReadBytesAsync(directoryOffset, directory) < 0)
        {
            Result.CheckErrors++;
            return;
        }

        int position = 0;
        for (int i = 0; i < count && position + 24 <= directory.Length; i++)
        {
            long table = BinaryPrimitives.ReadInt64BigEndian(directory.AsSpan(position));
            uint entries = BinaryPrimitives.ReadUInt32BigEndian(directory.AsSpan(position + 8));
            int name = BinaryPrimitives.ReadUInt16BigEndian(directory.AsSpan(position + 18));
            uint extra = BinaryPrimitives.ReadUInt32BigEndian(directory.AsSpan(position + 20));
            if (entries > Qcow2Format.MaxBitmapBytes >> Header.ClusterBits || extra > directory.Length)
            {
                Result.Corruptions++;
                return;
            }

            if (Use(table, 8L * entries))
            {
                await UseBitmapTableAsync(table, (int)entries);
            }

            position += (24 + (int)extra + name + 7) & ~7;
        }
    }

    private async IoTask UseBitmapTableAsync(long offset, int entries)
    {
        Qcow2Table table = new(entries);
        if (await _metadata.File.ReadTableAsync(offset, table) < 0)
        {
            Result.CheckErrors++;
            return;
        }

        for (int i = table.Next(0); i < table.Length; i = table.Next(i + 1))
        {
            if ((table[i] & Qcow2Format.OffsetMask) is not 0 and ulong place)
            {
                Use((long)place, Header.ClusterBytes);
            }
        }
    }

    private async IoTask CompareAsync()
    {
        // What is counted behind the end of the file is nobody's; a hostile table could count for ever there.
        long end = Math.Max(_highest + 1, (_metadata.File.Length + ClusterMask) >> Header.ClusterBits);
        for (long cluster = 0; cluster < end;)
        {
            // Neither used nor counted, page by page: most of a sparse file.
            if (!_used.ContainsKey(cluster >> PageBits) && !_metadata.Refcounts.HasBlock(cluster))
            {
                cluster = Math.Min(((cluster >> PageBits) + 1) << PageBits, ((cluster >> _metadata.Refcounts.BlockBits) + 1) << _metadata.Refcounts.BlockBits);
                continue;
            }

            await CompareClusterAsync(cluster);
            cluster++;
        }
    }

    private async IoTask CompareClusterAsync(long cluster)
    {
        uint used = Used(cluster);
        var (result, counted) = await _metadata.Refcounts.GetAsync(cluster);
        if (result < 0)
        {
            Result.CheckErrors++;
            return;
        }

        if (counted == used)
        {
            return;
        }

        bool isLeak = counted > used;
        bool isFixed = (_repair & (isLeak ? Qcow2Repair.Leaks : Qcow2Repair.Errors)) != 0
            && await _metadata.Refcounts.SetAsync(cluster, used) >= 0;
        if (isLeak)
        {
            Result.Leaks += isFixed ? 0 : 1;
            Result.LeaksFixed += isFixed ? 1 : 0;
        }
        else
        {
            Result.Corruptions += isFixed ? 0 : 1;
            Result.CorruptionsFixed += isFixed ? 1 : 0;
        }
    }

    /// <summary>Entries of the active tables say rightly whether a cluster is theirs alone.</summary>
    private async IoTask FixMarksAsync()
    {
        Qcow2Mapping mapping = _metadata.Mapping;
        using NativeBuffer table = new(Header.ClusterBytes);
        for (int i = mapping.L1.Next(0); i < mapping.L1.Length; i = mapping.L1.Next(i + 1))
        {
            long place = (long)(mapping.L1[i] & Qcow2Format.OffsetMask);
            if (place == 0 || (place & ClusterMask) != 0)
            {
                continue;
            }

            if (IsMarkWrong(mapping.L1[i], place) && FixMark())
            {
                mapping.SetL1(i, mapping.L1[i] ^ Qcow2Format.Copied);
            }

            if (await _metadata.File.ReadAsync(place, table, 0, table.Length) < 0)
            {
                Result.CheckErrors++;
                continue;
            }

            bool isChanged = false;
            for (int k = 0; k < 1 << Header.L2Bits; k++)
            {
                ulong entry = mapping.Entry(table.Span, k);
                long data = (long)(entry & Qcow2Format.OffsetMask);
                if ((entry & Qcow2Format.Compressed) == 0 && data != 0 && (data & ClusterMask) == 0 && !Header.HasDataFile
                    && IsMarkWrong(entry, data) && FixMark())
                {
                    mapping.SetEntry(table.Span, k, entry ^ Qcow2Format.Copied);
                    isChanged = true;
                }
            }

            if (isChanged)
            {
                mapping.Slices.Forget(place, Header.ClusterBytes);
                Result.CheckErrors += await _metadata.File.WriteAsync(place, table, 0, table.Length) < 0 ? 1 : 0;
            }
        }
    }

    private bool IsMarkWrong(ulong entry, long place) => (Used(place >> Header.ClusterBits) == 1) != ((entry & Qcow2Format.Copied) != 0);

    private bool FixMark()
    {
        bool isFixed = (_repair & Qcow2Repair.Errors) != 0;
        Result.Corruptions += isFixed ? 0 : 1;
        Result.CorruptionsFixed += isFixed ? 1 : 0;
        return isFixed;
    }
}
