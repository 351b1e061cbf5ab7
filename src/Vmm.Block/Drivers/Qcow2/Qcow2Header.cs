using System.Buffers.Binary;
using System.Text;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>A header extension that is kept as it is.</summary>
/// <param name="Type">Its magic.</param>
/// <param name="Data">Its contents.</param>
internal readonly record struct Qcow2Extension(uint Type, byte[] Data);

/// <summary>The first cluster of an image. Reading it is a pure function that fails with <see cref="QapiException"/> alone.</summary>
internal sealed record Qcow2Header
{
    internal int Version { get; init; } = 3;

    internal int ClusterBits { get; init; } = 16;

    /// <summary>Bytes that the guest sees.</summary>
    internal long Size { get; init; }

    internal int CryptMethod { get; init; }

    internal int L1Entries { get; init; }

    internal long L1Offset { get; init; }

    internal long RefcountTableOffset { get; init; }

    internal int RefcountTableClusters { get; init; }

    internal int SnapshotCount { get; init; }

    internal long SnapshotsOffset { get; init; }

    internal Qcow2Incompatible Incompatible { get; init; }

    internal Qcow2Compatible Compatible { get; init; }

    internal Qcow2Autoclear Autoclear { get; init; }

    /// <summary>Binary logarithm of the width of a refcount in bits.</summary>
    internal int RefcountOrder { get; init; } = 4;

    internal Qcow2Compression Compression { get; init; }

    /// <summary>Fields behind those that are known.</summary>
    internal byte[] UnknownFields { get; init; } = [];

    internal string? BackingFile { get; init; }

    internal string? BackingFormat { get; init; }

    internal string? DataFile { get; init; }

    /// <summary>Extensions that are not members of this record, in order.</summary>
    internal IReadOnlyList<Qcow2Extension> Extensions { get; init; } = [];

    internal int ClusterBytes => 1 << ClusterBits;

    internal bool HasExtendedL2 => (Incompatible & Qcow2Incompatible.ExtendedL2) != 0;

    internal bool HasDataFile => (Incompatible & Qcow2Incompatible.DataFile) != 0;

    internal bool IsDataFileRaw => (Autoclear & Qcow2Autoclear.DataFileRaw) != 0;

    internal int L2EntryBytes => HasExtendedL2 ? 16 : 8;

    /// <summary>Binary logarithm of the entries of an L2 table.</summary>
    internal int L2Bits => ClusterBits - (HasExtendedL2 ? 4 : 3);

    /// <summary>Where the directory of persistent bitmaps begins and ends; empty when there is none that counts.</summary>
    internal (long Start, long End) BitmapDirectory
    {
        get
        {
            foreach (Qcow2Extension extension in Extensions)
            {
                if (extension.Type == Qcow2Format.ExtensionBitmaps && extension.Data.Length >= 24 && (Autoclear & Qcow2Autoclear.Bitmaps) != 0)
                {
                    long bytes = BinaryPrimitives.ReadInt64BigEndian(extension.Data.AsSpan(8));
                    long offset = BinaryPrimitives.ReadInt64BigEndian(extension.Data.AsSpan(16));
                    return bytes is > 0 and <= Qcow2Format.MaxBitmapDirectoryBytes && offset >= 0 ? (offset, offset + bytes) : default;
                }
            }

            return default;
        }
    }

    /// <summary>Entries of L1 that the size needs.</summary>
    internal static long L1EntriesFor(long size, int clusterBits, int l2Bits)
    {
        int shift = clusterBits + l2Bits;
        return shift >= 63 ? 1 : (long)(((ulong)size + (1UL << shift) - 1) >> shift);
    }

