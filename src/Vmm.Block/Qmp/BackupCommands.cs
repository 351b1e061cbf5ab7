using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Backups. Home: main loop.</summary>
public sealed class BackupCommands(TransactionRunner transactions)
{
    /// <summary>Copies a node, as it is now, to another one.</summary>
    [QmpCommand(
        "blockdev-backup",
        ArgsType = "sync:s,device:B,target:B,speed:i?,on-source-error:s?,on-target-error:s?,job-id:s?,bitmap:s?,bitmap-mode:s?,compress:b?,auto-finalize:b?,auto-dismiss:b?,filter-node-name:s?,x-perf:q?",
        AllowPreconfig = true,
        Since = "2.3")]
    public async Task BlockdevBackup(BlockdevBackup backup) =>
        await transactions.RunAsync(new BackupAction(transactions.Jobs, backup));

    /// <summary>Copies a node, as it is now, to a file.</summary>
    [QmpCommand(
        "drive-backup",
        ArgsType = "sync:s,device:B,target:s,speed:i?,mode:s?,format:s?,bitmap:s?,on-source-error:s?,on-target-error:s?,job-id:s?,bitmap-mode:s?,compress:b?,auto-finalize:b?,auto-dismiss:b?,filter-node-name:s?,x-perf:q?",
        AllowPreconfig = true,
        Since = "1.6")]
    [QapiFeature("deprecated")]
    public async Task DriveBackup(DriveBackup backup) =>
        await transactions.RunAsync(new DriveBackupAction(transactions.Jobs, backup));
}

/// <summary>A backup as a part of a transaction. Home: main loop.</summary>
internal sealed class BackupAction(JobManager jobs, BlockdevBackup backup) : TransactionAction
{
    private BlockNode? _source;
    private BackupJob? _job;

    /// <inheritdoc/>
    public override bool IsJob => true;

    /// <inheritdoc/>
    public override async IoTask PrepareAsync(JobTransaction? transaction)
    {
        BlockNode source = jobs.Graph.Lookup(backup.Device, backup.Device);
        BlockNode target = jobs.Graph.Lookup(backup.Target, backup.Target);
        await source.DrainAsync();
        _source = source;
        _job = await StartAsync(jobs, backup, source, target, transaction);
    }

    /// <inheritdoc/>
    public override void Commit() => _job!.Start();

    /// <inheritdoc/>
    public override async IoTask AbortAsync()
    {
        if (_job is not null)
        {
            await _job.AbandonAsync(isCancelled: true);
        }
    }

    /// <inheritdoc/>
    public override IoTask CleanAsync()
    {
        _source?.DrainEnd();
        return IoTask.CompletedTask;
    }

    /// <summary>Makes the job of a backup; it does not run yet. The source is drained.</summary>
    internal static async IoTask<BackupJob> StartAsync(
        JobManager jobs, BackupCommon backup, BlockNode source, BlockNode target, JobTransaction? transaction)
    {
        BackupSettings settings = Read(backup, source, target);
        JobSettings job = jobs.Settings(backup.JobId, backup.Device, backup.AutoFinalize, backup.AutoDismiss);
        if (source == target)
        {
            throw new QapiException("Source and target cannot be the same");
        }

        if (settings.IsCompressing && !target.Driver.SupportsCompression)
        {
            throw new QapiException($"Compression is not supported for this drive {DeviceOf(target)}");
        }

        source.CheckNotInUse();
        target.CheckNotInUse();
        if (source.Length != target.Length)
        {
            throw new QapiException("Source and target image have different sizes");
        }

        jobs.CheckId(job.Id);
        BackupJob made = await BackupJob.CreateAsync(jobs, job, settings, source, target);
        await jobs.LimitAsync(made, backup.Speed);
        if (transaction is not null)
        {
            made.Transaction = transaction;
        }

        return made;
    }

    private static string DeviceOf(BlockNode node)
    {
        foreach (BlockEdge edge in node.Parents)
        {
            if (edge.Parent is Backend.BlockBackend { Name.Length: > 0 } backend)
            {
                return backend.Name;
            }
        }

        return "";
    }

    private static BackupSettings Read(BackupCommon backup, BlockNode source, BlockNode target)
    {
        MirrorSyncMode sync = backup.Sync;
        BitmapSyncMode? mode = backup.BitmapMode;
        if (sync is MirrorSyncMode.Bitmap or MirrorSyncMode.Incremental && backup.Bitmap is null)
        {
            throw new QapiException($"must provide a valid bitmap name for '{MirrorSyncModeQapi.ToWire(sync)}' sync mode");
        }

        if (sync == MirrorSyncMode.Incremental)
        {
            if (mode is not (null or BitmapSyncMode.OnSuccess))
            {
                throw new QapiException("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
            }

            (mode, sync) = (BitmapSyncMode.OnSuccess, MirrorSyncMode.Bitmap);
        }

        DirtyBitmap? bitmap = ReadBitmap(backup, source, sync, mode);
        CheckPerf(backup.XPerf);
        return new BackupSettings
        {
            Sync = sync,
            Bitmap = bitmap,
            BitmapMode = mode ?? BitmapSyncMode.OnSuccess,
            IsCompressing = backup.Compress ?? false,
            MaxWorkers = (int)(backup.XPerf?.MaxWorkers ?? 64),
            MaxChunk = backup.XPerf?.MaxChunk ?? 0,
            FilterName = backup.FilterNodeName,
            OnSourceError = backup.OnSourceError ?? BlockdevOnError.Report,
            OnTargetError = backup.OnTargetError ?? BlockdevOnError.Report,
        };
    }

    private static DirtyBitmap? ReadBitmap(BackupCommon backup, BlockNode source, MirrorSyncMode sync, BitmapSyncMode? mode)
    {
        if (backup.Bitmap is not { } name)
        {
            return mode is null ? null : throw new QapiException("Cannot specify bitmap sync mode without a bitmap");
        }

        DirtyBitmap bitmap = source.FindBitmap(name) ?? throw new QapiException($"Bitmap '{name}' could not be found");
        if (mode is null)
        {
            throw new QapiException("Bitmap sync mode must be given when providing a bitmap");
        }

        bitmap.CheckUsable();
        if (sync == MirrorSyncMode.None)
        {
            throw new QapiException("sync mode 'none' does not produce meaningful bitmap outputs");
        }

        return mode == BitmapSyncMode.Never && sync != MirrorSyncMode.Bitmap
            ? throw new QapiException($"Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '{MirrorSyncModeQapi.ToWire(sync)}'")
            : bitmap;
    }

    private static void CheckPerf(BackupPerf? perf)
    {
        if (perf?.MaxWorkers is < 1 or > int.MaxValue)
        {
            throw new QapiException($"max-workers must be between 1 and {int.MaxValue}");
        }

        if (perf?.MaxChunk < 0)
        {
            throw new QapiException("max-chunk must be zero (which means no limit) or positive");
        }
    }
}
