using System.Numerics;
using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;
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
        string? jobId,
        string device,
        string target,
        string? replaces,
        MirrorSyncMode sync,
        long? speed,
        uint? granularity,
        long? bufSize,
        BlockdevOnError? onSourceError,
        BlockdevOnError? onTargetError,
        string? filterNodeName,
        MirrorCopyMode? copyMode,
        bool? autoFinalize,
        bool? autoDismiss)
    {
        BlockNode source = FindSource(device);
        BlockNode destination = jobs.Graph.Lookup(target, target);
        MirrorRequest request = new()
        {
            Device = device,
            Sync = sync,
            Replaces = replaces,
            Speed = speed,
            OnSourceError = onSourceError,
            OnTargetError = onTargetError,
            Granularity = granularity,
            BufSize = bufSize,
            JobId = jobId,
            FilterNodeName = filterNodeName,
            CopyMode = copyMode,
            ClearsTarget = sync == MirrorSyncMode.Full,
            AutoFinalize = autoFinalize,
            AutoDismiss = autoDismiss,
        };
        await jobs.ChangeAsync(() => StartAsync(request, source, destination, null));
    }

    /// <summary>Copies a node to a file while it is written.</summary>
    [QmpCommand(
        "drive-mirror",
        ArgsType = "sync:s,device:B,target:s,speed:i?,mode:s?,format:s?,node-name:s?,replaces:s?,on-source-error:s?,on-target-error:s?,unmap:b?,granularity:i?,buf-size:i?,job-id:s?,copy-mode:s?,auto-finalize:b?,auto-dismiss:b?",
        AllowPreconfig = true,
        Since = "1.3")]
    public async Task DriveMirror(
        string? jobId,
        string device,
        string target,
        string? format,
        string? nodeName,
        string? replaces,
        MirrorSyncMode sync,
        NewImageMode? mode,
        long? speed,
        uint? granularity,
        long? bufSize,
        BlockdevOnError? onSourceError,
        BlockdevOnError? onTargetError,
        bool? unmap,
        MirrorCopyMode? copyMode,
        bool? autoFinalize,
        bool? autoDismiss) => await jobs.ChangeAsync(async () =>
    {
        BlockNode source = FindSource(device);
        source.CheckNotInUse();
        BlockNode? below = sync == MirrorSyncMode.None ? source : source.SkipFilters.Backing?.Node;
        MirrorSyncMode copied = sync == MirrorSyncMode.Top && below is null ? MirrorSyncMode.Full : sync;
        if (replaces is not null && nodeName is null)
        {
            throw new QapiException("a node-name must be provided when replacing a named node of the graph");
        }

        bool isMade = mode != NewImageMode.Existing;
        string? made = format ?? (isMade ? source.SkipFilters.Driver.FormatName : null);
        if (isMade)
        {
            BlockNode? named = copied == MirrorSyncMode.Full ? null : below?.SkipImplicit;
            await ImageMaker.MakeAsync(jobs.Graph, target, made!, source.Length, named?.Filename, named?.Driver.FormatName);
        }

        BlockNode destination = await ImageMaker.OpenAsync(jobs.Graph, target, made, nodeName, hasBacking: false, source, isSparse: false);
        MirrorRequest request = new()
        {
            Device = device,
            Sync = copied,
            Replaces = replaces,
            Speed = speed,
            OnSourceError = onSourceError,
            OnTargetError = onTargetError,
            Granularity = granularity,
            BufSize = bufSize,
            JobId = jobId,
            CopyMode = copyMode,
            ClearsTarget = copied == MirrorSyncMode.Full && (!isMade || !destination.Driver.HasZeroInit || destination.Backing is not null),
            Unmap = unmap,
            AutoFinalize = autoFinalize,
            AutoDismiss = autoDismiss,
        };
        try
        {
            await StartAsync(request, source, destination, () => CompleteTargetAsync(destination, isMade, copied == MirrorSyncMode.Full ? null : below));
        }
        catch (QapiException)
        {
            await jobs.Graph.CloseIfUnusedAsync(destination);
            throw;
        }
    });

    private BlockNode FindSource(string device)
    {
        BlockNode source = jobs.Graph.Lookup(device, device);
        return source.IsRoot ? source : throw new QapiException("Need a root block node");
    }

    // The target was opened without a backing file, as copies come from the source: it gets one when it takes the source's place.
    private async IoTask CompleteTargetAsync(BlockNode target, bool isMade, BlockNode? backing)
    {
        BlockNode image = target.SkipFilters;
        if (!image.Driver.SupportsBacking || image.Backing is not null)
        {
            return;
        }

        if (isMade)
        {
            await jobs.Graph.SetBackingAsync(image, backing);
            return;
        }

        ImageDescription description = new();
        image.Driver.DescribeImage(description);
        await image.DrainAsync();
        try
        {
            await jobs.Graph.OpenBackingAsync(image, description.BackingFile, description.BackingFormat);
        }
        finally
        {
            image.DrainEnd();
        }
    }

    // Whoever uses the node that goes must see at the pivot what it has seen before: the node has to be the source, or what filters show of it.
    private void CheckReplaced(BlockNode source, string name)
    {
        BlockNode replaced = jobs.Graph.Find(name) ?? throw new QapiException($"Failed to find node with node-name='{name}'");
        replaced.CheckNotInUse();
        BlockNode? at = source;
        while (at is not null && at != replaced)
        {
            at = at.Driver is FilterDriver and not RawDriver ? at.Primary?.Node : null;
        }

        if (at is null)
        {
            throw new QapiException($"Cannot replace '{name}' by a node mirrored from '{source.Name}', because it cannot be guaranteed that doing so would not lead to an abrupt change of visible data");
        }

        if (replaced.Length != source.Length)
        {
            throw new QapiException("cannot replace image with a mirror image of different size");
        }
    }

    private async IoTask StartAsync(MirrorRequest request, BlockNode source, BlockNode destination, Func<IoTask>? beforePivot)
    {
        if (request.Granularity is { } bytes)
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

        source.CheckNotInUse();
        source.CheckNotBacking();
        destination.CheckNotInUse();
        destination.CheckNotBacking();
        if (request.Replaces is { } replaces)
        {
            CheckReplaced(source, replaces);
        }

        if (request.Sync is MirrorSyncMode.Incremental or MirrorSyncMode.Bitmap)
        {
            throw new QapiException($"Sync mode '{MirrorSyncModeQapi.ToWire(request.Sync)}' not supported");
        }

        if (request.BufSize < 0)
        {
            throw new QapiException("Invalid parameter 'buf-size'");
        }

        if (source == destination)
        {
            throw new QapiException("Can't mirror node into itself");
        }

        JobSettings job = jobs.Settings(request.JobId, request.Device, request.AutoFinalize, request.AutoDismiss);
        jobs.CheckId(job.Id);
        MirrorSettings settings = new()
        {
            Sync = request.Sync,
            Replaces = request.Replaces,
            Granularity = request.Granularity is null or 0
                ? DirtyBitmap.DefaultGranularity(destination.Driver.ClusterBytes)
                : request.Granularity.Value,
            BufferBytes = request.BufSize is null or 0 ? DefaultBufferBytes : request.BufSize.Value,
            IsWriteBlocking = request.CopyMode == MirrorCopyMode.WriteBlocking,
            ClearsTarget = request.ClearsTarget,
            Unmaps = request.Unmap ?? true,
            BeforePivot = beforePivot,
            OnSourceError = request.OnSourceError ?? BlockdevOnError.Report,
            OnTargetError = request.OnTargetError ?? BlockdevOnError.Report,
        };
        await jobs.LaunchAsync(await MirrorJob.CreateAsync(jobs, job, settings, source, destination, request.FilterNodeName), request.Speed);
    }

    /// <summary>What the commands that mirror have in common.</summary>
    private sealed record MirrorRequest
    {
        public required string Device { get; init; }

        public required MirrorSyncMode Sync { get; init; }

        public string? Replaces { get; init; }

        public long? Speed { get; init; }

        public BlockdevOnError? OnSourceError { get; init; }

        public BlockdevOnError? OnTargetError { get; init; }

        public uint? Granularity { get; init; }

        public long? BufSize { get; init; }

        public string? JobId { get; init; }

        public string? FilterNodeName { get; init; }

        public MirrorCopyMode? CopyMode { get; init; }

        public bool ClearsTarget { get; init; }

        public bool? Unmap { get; init; }

        public bool? AutoFinalize { get; init; }

        public bool? AutoDismiss { get; init; }
    }
}
