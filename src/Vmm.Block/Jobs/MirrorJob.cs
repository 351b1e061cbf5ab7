using Vmm.Block.Backend;
using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>What a mirror is made with.</summary>
public sealed record MirrorSettings
{
    /// <summary>What is copied.</summary>
    public required MirrorSyncMode Sync { get; init; }

    /// <summary>Node that the target takes the place of; null for the source.</summary>
    public string? Replaces { get; init; }

    /// <summary>Bytes for which a dirty bit stands.</summary>
    public required long Granularity { get; init; }

    /// <summary>Bytes of memory for copies under way.</summary>
    public required long BufferBytes { get; init; }

    /// <summary>The target is a backing file of the source, from which the source's users go on.</summary>
    public bool IsCommit { get; init; }

    /// <summary>The target must become read-only again when its job ends without result.</summary>
    public bool MakesTargetReadOnly { get; init; }

    /// <summary>What the target has is not to be seen any more, even where the source has nothing of its own.</summary>
    public bool ClearsTarget { get; init; }

    /// <summary>Zeroes may be made by unmapping.</summary>
    public bool Unmaps { get; init; } = true;

    /// <summary>Writes of the guest go to the target before they complete.</summary>
    public bool IsWriteBlocking { get; init; }

    /// <summary>Called with all in place when the users are about to be pointed to the target.</summary>
    public Func<IoTask>? BeforePivot { get; init; }

    /// <summary>Errors of reads.</summary>
    public BlockdevOnError OnSourceError { get; init; }

    /// <summary>Errors of writes.</summary>
    public BlockdevOnError OnTargetError { get; init; }
}

/// <summary>
/// Copies a node to another while it is written, until both are the same at one moment; then the users of the source are pointed to the
/// target, or left where they are. Copies run side by side; a granule is marked clean before it is read, so a write meanwhile has it
/// copied again.
/// </summary>
public sealed partial class MirrorJob : Job
{
    private const int MaxInFlight = 16;

    private readonly MirrorSettings _mirror;
    private readonly BlockNode _source;
    private readonly BlockNode _top;
    private readonly BlockNode _targetNode;
    private readonly BlockBackend _target;
    private readonly MirrorDirty _dirty;
    private readonly RangeCopier _copier;
    private readonly List<(long Start, long End)> _copying = [];
    private readonly MirrorTopDriver _filter;
    private readonly JobBitmap _view;
    private long _runEnd;
    private bool _continuesRun;
    private bool _isFrozen;
    private long _bytesInFlight;
    private long _taken;
    private int _result;
    private bool _isCompleting;
    private bool _isDraining;

    private MirrorJob(JobManager manager, JobSettings settings, MirrorSettings mirror, BlockNode source, BlockNode top, BlockNode target)
        : base(manager, mirror.IsCommit ? JobType.Commit : JobType.Mirror, settings)
    {
        _mirror = mirror;
        _source = source;
        _top = top;
        _filter = (MirrorTopDriver)top.Driver;
        _targetNode = target;
        _copier = new RangeCopier(source, target, mirror.Unmaps ? BlockRequestFlags.MayUnmap : BlockRequestFlags.None)
        {
            // Before the pivot a target may get what is below it.
            SkipsZeroes = mirror.Sync == MirrorSyncMode.Full && !mirror.IsCommit && mirror.BeforePivot is null,
        };
        _target = new BlockBackend(manager.Graph, "") { IsWriteCacheEnabled = true };
        _dirty = new MirrorDirty(source.Length, mirror.Granularity);
        _view = new JobBitmap(() => _dirty.Bytes, mirror.Granularity, isRecording: true);
        _dirty.Written = () => manager.Graph.MainLoop.RunOrPost(Kick);
    }

    /// <summary>Busy only while it could begin something: at its end it waits for the source to be idle itself.</summary>
    public override bool IsBusy => !_isDraining && (base.IsBusy || _copying.Count > 0);

    /// <inheritdoc/>
    protected override bool EndsBeforeAnswer => false;

