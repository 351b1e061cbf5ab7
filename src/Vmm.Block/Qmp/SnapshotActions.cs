using Vmm.Block.Drivers;
using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Puts an overlay over a node. Home: main loop.</summary>
internal abstract class OverlayAction(BlockGraph graph) : TransactionAction
{
    private BlockNode? _node;
    private BlockNode? _overlay;
    private bool _isAppended;

    /// <summary>The graph.</summary>
    protected BlockGraph Graph => graph;

    /// <inheritdoc/>
    public sealed override async IoTask PrepareAsync(JobTransaction? transaction)
    {
        BlockNode node = FindNode();
        await node.DrainAsync();
        _node = node;
        node.CheckNotInUse();
        node.CheckNotBacking();
        if (!node.IsReadOnly)
        {
            await node.Loop.SwitchTo();
            int result = await node.FlushAsync();
            await graph.MainLoop.SwitchTo();
            if (result < 0)
            {
                throw new QapiException("An IO error has occurred");
            }
        }

        BlockNode overlay = await OpenOverlayAsync(node);
        _overlay = overlay;
        foreach (BlockEdge edge in overlay.Parents)
        {
            if ((edge.Permissions & BlockPermissions.ConsistentRead) != 0)
            {
                throw new QapiException("The overlay is already in use");
            }
        }

        if (overlay.Driver.IsFilter)
        {
            throw new QapiException("Filters cannot be used as overlays");
        }

        if (overlay.Backing is not null)
        {
            throw new QapiException("The overlay already has a backing image");
        }

        if (!overlay.Driver.SupportsBacking)
        {
            throw new QapiException("The overlay does not support backing images");
        }

        await graph.AppendAsync(overlay, node);
        _isAppended = true;
    }

    /// <inheritdoc/>
    public override async IoTask AbortAsync()
    {
        _isAppended = false;
        await graph.UnappendAsync(_overlay!, _node!);
    }

    /// <inheritdoc/>
    public override async IoTask CleanAsync()
    {
        if (_isAppended)
        {
            try
            {
                // Nobody writes the image below any more.
                await graph.SetReadOnlyAsync(_node!, true);
            }
            catch (QapiException)
            {
                // One that must stay writable does.
            }
        }

        _node?.DrainEnd();
        if (_overlay is not null)
        {
            await graph.CloseIfUnusedAsync(_overlay);
        }
    }

    /// <summary>The node that gets an overlay.</summary>
    protected abstract BlockNode FindNode();

    /// <summary>The overlay.</summary>
    protected abstract IoTask<BlockNode> OpenOverlayAsync(BlockNode node);
}

/// <summary>Makes a node that is there the overlay of another one.</summary>
internal sealed class NodeOverlayAction(BlockGraph graph, BlockdevSnapshot snapshot) : OverlayAction(graph)
{
    /// <inheritdoc/>
    protected override BlockNode FindNode() => Graph.Lookup(snapshot.Node, snapshot.Node);

    /// <inheritdoc/>
    protected override IoTask<BlockNode> OpenOverlayAsync(BlockNode node) => new(Graph.Lookup(snapshot.Overlay, snapshot.Overlay));
}

/// <summary>Makes a file the overlay of a node.</summary>
internal sealed class FileOverlayAction(BlockGraph graph, BlockdevSnapshotSync snapshot) : OverlayAction(graph)
{
    /// <inheritdoc/>
    protected override BlockNode FindNode() => Graph.Lookup(snapshot.Device, snapshot.NodeName);

    /// <inheritdoc/>
    protected override async IoTask<BlockNode> OpenOverlayAsync(BlockNode node)
    {
        if (snapshot is { NodeName: not null, SnapshotNodeName: null })
        {
            throw new QapiException("New overlay node-name missing");
        }

        if (snapshot.SnapshotNodeName is { } name && Graph.TryLookup(name) is not null)
        {
            throw new QapiException("New overlay node-name already in use");
        }

        string format = snapshot.Format ?? "qcow2";
        if (snapshot.Mode != NewImageMode.Existing)
        {
            await ImageMaker.MakeAsync(Graph, snapshot.SnapshotFile, format, node.Length, node.Filename, node.Driver.FormatName);
        }

        QDict options = new() { ["driver"] = format, ["backing"] = QNull.Instance };
        if (snapshot.SnapshotNodeName is not null)
        {
            options["node-name"] = snapshot.SnapshotNodeName;
        }

        return await Graph.OpenImageAsync(snapshot.SnapshotFile, options, node.Options with { IsReadOnly = node.IsReadOnly });
    }
}

/// <summary>Makes a snapshot inside an image.</summary>
internal sealed class InternalSnapshotAction(BlockGraph graph, BlockdevSnapshotInternal snapshot) : TransactionAction
{
    private BlockNode? _node;
    private Qcow2Snapshot? _made;

    /// <inheritdoc/>
    public override async IoTask PrepareAsync(JobTransaction? transaction)
    {
        BlockNode node = graph.Lookup(snapshot.Device, snapshot.Device);
        if (!node.IsRoot)
        {
            throw new QapiException("Need a root block node");
        }

        await node.DrainAsync();
        _node = node;
        node.CheckNotInUse();
        node.CheckNotBacking();
        if (node.IsReadOnly)
        {
            throw new QapiException($"Device '{snapshot.Device}' is read only");
        }

        if (node.SkipFilters.Driver is not Qcow2Driver image)
        {
            throw new QapiException(
                $"Block format '{node.Driver.FormatName}' used by device '{snapshot.Device}' does not support internal snapshots");
        }

        if (snapshot.Name.Length == 0)
        {
            throw new QapiException("Name is empty");
        }

        if (image.Snapshots.Any(s => s.Name == snapshot.Name))
        {
            throw new QapiException($"Snapshot with name '{snapshot.Name}' already exists on device '{snapshot.Device}'");
        }

        const long SecondNs = 1_000_000_000;
        long now = graph.MainLoop.Clocks.NowNs(EventLoop.ClockType.Host);
        long clock = graph.MainLoop.Clocks.NowNs(EventLoop.ClockType.Virtual);
        await node.Loop.SwitchTo();
        try
        {
            _made = await image.CreateSnapshotAsync(new Qcow2Snapshot
            {
                Id = "",
                Name = snapshot.Name,
                Seconds = (uint)(now / SecondNs),
                Nanoseconds = (uint)(now % SecondNs),
                ClockNs = (ulong)Math.Max(clock, 0),
            });
        }
        catch (QapiException e)
        {
            throw new QapiException($"Failed to create snapshot '{snapshot.Name}' on device '{snapshot.Device}': {e.Desc}");
        }
        finally
        {
            await graph.MainLoop.SwitchTo();
        }
    }

    /// <inheritdoc/>
    public override async IoTask AbortAsync()
    {
        await _node!.Loop.SwitchTo();
        try
        {
            await ((Qcow2Driver)_node.SkipFilters.Driver).DeleteSnapshotAsync(_made!.Id);
        }
        finally
        {
            await graph.MainLoop.SwitchTo();
        }
    }

    /// <inheritdoc/>
    public override IoTask CleanAsync()
    {
        _node?.DrainEnd();
        return IoTask.CompletedTask;
    }
}

/// <summary>Fails, so that all the others are undone.</summary>
internal sealed class AbortAction : TransactionAction
{
    /// <inheritdoc/>
    public override bool IsJob => true;

    /// <inheritdoc/>
    public override IoTask PrepareAsync(JobTransaction? transaction) => throw new QapiException("Transaction aborted using Abort action");
}
