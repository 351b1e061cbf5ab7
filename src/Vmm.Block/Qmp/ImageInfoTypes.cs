using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Formats that have more to say of an image.</summary>
[QapiEnum]
public enum ImageInfoSpecificKind
{
    /// <summary>qcow2.</summary>
    Qcow2,

    /// <summary>vmdk.</summary>
    Vmdk,

    /// <summary>luks.</summary>
    Luks,
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

    /// <summary>vmdk.</summary>
    [QapiBranch("vmdk")]
    public ImageInfoSpecificVmdkWrapper? Vmdk { get; init; }

    /// <summary>luks.</summary>
    [QapiBranch("luks")]
    public ImageInfoSpecificLuksWrapper? Luks { get; init; }
}

/// <summary>vmdk.</summary>
[QapiStruct]
public sealed partial record ImageInfoSpecificVmdkWrapper
{
    /// <summary>The image.</summary>
    public required ImageInfoSpecificVmdk Data { get; init; }
}

/// <summary>luks.</summary>
[QapiStruct]
public sealed partial record ImageInfoSpecificLuksWrapper
{
    /// <summary>The volume.</summary>
    public required QCryptoBlockInfoLuks Data { get; init; }
}

/// <summary>A vmdk image.</summary>
[QapiStruct]
public sealed partial record ImageInfoSpecificVmdk
{
    /// <summary>Kind of image.</summary>
    public required string CreateType { get; init; }

    /// <summary>Content id.</summary>
    public required long Cid { get; init; }

    /// <summary>Content id of the image below.</summary>
    public required long ParentCid { get; init; }

    /// <summary>The files.</summary>
    public required IReadOnlyList<ImageInfo> Extents { get; init; }
}

/// <summary>An encrypted volume.</summary>
[QapiStruct]
[QapiName("QCryptoBlockInfoLUKS")]
public sealed partial record QCryptoBlockInfoLuks
{
    /// <summary>Cipher.</summary>
    public required Options.LuksCipher CipherAlg { get; init; }

    /// <summary>Mode.</summary>
    public required Options.LuksMode CipherMode { get; init; }

    /// <summary>Initial vectors.</summary>
    public required Options.LuksVector IvgenAlg { get; init; }

    /// <summary>Hash of initial vectors.</summary>
    public Options.LuksHash? IvgenHashAlg { get; init; }

    /// <summary>Hash of everything else.</summary>
    public required Options.LuksHash HashAlg { get; init; }

    /// <summary>Where the data begins.</summary>
    public required long PayloadOffset { get; init; }

    /// <summary>Iterations of the master key's digest.</summary>
    public required long MasterKeyIters { get; init; }

    /// <summary>Id of the volume.</summary>
    public required string Uuid { get; init; }

    /// <summary>Key slots.</summary>
    public required IReadOnlyList<QCryptoBlockInfoLuksSlot> Slots { get; init; }
}

/// <summary>A key slot.</summary>
[QapiStruct]
[QapiName("QCryptoBlockInfoLUKSSlot")]
public sealed partial record QCryptoBlockInfoLuksSlot
{
    /// <summary>It has a copy of the master key.</summary>
    public required bool Active { get; init; }

    /// <summary>Iterations of its password.</summary>
    public long? Iters { get; init; }

    /// <summary>Stripes of its key.</summary>
    public long? Stripes { get; init; }

    /// <summary>Where its key is.</summary>
    public required long KeyOffset { get; init; }
}

/// <summary>Kinds of encryption of qcow2 that are seen.</summary>
[QapiEnum]
[QapiName("BlockdevQcow2EncryptionFormat")]
public enum Qcow2EncryptionKind
{
    /// <summary>LUKS.</summary>
    Luks,
}

/// <summary>Encryption of a qcow2 image.</summary>
[QapiUnion(Discriminator = "format")]
public sealed partial record ImageInfoSpecificQCow2Encryption
{
    /// <summary>Kind.</summary>
    public required Qcow2EncryptionKind Format { get; init; }

    /// <summary>LUKS.</summary>
    [QapiBranch("luks")]
    public QCryptoBlockInfoLuks? Luks { get; init; }
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

    /// <summary>Encryption.</summary>
    public ImageInfoSpecificQCow2Encryption? Encrypt { get; init; }

    /// <summary>Bitmaps.</summary>
    public IReadOnlyList<Qcow2BitmapInfo>? Bitmaps { get; init; }

    /// <summary>How clusters are compressed.</summary>
    public required Qcow2CompressionType CompressionType { get; init; }
}
