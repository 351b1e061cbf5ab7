using Vmm.Block.Graph;
using Vmm.Block.Qmp;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>What a job is made with.</summary>
/// <param name="Id">Id, well formed and unique.</param>
/// <param name="AutoFinalize">Makes its result permanent by itself.</param>
/// <param name="AutoDismiss">Goes by itself.</param>
/// <param name="Speed">Bytes per second; 0 for no limit.</param>
public sealed record JobSettings(string Id, bool AutoFinalize = true, bool AutoDismiss = true, long Speed = 0);

/// <summary>
/// Work in the background over nodes: a method on the main loop with points at which it can be paused or ended, and the states around it.
/// What it does to nodes it does on their loop. Home: main loop.
/// </summary>
public abstract partial class Job : IBlockParent
{
    private const long SliceNs = 100_000_000;

    // For each verb, the states in which it is taken, from Undefined to Null.
    private static readonly string[] s_verbs =
    [
        "01111111000", "01111100000", "01111100000", "01111100000", "00001100000", "00000001000", "00000000010",
    ];

    private readonly JobManager _manager;
    private readonly LoopWaitQueue _wakers = new();
    private readonly LoopTimer _timer;
    private readonly List<BlockEdge> _uses = [];
    private readonly List<BlockNode> _blocked = [];
    private readonly List<BlockNode> _filled = [];
    private int _pauses;
    private int _pausesSoFar;
    private bool _isUserPaused;
    private bool _isHeld;
    private long _sliceStartNs;
    private long _sliceEndNs;
    private long _sliceBytes;

    /// <summary>A job that is not started.</summary>
    protected Job(JobManager manager, JobType type, JobSettings settings)
    {
        _manager = manager;
        Type = type;
        Settings = settings;
        Speed = settings.Speed;
        _timer = manager.Graph.MainLoop.CreateTimer(ClockType.Realtime, Kick);
    }

    /// <summary>Kind.</summary>
    public JobType Type { get; }

    /// <summary>What it was made with.</summary>
    public JobSettings Settings { get; }

    /// <summary>Id.</summary>
    public string Id => Settings.Id;

    /// <summary>State.</summary>
    public JobStatus Status { get; private set; }

    /// <summary>Work done.</summary>
    public long Progress { get; private set; }

    /// <summary>Work done and left, as it was known when that was last looked at.</summary>
    public long Total { get; private set; }

    /// <summary>Bytes per second; 0 for no limit.</summary>
    public long Speed { get; private set; }

    /// <summary>Result of its requests.</summary>
    public BlockDeviceIoStatus IoStatus { get; private set; }

    /// <summary>It was asked to end.</summary>
    public bool IsCancelled { get; private set; }

    /// <summary>It was asked to end without a consistent result.</summary>
    public bool IsForced { get; private set; }

    /// <summary>Its method runs and does not wait.</summary>
    public bool IsAtWork { get; private set; }

    /// <summary>An operator who cancels it while it waits is answered when it has ended; else before.</summary>
    protected virtual bool EndsBeforeAnswer => true;

    private bool MayGoOn => _pauses == 0 || IsForced;

    /// <summary>True when somebody wants it to pause.</summary>
    public bool IsPausing => _pauses > 0;

    /// <summary>An operator has paused it.</summary>
    public bool IsUserPaused => _isUserPaused;

    /// <summary>Works on nodes that are there already: the commands over block jobs take it, and block job events tell of it.</summary>
    public virtual bool IsBlockJob => true;

    /// <summary>Why it failed; null while it has not.</summary>
    public string? Error { get; private set; }

    /// <inheritdoc/>
    public string Description => $"{JobTypeQapi.ToWire(Type)} job '{Id}'";

    /// <inheritdoc/>
    public virtual bool IsBusy => IsAtWork;

    /// <summary>It can be completed.</summary>
    protected bool IsReady => Status is JobStatus.Ready or JobStatus.Standby;

    /// <summary>The manager.</summary>
    protected JobManager Manager => _manager;

    /// <summary>As query-jobs shows it.</summary>
    public JobInfo Info => Refreshed(() => new JobInfo
    {
        Id = Id,
        Type = Type,
        Status = Status,
        CurrentProgress = Progress,
        TotalProgress = Total,
        Error = Error,
    });

