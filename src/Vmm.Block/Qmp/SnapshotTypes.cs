using Vmm.Block.Jobs;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>How a file for a new image comes to be.</summary>
[QapiEnum]
public enum NewImageMode
{
    /// <summary>It is there.</summary>
    Existing,

    /// <summary>It is made.</summary>
    AbsolutePaths,
}

/// <summary>A node that becomes the overlay of another one.</summary>
[QapiStruct]
public sealed partial record BlockdevSnapshot
{
    /// <summary>The node whose contents stay as they are.</summary>
    public required string Node { get; init; }

    /// <summary>The node that is written from now on.</summary>
    public required string Overlay { get; init; }
}

/// <summary>A snapshot inside an image.</summary>
[QapiStruct]
public sealed partial record BlockdevSnapshotInternal
{
    /// <summary>The image.</summary>
    public required string Device { get; init; }

    /// <summary>The snapshot.</summary>
    public required string Name { get; init; }
}

/// <summary>A file that becomes the overlay of a node.</summary>
[QapiStruct]
public sealed partial record BlockdevSnapshotSync
{
    /// <summary>A back end over the node.</summary>
    public string? Device { get; init; }

    /// <summary>The node.</summary>
    public string? NodeName { get; init; }

    /// <summary>The file.</summary>
    public required string SnapshotFile { get; init; }

    /// <summary>Name of the overlay's node.</summary>
    public string? SnapshotNodeName { get; init; }

    /// <summary>Format; qcow2 by default.</summary>
    public string? Format { get; init; }

    /// <summary>How the file comes to be; it is made by default.</summary>
    public NewImageMode? Mode { get; init; }
}

/// <summary>Nothing.</summary>
[QapiStruct]
public sealed partial record Abort;

/// <summary>Kinds of actions.</summary>
[QapiEnum]
public enum TransactionActionKind
{
    /// <summary>Fails.</summary>
    Abort,

    /// <summary>Adds a bitmap.</summary>
    BlockDirtyBitmapAdd,

    /// <summary>Removes a bitmap.</summary>
    BlockDirtyBitmapRemove,

    /// <summary>Makes a bitmap clean.</summary>
    BlockDirtyBitmapClear,

    /// <summary>Has a bitmap record.</summary>
    BlockDirtyBitmapEnable,

    /// <summary>Has a bitmap record no more.</summary>
    BlockDirtyBitmapDisable,

    /// <summary>Merges bitmaps.</summary>
    BlockDirtyBitmapMerge,

    /// <summary>Begins a backup.</summary>
    BlockdevBackup,

    /// <summary>Puts an overlay over a node.</summary>
    BlockdevSnapshot,

    /// <summary>Makes an internal snapshot.</summary>
    BlockdevSnapshotInternalSync,

    /// <summary>Puts a file as overlay over a node.</summary>
    BlockdevSnapshotSync,

    /// <summary>Begins a backup to a file.</summary>
    DriveBackup,
}

/// <summary>One change of a transaction.</summary>
[QapiUnion(Discriminator = "type")]
[QapiName("TransactionAction")]
public sealed partial record TransactionActionOptions
{
    /// <summary>Kind.</summary>
    public required TransactionActionKind Type { get; init; }

    /// <summary>Fails.</summary>
    [QapiBranch("abort", Wrapped = true)]
    public Abort? Abort { get; init; }

    /// <summary>Adds a bitmap.</summary>
    [QapiBranch("block-dirty-bitmap-add", Wrapped = true)]
    public BlockDirtyBitmapAdd? BitmapAdd { get; init; }

    /// <summary>Removes a bitmap.</summary>
    [QapiBranch("block-dirty-bitmap-remove", Wrapped = true)]
    public BlockDirtyBitmap? BitmapRemove { get; init; }

    /// <summary>Makes a bitmap clean.</summary>
    [QapiBranch("block-dirty-bitmap-clear", Wrapped = true)]
    public BlockDirtyBitmap? BitmapClear { get; init; }

    /// <summary>Has a bitmap record.</summary>
    [QapiBranch("block-dirty-bitmap-enable", Wrapped = true)]
    public BlockDirtyBitmap? BitmapEnable { get; init; }

    /// <summary>Has a bitmap record no more.</summary>
    [QapiBranch("block-dirty-bitmap-disable", Wrapped = true)]
    public BlockDirtyBitmap? BitmapDisable { get; init; }

    /// <summary>Merges bitmaps.</summary>
    [QapiBranch("block-dirty-bitmap-merge", Wrapped = true)]
    public BlockDirtyBitmapMerge? BitmapMerge { get; init; }

    /// <summary>Begins a backup.</summary>
    [QapiBranch("blockdev-backup", Wrapped = true)]
    public BlockdevBackup? Backup { get; init; }

    /// <summary>Puts an overlay over a node.</summary>
    [QapiBranch("blockdev-snapshot", Wrapped = true)]
    public BlockdevSnapshot? Snapshot { get; init; }

    /// <summary>Makes an internal snapshot.</summary>
    [QapiBranch("blockdev-snapshot-internal-sync", Wrapped = true)]
    public BlockdevSnapshotInternal? SnapshotInternal { get; init; }

    /// <summary>Puts a file as overlay over a node.</summary>
    [QapiBranch("blockdev-snapshot-sync", Wrapped = true)]
    public BlockdevSnapshotSync? SnapshotSync { get; init; }

    /// <summary>Begins a backup to a file.</summary>
    [QapiBranch("drive-backup", Wrapped = true)]
    public DriveBackup? DriveBackup { get; init; }
}

/// <summary>Whether the jobs of a transaction end together.</summary>
[QapiEnum]
public enum ActionCompletionMode
{
    /// <summary>Each ends as it does.</summary>
    Individual,

    /// <summary>When one fails, all do.</summary>
    Grouped,
}

/// <summary>What holds for a transaction as a whole.</summary>
[QapiStruct]
public sealed partial record TransactionProperties
{
    /// <summary>Whether its jobs end together.</summary>
    public ActionCompletionMode? CompletionMode { get; init; }
}
