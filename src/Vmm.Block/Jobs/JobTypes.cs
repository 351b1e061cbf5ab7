using Vmm.Block.Qmp;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>Kinds of jobs.</summary>
[QapiEnum]
public enum JobType
{
    /// <summary>Copies an image into its backing file.</summary>
    Commit,

    /// <summary>Copies backing files into an image.</summary>
    Stream,

    /// <summary>Copies a node while it is written.</summary>
    Mirror,

    /// <summary>Copies a node as it is at one moment.</summary>
    Backup,

    /// <summary>Makes an image.</summary>
    Create,

    /// <summary>Changes options of an image.</summary>
    Amend,
}

/// <summary>States of a job.</summary>
[QapiEnum]
public enum JobStatus
{
    /// <summary>Not there yet.</summary>
    Undefined,

    /// <summary>Made, not started.</summary>
    Created,

    /// <summary>At work.</summary>
    Running,

    /// <summary>Paused.</summary>
    Paused,

    /// <summary>Done but for the order to complete.</summary>
    Ready,

    /// <summary>Paused while ready.</summary>
    Standby,

    /// <summary>Done, waiting for the others of its transaction.</summary>
    Waiting,

    /// <summary>Done, waiting to be finalized.</summary>
    Pending,

    /// <summary>Failed or cancelled, cleaning up.</summary>
    Aborting,

    /// <summary>At its end, waiting to be dismissed.</summary>
    Concluded,

    /// <summary>Gone.</summary>
    Null,
}

/// <summary>What an operator may ask of a job.</summary>
[QapiEnum]
public enum JobVerb
{
    /// <summary>End without result.</summary>
    Cancel,

    /// <summary>Stop for a while.</summary>
    Pause,

    /// <summary>Go on.</summary>
    Resume,

    /// <summary>Limit the rate.</summary>
    SetSpeed,

    /// <summary>Complete a ready job.</summary>
    Complete,

    /// <summary>Make the result permanent.</summary>
    Finalize,

    /// <summary>Forget the job.</summary>
    Dismiss,
}

/// <summary>What a job does about an error.</summary>
[QapiEnum]
public enum BlockdevOnError
{
    /// <summary>Fail.</summary>
    Report,

    /// <summary>Go on and try again later.</summary>
    Ignore,

    /// <summary>Pause when the host has no space, else fail.</summary>
    Enospc,

    /// <summary>Pause.</summary>
    Stop,

    /// <summary>As the device does.</summary>
    Auto,
}

/// <summary>What is copied.</summary>
[QapiEnum]
public enum MirrorSyncMode
{
    /// <summary>What the topmost image has.</summary>
    Top,

    /// <summary>Everything.</summary>
    Full,

    /// <summary>New writes only.</summary>
    None,

    /// <summary>What a bitmap has.</summary>
    Incremental,

    /// <summary>What a bitmap has.</summary>
    Bitmap,
}

/// <summary>A job.</summary>
[QapiStruct]
public sealed partial record JobInfo
{
    /// <summary>Id.</summary>
    public required string Id { get; init; }

    /// <summary>Kind.</summary>
    public required JobType Type { get; init; }

    /// <summary>State.</summary>
    public required JobStatus Status { get; init; }

    /// <summary>Work done; the unit is the job's own.</summary>
    public required long CurrentProgress { get; init; }

    /// <summary>Work in all, as known now.</summary>
    public required long TotalProgress { get; init; }

    /// <summary>Why it failed.</summary>
    public string? Error { get; init; }
}

/// <summary>A job, as block jobs are shown.</summary>
[QapiStruct]
public sealed partial record BlockJobInfo
{
    /// <summary>Kind.</summary>
    public required string Type { get; init; }

    /// <summary>Id.</summary>
    public required string Device { get; init; }

    /// <summary>Bytes in all, as known now.</summary>
    public required long Len { get; init; }

    /// <summary>Bytes done.</summary>
    public required long Offset { get; init; }

    /// <summary>Not waiting.</summary>
    public required bool Busy { get; init; }

    /// <summary>Paused, or about to be.</summary>
    public required bool Paused { get; init; }

    /// <summary>Bytes per second; 0 for no limit.</summary>
    public required long Speed { get; init; }

    /// <summary>Result of its requests.</summary>
    public required BlockDeviceIoStatus IoStatus { get; init; }

    /// <summary>It can be completed.</summary>
    public required bool Ready { get; init; }

    /// <summary>State.</summary>
    public required JobStatus Status { get; init; }

    /// <summary>It makes its result permanent by itself.</summary>
    public required bool AutoFinalize { get; init; }

    /// <summary>It goes by itself.</summary>
    public required bool AutoDismiss { get; init; }

    /// <summary>Why it failed.</summary>
    public string? Error { get; init; }
}

/// <summary>A job has another state.</summary>
/// <param name="Id">Id.</param>
/// <param name="Status">State.</param>
[QmpEvent("JOB_STATUS_CHANGE")]
public sealed partial record JobStatusChangeEvent(string Id, JobStatus Status);

/// <summary>A job has ended.</summary>
/// <param name="Type">Kind.</param>
/// <param name="Device">Id.</param>
/// <param name="Len">Bytes in all.</param>
/// <param name="Offset">Bytes done.</param>
/// <param name="Speed">Limit.</param>
/// <param name="Error">Why it failed.</param>
[QmpEvent("BLOCK_JOB_COMPLETED")]
public sealed partial record BlockJobCompletedEvent(JobType Type, string Device, long Len, long Offset, long Speed, string? Error);

/// <summary>A job was cancelled.</summary>
/// <param name="Type">Kind.</param>
/// <param name="Device">Id.</param>
/// <param name="Len">Bytes in all.</param>
/// <param name="Offset">Bytes done.</param>
/// <param name="Speed">Limit.</param>
[QmpEvent("BLOCK_JOB_CANCELLED")]
public sealed partial record BlockJobCancelledEvent(JobType Type, string Device, long Len, long Offset, long Speed);

/// <summary>A job can be completed.</summary>
/// <param name="Type">Kind.</param>
/// <param name="Device">Id.</param>
/// <param name="Len">Bytes in all.</param>
/// <param name="Offset">Bytes done.</param>
/// <param name="Speed">Limit.</param>
[QmpEvent("BLOCK_JOB_READY")]
public sealed partial record BlockJobReadyEvent(JobType Type, string Device, long Len, long Offset, long Speed);

/// <summary>A job waits to be finalized.</summary>
/// <param name="Type">Kind.</param>
/// <param name="Id">Id.</param>
[QmpEvent("BLOCK_JOB_PENDING")]
public sealed partial record BlockJobPendingEvent(JobType Type, string Id);

/// <summary>Direction of a failed request.</summary>
[QapiEnum]
public enum IoOperationType
{
    /// <summary>Read.</summary>
    Read,

    /// <summary>Write.</summary>
    Write,
}

/// <summary>What is done about a failed request.</summary>
[QapiEnum]
[QapiName("BlockErrorAction")]
public enum JobErrorAction
{
    /// <summary>Nothing.</summary>
    Ignore,

    /// <summary>It is reported.</summary>
    Report,

    /// <summary>The job or machine stops.</summary>
    Stop,
}

/// <summary>A request of a job failed.</summary>
/// <param name="Device">Id.</param>
/// <param name="Operation">Direction.</param>
/// <param name="Action">What is done.</param>
[QmpEvent("BLOCK_JOB_ERROR")]
public sealed partial record BlockJobErrorEvent(string Device, IoOperationType Operation, JobErrorAction Action);
