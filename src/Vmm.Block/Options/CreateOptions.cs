using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>How space of a new image is made.</summary>
[QapiEnum]
[QapiName("PreallocMode")]
public enum PreallocationOption
{
    /// <summary>Not.</summary>
    Off,

    /// <summary>Metadata of the format.</summary>
    Metadata,

    /// <summary>Space is reserved.</summary>
    Falloc,

    /// <summary>Written in full.</summary>
    Full,
}

/// <summary>Versions of qcow2.</summary>
[QapiEnum]
[QapiName("BlockdevQcow2Version")]
public enum Qcow2VersionOption
{
    /// <summary>compat=0.10.</summary>
    [QapiName("v2")]
    V2,

    /// <summary>compat=1.1.</summary>
    [QapiName("v3")]
    V3,
}

/// <summary>How qcow2 compresses.</summary>
[QapiEnum]
[QapiName("Qcow2CompressionType")]
public enum Qcow2CompressionOption
{
    /// <summary>Deflate.</summary>
    Zlib,

    /// <summary>Zstandard.</summary>
    Zstd,
}

/// <summary>An image to be made.</summary>
[QapiUnion(Discriminator = "driver")]
public sealed partial record BlockdevCreateOptions
{
    /// <summary>The driver.</summary>
    public required BlockdevDriver Driver { get; init; }

    /// <summary>A file of the host.</summary>
    [QapiBranch("file")]
    public BlockdevCreateOptionsFile? File { get; init; }

    /// <summary>An encrypted volume.</summary>
    [QapiBranch("luks")]
    public BlockdevCreateOptionsLuks? Luks { get; init; }

    /// <summary>A qcow2 image.</summary>
    [QapiBranch("qcow2")]
    public BlockdevCreateOptionsQcow2? Qcow2 { get; init; }
}

/// <summary>A file of the host.</summary>
[QapiStruct]
public sealed partial record BlockdevCreateOptionsFile
{
    /// <summary>Path.</summary>
    public required string Filename { get; init; }

    /// <summary>Bytes.</summary>
    public required ulong Size { get; init; }

    /// <summary>Space that is made at once; off by default.</summary>
    public PreallocationOption? Preallocation { get; init; }

    /// <summary>No copy on write in the host's file system; off by default.</summary>
    public bool? Nocow { get; init; }

    /// <summary>Bytes that the file system is asked to allocate at a time; 1 MiB by default, 0 for its own choice.</summary>
    public ulong? ExtentSizeHint { get; init; }
}

/// <summary>A qcow2 image.</summary>
[QapiStruct]
public sealed partial record BlockdevCreateOptionsQcow2
{
    /// <summary>Where the image goes.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>The external data file.</summary>
    public BlockdevRef? DataFile { get; init; }

    /// <summary>The data file is a raw image by itself.</summary>
    public bool? DataFileRaw { get; init; }

    /// <summary>Clusters have 32 subclusters.</summary>
    public bool? ExtendedL2 { get; init; }

    /// <summary>Bytes of the disk.</summary>
    public required ulong Size { get; init; }

    /// <summary>Version; v3 by default.</summary>
    public Qcow2VersionOption? Version { get; init; }

    /// <summary>Name of the backing file.</summary>
    public string? BackingFile { get; init; }

    /// <summary>Its format.</summary>
    public BlockdevDriver? BackingFmt { get; init; }

    /// <summary>Encryption; none by default.</summary>
    public QCryptoBlockCreateOptions? Encrypt { get; init; }

    /// <summary>Bytes of a cluster; 64 KiB by default.</summary>
    public ulong? ClusterSize { get; init; }

    /// <summary>Space that is made at once; off by default.</summary>
    public PreallocationOption? Preallocation { get; init; }

    /// <summary>Refcounts may be stale while the image is open.</summary>
    public bool? LazyRefcounts { get; init; }

    /// <summary>Width of refcounts; 16 by default.</summary>
    public long? RefcountBits { get; init; }

    /// <summary>How clusters are compressed; zlib by default.</summary>
    public Qcow2CompressionOption? CompressionType { get; init; }
}

/// <summary>What is changed of an open image.</summary>
[QapiUnion(Discriminator = "driver")]
public sealed partial record BlockdevAmendOptions
{
    /// <summary>The driver of the image.</summary>
    public required BlockdevDriver Driver { get; init; }

    /// <summary>An encrypted volume.</summary>
    [QapiBranch("luks")]
    public LuksAmendOptions? Luks { get; init; }

    /// <summary>A qcow2 image.</summary>
    [QapiBranch("qcow2")]
    public BlockdevAmendOptionsQcow2? Qcow2 { get; init; }
}

/// <summary>What is changed of a qcow2 image.</summary>
[QapiStruct]
public sealed partial record BlockdevAmendOptionsQcow2
{
    /// <summary>Its key slots.</summary>
    public QCryptoBlockAmendOptions? Encrypt { get; init; }
}
