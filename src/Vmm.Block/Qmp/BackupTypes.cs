using Vmm.Block.Jobs;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>How fast a backup may be.</summary>
[QapiStruct]
public sealed partial record BackupPerf
{
    /// <summary>The host copies by itself where it can; reads and writes do the same.</summary>
    public bool? UseCopyRange { get; init; }

    /// <summary>Most copies at a time.</summary>
    public long? MaxWorkers { get; init; }

    /// <summary>Bytes of the longest copy; 0 for no limit.</summary>
    [QapiFeature("unstable")]
    public long? MaxChunk { get; init; }
}

/// <summary>What a backup to a node and one to a file have in common.</summary>
[QapiStruct]
public partial record BackupCommon
{
    /// <summary>Id of the job.</summary>
    public string? JobId { get; init; }

    /// <summary>Source.</summary>
    public required string Device { get; init; }

    /// <summary>What is copied.</summary>
    public required MirrorSyncMode Sync { get; init; }

    /// <summary>Bytes per second.</summary>
    public long? Speed { get; init; }

    /// <summary>A bitmap of the source.</summary>
    public string? Bitmap { get; init; }

    /// <summary>When the bitmap is brought to the state after the backup.</summary>
    public BitmapSyncMode? BitmapMode { get; init; }

    /// <summary>Clusters are compressed.</summary>
    public bool? Compress { get; init; }

    /// <summary>Errors of reads.</summary>
    public BlockdevOnError? OnSourceError { get; init; }

    /// <summary>Errors of writes.</summary>
    public BlockdevOnError? OnTargetError { get; init; }

    /// <summary>Makes its result permanent by itself.</summary>
    public bool? AutoFinalize { get; init; }

    /// <summary>Goes by itself.</summary>
    public bool? AutoDismiss { get; init; }

    /// <summary>Name of the filter's node.</summary>
    public string? FilterNodeName { get; init; }

    /// <summary>How fast it may be.</summary>
    [QapiName("x-perf")]
    public BackupPerf? XPerf { get; init; }
}

/// <summary>A backup to a node.</summary>
[QapiStruct]
public sealed partial record BlockdevBackup : BackupCommon
{
    /// <summary>Target.</summary>
    public required string Target { get; init; }
}

/// <summary>A backup to a file.</summary>
[QapiStruct]
public sealed partial record DriveBackup : BackupCommon
{
    /// <summary>The file.</summary>
    public required string Target { get; init; }

    /// <summary>Its format; that of the source by default.</summary>
    public string? Format { get; init; }

    /// <summary>How the file comes to be; it is made by default.</summary>
    public NewImageMode? Mode { get; init; }
}
