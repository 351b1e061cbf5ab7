using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Jobs;

/// <summary>The jobs of the process. Home: main loop.</summary>
public sealed class JobManager(BlockGraph graph, IEventEmitter events)
{
    private readonly List<Job> _jobs = [];

    /// <summary>The jobs, newest first.</summary>
    public IReadOnlyList<Job> Jobs => _jobs;

    /// <summary>The graph.</summary>
    public BlockGraph Graph => graph;

    /// <summary>Where events go.</summary>
    public IEventEmitter Events => events;

    /// <summary>Refuses an id that is malformed or taken.</summary>
    public void CheckId(string? id)
    {
        if (!OptionErrors.IsIdentifier(id))
        {
            throw new QapiException($"Invalid job ID '{id}'");
        }

        if (Find(id!) is not null)
        {
            throw new QapiException($"Job ID '{id}' already in use");
        }
    }

    /// <summary>The settings that commands give: without an id, a job has the name of the back end over which it is made.</summary>
    public JobSettings Settings(string? id, string device, bool? autoFinalize, bool? autoDismiss) =>
        new(id ?? NameOf(device), autoFinalize ?? true, autoDismiss ?? true);

    /// <summary>Starts a job that was made, at a limit.</summary>
    /// <exception cref="QapiException">The limit is no good; the job is gone.</exception>
    public async IoTask LaunchAsync(Job job, long? speed)
    {
        await LimitAsync(job, speed);
        job.Start();
    }

    /// <summary>
    /// Changes the graph for a command that starts jobs. It is done when each of them has gone as far as it can without waiting for anything else: the end
    /// of those that have nothing to do is told before the command is answered.
    /// </summary>
    public async IoTask ChangeAsync(Func<IoTask> change)
    {
        Job[] others = [.. _jobs];
        await graph.ChangeAsync(change);
        while (_jobs.Exists(job => job.IsMoving && !others.Contains(job)))
        {
            await graph.WaitProgressAsync();
        }
    }

    /// <summary>Limits a job that was made and does not run yet.</summary>
    /// <exception cref="QapiException">The limit is no good; the job is gone.</exception>
    public async IoTask LimitAsync(Job job, long? speed)
    {
        try
        {
            job.SetSpeed(speed ?? 0);
        }
        catch (QapiException)
        {
            await job.AbandonAsync();
            throw;
        }
    }

    /// <summary>Enters a job.</summary>
    public void Add(Job job)
    {
        _jobs.Insert(0, job);
        job.SetStatus(JobStatus.Created);
    }

    /// <summary>Ends all jobs by force, newest first, waits until they have ended and forgets them.</summary>
    public async IoTask CancelAllAsync()
    {
        while (_jobs.Find(static job => job.IsStarted) is { } job)
        {
            if (!job.HasEnded && job.Status != JobStatus.Aborting)
            {
                await job.CancelUncheckedAsync(force: true);
            }

            while (!job.HasEnded)
            {
                await graph.WaitProgressAsync();
            }

            if (job.Status == JobStatus.Concluded)
            {
                job.Dismiss();
            }
        }
    }

    /// <summary>The job of that id; null when there is none.</summary>
    public Job? Find(string id) => _jobs.Find(job => job.Id == id);

    private string NameOf(string device)
    {
        if (graph.FindBackend(device) is not null)
        {
            return device;
        }

        foreach (BlockEdge edge in graph.Find(device)?.Parents ?? [])
        {
            if (edge.Parent is BlockBackend { Name.Length: > 0 } backend)
            {
                return backend.Name;
            }
        }

        return "";
    }

    internal void Remove(Job job) => _jobs.Remove(job);
}
