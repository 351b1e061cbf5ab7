using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>What a stream is made with.</summary>
/// <param name="Image">The image that gets the contents of those below.</param>
/// <param name="Bottom">The last image whose contents it gets; what is below becomes its backing file.</param>
/// <param name="OnError">Errors of reads and writes.</param>
/// <param name="BackingFile">What the image is to say of its backing file; null for that one's own name.</param>
/// <param name="FilterName">Name of the filter's node; null for a generated one.</param>
public sealed record StreamSettings(BlockNode Image, BlockNode Bottom, BlockdevOnError OnError, string? BackingFile, string? FilterName);

/// <summary>Copies what an image shows of its backing files into the image, and takes them out of the chain. Home: main loop.</summary>
public sealed class StreamJob : CopyLoop
{
    private readonly StreamSettings _stream;
    private readonly BlockNode _image;
    private readonly BlockNode _filter;
    private readonly bool _wasReadOnly;
    private readonly BlockBackend _user;
    private bool _isFrozen;

    private StreamJob(JobManager manager, JobSettings settings, StreamSettings stream, BlockNode filter, bool wasReadOnly)
        : base(manager, JobType.Stream, settings, stream.OnError)
    {
        _stream = stream;
        _image = stream.Image.SkipFilters;
        _filter = filter;
        _wasReadOnly = wasReadOnly;
        _user = new BlockBackend(manager.Graph, "");
    }

    /// <inheritdoc/>
    protected override BlockNode Image => _image;

    /// <summary>Makes a stream and puts its filter above the image. With the graph's <see cref="BlockGraph.Changing"/> held.</summary>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public static async IoTask<StreamJob> CreateAsync(JobManager manager, JobSettings settings, StreamSettings stream)
    {
        BlockGraph graph = manager.Graph;
        BlockGraph.CheckChain(stream.Image, stream.Bottom);
        bool wasReadOnly = stream.Image.IsReadOnly;
        await graph.SetReadOnlyAsync(stream.Image, false);
        StreamJob? job = null;
        try
        {
            BlockNode filter = await graph.InsertFilterAsync(new CopyOnReadDriver(stream.Bottom), stream.FilterName, stream.Image, "file");
            job = new StreamJob(manager, settings, stream, filter, wasReadOnly);
            job.UseChain();
        }
        catch (QapiException)
        {
            if (job is not null)
            {
                await job.CleanAsync();
            }
            else if (wasReadOnly)
            {
                await graph.SetReadOnlyAsync(stream.Image, true);
            }

            throw;
        }

        manager.Add(job);
        return job;
    }

    /// <inheritdoc/>
    protected override IoTask<int> RunAsync() => _image == _stream.Bottom ? new(0) : LoopAsync(_filter.Length);

    /// <inheritdoc/>
    protected override async IoTask<(int Result, bool IsWanted, long Bytes)> LookAsync(long offset, long bytes)
    {
        BlockStatus own = await _image.StatusAsync(offset, bytes, wantZero: false);
        if (own.Result < 0 || (own.Flags & BlockStatusFlags.Allocated) != 0 || _image.Backing is not { } backing || _image == _stream.Bottom)
        {
            return (own.Result, false, own.Bytes);
        }

        BlockStatus below = await backing.Node.StatusAboveAsync(_stream.Bottom.FilteredOrBacking, offset, own.Bytes, wantZero: false);
        bool isWanted = (below.Flags & BlockStatusFlags.Allocated) != 0;

        // Behind the end of the backing file there is nothing to get any more.
        return (below.Result, isWanted, below.Result >= 0 && below.Bytes == 0 ? own.Bytes : below.Bytes);
    }

    /// <inheritdoc/>
    protected override async IoTask<(int Result, bool IsRead)> CopyAsync(long offset, long bytes) =>
        (await _image.CopyUpAsync(offset, bytes), true);

    /// <inheritdoc/>
    protected override async IoTask PrepareAsync()
    {
        BlockGraph graph = Manager.Graph;
        EndChain();
        await graph.RemoveFilterAsync(_filter);
        if (_image.Backing is null)
        {
            return;
        }

        BlockNode? @base = _stream.Bottom.FilteredOrBacking;
        await graph.SetBackingAsync(_image, @base);
        BlockNode? shown = @base?.SkipFilters;
        await graph.ChangeBackingNameAsync(_image, shown is null ? null : _stream.BackingFile ?? shown.Filename, shown?.Driver.FormatName);
    }

    /// <inheritdoc/>
    protected override async IoTask CleanAsync()
    {
        EndChain();
        if (_filter.Children.Count > 0)
        {
            await Manager.Graph.RemoveFilterAsync(_filter);
        }

        if (_wasReadOnly)
        {
            await Manager.Graph.SetReadOnlyAsync(_stream.Image, true);
        }
    }

    private void UseChain()
    {
        const BlockPermissions Kept = BlockPermissions.ConsistentRead | BlockPermissions.WriteUnchanged;
        Use(_filter, "main node", BlockPermissions.None, BlockPermissions.All);
        _user.SetPermissions(BlockPermissions.ConsistentRead, Kept | BlockPermissions.Write);
        _user.Insert(_filter);
        Fill(_stream.Image);
        Use(_stream.Image, "active node", BlockPermissions.None, Kept | BlockPermissions.Write);
        BlockNode? below = _stream.Bottom.FilteredOrBacking;
        for (BlockNode? node = _stream.Image.FilteredOrBacking; node is not null && node != below; node = node.FilteredOrBacking)
        {
            Use(node, "intermediate node", BlockPermissions.None, Kept);
        }

        BlockGraph.FreezeChain(_filter, _stream.Bottom);
        _isFrozen = true;
    }

    private void EndChain()
    {
        _user.Remove();
        EndUses();
        if (_isFrozen)
        {
            _isFrozen = false;
            BlockGraph.UnfreezeChain(_filter, _stream.Bottom);
        }
    }
}
