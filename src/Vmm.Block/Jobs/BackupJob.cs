using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>What a backup is made with.</summary>
public sealed record BackupSettings
{
    /// <summary>What is copied; a bitmap for incremental as well.</summary>
    public required MirrorSyncMode Sync { get; init; }

    /// <summary>What says, or is told, what is copied; null for none.</summary>
    public DirtyBitmap? Bitmap { get; init; }

    /// <summary>When the bitmap is brought to the state after the backup.</summary>
    public BitmapSyncMode BitmapMode { get; init; }

    /// <summary>The target's clusters are compressed.</summary>
    public bool IsCompressing { get; init; }

    /// <summary>Most copies at a time.</summary>
    public int MaxWorkers { get; init; } = 64;

    /// <summary>Bytes of the longest copy; 0 for no limit.</summary>
    public long MaxChunk { get; init; }

    /// <summary>Name of the filter's node; null for a generated one.</summary>
    public string? FilterName { get; init; }

    /// <summary>Errors of reads.</summary>
    public BlockdevOnError OnSourceError { get; init; }

    /// <summary>Errors of writes.</summary>
    public BlockdevOnError OnTargetError { get; init; }
}

/// <summary>When the bitmap of a backup is brought to the state after the backup.</summary>
[QapiEnum]
public enum BitmapSyncMode
{
    /// <summary>When it has succeeded.</summary>
    OnSuccess,

    /// <summary>Not at all.</summary>
    Never,

    /// <summary>In any case; what was not copied stays dirty.</summary>
    Always,
}

/// <summary>
/// Copies a node as it is at the moment at which the job is made: a filter above the source copies what is about to be written, the job
/// everything else. Home: main loop.
/// </summary>
public sealed class BackupJob : Job
{
    private const int MaxInFlight = 16;
    private const long DefaultChunk = RangeCopier.MaxBytes;

    private readonly BackupSettings _backup;
    private readonly BlockNode _source;
    private readonly BlockNode _target;
    private readonly BlockCopy _copy;
    private BlockNode? _filter;
    private int _inFlight;
    private int _result;

    private BackupJob(JobManager manager, JobSettings settings, BackupSettings backup, BlockNode source, BlockNode target)
        : base(manager, JobType.Backup, settings)
    {
        _backup = backup;
        _source = source;
        _target = target;
        _copy = new BlockCopy(source, target)
        {
            IsCompressing = backup.IsCompressing,
            SkipsUnallocated = backup.Sync == MirrorSyncMode.Top,
            SkipsZeroes = backup.Sync == MirrorSyncMode.Full,
            Bottom = source.SkipFilters.Backing?.Node,
        };
    }

    /// <inheritdoc/>
    public override bool IsBusy => base.IsBusy || _inFlight > 0;

