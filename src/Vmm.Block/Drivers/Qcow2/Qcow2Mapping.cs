using System.Buffers.Binary;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>Where the beginning of a range of the guest's disk is.</summary>
/// <param name="Kind">What there is.</param>
/// <param name="HostOffset">Its place, exactly the byte asked for; of a compressed cluster, where it begins.</param>
/// <param name="Bytes">For how many bytes the answer holds and the places are contiguous.</param>
/// <param name="Entry">The L2 entry.</param>
internal readonly record struct Qcow2Extent(Qcow2Kind Kind, long HostOffset, long Bytes, ulong Entry);

/// <summary>
/// The two levels of tables that map guest offsets to places. L1 is in memory; changes of it, as those of L2, wait for
/// <see cref="Qcow2Metadata.WriteAsync"/>. Home: the node's loop.
/// </summary>
internal sealed class Qcow2Mapping
{
    private readonly int _clusterBits;
    private readonly int _l2Bits;
    private int _sliceBits;
    private readonly int _entryBytes;
    private readonly int _compressedShift;
    private readonly bool _hasDataFile;

    internal Qcow2Mapping(Qcow2Header header, Qcow2Table l1, Qcow2Cache slices)
    {
        L1 = l1;
        Slices = slices;
        L1Offset = header.L1Offset;
        _clusterBits = header.ClusterBits;
        _l2Bits = header.L2Bits;
        _entryBytes = header.L2EntryBytes;
        _sliceBits = int.Log2(slices.EntryBytes / _entryBytes);
        _compressedShift = 62 - (header.ClusterBits - 8);
        _hasDataFile = header.HasDataFile;
    }

    /// <summary>The first level.</summary>
    internal Qcow2Table L1 { get; set; }

    /// <summary>Where the first level is in the file.</summary>
    internal long L1Offset { get; set; }

    /// <summary>Entries of the first level that the file does not have yet; empty where first is greater than last.</summary>
    internal (int First, int Last) L1Dirty { get; set; } = (int.MaxValue, -1);

    /// <summary>Parts of L2 tables in memory.</summary>
    internal Qcow2Cache Slices { get; private set; }

    /// <summary>Uses another cache, of entries of any size; the one before is clean, and gone afterwards.</summary>
    internal void Replace(Qcow2Cache slices)
    {
        Slices.Dispose();
        Slices = slices;
        _sliceBits = int.Log2(slices.EntryBytes / _entryBytes);
    }

    internal bool HasSubclusters => _entryBytes == 16;

    internal int SubclusterBits => HasSubclusters ? _clusterBits - 5 : _clusterBits;

    internal int ClusterBytes => 1 << _clusterBits;

    /// <summary>Bytes of the guest's disk that a slice maps.</summary>
    internal long SliceSpan => 1L << (_sliceBits + _clusterBits);

    /// <summary>Bytes of the guest's disk that an L2 table maps.</summary>
    internal long TableSpan => 1L << (_l2Bits + _clusterBits);

    /// <summary>Entries of a slice.</summary>
    internal int SliceEntries => 1 << _sliceBits;

    internal int L1Index(long offset) => (int)(offset >> (_l2Bits + _clusterBits));

    internal int SliceIndex(long offset) => (int)(offset >> _clusterBits) & (SliceEntries - 1);

    /// <summary>Where the slice for an offset is in the file; 0 when there is no table, -1 when L1 is corrupt there.</summary>
    internal long SliceOffset(long offset)
    {
        int index = L1Index(offset);
        if (index >= L1.Length)
        {
            return 0;
        }

        long table = (long)(L1[index] & Qcow2Format.OffsetMask);
        if (table == 0)
        {
            return 0;
        }

        if ((table & (ClusterBytes - 1)) != 0)
        {
            return -1;
        }

        long entry = (offset >> _clusterBits) & ((1L << _l2Bits) - 1);
        return table + ((entry >> _sliceBits) << _sliceBits) * _entryBytes;
    }

    /// <summary>Sets an entry of L1, in memory.</summary>
    internal void SetL1(int index, ulong value)
    {
        L1[index] = value;
        L1Dirty = (Math.Min(L1Dirty.First, index), Math.Max(L1Dirty.Last, index));
    }

    /// <summary>Has the slice for an offset in memory, where there is one. Under the lock.</summary>
    internal IoTask<int> LoadAsync(long offset)
    {
        long slice = SliceOffset(offset);
        return slice > 0 ? Slices.LoadAsync(slice) : new(0);
    }

    /// <summary>Looks up the beginning of a range; false when the slice must be loaded before.</summary>
    internal bool TryLookup(long offset, long bytes, out Qcow2Extent extent)
    {
        long slice = SliceOffset(offset);
        if (slice <= 0)
        {
            long rest = TableSpan - (offset & (TableSpan - 1));
            extent = new Qcow2Extent(slice == 0 ? Qcow2Kind.Unallocated : Qcow2Kind.Invalid, 0, Math.Min(bytes, rest), 0);
            return true;
        }

        if (Slices.Find(slice) is not { } slot)
        {
            extent = default;
            return false;
        }

        extent = Lookup(slot.Span, offset, bytes);
        return true;
    }

    /// <summary>The entry of a cluster in its slice.</summary>
    internal ulong Entry(ReadOnlySpan<byte> slice, int index) => BinaryPrimitives.ReadUInt64BigEndian(slice[(index * _entryBytes)..]);

