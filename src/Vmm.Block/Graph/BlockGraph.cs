using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Graph;

/// <summary>
/// All nodes of the process and the operations that change their graph. Home: main loop; operations that wait take
/// <see cref="Changing"/> first, so that each of them sees the graph that the one before has left.
/// </summary>
public sealed partial class BlockGraph
{
    private const int MaxNameLength = 31;

    private readonly Dictionary<string, BlockNode> _nodes = new(StringComparer.Ordinal);
    private readonly List<BlockNode> _order = [];
    private readonly HashSet<BlockNode> _monitorOwned = [];
    private readonly HashSet<BlockNode> _closing = [];
    private readonly LoopWaitQueue _progress = new();
    private readonly Action _wakeProgress;
    private int _progressWanted;
    private int _generated;
    private int _backends;

    /// <summary>An empty graph.</summary>
    public BlockGraph(EventLoop.EventLoop mainLoop, BlockDriverRegistry drivers)
    {
        MainLoop = mainLoop;
        DriverRegistry = drivers;
        _wakeProgress = _progress.WakeAll;
    }

    /// <summary>The main loop.</summary>
    public EventLoop.EventLoop MainLoop { get; }

    /// <summary>The drivers that there are.</summary>
    public BlockDriverRegistry DriverRegistry { get; }

    /// <summary>Held while an operator's request changes the graph.</summary>
    public LoopMutex Changing { get; } = new();

    /// <summary>The nodes, oldest first.</summary>
    public IReadOnlyList<BlockNode> Nodes => _order;

    /// <summary>A write passed the threshold of a node: node, threshold, bytes above. Any loop.</summary>
    public Action<BlockNode, long, long>? ThresholdExceeded { get; set; }

    /// <summary>The back end of a name, which nodes cannot have then; null when there is none.</summary>
    public Func<string, BlockBackend?> FindBackend { get; set; } = static _ => null;

    /// <summary>A test filter has found a difference, which ends the process by default.</summary>
    public Action<string> OnMismatch { get; set; } = static text =>
    {
        Interop.StdIo.Error.Write(text);
        Interop.Libc.ExitNow(1);
    };

    /// <summary>The number of a new back end: later ones have higher numbers.</summary>
    internal int NumberBackend() => _backends++;

    /// <summary>The node of that name; null when there is none.</summary>
    public BlockNode? Find(string name) => _nodes.GetValueOrDefault(name);

    /// <summary>The node that the name of a back end, or else that of a node, stands for.</summary>
    /// <param name="device">Name of a back end; null for none.</param>
    /// <param name="node">Name of a node; null for none.</param>
    /// <exception cref="QapiException">There is no such node, or the back end has no medium.</exception>
    public BlockNode Lookup(string? device, string? node)
    {
        if (device is not null && FindBackend(device) is { } backend)
        {
            return backend.Root ?? throw new QapiException($"Device '{device}' has no medium");
        }

        return (node is null ? null : Find(node)) ?? throw new QapiException($"Cannot find device='{device}' nor node-name='{node}'");
    }

    /// <summary>As <see cref="Lookup"/> for one name that may be either; null when there is no such node.</summary>
    public BlockNode? TryLookup(string name) => FindBackend(name) is { } backend ? backend.Root : Find(name);

    /// <summary>True for a node that an operator has added and not deleted.</summary>
    public bool IsMonitorOwned(BlockNode node) => _monitorOwned.Contains(node);

    /// <summary>The operator's hold on a node that he has added.</summary>
    public void AddMonitorOwned(BlockNode node) => _monitorOwned.Add(node);

    /// <summary>Lets go of a node that an operator deletes; it is closed when nobody else uses it.</summary>
    public async IoTask DeleteAsync(BlockNode node)
    {
        if (node.Parents.Count > 0)
        {
            throw new QapiException($"Block device {node.Name} is in use");
        }

        _monitorOwned.Remove(node);
        await CloseIfUnusedAsync(node);
    }

