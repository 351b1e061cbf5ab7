using Vmm.Block.Bitmaps;
using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands that shorten chains of backing files. Home: main loop.</summary>
public sealed class ChainCommands(JobManager jobs)
{
    private const long CommitBufferBytes = 16 << 20;

    /// <summary>Copies images into a backing file.</summary>
    [QmpCommand(
        "block-commit",
        ArgsType = "device:B,base:s?,top:s?,backing-file:s?,speed:o?,job-id:s?,base-node:s?,top-node:s?,on-error:s?,filter-node-name:s?,auto-finalize:b?,auto-dismiss:b?",
        AllowPreconfig = true,
        Since = "1.3")]
    public async Task BlockCommit(
        string device,
        [QapiFeature("deprecated")] string? @base,
        [QapiFeature("deprecated")] string? top,
        string? backingFile,
        long? speed,
        string? jobId,
        string? baseNode,
        string? topNode,
        BlockdevOnError? onError,
        string? filterNodeName,
        bool? autoFinalize,
        bool? autoDismiss) => await jobs.ChangeAsync(async () =>
    {
        BlockNode active = FindRoot(device);
        active.CheckNotInUse();
        BlockNode upper = FindTop(active, top, topNode);
        BlockNode lower = FindBase(upper, @base, baseNode);
        for (BlockNode? node = upper; node is not null && node != lower; node = node.FilteredOrBacking)
        {
            node.CheckNotInUse();
        }

        if (upper == lower)
        {
            throw new QapiException("cannot commit an image into itself");
        }

        JobSettings settings = jobs.Settings(jobId, device, autoFinalize, autoDismiss);
        BlockPermissions written = upper.Parents.Aggregate(BlockPermissions.None, static (all, edge) => all | edge.Permissions);
        bool isActive = upper.SkipFilters == active.SkipFilters;
        if (isActive || (written & BlockPermissions.Write) != 0)
        {
            if (backingFile is not null)
            {
                throw new QapiException(isActive
                    ? "'backing-file' specified, but 'top' is the active layer"
                    : "'backing-file' specified, but 'top' has a writer on it");
            }

            jobs.CheckId(settings.Id);
            bool wasReadOnly = lower.IsReadOnly;
            await jobs.Graph.SetReadOnlyAsync(lower, false);
            MirrorSettings mirror = new()
            {
                Sync = MirrorSyncMode.Top,
                IsCommit = true,
                MakesTargetReadOnly = wasReadOnly,
                Granularity = DirtyBitmap.DefaultGranularity(lower.Driver.ClusterBytes),
                BufferBytes = CommitBufferBytes,
                OnSourceError = onError ?? BlockdevOnError.Report,
                OnTargetError = onError ?? BlockdevOnError.Report,
            };
            try
            {
                await jobs.LaunchAsync(await MirrorJob.CreateAsync(jobs, settings, mirror, upper, lower, filterNodeName), speed);
            }
            catch (QapiException) when (wasReadOnly)
            {
                await jobs.Graph.SetReadOnlyAsync(lower, true);
                throw;
            }

            return;
        }

        BlockGraph.FindOverlay(active, upper)?.CheckNotInUse();
        jobs.CheckId(settings.Id);
        CommitSettings commit = new(active, upper, lower, onError ?? BlockdevOnError.Report, backingFile, filterNodeName);
        await jobs.LaunchAsync(await CommitJob.CreateAsync(jobs, settings, commit), speed);
    });

    /// <summary>Copies backing files into an image.</summary>
    [QmpCommand(
        "block-stream",
        ArgsType = "device:B,base:s?,speed:o?,backing-file:s?,on-error:s?,job-id:s?,base-node:s?,bottom:s?,filter-node-name:s?,auto-finalize:b?,auto-dismiss:b?",
        AllowPreconfig = true,
        Since = "1.1")]
    public async Task BlockStream(
        string device,
        string? @base,
        long? speed,
        string? backingFile,
        BlockdevOnError? onError,
        string? jobId,
        string? baseNode,
        string? bottom,
        string? filterNodeName,
        bool? autoFinalize,
        bool? autoDismiss) => await jobs.ChangeAsync(async () =>
    {
        RefuseBoth(@base, baseNode, "base", "base-node");
        RefuseBoth(@base, bottom, "base", "bottom");
        RefuseBoth(bottom, baseNode, "bottom", "base-node");
        BlockNode image = jobs.Graph.Lookup(device, device);
        BlockNode? below = @base is not null ? BlockGraph.FindBackingImage(image, @base) ?? throw NotInChain(@base)
            : baseNode is not null ? FindBelow(image, baseNode, device)
            : null;
        BlockNode last = bottom is not null ? FindBottom(image, bottom, device) : LastAbove(image, below);
        for (BlockNode? node = image; node is not null && node != last.FilteredOrBacking; node = node.FilteredOrBacking)
        {
            node.CheckNotInUse();
        }

        // The name is of the base: what is below a bottom has none.
        if (below is null && backingFile is not null)
        {
            throw new QapiException("backing file specified, but streaming the entire chain");
        }

        JobSettings settings = jobs.Settings(jobId, device, autoFinalize, autoDismiss);
        jobs.CheckId(settings.Id);
        StreamSettings stream = new(image, last, onError ?? BlockdevOnError.Report, backingFile, filterNodeName);
        await jobs.LaunchAsync(await StreamJob.CreateAsync(jobs, settings, stream), speed);
    });