    /// <summary>The states of a cluster's subclusters.</summary>
    internal ulong Bitmap(ReadOnlySpan<byte> slice, int index) =>
        HasSubclusters ? BinaryPrimitives.ReadUInt64BigEndian(slice[((index * 16) + 8)..]) : 0;

    /// <summary>Sets the entry of a cluster.</summary>
    internal void SetEntry(Span<byte> slice, int index, ulong entry) =>
        BinaryPrimitives.WriteUInt64BigEndian(slice[(index * _entryBytes)..], entry);

    /// <summary>Sets the states of a cluster's subclusters.</summary>
    internal void SetBitmap(Span<byte> slice, int index, ulong bitmap)
    {
        if (HasSubclusters)
        {
            BinaryPrimitives.WriteUInt64BigEndian(slice[((index * 16) + 8)..], bitmap);
        }
    }

    /// <summary>What an entry says of a subcluster.</summary>
    internal Qcow2Kind Classify(ulong entry, ulong bitmap, int subcluster)
    {
        if ((entry & Qcow2Format.Compressed) != 0)
        {
            return Qcow2Kind.Compressed;
        }

        // A raw data file may have a cluster at offset 0.
        bool isPlaced = (entry & Qcow2Format.OffsetMask) != 0 || (_hasDataFile && (entry & Qcow2Format.Copied) != 0);
        if (!HasSubclusters)
        {
            return (entry & Qcow2Format.ZeroFlag) != 0
                ? isPlaced ? Qcow2Kind.ZeroPlaced : Qcow2Kind.Zero
                : isPlaced ? Qcow2Kind.Normal : Qcow2Kind.Unallocated;
        }

        bool isAllocated = (bitmap >> subcluster & 1) != 0;
        bool isZero = (bitmap >> (subcluster + 32) & 1) != 0;
        return (isAllocated, isZero) switch
        {
            (true, true) => Qcow2Kind.Invalid,
            (true, false) => isPlaced ? Qcow2Kind.Normal : Qcow2Kind.Invalid,
            (false, true) => isPlaced ? Qcow2Kind.ZeroPlaced : Qcow2Kind.Zero,
            _ => isPlaced ? Qcow2Kind.UnallocatedPlaced : Qcow2Kind.Unallocated,
        };
    }

    /// <summary>Where a compressed cluster begins.</summary>
    internal long CompressedOffset(ulong entry) => (long)(entry & ((1UL << _compressedShift) - 1));

    /// <summary>Bytes to the end of the last sector that a compressed cluster touches.</summary>
    internal int CompressedBytes(ulong entry)
    {
        int sectors = (int)((entry >> _compressedShift) & ((1UL << (_clusterBits - 8)) - 1)) + 1;
        return (sectors * 512) - (int)(entry & 511);
    }

    /// <summary>The entry of a compressed cluster.</summary>
    internal ulong CompressedEntry(long offset, int bytes)
    {
        long sectors = ((offset + bytes - 1) >> 9) - (offset >> 9);
        return (ulong)offset | Qcow2Format.Compressed | ((ulong)sectors << _compressedShift);
    }

    private Qcow2Extent Lookup(ReadOnlySpan<byte> slice, long offset, long bytes)
    {
        int index = SliceIndex(offset);
        int inCluster = (int)(offset & (ClusterBytes - 1));
        ulong entry = Entry(slice, index);
        int subcluster = inCluster >> SubclusterBits;
        ulong bitmap = Bitmap(slice, index);
        Qcow2Kind kind = Classify(entry, bitmap, subcluster);
        long place = (long)(entry & Qcow2Format.OffsetMask);
        if (kind is Qcow2Kind.Compressed or Qcow2Kind.Invalid || (place & (ClusterBytes - 1)) != 0)
        {
            long part = Math.Min(bytes, ClusterBytes - inCluster);
            return kind == Qcow2Kind.Compressed
                ? new Qcow2Extent(kind, CompressedOffset(entry), part, entry)
                : new Qcow2Extent(Qcow2Kind.Invalid, place, part, entry);
        }

        long found = SameKind(kind, entry, bitmap, subcluster, inCluster);
        bool isPlaced = kind is Qcow2Kind.Normal or Qcow2Kind.ZeroPlaced or Qcow2Kind.UnallocatedPlaced;
        for (int next = index + 1; found >= ((long)(next - index) << _clusterBits) - inCluster && found < bytes && next < SliceEntries; next++)
        {
            ulong follower = Entry(slice, next);
            ulong expected = entry + ((ulong)(next - index) << _clusterBits);
            ulong followerBitmap = Bitmap(slice, next);
            if (Classify(follower, followerBitmap, 0) != kind
                || (isPlaced && ((follower ^ expected) & (Qcow2Format.OffsetMask | Qcow2Format.Copied)) != 0)
                || (!isPlaced && (follower & Qcow2Format.OffsetMask) != 0))
            {
                break;
            }

            found += SameKind(kind, follower, followerBitmap, 0, 0);
        }

        return new Qcow2Extent(kind, isPlaced ? place + inCluster : 0, Math.Min(bytes, found), entry);
    }

    // Bytes of one cluster from an offset on that are of the same kind.
    private long SameKind(Qcow2Kind kind, ulong entry, ulong bitmap, int subcluster, int inCluster)
    {
        if (!HasSubclusters)
        {
            return ClusterBytes - inCluster;
        }

        do
        {
            subcluster++;
        }
        while (subcluster < Qcow2Format.Subclusters && Classify(entry, bitmap, subcluster) == kind);
        return ((long)subcluster << SubclusterBits) - inCluster;
    }
}
