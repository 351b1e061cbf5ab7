using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Formats that have more to say of an image.</summary>
[QapiEnum]
public enum ImageInfoSpecificKind
{
    /// <summary>qcow2.</summary>
    Qcow2,
}

/// <summary>What the format says of an image.</summary>
[QapiUnion(Discriminator = "type")]
public sealed partial record ImageInfoSpecific
{
    /// <summary>The format.</summary>
    public required ImageInfoSpecificKind Type { get; init; }

    /// <summary>qcow2.</summary>
    [QapiBranch("qcow2")]
    public ImageInfoSpecificQCow2Wrapper? Qcow2 { get; init; }
}

/// <summary>qcow2.</summary>
[QapiStruct]
public sealed partial record ImageInfoSpecificQCow2Wrapper
{
    /// <summary>The image.</summary>
    public required ImageInfoSpecificQCow2 Data { get; init; }
}

/// <summary>How clusters of qcow2 are compressed.</summary>
[QapiEnum]
public enum Qcow2CompressionType
{
    /// <summary>zlib.</summary>
    Zlib,

    /// <summary>Zstandard.</summary>
    Zstd,
}

/// <summary>How a bitmap in a qcow2 image is kept.</summary>
[QapiEnum]
public enum Qcow2BitmapInfoFlags
{
    /// <summary>It was not stored properly.</summary>
    InUse,

    /// <summary>It records by itself.</summary>
    Auto,
}

/// <summary>A bitmap in a qcow2 image.</summary>
[QapiStruct]
public sealed partial record Qcow2BitmapInfo
{
    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>Bytes for which a bit stands.</summary>
    public required uint Granularity { get; init; }

    /// <summary>How it is kept.</summary>
    public required IReadOnlyList<Qcow2BitmapInfoFlags> Flags { get; init; }
}

/// <summary>A qcow2 image.</summary>
[QapiStruct]
public sealed partial record ImageInfoSpecificQCow2
{
    /// <summary>"0.10" or "1.1".</summary>
    public required string Compat { get; init; }

    /// <summary>Name of the external data file.</summary>
    public string? DataFile { get; init; }

    /// <summary>The data file is a raw image by itself.</summary>
    public bool? DataFileRaw { get; init; }

    /// <summary>Clusters have subclusters.</summary>
    [QapiName("extended-l2")]
    public bool? ExtendedL2 { get; init; }

    /// <summary>Refcounts may be stale while the image is open.</summary>
    public bool? LazyRefcounts { get; init; }

    /// <summary>The image contradicts itself.</summary>
    public bool? Corrupt { get; init; }

    /// <summary>Width of refcounts.</summary>
    public required long RefcountBits { get; init; }

    /// <summary>Bitmaps.</summary>
    public IReadOnlyList<Qcow2BitmapInfo>? Bitmaps { get; init; }

    /// <summary>How clusters are compressed.</summary>
    public required Qcow2CompressionType CompressionType { get; init; }
}
