using System.Numerics;
using Vmm.Block.Backend;
using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Copies of modes of a mirror.</summary>
[QapiEnum]
public enum MirrorCopyMode
{
    /// <summary>Writes are copied afterwards.</summary>
    Background,

    /// <summary>Writes go to the target before they complete.</summary>
    WriteBlocking,
}

/// <summary>Commands that mirror. Home: main loop.</summary>
public sealed class MirrorCommands(JobManager jobs)
{
    private const long DefaultBufferBytes = 16 << 20;
    private const uint MinGranularity = 512;
    private const uint MaxGranularity = 64 << 20;

    /// <summary>Copies a node to another one while it is written.</summary>
    [QmpCommand(
        "blockdev-mirror",
        ArgsType = "sync:s,device:B,target:B,replaces:s?,speed:i?,on-source-error:s?,on-target-error:s?,granularity:i?,buf-size:i?,job-id:s?,filter-node-name:s?,copy-mode:s?,auto-finalize:b?,auto-dismiss:b?",
        AllowPreconfig = true,
        Since = "2.6")]
    public async Task BlockdevMirror(
        MirrorSyncMode sync,
        string device,
        string target,
        string? replaces,
        long? speed,
        BlockdevOnError? onSourceError,
        BlockdevOnError? onTargetError,
        uint? granularity,
        long? bufSize,
        string? jobId,
        string? filterNodeName,
        MirrorCopyMode? copyMode,
        bool? autoFinalize,
        bool? autoDismiss)
    {
        BlockNode source = jobs.Graph.Lookup(device, device);
        if (!source.IsRoot)
        {
            throw new QapiException("Need a root block node");
        }

        BlockNode destination = jobs.Graph.Lookup(target, target);
        if (granularity is { } bytes)
        {
            if (bytes is < MinGranularity or > MaxGranularity)
            {
                throw new QapiException("Parameter 'granularity' expects a value in range [512B, 64MB]");
            }

            if (!BitOperations.IsPow2(bytes))
            {
                throw new QapiException("Parameter 'granularity' expects a power of 2");
            }
        }

        if (sync is MirrorSyncMode.Incremental or MirrorSyncMode.Bitmap)
        {
            throw new QapiException($"Sync mode '{MirrorSyncModeQapi.ToWire(sync)}' not supported");
        }

        if (bufSize < 0)
        {
            throw new QapiException("Invalid parameter 'buf-size'");
        }

        if (source == destination)
        {
            throw new QapiException("Can't mirror node into itself");
        }

        await jobs.Graph.ChangeAsync(async () =>
        {
            JobSettings job = jobs.Settings(jobId, device, autoFinalize, autoDismiss);
            jobs.CheckId(job.Id);
            ImageDescription image = new();
            destination.Driver.DescribeImage(image);
            MirrorSettings settings = new()
            {
                Sync = sync,
                Replaces = replaces,
                Granularity = granularity is null or 0 ? DirtyBitmap.DefaultGranularity(image.ClusterSize) : granularity.Value,
                BufferBytes = bufSize is null or 0 ? DefaultBufferBytes : bufSize.Value,
                IsWriteBlocking = copyMode == MirrorCopyMode.WriteBlocking,
                OnSourceError = onSourceError ?? BlockdevOnError.Report,
                OnTargetError = onTargetError ?? BlockdevOnError.Report,
            };
            await jobs.LaunchAsync(await MirrorJob.CreateAsync(jobs, job, settings, source, destination, filterNodeName), speed);
        });
    }
}
