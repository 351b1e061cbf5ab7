using Vmm.Block.Options;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Result of the last requests of a back end.</summary>
[QapiEnum]
public enum BlockDeviceIoStatus
{
    /// <summary>Good.</summary>
    Ok,

    /// <summary>One failed.</summary>
    Failed,

    /// <summary>One found no space on the host.</summary>
    Nospace,
}

/// <summary>A back end.</summary>
[QapiStruct]
public sealed partial record BlockInfo
{
    /// <summary>Name of the back end.</summary>
    public required string Device { get; init; }

    /// <summary>Id or path of the device.</summary>
    public string? Qdev { get; init; }

    /// <summary>Always "unknown".</summary>
    public required string Type { get; init; }

    /// <summary>The medium can be changed.</summary>
    public required bool Removable { get; init; }

    /// <summary>The guest has locked the tray.</summary>
    public required bool Locked { get; init; }

    /// <summary>The medium.</summary>
    public BlockDeviceInfo? Inserted { get; init; }

    /// <summary>The tray is open.</summary>
    [QapiName("tray_open")]
    public bool? TrayOpen { get; init; }

    /// <summary>Result of the last requests.</summary>
    public BlockDeviceIoStatus? IoStatus { get; init; }
}

/// <summary>A node.</summary>
[QapiStruct]
public sealed partial record BlockDeviceInfo
{
    /// <summary>File name of the node.</summary>
    public required string File { get; init; }

    /// <summary>Name of the node.</summary>
    public string? NodeName { get; init; }

    /// <summary>Nothing is written.</summary>
    public required bool Ro { get; init; }

    /// <summary>Driver.</summary>
    public required string Drv { get; init; }

    /// <summary>File name of the backing file.</summary>
    [QapiName("backing_file")]
    public string? BackingFile { get; init; }

    /// <summary>Nodes below in the backing chain.</summary>
    [QapiName("backing_file_depth")]
    public required long BackingFileDepth { get; init; }

    /// <summary>Contents are encrypted.</summary>
    public required bool Encrypted { get; init; }

    /// <summary>What becomes of writes of zeroes.</summary>
    [QapiName("detect_zeroes")]
    public required DetectZeroesMode DetectZeroes { get; init; }

    /// <summary>Bytes per second.</summary>
    public required long Bps { get; init; }

    /// <summary>Bytes per second, reads.</summary>
    [QapiName("bps_rd")]
    public required long BpsRd { get; init; }

    /// <summary>Bytes per second, writes.</summary>
    [QapiName("bps_wr")]
    public required long BpsWr { get; init; }

    /// <summary>Requests per second.</summary>
    public required long Iops { get; init; }

    /// <summary>Requests per second, reads.</summary>
    [QapiName("iops_rd")]
    public required long IopsRd { get; init; }

    /// <summary>Requests per second, writes.</summary>
    [QapiName("iops_wr")]
    public required long IopsWr { get; init; }

    /// <summary>The image.</summary>
    public required ImageInfo Image { get; init; }

    /// <summary>Bytes per second in bursts.</summary>
    [QapiName("bps_max")]
    public long? BpsMax { get; init; }

    /// <summary>Bytes per second in bursts, reads.</summary>
    [QapiName("bps_rd_max")]
    public long? BpsRdMax { get; init; }

    /// <summary>Bytes per second in bursts, writes.</summary>
    [QapiName("bps_wr_max")]
    public long? BpsWrMax { get; init; }

    /// <summary>Requests per second in bursts.</summary>
    [QapiName("iops_max")]
    public long? IopsMax { get; init; }

    /// <summary>Requests per second in bursts, reads.</summary>
    [QapiName("iops_rd_max")]
    public long? IopsRdMax { get; init; }

    /// <summary>Requests per second in bursts, writes.</summary>
    [QapiName("iops_wr_max")]
    public long? IopsWrMax { get; init; }

    /// <summary>Longest burst in seconds.</summary>
    [QapiName("bps_max_length")]
    public long? BpsMaxLength { get; init; }

    /// <summary>Longest burst in seconds, reads.</summary>
    [QapiName("bps_rd_max_length")]
    public long? BpsRdMaxLength { get; init; }

    /// <summary>Longest burst in seconds, writes.</summary>
    [QapiName("bps_wr_max_length")]
    public long? BpsWrMaxLength { get; init; }

    /// <summary>Longest burst in seconds.</summary>
    [QapiName("iops_max_length")]
    public long? IopsMaxLength { get; init; }

