using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Jobs;

/// <summary>
/// Work on an image that is one step to who watches it: making it, changing its options. It stays until an operator dismisses it.
/// </summary>
/// <param name="manager">The manager.</param>
/// <param name="type">Kind.</param>
/// <param name="id">Id, well formed and unique.</param>
/// <param name="work">The work; runs with the graph's <see cref="Graph.BlockGraph.Changing"/> held.</param>
internal sealed class ImageJob(JobManager manager, JobType type, string id, Func<IoTask> work)
    : Job(manager, type, new JobSettings(id, AutoDismiss: false))
{
    /// <inheritdoc/>
    public override bool IsBlockJob => false;

    /// <inheritdoc/>
    protected override async IoTask<int> RunAsync()
    {
        SetRemaining(1);
        try
        {
            await Manager.Graph.ChangeAsync(work);
        }
        finally
        {
            Advance(1);
        }

        return 0;
    }

    /// <inheritdoc/>
    protected override void Commit()
    {
    }

    /// <inheritdoc/>
    protected override IoTask CleanAsync() => IoTask.CompletedTask;

    /// <inheritdoc/>
    protected override void OnComplete()
    {
    }
}