    /// <summary>Makes a backup and puts its filter above the source. With the graph's <see cref="BlockGraph.Changing"/> held, the source drained.</summary>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public static async IoTask<BackupJob> CreateAsync(
        JobManager manager, JobSettings settings, BackupSettings backup, BlockNode source, BlockNode target)
    {
        BackupJob job = new(manager, settings, backup, source, target);
        backup.Bitmap?.Freeze();
        try
        {
            if (backup.MaxChunk > 0 && backup.MaxChunk < job._copy.Cluster)
            {
                throw new QapiException($"Required max-chunk ({backup.MaxChunk}) is less than backup cluster size ({job._copy.Cluster})");
            }

            await job.InsertFilterAsync();
        }
        catch (QapiException)
        {
            await job.CleanAsync();
            backup.Bitmap?.MergeSuccessor();
            throw;
        }

        if (backup.Sync == MirrorSyncMode.Bitmap)
        {
            job._copy.Add(backup.Bitmap!.Bits);
        }
        else
        {
            job._copy.Add(0, source.Length);
        }

        manager.Add(job);
        return job;
    }

    /// <inheritdoc/>
    protected override async IoTask<int> RunAsync()
    {
        RefreshProgress();
        if (_backup.Sync == MirrorSyncMode.None)
        {
            await PausePointAsync();
            while (!IsForced)
            {
                await SleepAsync(long.MaxValue / 2);
            }

            return 0;
        }

        if (_backup.Sync == MirrorSyncMode.Top && await ForgetUnallocatedAsync() is < 0 and int error)
        {
            return error;
        }

        Clocks clocks = Manager.Graph.MainLoop.Clocks;
        long waitEnd = 0;
        long cursor = 0;
        while (true)
        {
            await PausePointAsync();
            if (_result < 0 || IsForced)
            {
                break;
            }

            RefreshProgress();
            bool isFull = _inFlight >= Math.Min(_backup.MaxWorkers, MaxInFlight);
            long chunk = _backup.MaxChunk > 0 ? Math.Min(_backup.MaxChunk / _copy.Cluster * _copy.Cluster, DefaultChunk) : DefaultChunk;
            chunk = Math.Max(chunk, _copy.Cluster);
            if (!isFull && Speed == 0 && _copy.MaySkip && _copy.Next(ref cursor, chunk, out _) && await SkipAsync(cursor) is > 0 and long skipped)
            {
                cursor += skipped;
            }
            else if (!isFull && _copy.Next(ref cursor, chunk, out long bytes))
            {
                if (Speed > 0 && waitEnd - clocks.NowNs(ClockType.Realtime) is > 0 and long delay)
                {
                    // Only what comes next waits: the last copy ends the job.
                    await DelayAsync(delay, outlastsPause: true);
                    waitEnd = 0;
                    continue;
                }

                if (Speed > 0)
                {
                    bytes = await CountAlikeAsync(cursor, bytes);
                }

                // A copy ends at a boundary of chunks, so that those that run side by side do not share clusters.
                CopyAsync(cursor, bytes).Forget();
                cursor += bytes;
                waitEnd = clocks.NowNs(ClockType.Realtime) + Account(bytes);
            }
            else if (_inFlight > 0)
            {
                await WaitKickAsync();
            }
            else if (_copy.Left > 0)
            {
                cursor = 0;
            }
            else
            {
                break;
            }
        }

        while (_inFlight > 0)
        {
            await WaitKickAsync();
        }

        RefreshProgress();
        return _result;
    }

    /// <inheritdoc/>
    protected override void Commit() => EndBitmap(succeeded: true);

    /// <inheritdoc/>
    protected override void Abort() => EndBitmap(succeeded: false);

    /// <inheritdoc/>
    protected override async IoTask CleanAsync()
    {
        if (!IsStarted && Status != JobStatus.Undefined)
        {
            // Refused after it was made.
            EndBitmap(succeeded: false);
        }

        EndUses();
        if (_filter is { } filter)
        {
            _filter = null;
            await Manager.Graph.RemoveFilterAsync(filter);
        }
        else
        {
            _copy.Dispose();
        }

        await Manager.Graph.CloseIfUnusedAsync(_target);
    }

    private async IoTask InsertFilterAsync()
    {
        BlockGraph graph = Manager.Graph;
        _filter = await graph.InsertFilterAsync(new CopyBeforeWriteDriver(_copy), _backup.FilterName, _source, "file", _target);
        ((CopyBeforeWriteDriver)_filter.Driver).BeginSnapshot();
        Use(_filter, "main node", BlockPermissions.None, BlockPermissions.All);
        Use(_target, "target", BlockPermissions.None, BlockPermissions.All);
    }

    /// <inheritdoc/>
    protected override void RefreshProgress()
    {
        Advance(_copy.Copied - Progress);
        SetRemaining(_copy.Remaining);
    }

    private void EndBitmap(bool succeeded)
    {
        if (_backup.Bitmap is not { IsBusy: true } bitmap)
        {
            return;
        }

        bool syncs = (succeeded || _backup.BitmapMode == BitmapSyncMode.Always) && _backup.BitmapMode != BitmapSyncMode.Never;
        if (!syncs)
        {
            bitmap.MergeSuccessor();
            return;
        }

        bitmap.KeepSuccessor();
        if (!succeeded)
        {
            _copy.MergeLeftInto(bitmap.Bits);
        }
    }

    // At a limit, data does not wait for zeroes.
    private async IoTask<long> CountAlikeAsync(long offset, long bytes)
    {
        await _source.Loop.SwitchTo();
        bytes = await _copy.CountAlikeAsync(offset, bytes);
        await Manager.Graph.MainLoop.SwitchTo();
        return bytes;
    }

    // What only the backing files have is not copied: everything else is counted before anything is.
    private async IoTask<int> ForgetUnallocatedAsync()
    {
        for (long offset = 0; offset < _source.Length;)
        {
            await PausePointAsync();
            if (IsForced)
            {
                return 0;
            }

            await _source.Loop.SwitchTo();
            long bytes = await _copy.ForgetUnallocatedAsync(offset);
            await Manager.Graph.MainLoop.SwitchTo();
            if (bytes < 0)
            {
                return (int)bytes;
            }

            offset += bytes;
        }

        _copy.SkipsUnallocated = false;
        return 0;
    }

    // What fails is left to copy, and fails once more in small steps.
    private async IoTask<long> SkipAsync(long offset)
    {
        await _source.Loop.SwitchTo();
        long skipped = await _copy.SkipAsync(offset);
        await Manager.Graph.MainLoop.SwitchTo();
        Manager.Graph.NotifyProgress();
        return skipped;
    }

    private async IoTask CopyAsync(long offset, long bytes)
    {
        _inFlight++;
        await _source.Loop.SwitchTo();
        (int result, bool isRead) = await _copy.CopyAsync(offset, bytes);
        await Manager.Graph.MainLoop.SwitchTo();
        _inFlight--;
        if (result < 0)
        {
            BlockdevOnError policy = isRead ? _backup.OnSourceError : _backup.OnTargetError;
            if (HandleError(policy, isRead, result) == JobErrorAction.Report)
            {
                _result = result;
            }
        }

        Manager.Graph.NotifyProgress();
        Kick();
    }
}
