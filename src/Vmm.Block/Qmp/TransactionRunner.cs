using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>One of several changes that are made together or not at all. Home: main loop.</summary>
internal abstract class TransactionAction
{
    /// <summary>It makes a job, which can end together with the others.</summary>
    public virtual bool IsJob => false;

    /// <summary>Does everything that can fail. Nothing is left of it when it throws, but for what <see cref="CleanAsync"/> ends.</summary>
    /// <param name="transaction">What the jobs of a grouped transaction belong to; null when each is alone.</param>
    public abstract IoTask PrepareAsync(JobTransaction? transaction);

    /// <summary>All are prepared: the change counts.</summary>
    public virtual void Commit()
    {
    }

    /// <summary>Another one could not be prepared: the change is undone.</summary>
    public virtual IoTask AbortAsync() => IoTask.CompletedTask;

    /// <summary>Comes last, however it went.</summary>
    public virtual IoTask CleanAsync() => IoTask.CompletedTask;
}

/// <summary>Makes changes together or not at all. Home: main loop.</summary>
public sealed class TransactionRunner(JobManager jobs)
{
    /// <summary>The jobs.</summary>
    public JobManager Jobs => jobs;

    internal async IoTask RunAsync(params TransactionAction[] actions) => await RunAsync(actions, isGrouped: false);

    internal IoTask RunAsync(IReadOnlyList<TransactionAction> actions, bool isGrouped) => jobs.ChangeAsync(async () =>
    {
        JobTransaction? transaction = isGrouped ? new JobTransaction() : null;
        List<TransactionAction> prepared = [];
        TransactionAction? last = null;
        try
        {
            foreach (TransactionAction action in actions)
            {
                last = action;
                await action.PrepareAsync(transaction);
                prepared.Add(action);
            }
        }
        catch (QapiException)
        {
            // The last one first: each finds what it has left.
            for (int i = prepared.Count - 1; i >= 0; i--)
            {
                await prepared[i].AbortAsync();
            }

            await last!.CleanAsync();
            for (int i = prepared.Count - 1; i >= 0; i--)
            {
                await prepared[i].CleanAsync();
            }

            throw;
        }

        prepared.ForEach(static action => action.Commit());
        for (int i = prepared.Count - 1; i >= 0; i--)
        {
            await prepared[i].CleanAsync();
        }
    });
}