    /// <summary>As query-block-jobs shows it.</summary>
    public BlockJobInfo BlockInfo => Refreshed(() => new BlockJobInfo
    {
        Type = JobTypeQapi.ToWire(Type),
        Device = Id,
        Len = Total,
        Offset = Progress,
        Busy = IsAtWork,
        Paused = IsPausing,
        Speed = Speed,
        IoStatus = IoStatus,
        Ready = IsReady,
        Status = Status,
        AutoFinalize = Settings.AutoFinalize,
        AutoDismiss = Settings.AutoDismiss,
        Error = Error,
    });

    /// <summary>Refuses a verb that the state does not take.</summary>
    /// <exception cref="QapiException">It does not.</exception>
    public void Check(JobVerb verb)
    {
        if (s_verbs[(int)verb][(int)Status] == '0')
        {
            throw new QapiException($"Job '{Id}' in state '{JobStatusQapi.ToWire(Status)}' cannot accept command verb '{JobVerbQapi.ToWire(verb)}'");
        }
    }

    /// <summary>Starts the job.</summary>
    public void Start()
    {
        SetStatus(JobStatus.Running);
        RunToEndAsync().Forget();
    }

    /// <summary>It was started, whatever has become of it.</summary>
    public bool IsStarted => Status is not (JobStatus.Undefined or JobStatus.Created);

    /// <summary>Nothing of it is left to be done.</summary>
    public bool HasEnded => Status is JobStatus.Concluded or JobStatus.Null;

    /// <summary>An operator pauses it.</summary>
    public void UserPause()
    {
        Check(JobVerb.Pause);
        if (_isUserPaused)
        {
            throw new QapiException("Job is already paused");
        }

        _isUserPaused = true;
        DrainBegin();
    }

    /// <summary>An operator lets it go on.</summary>
    public void UserResume()
    {
        if (!_isUserPaused || _pauses == 0)
        {
            throw new QapiException("Can't resume a job that was not paused");
        }

        Check(JobVerb.Resume);
        IoStatus = BlockDeviceIoStatus.Ok;
        _isUserPaused = false;
        DrainEnd();
    }

    /// <summary>An operator limits the rate.</summary>
    public void SetSpeed(long speed)
    {
        Check(JobVerb.SetSpeed);
        if (speed < 0)
        {
            throw new QapiException("Parameter 'speed' expects a non-negative value");
        }

        Speed = speed;
        _sliceEndNs = 0;
        Kick();
    }

    /// <summary>An operator ends it.</summary>
    public async IoTask CancelAsync(bool force)
    {
        Check(JobVerb.Cancel);
        bool isIdle = !IsBusy && EndsBeforeAnswer;
        await CancelUncheckedAsync(force);

        // One that only waits has nothing else to wait for any more.
        while (isIdle && IsForced && !HasEnded)
        {
            await Manager.Graph.WaitProgressAsync();
        }
    }

    internal async IoTask CancelUncheckedAsync(bool force)
    {
        if (Transaction.IsFinalizing)
        {
            return;
        }

        if (Status is JobStatus.Waiting or JobStatus.Pending)
        {
            IsCancelled = IsForced = true;
            await Transaction.AbortAsync(this);
            return;
        }

        // A ready job that is cancelled without force ends with a consistent result.
        IsForced |= force || !IsReady;
        IsCancelled = true;
        OnCancel();
        if (_isUserPaused)
        {
            _isUserPaused = false;
            DrainEnd();
        }

        Kick();
    }

    /// <summary>An operator completes it.</summary>
    public void Complete()
    {
        Check(JobVerb.Complete);
        if (IsCancelled)
        {
            throw new QapiException($"The active block job '{Id}' cannot be completed");
        }

        OnComplete();
        Kick();
    }

    /// <summary>An operator makes the result permanent.</summary>
    public async IoTask FinalizeByUserAsync()
    {
        Check(JobVerb.Finalize);
        await Transaction.FinalizeAsync(this);
    }

    /// <summary>An operator forgets it.</summary>
    public void Dismiss()
    {
        Check(JobVerb.Dismiss);
        SetStatus(JobStatus.Null);
        _manager.Remove(this);
    }

