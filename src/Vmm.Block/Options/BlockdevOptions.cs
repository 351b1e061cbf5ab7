using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>The drivers that options can name.</summary>
[QapiEnum]
public enum BlockdevDriver
{
    /// <summary>A filter that fails requests.</summary>
    Blkdebug,

    /// <summary>A filter that compares two children.</summary>
    Blkverify,

    /// <summary>A growing image of Bochs.</summary>
    Bochs,

    /// <summary>A compressed image of the cloop module.</summary>
    Cloop,

    /// <summary>A filter whose writes are compressed.</summary>
    Compress,

    /// <summary>A filter that saves what is about to be written.</summary>
    CopyBeforeWrite,

    /// <summary>A filter that copies what is read out of backing files.</summary>
    CopyOnRead,

    /// <summary>A disk image of macOS.</summary>
    Dmg,

    /// <summary>A file of the host.</summary>
    File,

    /// <summary>A CD-ROM drive of the host.</summary>
    [QapiName("host_cdrom")]
    HostCdrom,

    /// <summary>A block device of the host.</summary>
    [QapiName("host_device")]
    HostDevice,

    /// <summary>A file on a web server.</summary>
    Http,

    /// <summary>A file on a web server, over TLS.</summary>
    Https,

    /// <summary>An encrypted volume.</summary>
    Luks,

    /// <summary>An export of an NBD server.</summary>
    Nbd,

    /// <summary>Reads anything, keeps nothing; completes at a later time.</summary>
    NullAio,

    /// <summary>Reads anything, keeps nothing.</summary>
    NullCo,

    /// <summary>An image of Parallels.</summary>
    Parallels,

    /// <summary>A filter that makes its file longer than writes need.</summary>
    Preallocate,

    /// <summary>A qcow2 image.</summary>
    Qcow2,

    /// <summary>A QED image.</summary>
    Qed,

    /// <summary>An image without metadata.</summary>
    Raw,

    /// <summary>What a filter keeps of one moment.</summary>
    SnapshotAccess,

    /// <summary>A filter with limits.</summary>
    Throttle,

    /// <summary>An image of VirtualBox.</summary>
    Vdi,

    /// <summary>An image of Hyper-V.</summary>
    Vhdx,

    /// <summary>An image of VMware.</summary>
    Vmdk,

    /// <summary>An image of Virtual PC.</summary>
    Vpc,
}

/// <summary>What becomes of discards.</summary>
[QapiEnum]
[QapiName("BlockdevDiscardOptions")]
public enum DiscardMode
{
    /// <summary>Nothing.</summary>
    Ignore,

    /// <summary>They are passed on.</summary>
    Unmap,
}

/// <summary>What becomes of writes of zeroes.</summary>
[QapiEnum]
[QapiName("BlockdevDetectZeroesOptions")]
public enum DetectZeroesMode
{
    /// <summary>They are written.</summary>
    Off,

    /// <summary>They become requests to write zeroes.</summary>
    On,

    /// <summary>They become requests to write zeroes by unmapping, if discards are on.</summary>
    Unmap,
}

/// <summary>Cache of a node.</summary>
[QapiStruct]
public sealed partial record BlockdevCacheOptions
{
    /// <summary>Bypass the host's page cache.</summary>
    public bool? Direct { get; init; }

    /// <summary>Ignore flushes.</summary>
    public bool? NoFlush { get; init; }
}

/// <summary>A node to be made.</summary>
[QapiUnion(Discriminator = "driver")]
public sealed partial record BlockdevOptions
{
    /// <summary>The driver.</summary>
    public required BlockdevDriver Driver { get; init; }

    /// <summary>Name of the node; for blockdev-add it is required.</summary>
    public string? NodeName { get; init; }

    /// <summary>Discards; ignored by default.</summary>
    public DiscardMode? Discard { get; init; }

    /// <summary>Cache.</summary>
    public BlockdevCacheOptions? Cache { get; init; }

    /// <summary>No writes.</summary>
    public bool? ReadOnly { get; init; }

    /// <summary>No writes where they are impossible.</summary>
    public bool? AutoReadOnly { get; init; }

    /// <summary>Read although others write.</summary>
    public bool? ForceShare { get; init; }

    /// <summary>Writes of zeroes.</summary>
    public DetectZeroesMode? DetectZeroes { get; init; }

    /// <summary>A filter that fails requests.</summary>
    [QapiBranch("blkdebug")]
    public BlockdevOptionsBlkdebug? Blkdebug { get; init; }

    /// <summary>A filter that compares two children.</summary>
    [QapiBranch("blkverify")]
    public BlockdevOptionsBlkverify? Blkverify { get; init; }

    /// <summary>A node over one file.</summary>
    [QapiBranch("bochs")]
    [QapiBranch("cloop")]
    [QapiBranch("compress")]
    [QapiBranch("dmg")]
    [QapiBranch("parallels")]
    [QapiBranch("snapshot-access")]
    [QapiBranch("vdi")]
    [QapiBranch("vhdx")]
    [QapiBranch("vpc")]
    public BlockdevOptionsGenericFormat? Generic { get; init; }

