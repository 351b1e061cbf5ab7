using Vmm.Block.Jobs;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>The terminal commands that copy disks and take snapshots of them, by their images' names. Home: main loop.</summary>
public sealed class ImageHmpCommands(SnapshotCommands snapshots, MirrorCommands mirrors, BackupCommands backups, ChainCommands chains)
{
    /// <summary>Keeps a new image like a disk until it is completed or cancelled.</summary>
    [HmpCommand(
        "drive_mirror",
        ArgsType = "reuse:-n,full:-f,device:B,target:s,format:s?",
        Params = "[-n] [-f] device target [format]",
        Help = "copy a disk to an image, which follows its writes (-n: the image exists; -f: with what backing files have)")]
    public ValueTask DriveMirror(HmpContext context, bool reuse, bool full, string device, string target, string? format) =>
        new(mirrors.DriveMirror(
            null, device, target, format, null, null, full ? MirrorSyncMode.Full : MirrorSyncMode.Top, Mode(reuse), null, null, null, null, null, true, null, null, null));

    /// <summary>Copies a disk as it is now to a new image.</summary>
    [HmpCommand(
        "drive_backup",
        ArgsType = "reuse:-n,full:-f,compress:-c,device:B,target:s,format:s?",
        Params = "[-n] [-f] [-c] device target [format]",
        Help = "copy a disk as it is now to an image (-n: the image exists; -f: with what backing files have; -c: compressed)")]
    public ValueTask DriveBackup(HmpContext context, bool reuse, bool full, bool compress, string device, string target, string? format) =>
        new(backups.DriveBackup(new DriveBackup
        {
            Device = device,
            Target = target,
            Format = format,
            Sync = full ? MirrorSyncMode.Full : MirrorSyncMode.Top,
            Mode = Mode(reuse),
            Compress = compress,
        }));

    /// <summary>Copies what backing files have into an image.</summary>
    [HmpCommand(
        "block_stream", ArgsType = "device:B,speed:o?,base:s?", Params = "device [speed [base]]", Help = "copy data from a backing file into a block device")]
    public ValueTask BlockStream(HmpContext context, string device, long? speed, string? @base) =>
        new(chains.BlockStream(device, @base, speed, null, BlockdevOnError.Report, null, null, null, null, null, null));

    /// <summary>Puts a new image over a disk's.</summary>
    [HmpCommand(
        "snapshot_blkdev",
        ArgsType = "reuse:-n,device:B,snapshot-file:s?,format:s?",
        Params = "[-n] device [new-image-file] [format]",
        Help = "put a new image over that of a disk, by default qcow2 (-n: the image exists)")]
    public ValueTask SnapshotBlkdev(HmpContext context, bool reuse, string device, [QapiName("snapshot-file")] string? file, string? format) =>
        new(snapshots.BlockdevSnapshotSync(
            device, null, file ?? throw new QapiException("Parameter 'snapshot-file' is missing"), null, format ?? "qcow2", Mode(reuse)));

    /// <summary>Takes a snapshot within an image.</summary>
    [HmpCommand("snapshot_blkdev_internal", ArgsType = "device:B,name:s", Params = "device name", Help = "take a snapshot within the image of a disk")]
    public ValueTask SnapshotBlkdevInternal(HmpContext context, string device, string name) => new(snapshots.BlockdevSnapshotInternalSync(device, name));

    /// <summary>Deletes a snapshot within an image.</summary>
    [HmpCommand(
        "snapshot_delete_blkdev_internal", ArgsType = "device:B,name:s,id:s?", Params = "device name [id]", Help = "delete a snapshot within the image of a disk")]
    public async ValueTask SnapshotDeleteBlkdevInternal(HmpContext context, string device, string name, string? id) =>
        await snapshots.BlockdevSnapshotDeleteInternalSync(device, id, name);

    private static NewImageMode Mode(bool reuse) => reuse ? NewImageMode.Existing : NewImageMode.AbsolutePaths;
}
