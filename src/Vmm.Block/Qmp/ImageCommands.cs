using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Options;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands that make and change images. Home: main loop.</summary>
public sealed class ImageCommands(JobManager jobs)
{
    /// <summary>Makes an image, as a job.</summary>
    [QmpCommand("blockdev-create", ArgsType = "job-id:s,options:q", AllowPreconfig = true, Since = "3.0")]
    public void BlockdevCreate(string jobId, BlockdevCreateOptions options)
    {
        BlockDriverInfo driver = jobs.Graph.DriverRegistry.Find(options.Driver);
        Func<BlockGraph, BlockdevCreateOptions, EventLoop.Tasks.IoTask> create =
            driver.CreateImage ?? throw new QapiException("Driver does not support blockdev-create");
        Start(JobType.Create, jobId, () => create(jobs.Graph, options));
    }

    /// <summary>Changes options of an image that is open, as a job.</summary>
    [QapiFeature("unstable")]
    [QmpCommand("x-blockdev-amend", ArgsType = "job-id:s,node-name:s,options:q,force:b?", AllowPreconfig = true, Since = "5.1")]
    public void BlockdevAmend(string jobId, string nodeName, BlockdevAmendOptions options, bool? force)
    {
        BlockNode node = jobs.Graph.Lookup(null, nodeName);
        if (node.Driver.FormatName != options.Driver.ToWire())
        {
            throw new QapiException("x-blockdev-amend doesn't support changing the block driver");
        }

        if (!jobs.Graph.DriverRegistry.Find(options.Driver).CanAmend)
        {
            throw new QapiException("Driver does not support x-blockdev-amend");
        }

        Start(JobType.Amend, jobId, () => node.Driver.AmendAsync(options, force ?? false));
    }

    private void Start(JobType type, string id, Func<EventLoop.Tasks.IoTask> work)
    {
        jobs.CheckId(id);
        ImageJob job = new(jobs, type, id, work);
        jobs.Add(job);
        job.Start();
    }
}