    /// <inheritdoc/>
    public void DrainBegin()
    {
        _pauses++;
        _pausesSoFar++;
        Kick();
        if (IsStarted && !IsAtWork && !IsBusy && !IsDone)
        {
            ShowPaused();
        }
    }

    /// <inheritdoc/>
    public void DrainEnd()
    {
        _pauses--;
        Kick();
        ShowResumed();
    }

    /// <inheritdoc/>
    public virtual void OnResized(BlockEdge edge)
    {
    }

    internal void SetStatus(JobStatus status)
    {
        Status = status;
        _manager.Events.Emit(new JobStatusChangeEvent(Id, status));
    }

    /// <summary>The nodes that it uses, in the order in which it began to.</summary>
    internal IReadOnlyList<BlockEdge> Uses => _uses;

    /// <summary>The work. 0 or a negative errno; a <see cref="QapiException"/> says more.</summary>
    protected abstract IoTask<int> RunAsync();

    /// <summary>Has <see cref="Progress"/> and <see cref="Total"/> say what is known now, where the work does not do so by itself.</summary>
    protected virtual void RefreshProgress()
    {
    }

    /// <summary>Work has been done.</summary>
    protected void Advance(long bytes) => Progress += bytes;

    /// <summary>So much work is left.</summary>
    protected void SetRemaining(long bytes) => Total = Progress + bytes;

    /// <summary>An operator wants its result.</summary>
    protected virtual void OnComplete() => throw new QapiException($"The active block job '{Id}' cannot be completed");

    /// <summary>An operator wants its end.</summary>
    protected virtual void OnCancel()
    {
    }

    /// <summary>Uses a node until <see cref="EndUses"/>; other jobs and commands that would change it are refused.</summary>
    /// <exception cref="QapiException">Permissions conflict.</exception>
    protected void Use(BlockNode node, string name, BlockPermissions needed, BlockPermissions shared)
    {
        _uses.Add(_manager.Graph.Attach(this, node, name, ChildRole.None, needed, shared));
        Block(node);
    }

    /// <summary>Has other jobs and commands that would change a node be refused until <see cref="EndUses"/>.</summary>
    protected void Block(BlockNode node)
    {
        if (node.JobInUse is null)
        {
            node.JobInUse = Type;
            _blocked.Add(node);
        }
    }

    /// <summary>The job writes much to a node and flushes it at its end: see <see cref="BlockNode.IsFilledByJob"/>. Until <see cref="EndUses"/>.</summary>
    protected void Fill(BlockNode node)
    {
        node.AddFiller(1);
        _filled.Add(node);
        foreach (BlockEdge edge in node.Children)
        {
            if ((edge.Role & ChildRole.Cow) == 0)
            {
                Fill(edge.Node);
            }
        }
    }

    /// <summary>Ends all uses of nodes.</summary>
    protected void EndUses()
    {
        foreach (BlockEdge edge in _uses)
        {
            _manager.Graph.Detach(edge);
        }

        _uses.Clear();
        foreach (BlockNode node in _blocked)
        {
            node.JobInUse = null;
        }

        _blocked.Clear();
        _filled.ForEach(static node => node.AddFiller(-1));
        _filled.Clear();
    }

    /// <summary>The job can be completed from now on.</summary>
    protected void BecomeReady()
    {
        SetStatus(JobStatus.Ready);
        _manager.Events.Emit(new BlockJobReadyEvent(Type, Id, Total, Progress, Speed));
    }

    /// <summary>Pauses if somebody wants that.</summary>
    protected async IoTask PausePointAsync()
    {
        if (IsForced)
        {
            // It was paused while it slept, and ends.
            ShowResumed(force: true);
            return;
        }

        if (_pauses == 0)
        {
            return;
        }

        ShowPaused();
        IsAtWork = false;
        Manager.Graph.NotifyProgress();
        _isHeld = true;
        while (!MayGoOn)
        {
            await _wakers.WaitAsync();
        }

        _isHeld = false;
        Manager.Graph.NotifyProgress();
        IsAtWork = true;
        ShowResumed(force: true);
    }

    /// <summary>Lets others have their turn on the main loop.</summary>
    protected async IoTask YieldAsync()
    {
        IoTask<bool> task = _wakers.WaitAsync();
        Kick();
        IsAtWork = false;
        Manager.Graph.NotifyProgress();
        await task;
        IsAtWork = true;
    }

