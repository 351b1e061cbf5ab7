using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Jobs;

/// <summary>Jobs that succeed together or fail together. Home: main loop.</summary>
public sealed class JobTransaction
{
    private readonly List<Job> _jobs = [];
    private bool _isAborting;

    /// <summary>Results are being made permanent: it is too late to cancel.</summary>
    internal bool IsFinalizing { get; private set; }

    /// <summary>Without jobs.</summary>
    public JobTransaction()
    {
    }

    internal JobTransaction(Job only)
    {
        _jobs.Add(only);
    }

    internal void Add(Job job) => _jobs.Insert(0, job);

    internal void Remove(Job job) => _jobs.Remove(job);

    /// <summary>One has succeeded: when all have, they are finalized, or wait for the operator.</summary>
    internal async IoTask SucceedAsync()
    {
        if (_isAborting || !_jobs.TrueForAll(static job => job.IsDone))
        {
            return;
        }

        foreach (Job job in _jobs)
        {
            job.BecomePending();
        }

        if (_jobs.TrueForAll(static job => job.Settings.AutoFinalize))
        {
            await FinalizeAsync(_jobs[0]);
        }
    }

    /// <summary>Makes the results of all permanent, or of none.</summary>
    internal async IoTask FinalizeAsync(Job first)
    {
        if (IsFinalizing)
        {
            return;
        }

        IsFinalizing = true;
        foreach (Job job in _jobs.ToArray())
        {
            if (!await job.TryPrepareAsync())
            {
                IsFinalizing = false;
                await AbortAsync(first);
                return;
            }
        }

        await FinishAllAsync();
    }

    /// <summary>One has failed or was cancelled: the others are cancelled, and all end.</summary>
    internal async IoTask AbortAsync(Job failed)
    {
        if (_isAborting)
        {
            return;
        }

        _isAborting = true;
        foreach (Job job in _jobs.ToArray())
        {
            if (job != failed)
            {
                await job.CancelUncheckedAsync(force: true);
            }
        }

        foreach (Job job in _jobs.ToArray())
        {
            await job.WaitDoneAsync();
        }

        await FinishAllAsync();
    }

    private async IoTask FinishAllAsync()
    {
        while (_jobs.Count > 0)
        {
            Job job = _jobs[0];
            _jobs.RemoveAt(0);
            await job.FinishAsync();
        }
    }
}