    /// <summary>Bytes of the first cluster, given its beginning; the smallest cluster where that is no image.</summary>
    internal static int FirstClusterBytes(ReadOnlySpan<byte> head)
    {
        uint bits = head.Length < 24 ? 0 : BinaryPrimitives.ReadUInt32BigEndian(head[20..]);
        return 1 << (int)Math.Clamp(bits, Qcow2Format.MinClusterBits, Qcow2Format.MaxClusterBits);
    }

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) =>
        head.Length >= 8 && BinaryPrimitives.ReadUInt32BigEndian(head) == Qcow2Format.Magic
            && BinaryPrimitives.ReadUInt32BigEndian(head[4..]) >= 2 ? 100 : 0;

    /// <summary>Reads a header.</summary>
    /// <param name="cluster">The first cluster, or what there is of it.</param>
    /// <param name="isWritable">The image is to be written.</param>
    /// <param name="isCheck">The image is opened to be repaired: a missing refcount table and the corrupt bit are no obstacles.</param>
    /// <exception cref="QapiException">It is not an image that can be opened.</exception>
    internal static Qcow2Header Parse(ReadOnlySpan<byte> cluster, bool isWritable, bool isCheck = false)
    {
        Qcow2HeaderReader reader = new(cluster);
        Check(reader.U32(0) == Qcow2Format.Magic, "Image is not in qcow2 format");
        uint version = reader.U32(4);
        Check(version is 2 or 3, $"Unsupported qcow2 version {version}");
        uint clusterBits = reader.U32(20);
        Check(clusterBits is >= Qcow2Format.MinClusterBits and <= Qcow2Format.MaxClusterBits, $"Unsupported cluster size: 2^{clusterBits}");
        bool isV3 = version >= 3;
        uint headerBytes = isV3 ? reader.U32(100) : Qcow2Format.HeaderBytesV2;
        Check(!isV3 || headerBytes >= Qcow2Format.HeaderBytesV3, "qcow2 header too short");
        Check(headerBytes <= 1u << (int)clusterBits, "qcow2 header exceeds cluster size");
        ulong backingOffset = reader.U64(8);
        Check(backingOffset <= 1UL << (int)clusterBits, "Invalid backing file offset");
        Qcow2Header header = new()
        {
            Version = (int)version,
            ClusterBits = (int)clusterBits,
            Incompatible = isV3 ? (Qcow2Incompatible)reader.U64(72) : 0,
            Compatible = isV3 ? (Qcow2Compatible)reader.U64(80) : 0,
            Autoclear = isV3 ? (Qcow2Autoclear)reader.U64(88) : 0,
            UnknownFields = headerBytes > Qcow2Format.HeaderBytesNow
                ? reader.Bytes(Qcow2Format.HeaderBytesNow, (int)headerBytes - Qcow2Format.HeaderBytesNow)
                : [],
        };
        uint extensionsEnd = backingOffset != 0 ? (uint)backingOffset : 1u << (int)clusterBits;
        header = header.CheckFeatures(reader, headerBytes, extensionsEnd, isWritable && !isCheck);
        header = header.ReadTables(reader, isCheck);
        header = header.ReadExtensions(reader, headerBytes, extensionsEnd);
        return header.ReadBackingFile(reader, backingOffset);
    }

    /// <summary>Where the LUKS header of an encrypted image is.</summary>
    internal (long Offset, long Bytes) CryptoPlace
    {
        get
        {
            foreach (Qcow2Extension extension in Extensions)
            {
                if (CryptMethod == 2 && extension.Type == Qcow2Format.ExtensionCrypto)
                {
                    return CryptoIn(extension.Data);
                }
            }

            return default;
        }
    }

    private static (long Offset, long Bytes) CryptoIn(byte[] data) =>
        (BinaryPrimitives.ReadInt64BigEndian(data), BinaryPrimitives.ReadInt64BigEndian(data.AsSpan(8)));

    private string? CheckCrypto(List<Qcow2Extension> extensions)
    {
        byte[] data = extensions.Find(static e => e.Type == Qcow2Format.ExtensionCrypto).Data;
        if (data.Length != 16)
        {
            return $"CRYPTO header extension size {data.Length}, but expected size 16";
        }

        var (offset, bytes) = CryptoIn(data);
        return offset < 0 || offset % ClusterBytes != 0 || bytes < 0 || bytes > long.MaxValue - offset
            ? $"Encryption header offset '{unchecked((ulong)offset)}' is not a multiple of cluster size '{ClusterBytes}'"
            : null;
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }

    private Qcow2Header CheckFeatures(in Qcow2HeaderReader reader, uint headerBytes, uint extensionsEnd, bool isWritable)
    {
        Qcow2Incompatible unknown = Incompatible & ~Qcow2Incompatible.Known;
        if (unknown != 0)
        {
            byte[]? names = null;
            try
            {
                names = ReadExtensions(reader, headerBytes, extensionsEnd).Extensions.FirstOrDefault(e => e.Type == Qcow2Format.ExtensionFeatureNames).Data;
            }
            catch (QapiException)
            {
                // The names only make the message better.
            }

            throw new QapiException($"Unsupported qcow2 feature(s): {Qcow2FeatureNames.Describe((ulong)unknown, names)}");
        }

        Check(!isWritable || (Incompatible & Qcow2Incompatible.Corrupt) == 0, "qcow2: Image is corrupt; cannot be opened read/write");
        uint order = Version >= 3 ? reader.U32(96) : 4;
        Check(order <= 6, "Reference count entry width too large; may not exceed 64 bits");
        byte compression = headerBytes > Qcow2Format.HeaderBytesV3 ? reader.U8(104) : (byte)0;
        bool hasFlag = (Incompatible & Qcow2Incompatible.Compression) != 0;
        Check(compression <= 1, $"qcow2: unknown compression type: {compression}");
        Check(compression != 0 || !hasFlag, "qcow2: Compression type incompatible feature bit must not be set");
        Check(compression == 0 || hasFlag, "qcow2: Compression type incompatible feature bit must be set");
        Check(!HasExtendedL2 || ClusterBits >= 14, $"Unsupported subcluster size: {ClusterBytes / Qcow2Format.Subclusters}");
        return this with { RefcountOrder = (int)order, Compression = (Qcow2Compression)compression };
    }

    private Qcow2Header ReadTables(in Qcow2HeaderReader reader, bool isCheck)
    {
        uint crypt = reader.U32(32);
        Check(crypt <= 2, $"Unsupported encryption method {crypt}");
        Check(crypt != 1, "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators");
        ulong size = reader.U64(24);
        uint tableClusters = reader.U32(56);
        Check(isCheck || tableClusters != 0, "Image does not contain a reference count table");
        long tableOffset = Table(
            reader.U64(48), (ulong)tableClusters * (uint)(ClusterBytes / 8), 8, Qcow2Format.MaxRefcountTableBytes, "Reference count table");
        uint snapshots = reader.U32(60);
        long snapshotsOffset = Table(reader.U64(64), snapshots, 40, 40L * Qcow2Format.MaxSnapshots, "Snapshot table");
        uint l1Entries = reader.U32(36);
        long l1Offset = Table(reader.U64(40), l1Entries, 8, Qcow2Format.MaxL1Bytes, "Active L1 table");
        Check(size <= long.MaxValue - (1L << 30), "Image is too big");
        long needed = L1EntriesFor((long)size, ClusterBits, L2Bits);
        Check(needed <= int.MaxValue, "Image is too big");
        Check(l1Entries >= needed, "L1 table is too small");
        return this with
        {
            CryptMethod = (int)crypt,
            Size = (long)size & ~511L,
            RefcountTableClusters = (int)tableClusters,
            RefcountTableOffset = tableOffset,
            SnapshotCount = (int)snapshots,
            SnapshotsOffset = snapshotsOffset,
            L1Entries = (int)l1Entries,
            L1Offset = l1Offset,
        };
    }

    private long Table(ulong offset, ulong entries, int entryBytes, long maxBytes, string name)
    {
        Check(entries <= (ulong)(maxBytes / entryBytes), $"{name} too large");
        bool isValid = offset <= long.MaxValue - (entries * (ulong)entryBytes) && (offset & (ulong)(ClusterBytes - 1)) == 0;
        Check(isValid, $"{name} offset invalid");
        return (long)offset;
    }

    private Qcow2Header ReadExtensions(in Qcow2HeaderReader reader, uint offset, uint end)
    {
        List<Qcow2Extension> kept = [];
        Qcow2Header header = this;
        while (offset < end)
        {
            uint type = reader.U32((int)offset);
            uint length = reader.U32((int)offset + 4);
            offset += 8;
            if (type == Qcow2Format.ExtensionEnd)
            {
                break;
            }

            Check(offset <= end && length <= end - offset, "Header extension too large");
            byte[] data = reader.Bytes((int)offset, (int)length);
            switch (type)
            {
                case Qcow2Format.ExtensionBackingFormat:
                    Check(length < 16, $"ERROR: ext_backing_format: len={length} too large (>=16)");
                    header = header with { BackingFormat = Text(data) };
                    break;
                case Qcow2Format.ExtensionDataFile:
                    header = header with { DataFile = Text(data) };
                    break;
                default:
                    kept.Add(new Qcow2Extension(type, data));
                    break;
            }

            offset += (length + 7) & ~7u;
        }

        Check(
            header.CryptMethod != 2 || kept.Exists(static e => e.Type == Qcow2Format.ExtensionCrypto), "Missing CRYPTO header for crypt method 2");
        if (header.CryptMethod == 2 && header.CheckCrypto(kept) is { } fault)
        {
            throw new QapiException(fault);
        }

        Check(header.HasDataFile || !header.IsDataFileRaw, "data-file-raw requires a data file");
        return header with { Extensions = kept };
    }

    private Qcow2Header ReadBackingFile(in Qcow2HeaderReader reader, ulong offset)
    {
        if (offset == 0)
        {
            return this;
        }

        uint length = reader.U32(16);
        Check(length <= Math.Min(1023, (ulong)ClusterBytes - offset), "Backing file name too long");
        return this with { BackingFile = Text(reader.Bytes((int)offset, (int)length)) };
    }

    // As a C program sees it: to the first NUL.
    private static string Text(ReadOnlySpan<byte> bytes)
    {
        int end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }
}

