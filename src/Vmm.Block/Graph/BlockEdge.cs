namespace Vmm.Block.Graph;

/// <summary>Who uses a node: another node, a back end, a job, an export. Home: main loop.</summary>
public interface IBlockParent
{
    /// <summary>As error messages name it, for example "node 'disk0'" or "block device 'virtio0'".</summary>
    string Description { get; }

    /// <summary>New requests are held back from now on; calls nest.</summary>
    void DrainBegin();

    /// <summary>Ends one <see cref="DrainBegin"/>.</summary>
    void DrainEnd();

    /// <summary>True while requests of this parent are still under way.</summary>
    bool IsBusy { get; }

    /// <summary>The node has another size.</summary>
    void OnResized(BlockEdge edge);

    /// <summary>The node has another home loop. Only for users without permissions: who is at work keeps the node where it is.</summary>
    void OnLoopChanged(EventLoop.EventLoop loop)
    {
    }
}

/// <summary>A parent's use of a node: an edge of the graph. Made and removed by <see cref="BlockGraph"/>. Home: main loop.</summary>
public sealed class BlockEdge
{
    internal BlockEdge(string name, IBlockParent parent, BlockNode node, ChildRole role)
    {
        Name = name;
        Parent = parent;
        Node = node;
        Role = role;
    }

    /// <summary>The child's name in its parent: "file", "backing", "root", ...</summary>
    public string Name { get; }

    /// <summary>The user.</summary>
    public IBlockParent Parent { get; }

    /// <summary>The user as a node; null for back ends, jobs, exports.</summary>
    public BlockNode? ParentNode => Parent as BlockNode;

    /// <summary>The node used.</summary>
    public BlockNode Node { get; internal set; }

    /// <summary>What it is to the parent.</summary>
    public ChildRole Role { get; internal set; }

    /// <summary>What the parent does with the node.</summary>
    public BlockPermissions Permissions { get; internal set; }

    /// <summary>What the parent lets others do with it.</summary>
    public BlockPermissions Shared { get; internal set; } = BlockPermissions.All;

    /// <summary>A job relies on the edge: it stays where it is until the job ends.</summary>
    public bool IsFrozen { get; internal set; }
}