    /// <summary>A filter that saves what is about to be written.</summary>
    [QapiBranch("copy-before-write")]
    public BlockdevOptionsCbw? CopyBeforeWrite { get; init; }

    /// <summary>A filter that copies what is read.</summary>
    [QapiBranch("copy-on-read")]
    public BlockdevOptionsCor? CopyOnRead { get; init; }

    /// <summary>An image that may have a backing file.</summary>
    [QapiBranch("qed")]
    [QapiBranch("vmdk")]
    public BlockdevOptionsGenericCowFormat? GenericCow { get; init; }

    /// <summary>An encrypted volume.</summary>
    [QapiBranch("luks")]
    public BlockdevOptionsLuks? Luks { get; init; }

    /// <summary>A file.</summary>
    [QapiBranch("file")]
    public BlockdevOptionsFile? File { get; init; }

    /// <summary>A CD-ROM drive.</summary>
    [QapiBranch("host_cdrom")]
    public BlockdevOptionsFile? HostCdrom { get; init; }

    /// <summary>A host device.</summary>
    [QapiBranch("host_device")]
    public BlockdevOptionsFile? HostDevice { get; init; }

    /// <summary>A file on a web server.</summary>
    [QapiBranch("http")]
    public BlockdevOptionsCurlHttp? Http { get; init; }

    /// <summary>A file on a web server, over TLS.</summary>
    [QapiBranch("https")]
    public BlockdevOptionsCurlHttps? Https { get; init; }

    /// <summary>An export of an NBD server.</summary>
    [QapiBranch("nbd")]
    public BlockdevOptionsNbd? Nbd { get; init; }

    /// <summary>Nothing, later.</summary>
    [QapiBranch("null-aio")]
    public BlockdevOptionsNull? NullAio { get; init; }

    /// <summary>Nothing.</summary>
    [QapiBranch("null-co")]
    public BlockdevOptionsNull? NullCo { get; init; }

    /// <summary>A filter that makes its file longer than writes need.</summary>
    [QapiBranch("preallocate")]
    public BlockdevOptionsPreallocate? Preallocate { get; init; }

    /// <summary>A qcow2 image.</summary>
    [QapiBranch("qcow2")]
    public BlockdevOptionsQcow2? Qcow2 { get; init; }

    /// <summary>A raw image.</summary>
    [QapiBranch("raw")]
    public BlockdevOptionsRaw? Raw { get; init; }

    /// <summary>A throttle filter.</summary>
    [QapiBranch("throttle")]
    public BlockdevOptionsThrottle? Throttle { get; init; }
}

/// <summary>A node that exists or is to be made.</summary>
[QapiAlternate]
public sealed partial record BlockdevRef
{
    /// <summary>To be made.</summary>
    public BlockdevOptions? Definition { get; init; }

    /// <summary>Name of a node.</summary>
    public string? Reference { get; init; }
}

/// <summary>Locking of image files.</summary>
[QapiEnum]
[QapiName("OnOffAuto")]
public enum LockingMode
{
    /// <summary>Where the host has locks of open files.</summary>
    Auto,

    /// <summary>Always.</summary>
    On,

    /// <summary>Never.</summary>
    Off,
}

/// <summary>How files are read and written beside the loop.</summary>
[QapiEnum]
[QapiName("BlockdevAioOptions")]
public enum AioMode
{
    /// <summary>Worker threads.</summary>
    Threads,

    /// <summary>The kernel's asynchronous I/O, which needs O_DIRECT.</summary>
    Native,

    /// <summary>io_uring.</summary>
    [QapiName("io_uring")]
    IoUring,
}

/// <summary>A file or device of the host.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsFile
{
    /// <summary>Path.</summary>
    public required string Filename { get; init; }

    /// <summary>Locks.</summary>
    public LockingMode? Locking { get; init; }

    /// <summary>Engine.</summary>
    public AioMode? Aio { get; init; }

    /// <summary>Most requests that io_uring is given at once; 0 or less for any number.</summary>
    public long? AioMaxBatch { get; init; }

    /// <summary>
    /// The page cache forgets an image that is taken over from another process, on by default. Images are taken over by incoming migration
    /// alone.
    /// </summary>
    public bool? DropCache { get; init; }

    /// <summary>It is checked that the page cache has forgotten such an image; off by default.</summary>
    public bool? XCheckCacheDropped { get; init; }
}

/// <summary>A node without contents.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsNull
{
    /// <summary>Bytes; 1 GiB by default.</summary>
    public long? Size { get; init; }

    /// <summary>Time that requests take, in nanoseconds.</summary>
    public ulong? LatencyNs { get; init; }

    /// <summary>Reads give zeroes.</summary>
    public bool? ReadZeroes { get; init; }
}

/// <summary>A raw image.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsRaw
{
    /// <summary>Where the image is.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>Where it begins, in bytes.</summary>
    public long? Offset { get; init; }

    /// <summary>Bytes of it.</summary>
    public long? Size { get; init; }
}

/// <summary>A filter with limits.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsThrottle
{
    /// <summary>Id of a throttle-group object.</summary>
    public required string ThrottleGroup { get; init; }

    /// <summary>What is limited.</summary>
    public required BlockdevRef File { get; init; }
}