    /// <summary>Makes a mirror and puts its filter above the source. With the graph's <see cref="BlockGraph.Changing"/> held.</summary>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public static async IoTask<MirrorJob> CreateAsync(
        JobManager manager, JobSettings settings, MirrorSettings mirror, BlockNode source, BlockNode target, string? filterName)
    {
        BlockGraph graph = manager.Graph;
        BlockNode top = await graph.InsertFilterAsync(new MirrorTopDriver(mirror.IsCommit), filterName, source);
        MirrorJob job = new(manager, settings, mirror, source, top, target);
        try
        {
            const BlockPermissions Shared = BlockPermissions.ConsistentRead | BlockPermissions.Write | BlockPermissions.WriteUnchanged;
            job.Use(top, "main node", BlockPermissions.ConsistentRead, Shared);
            bool grows = mirror.IsCommit && source.Length > target.Length;

            // Whoever reads a target sees parts of two moments; where it is a backing file of the source, its overlays hide that.
            job._target.SetPermissions(
                BlockPermissions.Write | (grows ? BlockPermissions.Resize : 0),
                IsBelow(source, target) ? Shared : BlockPermissions.WriteUnchanged);
            job._target.Insert(target);
            await job._target.SetLoopAsync(source.Loop);
            job.Use(source, "source", BlockPermissions.None, Shared);
            job.Use(target, "target", BlockPermissions.None, BlockPermissions.All);
            if (mirror.IsCommit)
            {
                job.UseIntermediate();
            }
        }
        catch (QapiException)
        {
            await job.CleanAsync();
            throw;
        }

        source.AddObserver(job._dirty);
        source.AddView(job._view);
        job.Fill(target);
        if (mirror.IsWriteBlocking)
        {
            job._filter.Writer = job;
        }

        manager.Add(job);
        return job;
    }

    private static bool IsBelow(BlockNode source, BlockNode target)
    {
        BlockNode? node = source;
        while (node is not null && node != target)
        {
            node = node.FilteredOrBacking;
        }

        return node is not null;
    }

    /// <inheritdoc/>
    protected override async IoTask<int> RunAsync()
    {
        if (_mirror.IsCommit && _source.Length > _targetNode.Length)
        {
            await GrowTargetAsync();
        }
        else if (_source.Length != _targetNode.Length && !_mirror.IsCommit)
        {
            throw new QapiException("Source and target image have different sizes");
        }

        await MarkInitialAsync();
        while (true)
        {
            await PausePointAsync();
            if (_result < 0 || IsForced)
            {
                break;
            }

            long dirty = _dirty.Bytes;
            SetRemaining(dirty + _bytesInFlight);
            if (dirty == 0 && _copying.Count == 0)
            {
                if (!IsReady)
                {
                    if (await FlushTargetAsync() < 0)
                    {
                        continue;
                    }

                    BecomeReady();
                    continue;
                }

                if ((_isCompleting || IsCancelled) && await ConvergeAsync())
                {
                    break;
                }

                if (!_isCompleting && !IsCancelled)
                {
                    await SleepAsync(long.MaxValue / 2);
                }

                continue;
            }

            if (_copying.Count >= MaxInFlight || _bytesInFlight >= _mirror.BufferBytes || !TryStart(out long bytes))
            {
                await SleepAsync(long.MaxValue / 2);
                continue;
            }

            // What is dirty in one piece is not torn apart by a limit.
            if (Account(bytes) is > 0 and long delay && !_continuesRun)
            {
                await DelayAsync(delay);
            }
        }

        while (_copying.Count > 0)
        {
            await WaitKickAsync();
        }

        SetRemaining(_dirty.Bytes);
        return _result;
    }

    /// <inheritdoc/>
    protected override void OnComplete() => _isCompleting = true;

    /// <inheritdoc/>
    protected override void OnCancel() => _isCompleting = false;

    /// <inheritdoc/>
    protected override async IoTask PrepareAsync()
    {
        if (!_isCompleting)
        {
            return;
        }

        BlockNode replaced = _mirror.Replaces is { } name ? Manager.Graph.Lookup(null, name) : _top;
        if (_mirror.BeforePivot is { } prepare)
        {
            await prepare();
        }

        // The users' permissions take the place of the job's own.
        EndUses();
        Unfreeze();
        _target.SetPermissions(BlockPermissions.None, BlockPermissions.All);
        await Manager.Graph.SetReadOnlyAsync(_targetNode, _source.IsReadOnly);
        Manager.Graph.ReplaceNode(replaced, _targetNode);
    }

    /// <inheritdoc/>
    protected override async IoTask CleanAsync()
    {
        if (_filter.Writer is not null)
        {
            // What has been written to the source is still written to the target.
            await _top.DrainAsync();
            _filter.Writer = null;
            _top.DrainEnd();
        }

        EndUses();
        Unfreeze();
        _source.RemoveObserver(_dirty);
        _source.RemoveView(_view);
        _target.Remove();
        Manager.Graph.ReplaceNode(_top, _source);
        if (_isDraining)
        {
            _isDraining = false;
            _source.DrainEnd();
            _targetNode.DrainEnd();
        }

        await Manager.Graph.CloseIfUnusedAsync(_top);
        if (_mirror.MakesTargetReadOnly && (Error is not null || !_isCompleting))
        {
            await Manager.Graph.SetReadOnlyAsync(_targetNode, true);
        }

        await Manager.Graph.CloseIfUnusedAsync(_targetNode);
        _copier.Dispose();
    }

    private async IoTask MarkInitialAsync()
    {
        if (_mirror.Sync == MirrorSyncMode.None)
        {
            return;
        }

        if (_mirror.ClearsTarget)
        {
            if (_targetNode.Options.Discard != Options.DiscardMode.Unmap || (_targetNode.Driver.SupportedZeroFlags & BlockRequestFlags.MayUnmap) == 0)
            {
                // Zeroes cost as much as data there.
                _dirty.Add(0, _source.Length);
                return;
            }

            await ClearTargetAsync();
        }

        BlockNode? below = _mirror.IsCommit ? _targetNode : _mirror.Sync == MirrorSyncMode.Top ? _source.SkipFilters.Backing?.Node : null;
        for (long offset = 0; offset < _source.Length && _result >= 0;)
        {
            await PausePointAsync();
            if (IsForced)
            {
                return;
            }

            await _source.Loop.SwitchTo();
            BlockStatus status = await _source.StatusAboveAsync(below, offset, _source.Length - offset, wantZero: false);
            await Manager.Graph.MainLoop.SwitchTo();
            if (status.Result < 0)
            {
                _result = status.Result;
                return;
            }

            if ((status.Flags & BlockStatusFlags.Allocated) != 0)
            {
                _dirty.Add(offset, status.Bytes);
            }

            offset += Math.Max(status.Bytes, 1);
        }
    }

    private async IoTask ClearTargetAsync()
    {
        for (long offset = 0; offset < _source.Length && _result >= 0;)
        {
            await PausePointAsync();
            if (IsForced)
            {
                return;
            }

            long bytes = Math.Min(_source.Length - offset, RangeCopier.MaxZeroes);
            await _source.Loop.SwitchTo();
            int result = await _copier.WriteZeroesAsync(offset, bytes);
            await Manager.Graph.MainLoop.SwitchTo();
            if (result < 0)
            {
                _dirty.Add(offset, bytes);
                if (HandleError(_mirror.OnTargetError, isRead: false, result) == JobErrorAction.Report)
                {
                    _result = result;
                }
            }

            offset += bytes;
        }
    }

    /// <summary>Source and target are the same while nothing is written: true when that was so, and the source stays drained.</summary>
    private async IoTask<bool> ConvergeAsync()
    {
        _isDraining = true;
        await _source.DrainAsync();
        await _targetNode.DrainAsync();
        if (_dirty.Bytes == 0 && await FlushTargetAsync() >= 0)
        {
            return true;
        }

        _source.DrainEnd();
        _targetNode.DrainEnd();
        _isDraining = false;
        return false;
    }

    private async IoTask<int> FlushTargetAsync()
    {
        await _source.Loop.SwitchTo();
        int result = await _targetNode.FlushAsync();
        await Manager.Graph.MainLoop.SwitchTo();
        if (result < 0 && HandleError(_mirror.OnTargetError, isRead: false, result) == JobErrorAction.Report)
        {
            _result = result;
        }

        return result;
    }

    // Granules are copied whole: there is one bit for each.
    private long SmallStep => Math.Max(RangeCopier.MaxBytes, _mirror.Granularity);

    private bool TryStart(out long bytes)
    {
        // Where there was nothing but zeroes, more of them may follow. At a limit, and where writers wait for copies, steps stay small.
        _taken = !_copier.WasZero || Speed > 0 || _mirror.IsWriteBlocking ? SmallStep : Math.Min(2 * _taken, RangeCopier.MaxZeroes);
        if (!_dirty.TryTake(_taken, out long offset, out bytes))
        {
            return false;
        }

        // Two copies of one granule might end in the wrong order.
        foreach ((long start, long end) in _copying)
        {
            if (offset < end && start < offset + bytes)
            {
                _dirty.Add(offset, bytes);
                return false;
            }
        }

        _copying.Add((offset, offset + bytes));
        _bytesInFlight += bytes;
        if (!_continuesRun)
        {
            _runEnd = offset + _mirror.BufferBytes;
        }

        _continuesRun = offset + bytes < _runEnd && _dirty.IsDirty(offset + bytes);
        CopyAsync(offset, bytes).Forget();
        return true;
    }

    private async IoTask CopyAsync(long offset, long bytes)
    {
        await _source.Loop.SwitchTo();
        if (_mirror.IsWriteBlocking)
        {
            await _ranges.EnterAsync(offset, offset + bytes);
        }

        long copied = bytes;
        int result;
        bool isRead = false;
        if (bytes <= SmallStep)
        {
            (result, isRead) = await _copier.CopyAsync(offset, bytes);
        }
        else
        {
            copied = await _copier.CountZeroesAsync(offset, bytes, _mirror.Granularity);
            result = copied == 0 ? 0 : await _copier.WriteZeroesAsync(offset, copied);
        }

        if (_mirror.IsWriteBlocking)
        {
            _ranges.Exit(offset, offset + bytes);
        }

        await Manager.Graph.MainLoop.SwitchTo();
        _copying.Remove((offset, offset + bytes));
        _bytesInFlight -= bytes;
        if (result >= 0)
        {
            Advance(copied);
            if (copied < bytes)
            {
                _dirty.GiveBack(offset + copied, bytes - copied);
            }
        }
        else
        {
            _dirty.Add(offset, bytes);
            BlockdevOnError policy = isRead ? _mirror.OnSourceError : _mirror.OnTargetError;
            if (HandleError(policy, isRead, result) == JobErrorAction.Report)
            {
                _result = result;
            }
        }

        Manager.Graph.NotifyProgress();
        Kick();
    }
}
