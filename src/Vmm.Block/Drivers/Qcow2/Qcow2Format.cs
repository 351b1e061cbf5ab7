namespace Vmm.Block.Drivers.Qcow2;

/// <summary>Numbers of the format, from its specification (docs/interop/qcow2 of QEMU), and limits that keep memory bounded.</summary>
internal static class Qcow2Format
{
    internal const uint Magic = 0x514649fb;
    internal const int MinClusterBits = 9;
    internal const int MaxClusterBits = 21;
    internal const int HeaderBytesV2 = 72;
    internal const int HeaderBytesV3 = 104;
    internal const int HeaderBytesNow = 112;

    internal const ulong Copied = 1UL << 63;
    internal const ulong Compressed = 1UL << 62;
    internal const ulong ZeroFlag = 1;
    internal const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    internal const ulong RefcountTableMask = 0xffff_ffff_ffff_fe00;

    internal const int MaxL1Bytes = 32 << 20;
    internal const int MaxRefcountTableBytes = 8 << 20;
    internal const int MaxSnapshots = 65536;
    internal const int MaxSnapshotTableBytes = 64 << 20;
    internal const int MaxSnapshotExtraBytes = 1024;
    internal const int MaxBitmaps = 65535;
    internal const int MaxBitmapDirectoryBytes = 1024 * MaxBitmaps;
    internal const int MaxBitmapBytes = 512 << 20;

    internal const uint ExtensionEnd = 0;
    internal const uint ExtensionBackingFormat = 0xe2792aca;
    internal const uint ExtensionFeatureNames = 0x6803f857;
    internal const uint ExtensionCrypto = 0x0537be77;
    internal const uint ExtensionBitmaps = 0x23852875;
    internal const uint ExtensionDataFile = 0x44415441;

    internal const int Subclusters = 32;
    internal const ulong AllAllocated = 0x0000_0000_ffff_ffff;
    internal const ulong AllZero = 0xffff_ffff_0000_0000;
}

/// <summary>How messages spell numbers.</summary>
internal static class Qcow2Text
{
    /// <summary>A number in hexadecimal; 0 without a prefix.</summary>
    internal static string Hex(long value) => value == 0 ? "0" : $"0x{value:x}";
}

/// <summary>Features without which an image cannot be opened.</summary>
[Flags]
internal enum Qcow2Incompatible : ulong
{
    None = 0,
    Dirty = 1,
    Corrupt = 2,
    DataFile = 4,
    Compression = 8,
    ExtendedL2 = 16,
    Known = Dirty | Corrupt | DataFile | Compression | ExtendedL2,
}

/// <summary>Features that a reader may ignore.</summary>
[Flags]
internal enum Qcow2Compatible : ulong
{
    None = 0,
    LazyRefcounts = 1,
}

/// <summary>Features that a writer who does not know them takes away.</summary>
[Flags]
internal enum Qcow2Autoclear : ulong
{
    None = 0,
    Bitmaps = 1,
    DataFileRaw = 2,
}

/// <summary>How clusters are compressed.</summary>
internal enum Qcow2Compression : byte
{
    Zlib = 0,
    Zstd = 1,
}

/// <summary>What an L2 entry says of a cluster or subcluster.</summary>
internal enum Qcow2Kind
{
    /// <summary>Nothing; the backing file shows.</summary>
    Unallocated,

    /// <summary>Nothing in this subcluster, but its cluster has a place.</summary>
    UnallocatedPlaced,

    /// <summary>Zeroes without a place.</summary>
    Zero,

    /// <summary>Zeroes; the cluster has a place.</summary>
    ZeroPlaced,

    /// <summary>Data.</summary>
    Normal,

    /// <summary>Compressed data.</summary>
    Compressed,

    /// <summary>Contradicts itself.</summary>
    Invalid,
}