    /// <summary>Longest burst in seconds, reads.</summary>
    [QapiName("iops_rd_max_length")]
    public long? IopsRdMaxLength { get; init; }

    /// <summary>Longest burst in seconds, writes.</summary>
    [QapiName("iops_wr_max_length")]
    public long? IopsWrMaxLength { get; init; }

    /// <summary>Bytes that count as one request.</summary>
    [QapiName("iops_size")]
    public long? IopsSize { get; init; }

    /// <summary>Throttle group.</summary>
    public string? Group { get; init; }

    /// <summary>The cache.</summary>
    public required BlockdevCacheInfo Cache { get; init; }

    /// <summary>Offset above which a write is reported; 0 for none.</summary>
    [QapiName("write_threshold")]
    public required long WriteThreshold { get; init; }

    /// <summary>Dirty bitmaps.</summary>
    public IReadOnlyList<BlockDirtyInfo>? DirtyBitmaps { get; init; }
}

/// <summary>The image of a node.</summary>
[QapiStruct]
public sealed partial record ImageInfo
{
    /// <summary>File name.</summary>
    public required string Filename { get; init; }

    /// <summary>Driver.</summary>
    public required string Format { get; init; }

    /// <summary>The image was not closed properly.</summary>
    public bool? DirtyFlag { get; init; }

    /// <summary>Bytes on the host.</summary>
    public long? ActualSize { get; init; }

    /// <summary>Bytes.</summary>
    public required long VirtualSize { get; init; }

    /// <summary>Bytes of a cluster.</summary>
    public long? ClusterSize { get; init; }

    /// <summary>Contents are encrypted.</summary>
    public bool? Encrypted { get; init; }

    /// <summary>Clusters are compressed.</summary>
    public bool? Compressed { get; init; }

    /// <summary>Backing file as the image names it.</summary>
    public string? BackingFilename { get; init; }

    /// <summary>Backing file as it would be opened.</summary>
    public string? FullBackingFilename { get; init; }

    /// <summary>Format of the backing file as the image names it.</summary>
    public string? BackingFilenameFormat { get; init; }

    /// <summary>Internal snapshots.</summary>
    public IReadOnlyList<SnapshotInfo>? Snapshots { get; init; }

    /// <summary>The image below.</summary>
    public ImageInfo? BackingImage { get; init; }

    /// <summary>What the format says.</summary>
    public ImageInfoSpecific? FormatSpecific { get; init; }
}

/// <summary>An internal snapshot.</summary>
[QapiStruct]
public sealed partial record SnapshotInfo
{
    /// <summary>Id.</summary>
    public required string Id { get; init; }

    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>Bytes of machine state.</summary>
    public required long VmStateSize { get; init; }

    /// <summary>Time of the snapshot in seconds.</summary>
    public required long DateSec { get; init; }

    /// <summary>Its nanoseconds.</summary>
    public required long DateNsec { get; init; }

    /// <summary>Virtual clock in seconds.</summary>
    public required long VmClockSec { get; init; }

    /// <summary>Its nanoseconds.</summary>
    public required long VmClockNsec { get; init; }

    /// <summary>Instructions executed.</summary>
    public long? Icount { get; init; }
}

/// <summary>The cache of a node.</summary>
[QapiStruct]
public sealed partial record BlockdevCacheInfo
{
    /// <summary>Writes are complete without flush.</summary>
    public required bool Writeback { get; init; }

    /// <summary>The page cache of the host is bypassed.</summary>
    public required bool Direct { get; init; }

    /// <summary>Flushes are ignored.</summary>
    public required bool NoFlush { get; init; }
}

/// <summary>A dirty bitmap.</summary>
[QapiStruct]
public sealed partial record BlockDirtyInfo
{
    /// <summary>Name.</summary>
    public string? Name { get; init; }

    /// <summary>Dirty bytes.</summary>
    public required long Count { get; init; }

    /// <summary>Bytes for which a bit stands.</summary>
    public required long Granularity { get; init; }

    /// <summary>Writes are recorded.</summary>
    public required bool Recording { get; init; }

    /// <summary>Used by a job or export.</summary>
    public required bool Busy { get; init; }

    /// <summary>Stored in the image.</summary>
    public required bool Persistent { get; init; }

    /// <summary>Not stored properly, of no use.</summary>
    public bool? Inconsistent { get; init; }
}
