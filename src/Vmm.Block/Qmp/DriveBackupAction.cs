using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>A backup to a file as a part of a transaction. Home: main loop.</summary>
internal sealed class DriveBackupAction(JobManager jobs, DriveBackup backup) : TransactionAction
{
    private BlockNode? _source;
    private BlockNode? _target;
    private BackupJob? _job;

    /// <inheritdoc/>
    public override bool IsJob => true;

    /// <inheritdoc/>
    public override async IoTask PrepareAsync(JobTransaction? transaction)
    {
        BlockNode source = jobs.Graph.Lookup(backup.Device, backup.Device);
        await source.DrainAsync();
        _source = source;
        source.CheckNotInUse();
        BlockNode? below = backup.Sync switch
        {
            MirrorSyncMode.Top => source.SkipFilters.Backing?.Node,
            MirrorSyncMode.None => source,
            _ => null,
        };
        bool isMade = backup.Mode != NewImageMode.Existing;
        string? format = backup.Format ?? (isMade ? source.Driver.FormatName : null);
        if (isMade)
        {
            BlockNode? named = below?.SkipImplicit;
            await ImageMaker.MakeAsync(jobs.Graph, backup.Target, format!, source.Length, named?.Filename, named?.Driver.FormatName);
        }

        bool isNone = backup.Sync == MirrorSyncMode.None;
        BlockNode target = await ImageMaker.OpenAsync(jobs.Graph, backup.Target, format, null, hasBacking: !isNone, source, isSparse: true);
        _target = target;
        if (isNone && target.Driver.SupportsBacking)
        {
            await jobs.Graph.SetBackingAsync(target, source);
        }

        // Without a backing file there is nothing below that the new image could be based on.
        DriveBackup asked = backup.Sync == MirrorSyncMode.Top && below is null ? backup with { Sync = MirrorSyncMode.Full } : backup;
        _job = await BackupAction.StartAsync(jobs, asked, source, target, transaction);
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
    public override async IoTask CleanAsync()
    {
        _source?.DrainEnd();
        if (_target is not null)
        {
            await jobs.Graph.CloseIfUnusedAsync(_target);
        }
    }
}