    /// <summary>Makes a node a child of a user.</summary>
    /// <exception cref="QapiException">Permissions conflict; nothing has changed.</exception>
    public BlockEdge Attach(
        IBlockParent parent, BlockNode node, string name, ChildRole role, BlockPermissions needed, BlockPermissions shared)
    {
        MainLoop.AssertOnHomeLoop();
        BlockEdge edge = new(name, parent, node, role) { Permissions = needed, Shared = shared };
        if (edge.ParentNode is { } user)
        {
            ShareLoop(user, node);
        }

        node.AddParent(edge);
        edge.ParentNode?.AddChild(edge);
        if (node.IsQuiesced)
        {
            parent.DrainBegin();
        }

        try
        {
            if (edge.ParentNode is { } parentNode)
            {
                PermissionUpdate.Run(parentNode);
            }
            else
            {
                PermissionUpdate.Run(node);
            }
        }
        catch (QapiException)
        {
            if (node.IsQuiesced)
            {
                parent.DrainEnd();
            }

            node.RemoveParent(edge);
            edge.ParentNode?.RemoveChild(edge);
            throw;
        }

        return edge;
    }

    /// <summary>Ends a use. The node stays open; see <see cref="CloseIfUnusedAsync"/>.</summary>
    public void Detach(BlockEdge edge)
    {
        MainLoop.AssertOnHomeLoop();
        edge.Node.RemoveParent(edge);
        edge.ParentNode?.RemoveChild(edge);
        if (edge.Node.IsQuiesced)
        {
            edge.Parent.DrainEnd();
        }

        // Who needs less never fails.
        PermissionUpdate.Run(edge.Node);
    }

    /// <summary>Changes what a user that is no node needs and shares.</summary>
    /// <exception cref="QapiException">Permissions conflict; nothing has changed.</exception>
    public void SetPermissions(BlockEdge edge, BlockPermissions needed, BlockPermissions shared)
    {
        (BlockPermissions oldNeeded, BlockPermissions oldShared) = (edge.Permissions, edge.Shared);
        (edge.Permissions, edge.Shared) = (needed, shared);
        try
        {
            PermissionUpdate.Run(edge.Node);
        }
        catch (QapiException)
        {
            (edge.Permissions, edge.Shared) = (oldNeeded, oldShared);
            throw;
        }
    }

    /// <summary>Points a use to another node. Both are drained.</summary>
    /// <exception cref="QapiException">Permissions conflict; nothing has changed.</exception>
    public void Replace(BlockEdge edge, BlockNode to)
    {
        BlockNode from = edge.Node;
        Move(edge, to);
        try
        {
            PermissionUpdate.Run(from, edge.ParentNode ?? to, to);
        }
        catch (QapiException)
        {
            Move(edge, from);
            PermissionUpdate.Run(from, edge.ParentNode ?? to, to);
            throw;
        }
    }

    /// <summary>Points all uses of a node to another one, but for those that the other makes itself. Both are drained.</summary>
    /// <exception cref="QapiException">A use cannot follow, or permissions conflict; nothing has changed.</exception>
    public void ReplaceNode(BlockNode from, BlockNode to)
    {
        List<BlockEdge> moved = [];
        foreach (BlockEdge edge in from.Parents)
        {
            if (edge.ParentNode is { } parent && to.Reaches(parent))
            {
                continue;
            }

            if (edge.IsFrozen)
            {
                throw new QapiException($"Cannot change '{edge.Name}' link to '{from.Name}'");
            }

            moved.Add(edge);
        }

        if (to.Loop != from.Loop)
        {
            MoveToLoop(to, null, from.Loop);
        }

        List<BlockNode> concerned = [from, to];
        foreach (BlockEdge edge in moved)
        {
            if (edge.ParentNode is { } parent)
            {
                concerned.Add(parent);
            }

            Move(edge, to);
        }

        try
        {
            PermissionUpdate.Run([.. concerned]);
        }
        catch (QapiException)
        {
            foreach (BlockEdge edge in moved)
            {
                Move(edge, from);
            }

            PermissionUpdate.Run([.. concerned]);
            throw;
        }
    }

