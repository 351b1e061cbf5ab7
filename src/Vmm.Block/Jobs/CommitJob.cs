using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>What a commit of images that nobody writes is made with.</summary>
/// <param name="Active">The image over the whole chain.</param>
/// <param name="Top">The image whose contents, with those between, go to the base.</param>
/// <param name="Base">The backing file, somewhere below.</param>
/// <param name="OnError">Errors of reads and writes.</param>
/// <param name="BackingFile">What the overlay is to say of its backing file; null for the base's own name.</param>
/// <param name="FilterName">Name of the filter's node; null for a generated one.</param>
public sealed record CommitSettings(
    BlockNode Active, BlockNode Top, BlockNode Base, BlockdevOnError OnError, string? BackingFile, string? FilterName);

/// <summary>Copies images of a chain into a backing file and takes them out of the chain. Home: main loop.</summary>
public sealed class CommitJob : CopyLoop
{
    private readonly CommitSettings _commit;
    private readonly BlockNode _filter;
    private readonly bool _wasReadOnly;
    private readonly NativeBuffer _buffer = new(ChunkBytes);
    private readonly BlockBackend _base;
    private readonly BlockBackend _top;
    private bool _isFrozen;

    private CommitJob(JobManager manager, JobSettings settings, CommitSettings commit, BlockNode filter, bool wasReadOnly)
        : base(manager, JobType.Commit, settings, commit.OnError)
    {
        _commit = commit;
        _filter = filter;
        _wasReadOnly = wasReadOnly;
        _base = new BlockBackend(manager.Graph, "");
        _top = new BlockBackend(manager.Graph, "");
    }

    /// <inheritdoc/>
    protected override BlockNode Image => _commit.Top;

    /// <summary>Makes a commit and puts its filter above the top. With the graph's <see cref="BlockGraph.Changing"/> held.</summary>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public static async IoTask<CommitJob> CreateAsync(JobManager manager, JobSettings settings, CommitSettings commit)
    {
        BlockGraph graph = manager.Graph;
        bool wasReadOnly = commit.Base.IsReadOnly;
        await graph.SetReadOnlyAsync(commit.Base, false);
        CommitJob? job = null;
        try
        {
            BlockNode filter = await graph.InsertFilterAsync(new CommitTopDriver(), commit.FilterName, commit.Top);
            job = new CommitJob(manager, settings, commit, filter, wasReadOnly);
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
                await graph.SetReadOnlyAsync(commit.Base, true);
            }

            throw;
        }

        manager.Add(job);
        return job;
    }

    /// <inheritdoc/>
    protected override async IoTask<int> RunAsync()
    {
        if (_commit.Base.Length < _commit.Top.Length)
        {
            await Image.Loop.SwitchTo();
            try
            {
                await _commit.Base.TruncateAsync(_commit.Top.Length);
            }
            finally
            {
                await Manager.Graph.MainLoop.SwitchTo();
            }
        }

        return await LoopAsync(_commit.Top.Length);
    }

    /// <inheritdoc/>
    protected override async IoTask<(int Result, bool IsWanted, long Bytes)> LookAsync(long offset, long bytes)
    {
        BlockStatus status = await _commit.Top.StatusAboveAsync(_commit.Base, offset, bytes, wantZero: false);
        return (status.Result, (status.Flags & BlockStatusFlags.Allocated) != 0, status.Bytes);
    }

    /// <inheritdoc/>
    protected override async IoTask<(int Result, bool IsRead)> CopyAsync(long offset, long bytes)
    {
        IoVectors data = IoVectors.Rent(_buffer.Vector(0, (int)bytes));
        int result = await _commit.Top.ReadAsync(offset, data);
        bool isRead = result < 0;
        if (!isRead)
        {
            result = await _commit.Base.WriteAsync(offset, data);
        }

        data.Return();
        return (result, isRead);
    }

    /// <inheritdoc/>
    protected override async IoTask PrepareAsync()
    {
        BlockGraph graph = Manager.Graph;
        EndChain();
        BlockNode @base = _commit.Base;
        List<BlockNode> overlays = [];
        foreach (BlockEdge edge in _filter.Parents)
        {
            if (edge.ParentNode is { } parent && (edge.Role & ChildRole.Cow) != 0)
            {
                overlays.Add(parent);
            }
        }

        await @base.DrainAsync();
        try
        {
            graph.ReplaceNode(_filter, @base);
            string name = _commit.BackingFile ?? @base.Filename;
            foreach (BlockNode overlay in overlays)
            {
                await graph.ChangeBackingNameAsync(overlay, name, @base.Driver.FormatName);
            }
        }
        finally
        {
            @base.DrainEnd();
        }
    }

    /// <inheritdoc/>
    protected override async IoTask CleanAsync()
    {
        BlockGraph graph = Manager.Graph;
        EndChain();
        if (_filter.Parents.Count > 0)
        {
            await graph.RemoveFilterAsync(_filter);
        }
        else
        {
            await graph.CloseIfUnusedAsync(_filter);
        }

        if (_wasReadOnly)
        {
            await graph.SetReadOnlyAsync(_commit.Base, true);
        }

        _buffer.Dispose();
    }

    private void UseChain()
    {
        Use(_commit.Active, "main node", BlockPermissions.None, BlockPermissions.All);
        const BlockPermissions Written = BlockPermissions.WriteUnchanged | BlockPermissions.Write;
        for (BlockNode? node = _commit.Top; node is not null && node != _commit.Base; node = node.FilteredOrBacking)
        {
            bool showsBase = node.SkipFilters == _commit.Base.SkipFilters;
            Use(node, "intermediate node", BlockPermissions.None, Written | (showsBase ? BlockPermissions.ConsistentRead : 0));
        }

        bool grows = _commit.Base.Length < _commit.Top.Length;
        _base.SetPermissions(
            BlockPermissions.ConsistentRead | BlockPermissions.Write | (grows ? BlockPermissions.Resize : 0),
            BlockPermissions.ConsistentRead | BlockPermissions.WriteUnchanged);
        _base.Insert(_commit.Base);
        _top.Insert(_commit.Top);
        Use(_commit.Base, "base", BlockPermissions.None, BlockPermissions.All);
        Fill(_commit.Base);
        BlockGraph.FreezeChain(_filter, _commit.Base);
        _isFrozen = true;
    }

    private void EndChain()
    {
        _base.Remove();
        _top.Remove();
        EndUses();
        if (_isFrozen)
        {
            _isFrozen = false;
            BlockGraph.UnfreezeChain(_filter, _commit.Base);
        }
    }
}
