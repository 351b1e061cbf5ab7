using Vmm.Block.Graph;
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

    /// <summary>Enters a job.</summary>
    public void Add(Job job)
    {
        _jobs.Insert(0, job);
        job.SetStatus(JobStatus.Created);
    }

    /// <summary>The job of that id; null when there is none.</summary>
    public Job? Find(string id) => _jobs.Find(job => job.Id == id);

    internal void Remove(Job job) => _jobs.Remove(job);
}