    /// <summary>Closes a node that nobody uses and no operator holds, and so on with its children.</summary>
    public async IoTask CloseIfUnusedAsync(BlockNode node)
    {
        if (!IsUnused(node))
        {
            return;
        }

        await node.DrainAsync();
        if (!IsUnused(node))
        {
            node.DrainEnd();
            return;
        }

        _closing.Add(node);
        await node.Loop.SwitchTo();
        await node.FlushAsync();
        try
        {
            await node.Driver.CloseAsync();
        }
        catch (QapiException)
        {
            // Nobody is left to hear of it, and those below must be closed as well.
        }

        await MainLoop.SwitchTo();
        node.DrainEnd();
        await ForgetAsync(node);
        _closing.Remove(node);
        NotifyProgress();
    }

    /// <summary>
    /// Ends everything at the end of the process: no request is taken from now on, no operator holds a node any more, back ends give up their media,
    /// and each node is flushed and closed. Exports and jobs have ended.
    /// </summary>
    public async IoTask CloseAllAsync(IReadOnlyList<BlockBackend> backends)
    {
        await Changing.EnterAsync();
        foreach (BlockBackend backend in backends)
        {
            // What the guest still asks for finds nobody: not even the absence of a medium.
            backend.DrainBegin();
            backend.Remove();
        }

        _monitorOwned.Clear();
        while (_order.Count > 0 || _closing.Count > 0)
        {
            if (_order.FindLast(IsUnused) is { } node)
            {
                await CloseIfUnusedAsync(node);
            }
            else if (_closing.Count > 0)
            {
                await WaitProgressAsync();
            }
            else
            {
                // Used by something that is neither: as it would be after a crash.
                break;
            }
        }

        Changing.Exit();
    }

    private bool IsUnused(BlockNode node) =>
        node.Parents.Count == 0 && !_monitorOwned.Contains(node) && !_closing.Contains(node) && _nodes.ContainsKey(node.Name);

    /// <summary>Waits until some node has become idle since.</summary>
    internal IoTask<bool> WaitProgressAsync()
    {
        MainLoop.AssertOnHomeLoop();
        Volatile.Write(ref _progressWanted, 1);
        return _progress.WaitAsync();
    }

    /// <summary>Somewhere a last request has ended. Any thread.</summary>
    internal void NotifyProgress()
    {
        if (Volatile.Read(ref _progressWanted) != 0 && Interlocked.Exchange(ref _progressWanted, 0) != 0)
        {
            MainLoop.Post(_wakeProgress);
        }
    }

    private async IoTask ForgetAsync(BlockNode node)
    {
        _nodes.Remove(node.Name);
        _order.Remove(node);
        node.FreeBuffers();
        while (node.Children.Count > 0)
        {
            BlockEdge edge = node.Children[^1];
            Detach(edge);
            await CloseIfUnusedAsync(edge.Node);
        }
    }

    private static void Move(BlockEdge edge, BlockNode to)
    {
        BlockNode from = edge.Node;
        from.RemoveParent(edge);
        edge.Node = to;
        to.AddParent(edge);
        for (int i = (from.IsQuiesced ? 1 : 0) - (to.IsQuiesced ? 1 : 0); i != 0; i -= Math.Sign(i))
        {
            if (i > 0)
            {
                edge.Parent.DrainEnd();
            }
            else
            {
                edge.Parent.DrainBegin();
            }
        }

        if (from.Length != to.Length)
        {
            edge.Parent.OnResized(edge);
        }
    }

    // Gives a node its name and its place among the others.
    private void Enter(BlockNode node, string? name)
    {
        node.Name = TakeName(name);
        _nodes.Add(node.Name, node);
        _order.Add(node);
    }

    private string TakeName(string? name)
    {
        if (name is null)
        {
            string generated;
            do
            {
                generated = $"#block{_generated++}{Random.Shared.Next(100):D2}";
            }
            while (_nodes.ContainsKey(generated));
            return generated;
        }

        if (!OptionErrors.IsIdentifier(name))
        {
            throw new QapiException($"Invalid node-name: '{name}'");
        }

        if (FindBackend(name) is not null)
        {
            throw new QapiException($"node-name={name} is conflicting with a device id");
        }

        if (_nodes.ContainsKey(name))
        {
            throw new QapiException($"Duplicate nodes with node-name='{name}'");
        }

        if (name.Length > MaxNameLength)
        {
            throw new QapiException("Node name too long");
        }

        return name;
    }
}
