using Vmm.Block.Jobs;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands over jobs, in their two spellings. Home: main loop.</summary>
public sealed class JobCommands(JobManager jobs)
{
    /// <summary>All jobs.</summary>
    [QmpCommand("query-jobs", Since = "3.0")]
    public IReadOnlyList<JobInfo> QueryJobs() => [.. jobs.Jobs.Select(static job => job.Info)];

    /// <summary>All jobs over nodes.</summary>
    [QmpCommand("query-block-jobs", AllowPreconfig = true, Since = "1.1")]
    public IReadOnlyList<BlockJobInfo> QueryBlockJobs() => [.. jobs.Jobs.Where(static job => job.IsBlockJob).Select(static job => job.BlockInfo)];

    /// <summary>Pauses a job.</summary>
    [QmpCommand("job-pause", ArgsType = "id:s", Since = "3.0")]
    public void Pause(string id) => Find(id).UserPause();

    /// <summary>Lets a job go on.</summary>
    [QmpCommand("job-resume", ArgsType = "id:s", Since = "3.0")]
    public void Resume(string id) => Find(id).UserResume();

    /// <summary>Ends a job.</summary>
    [QmpCommand("job-cancel", ArgsType = "id:s", Since = "3.0")]
    public async Task Cancel(string id) => await Find(id).CancelAsync(force: true);

    /// <summary>Completes a ready job.</summary>
    [QmpCommand("job-complete", ArgsType = "id:s", Since = "3.0")]
    public void Complete(string id) => Find(id).Complete();

    /// <summary>Makes the result of a job permanent.</summary>
    [QmpCommand("job-finalize", ArgsType = "id:s", Since = "3.0")]
    public async Task FinalizeJob(string id) => await Find(id).FinalizeByUserAsync();

    /// <summary>Forgets a job.</summary>
    [QmpCommand("job-dismiss", ArgsType = "id:s", Since = "3.0")]
    public void Dismiss(string id) => Find(id).Dismiss();

    /// <summary>Limits the rate of a job.</summary>
    [QmpCommand("block-job-set-speed", ArgsType = "device:B,speed:o", AllowPreconfig = true, Since = "1.1")]
    public void BlockSetSpeed(string device, long speed) => FindBlock(device).SetSpeed(speed);

    /// <summary>Ends a job; a ready one with a consistent result unless it is forced.</summary>
    [QmpCommand("block-job-cancel", ArgsType = "device:B,force:b?", AllowPreconfig = true, Since = "1.1")]
    public async Task BlockCancel(string device, bool? force)
    {
        Job job = FindBlock(device);
        if (job.IsPausing && job.IsUserPaused && !(force ?? false))
        {
            throw new QapiException($"The block job for device '{device}' is currently paused");
        }

        await job.CancelAsync(force ?? false);
    }

    /// <summary>Pauses a job.</summary>
    [QmpCommand("block-job-pause", ArgsType = "device:B", AllowPreconfig = true, Since = "1.3")]
    public void BlockPause(string device) => FindBlock(device).UserPause();

    /// <summary>Lets a job go on.</summary>
    [QmpCommand("block-job-resume", ArgsType = "device:B", AllowPreconfig = true, Since = "1.3")]
    public void BlockResume(string device) => FindBlock(device).UserResume();

    /// <summary>Completes a ready job.</summary>
    [QmpCommand("block-job-complete", ArgsType = "device:B", AllowPreconfig = true, Since = "1.3")]
    public void BlockComplete(string device) => FindBlock(device).Complete();

    /// <summary>Makes the result of a job permanent.</summary>
    [QmpCommand("block-job-finalize", ArgsType = "id:s", AllowPreconfig = true, Since = "2.12")]
    public async Task BlockFinalize(string id) => await FindBlock(id).FinalizeByUserAsync();

    /// <summary>Forgets a job.</summary>
    [QmpCommand("block-job-dismiss", ArgsType = "id:s", AllowPreconfig = true, Since = "2.12")]
    public void BlockDismiss(string id) => FindBlock(id).Dismiss();

    private Job Find(string id) => jobs.Find(id) ?? throw new QapiException("Job not found");

    private Job FindBlock(string id) =>
        jobs.Find(id) is { IsBlockJob: true } job ? job : throw new QapiException(QapiErrorClass.DeviceNotActive, $"Block job '{id}' not found");
}