    /// <summary>Has an image say another name of its backing file.</summary>
    [QmpCommand("change-backing-file", ArgsType = "device:s,image-node-name:s,backing-file:s", AllowPreconfig = true, Since = "2.1")]
    public async Task ChangeBackingFile(string device, string imageNodeName, string backingFile) => await jobs.Graph.ChangeAsync(async () =>
    {
        BlockNode root = jobs.Graph.Lookup(device, device);
        if (!root.IsRoot)
        {
            throw new QapiException("Need a root block node");
        }

        BlockNode image = jobs.Graph.Lookup(null, imageNodeName);
        if (image.Backing is null)
        {
            throw new QapiException("not allowing backing file change on an image without a backing file");
        }

        if (!BlockGraph.ChainContains(root, image))
        {
            throw new QapiException($"'{device}' and image file are not in the same chain");
        }

        root.CheckNotInUse();
        await jobs.Graph.ChangeBackingNameAsync(
            image, backingFile, image.Backing.Node.Driver.FormatName, $"Could not change backing file to '{backingFile}'");
    });

    private static QapiException NotInChain(string name) => new($"Can't find '{name}' in the backing chain");

    private static void RefuseBoth(string? a, string? b, string nameOfA, string nameOfB)
    {
        if (a is not null && b is not null)
        {
            throw new QapiException($"'{nameOfA}' and '{nameOfB}' cannot be specified at the same time");
        }
    }

    // The last node that is not the base nor a filter of it.
    private static BlockNode LastAbove(BlockNode image, BlockNode? below)
    {
        BlockNode last = image;
        for (BlockNode? node = image; node is not null && node != below; node = node.FilteredOrBacking)
        {
            if (!node.Driver.IsFilter)
            {
                last = node;
            }
        }

        return last;
    }

    private BlockNode FindRoot(string device)
    {
        // A drive without a medium is none for it.
        BlockNode node = jobs.Graph.TryLookup(device) ?? throw QapiException.DeviceNotFound(device);
        return node.IsRoot ? node : throw new QapiException("Need a root block node");
    }

    private BlockNode FindTop(BlockNode active, string? name, string? node)
    {
        if (name is not null && node is not null)
        {
            throw new QapiException("'top-node' and 'top' are mutually exclusive");
        }

        if (node is not null)
        {
            BlockNode top = jobs.Graph.Lookup(null, node);
            return BlockGraph.ChainContains(active, top) ? top : throw new QapiException($"'{node}' is not in this backing file chain");
        }

        return name is null || name == active.Filename
            ? active
            : BlockGraph.FindBackingImage(active, name) ?? throw new QapiException($"Top image file {name} not found");
    }

    private BlockNode FindBase(BlockNode top, string? name, string? node)
    {
        if (name is not null && node is not null)
        {
            throw new QapiException("'base-node' and 'base' are mutually exclusive");
        }

        if (node is not null)
        {
            BlockNode found = jobs.Graph.Lookup(null, node);
            return BlockGraph.ChainContains(top, found) ? found : throw new QapiException($"'{node}' is not in this backing file chain");
        }

        if (name is not null)
        {
            return BlockGraph.FindBackingImage(top, name) ?? throw NotInChain(name);
        }

        BlockNode last = top.SkipFilters;
        while (last.Backing is { } backing)
        {
            last = backing.Node.SkipFilters;
        }

        return last;
    }

    private BlockNode FindBelow(BlockNode image, string name, string device)
    {
        BlockNode node = jobs.Graph.Lookup(null, name);
        return node != image && BlockGraph.ChainContains(image, node)
            ? node
            : throw new QapiException($"Node '{name}' is not a backing image of '{device}'");
    }

    private BlockNode FindBottom(BlockNode image, string name, string device)
    {
        BlockNode node = jobs.Graph.Lookup(null, name);
        if (node.Driver.IsFilter)
        {
            throw new QapiException($"Node '{name}' is a filter, use a non-filter node as 'bottom'");
        }

        return BlockGraph.ChainContains(image, node)
            ? node
            : throw new QapiException($"Node '{name}' is not in a chain starting from '{device}'");
    }
}