    /// <summary>Waits for a time, or until something has changed.</summary>
    protected async IoTask SleepAsync(long ns)
    {
        if (_pauses == 0 && ns > 0)
        {
            _timer.ArmAfter(ns);
            IsAtWork = false;
            Manager.Graph.NotifyProgress();
            await _wakers.WaitAsync();
            _timer.Cancel();
            IsAtWork = true;
        }

        await PausePointAsync();
    }

    /// <summary>Waits for all of a time that the limit demands, unless the limit changes or the job is to end.</summary>
    /// <param name="ns">The time.</param>
    /// <param name="outlastsPause">A pause is a part of the wait; else it ends the wait.</param>
    protected async IoTask DelayAsync(long ns, bool outlastsPause = false)
    {
        Clocks clocks = Manager.Graph.MainLoop.Clocks;
        long end = clocks.NowNs(ClockType.Realtime) + ns;
        long speed = Speed;
        int paused = _pausesSoFar;
        do
        {
            await SleepAsync(ns);
            ns = end - clocks.NowNs(ClockType.Realtime);
        }
        while (ns > 0 && speed == Speed && !IsForced && (outlastsPause || paused == _pausesSoFar));
    }

    /// <summary>Waits until something has changed, paused or not.</summary>
    protected IoTask<bool> WaitKickAsync() => _wakers.WaitAsync();

    /// <summary>Has the job look again.</summary>
    protected void Kick() => _wakers.WakeAll();

    /// <summary>Counts bytes against the limit: how long to wait before the next ones, in nanoseconds.</summary>
    protected long Account(long bytes)
    {
        if (Speed == 0)
        {
            return 0;
        }

        long now = Manager.Graph.MainLoop.Clocks.NowNs(ClockType.Realtime);
        if (now >= _sliceEndNs)
        {
            _sliceStartNs = now;
            _sliceEndNs = now + SliceNs;
            _sliceBytes = 0;
        }

        _sliceBytes += bytes;
        double quota = Math.Max(Speed / (double)(1_000_000_000 / SliceNs), 1);
        if (_sliceBytes < quota)
        {
            return 0;
        }

        // What is more than a slice's share makes the slice longer.
        _sliceEndNs = _sliceStartNs + (long)Math.Min(_sliceBytes / quota * SliceNs, long.MaxValue / 4);
        return Math.Max(_sliceEndNs - now, 0);
    }

    /// <summary>Decides about a failed request, and does the job's part.</summary>
    protected JobErrorAction HandleError(BlockdevOnError policy, bool isRead, int error)
    {
        JobErrorAction action = policy switch
        {
            BlockdevOnError.Ignore => JobErrorAction.Ignore,
            BlockdevOnError.Stop => JobErrorAction.Stop,
            BlockdevOnError.Enospc or BlockdevOnError.Auto when error == BlockResult.NoSpace => JobErrorAction.Stop,
            _ => JobErrorAction.Report,
        };
        _manager.Events.Emit(new BlockJobErrorEvent(Id, isRead ? IoOperationType.Read : IoOperationType.Write, action));
        if (action == JobErrorAction.Stop)
        {
            if (!_isUserPaused)
            {
                _isUserPaused = true;
                DrainBegin();
            }

            if (IoStatus == BlockDeviceIoStatus.Ok)
            {
                IoStatus = error == BlockResult.NoSpace ? BlockDeviceIoStatus.Nospace : BlockDeviceIoStatus.Failed;
            }
        }

        return action;
    }

    private T Refreshed<T>(Func<T> info)
    {
        RefreshProgress();
        return info();
    }

    // A job that sleeps is paused at once, and goes on at once: the operator's command is answered after the change is told.
    private void ShowPaused()
    {
        if (Status is JobStatus.Ready or JobStatus.Running)
        {
            SetStatus(Status == JobStatus.Ready ? JobStatus.Standby : JobStatus.Paused);
        }
    }

    private void ShowResumed(bool force = false)
    {
        if ((force || _pauses == 0) && (Status is JobStatus.Standby or JobStatus.Paused))
        {
            SetStatus(Status == JobStatus.Standby ? JobStatus.Ready : JobStatus.Running);
        }
    }
}