/// <summary>Big-endian fields of a header; what lies behind its end is zero.</summary>
internal readonly ref struct Qcow2HeaderReader(ReadOnlySpan<byte> bytes)
{
    private readonly ReadOnlySpan<byte> _bytes = bytes;

    internal byte U8(int offset) => offset < _bytes.Length ? _bytes[offset] : (byte)0;

    internal uint U32(int offset) => offset + 4 <= _bytes.Length
        ? BinaryPrimitives.ReadUInt32BigEndian(_bytes[offset..])
        : ((uint)U8(offset) << 24) | ((uint)U8(offset + 1) << 16) | ((uint)U8(offset + 2) << 8) | U8(offset + 3);

    internal ulong U64(int offset) => ((ulong)U32(offset) << 32) | U32(offset + 4);

    internal byte[] Bytes(int offset, int length)
    {
        byte[] copy = new byte[length];
        if (offset < _bytes.Length)
        {
            _bytes.Slice(offset, Math.Min(length, _bytes.Length - offset)).CopyTo(copy);
        }

        return copy;
    }
}

/// <summary>The table of feature names in a header.</summary>
internal static class Qcow2FeatureNames
{
    private const int EntryBytes = 48;

    /// <summary>Names of incompatible features, or their numbers.</summary>
    /// <param name="features">The bits.</param>
    /// <param name="table">The image's own names; null when it has none.</param>
    internal static string Describe(ulong features, byte[]? table)
    {
        List<string> names = [];
        for (int i = 0; table is not null && i + EntryBytes <= table.Length && table[i + 2] != 0; i += EntryBytes)
        {
            ulong bit = table[i + 1] < 64 ? 1UL << table[i + 1] : 0;
            if (table[i] == 0 && (features & bit) != 0)
            {
                ReadOnlySpan<byte> name = table.AsSpan(i + 2, EntryBytes - 2);
                int end = name.IndexOf((byte)0);
                names.Add(Encoding.UTF8.GetString(end < 0 ? name : name[..end]));
                features &= ~bit;
            }
        }

        if (features != 0)
        {
            names.Add($"Unknown incompatible feature: {features:x}");
        }

        return string.Join(", ", names);
    }

    /// <summary>The names that a new header carries.</summary>
    internal static byte[] Write()
    {
        ReadOnlySpan<(byte Kind, byte Bit, string Name)> features =
        [
            (0, 0, "dirty bit"),
            (0, 1, "corrupt bit"),
            (0, 2, "external data file"),
            (0, 3, "compression type"),
            (0, 4, "extended L2 entries"),
            (1, 0, "lazy refcounts"),
            (2, 0, "bitmaps"),
            (2, 1, "raw external data"),
        ];
        byte[] table = new byte[features.Length * EntryBytes];
        for (int i = 0; i < features.Length; i++)
        {
            table[i * EntryBytes] = features[i].Kind;
            table[(i * EntryBytes) + 1] = features[i].Bit;
            Encoding.ASCII.GetBytes(features[i].Name, table.AsSpan((i * EntryBytes) + 2));
        }

        return table;
    }
}
