using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <content>How a job comes to its end, alone or with the others of its transaction.</content>
public abstract partial class Job
{
    private JobTransaction? _transaction;
    private bool _hasReturned;
    private bool _isSettled;

    /// <summary>Those with which it succeeds or fails; by default it is alone. Set before the start.</summary>
    public JobTransaction Transaction
    {
        get => _transaction ??= new JobTransaction(this);
        set
        {
            _transaction = value;
            value.Add(this);
        }
    }

    /// <summary>Its method has returned.</summary>
    internal bool IsDone { get; private set; }

    /// <summary>
    /// It waits for nothing but its turn, or for its own end: it was let go on after a pause and has not yet, or its method has returned and the job has
    /// not ended, nor begun to wait for others of its transaction or for an operator. <see cref="BlockGraph.WaitProgressAsync"/> returns when that changes.
    /// </summary>
    internal bool IsMoving => (_isHeld && MayGoOn) || (_hasReturned && !_isSettled);

    /// <summary>It was set up, but what it belongs to has failed: it goes without having run.</summary>
    /// <param name="isCancelled">What it belongs to was undone; else the job itself was refused.</param>
    public async IoTask AbandonAsync(bool isCancelled = false)
    {
        _transaction?.Remove(this);
        if (isCancelled)
        {
            SetStatus(JobStatus.Aborting);
            Abort();
        }

        await CleanAsync();
        if (isCancelled)
        {
            SetStatus(JobStatus.Concluded);
        }

        SetStatus(JobStatus.Null);
        _manager.Remove(this);
    }

    /// <summary>Makes a good result permanent as far as that can fail. Throws a <see cref="QapiException"/> when it does.</summary>
    protected virtual IoTask PrepareAsync() => IoTask.CompletedTask;

    /// <summary>All jobs of the transaction are prepared: makes the result permanent.</summary>
    protected virtual void Commit()
    {
    }

    /// <summary>The result does not count.</summary>
    protected virtual void Abort()
    {
    }

    /// <summary>Ends its use of nodes, whatever the result.</summary>
    protected abstract IoTask CleanAsync();

    /// <summary>Success: waits to be made permanent. Events only.</summary>
    internal void BecomePending()
    {
        SetStatus(JobStatus.Pending);
        if (!Settings.AutoFinalize && IsBlockJob)
        {
            _manager.Events.Emit(new BlockJobPendingEvent(Type, Id));
        }
    }

    /// <summary>Does <see cref="PrepareAsync"/>; false when that fails.</summary>
    internal async IoTask<bool> TryPrepareAsync()
    {
        try
        {
            await PrepareAsync();
            return true;
        }
        catch (QapiException exception)
        {
            Error = exception.Desc;
            return false;
        }
    }

    /// <summary>Ends the job with the result that it has.</summary>
    internal async IoTask FinishAsync()
    {
        if (IsForced)
        {
            Error ??= "Operation canceled";
        }

        if (Error is not null)
        {
            SetStatus(JobStatus.Aborting);
            Abort();
        }
        else
        {
            Commit();
        }

        await CleanAsync();
        if (IsBlockJob)
        {
            _manager.Events.Emit(IsForced
                ? new BlockJobCancelledEvent(Type, Id, Total, Progress, Speed)
                : new BlockJobCompletedEvent(Type, Id, Total, Progress, Speed, Error));
        }

        SetStatus(JobStatus.Concluded);
        if (Settings.AutoDismiss)
        {
            Dismiss();
        }

        Manager.Graph.NotifyProgress();
    }

    /// <summary>Waits until its method has returned.</summary>
    internal async IoTask WaitDoneAsync()
    {
        while (!IsDone)
        {
            await Manager.Graph.WaitProgressAsync();
        }
    }

    private async IoTask RunToEndAsync()
    {
        int result;
        IsAtWork = true;
        try
        {
            result = await RunAsync();
        }
        catch (QapiException exception)
        {
            Error = exception.Desc;
            result = BlockResult.Io;
        }

        // Whoever has let the job run is to be done first.
        _hasReturned = true;
        await YieldAsync();
        IsAtWork = false;
        IsDone = true;
        Manager.Graph.NotifyProgress();
        if (result < 0 || IsForced)
        {
            Error ??= IsForced ? "Operation canceled" : BlockResult.Text(result);
            await Transaction.AbortAsync(this);
        }
        else
        {
            SetStatus(JobStatus.Waiting);
            await Transaction.SucceedAsync();
        }

        _isSettled = true;
        Manager.Graph.NotifyProgress();
    }
}
