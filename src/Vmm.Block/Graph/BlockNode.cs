using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <summary>
/// A node of the graph: a driver, its children, and the request path that all drivers share. Requests (<c>BlockNode.Io.cs</c>) run on the
/// home loop; names, children, options and permissions belong to the main loop.
/// </summary>
public sealed partial class BlockNode : IBlockParent
{
    // What is longer is cut off when clients are told of it.
    private const int MaxFilename = 4095;

    private readonly List<BlockEdge> _children = [];
    private readonly List<BlockEdge> _parents = [];
    private int _fillers;
    private BlockLimits _limits = new() { RequestAlignment = 1, MemoryAlignment = 1 };

    internal BlockNode(BlockGraph graph, bool isNamed, BlockDriver driver, NodeOptions options)
    {
        Graph = graph;
        IsNamed = isNamed;
        Driver = driver;
        Options = options;
        Loop = graph.MainLoop;
        driver.Attach(this);
    }

    /// <summary>The graph.</summary>
    public BlockGraph Graph { get; }

    /// <summary>The node name, unique: given by the operator or "#block" and a number. Empty until the node's file is open.</summary>
    public string Name { get; internal set; } = "";

    /// <summary>False when the name was generated.</summary>
    public bool IsNamed { get; }

    /// <summary>What the node does.</summary>
    public BlockDriver Driver { get; }

    /// <summary>The options that all drivers have.</summary>
    public NodeOptions Options { get; internal set; }

    /// <summary>Options that make it read-only are on trial: it was writable before.</summary>
    internal bool IsBecomingReadOnly { get; set; }

    /// <summary>True when nothing may write through the node.</summary>
    public bool IsReadOnly => Options.IsReadOnly;

    /// <summary>The contents alone said that it is raw: a write must not make them look like another format.</summary>
    public bool IsProbed { get; internal init; }

    /// <summary>The options as they were given.</summary>
    internal QDict? OwnOptions { get; set; }

    /// <summary>The options as they were given where that was text: numbers are told as they were written. Null for none.</summary>
    internal QDict? OptionTexts { get; init; }

    /// <summary>Options of the backing file beside what the image says of it; null for none.</summary>
    internal QDict? BackingOptions { get; init; }

    /// <summary>The kind of job that holds the node against deletion; null when none does.</summary>
    public Jobs.JobType? JobInUse { get; set; }

    /// <summary>
    /// A job writes much to the node and flushes it at its end: what it writes may go to stable storage at once, as nobody will write it again.
    /// Any thread.
    /// </summary>
    public bool IsFilledByJob => Volatile.Read(ref _fillers) > 0;

    internal void AddFiller(int change) => Interlocked.Add(ref _fillers, change);

    /// <summary>No node and no job uses this one.</summary>
    public bool IsRoot => _parents.TrueForAll(static edge => edge.Parent is Backend.BlockBackend);

    /// <summary>Refuses what a job that uses the node does not allow.</summary>
    /// <exception cref="QapiException">There is one.</exception>
    public void CheckNotInUse()
    {
        if (JobInUse is { } job)
        {
            throw new QapiException($"Node '{Name}' is busy: block device is in use by block job: {Jobs.JobTypeQapi.ToWire(job)}");
        }
    }

    /// <summary>Refuses what would change an image under those that are based on it.</summary>
    /// <exception cref="QapiException">It is the backing file of another node.</exception>
    public void CheckNotBacking()
    {
        foreach (BlockEdge edge in _parents)
        {
            if ((edge.Role & ChildRole.Cow) != 0 && edge.ParentNode is { } image)
            {
                throw new QapiException($"Node '{Name}' is busy: node is used as backing hd of '{image.Name}'");
            }
        }
    }

    /// <summary>Makes a node that may choose for itself read-only. While it opens.</summary>
    /// <exception cref="QapiException">It is to be written: <paramref name="reason"/> says why it cannot be.</exception>
    public void RequireReadOnly(string reason)
    {
        if (IsReadOnly)
        {
            return;
        }

        if (!Options.IsAutoReadOnly)
        {
            throw new QapiException(reason);
        }

        Options = Options with { IsReadOnly = true };
    }

    /// <summary>A filter of a job for which no operator gave a name: queries of back ends show what is below it.</summary>
    public bool IsImplicit { get; init; }

    /// <summary>The loop on which requests run.</summary>
    public EventLoop.EventLoop Loop { get; internal set; }

    /// <summary>Bytes, as a multiple of the alignment for formats. Home loop; a stale value elsewhere.</summary>
    public long Length { get; internal set; }

    /// <summary>Wishes of the driver.</summary>
    public ref readonly BlockLimits Limits => ref _limits;

    /// <summary>Uses that this node makes, in order of attachment.</summary>
    public IReadOnlyList<BlockEdge> Children => _children;

    /// <summary>Uses made of this node.</summary>
    public IReadOnlyList<BlockEdge> Parents => _parents;

    /// <summary>The child in the role of the image's file; null when there is none.</summary>
    public BlockEdge? File => FindChild("file");

    /// <summary>The backing file; null when there is none.</summary>
    public BlockEdge? Backing => FindChild("backing");

    /// <summary>The child by which the node is named.</summary>
    public BlockEdge? Primary
    {
        get
        {
            foreach (BlockEdge edge in _children)
            {
                if ((edge.Role & ChildRole.Primary) != 0)
                {
                    return edge;
                }
            }

            return null;
        }
    }

    /// <summary>The child whose contents a filter shows; null for other nodes.</summary>
    public BlockEdge? Filtered
    {
        get
        {
            foreach (BlockEdge edge in _children)
            {
                if ((edge.Role & ChildRole.Filtered) != 0)
                {
                    return edge;
                }
            }

            return null;
        }
    }

    /// <summary>The next node below in the chain of backing files: the backing file of an image, the filtered child of a filter.</summary>
    public BlockNode? FilteredOrBacking => FilteredOrBackingEdge?.Node;

    /// <summary>The use of <see cref="FilteredOrBacking"/>.</summary>
    public BlockEdge? FilteredOrBackingEdge => Driver.IsFilter ? Filtered : Backing;

    /// <summary>The first node from here on that is no filter.</summary>
    public BlockNode SkipFilters
    {
        get
        {
            BlockNode node = this;
            while (node.Driver.IsFilter && node.Filtered is { } child)
            {
                node = child.Node;
            }

            return node;
        }
    }

    /// <summary>The first node from here on that is no implicit filter.</summary>
    public BlockNode SkipImplicit
    {
        get
        {
            BlockNode node = this;
            while (node.IsImplicit && node.Filtered is { } child)
            {
                node = child.Node;
            }

            return node;
        }
    }

    /// <summary>The file name, or "json:" and options, that would open the node again. Main loop.</summary>
    public string Filename
    {
        get
        {
            if (IsImplicit && Filtered is { } shown)
            {
                return shown.Node.Filename;
            }

            string name = Driver.ExactFilename ?? "json:" + DescribeOptions().ToJson();
            return name.Length <= MaxFilename ? name : string.Concat(name.AsSpan(0, MaxFilename - 3), "...");
        }
    }

    /// <inheritdoc/>
    public string Description => $"node '{Name}'";

    /// <summary>The child of that name.</summary>
    public BlockEdge? FindChild(string name)
    {
        foreach (BlockEdge edge in _children)
        {
            if (edge.Name == name)
            {
                return edge;
            }
        }

        return null;
    }

    /// <summary>True when the other node is this one or somewhere below it.</summary>
    public bool Reaches(BlockNode other) => this == other || _children.Exists(edge => edge.Node.Reaches(other));

    /// <summary>The options that would open the node again, with those of its children.</summary>
    public QDict DescribeOptions()
    {
        if (IsImplicit && Filtered is { } shown)
        {
            return shown.Node.DescribeOptions();
        }

        QDict options = new() { ["driver"] = Driver.FormatName };
        Driver.DescribeOptions(options);
        TellAsWritten(options);
        foreach (BlockEdge edge in _children)
        {
            if ((edge.Role & ChildRole.Cow) == 0 || Driver.IsBackingOverridden)
            {
                options[edge.Name] = edge.Node.DescribeOptions();
            }
        }

        if (Driver.IsBackingOverridden && Backing is null)
        {
            options["backing"] = QNull.Instance;
        }

        return options;
    }

    /// <inheritdoc/>
    public void OnResized(BlockEdge edge)
    {
        if (Driver.IsFilter && (edge.Role & ChildRole.Filtered) != 0)
        {
            SetLength(Driver.LengthOver(edge.Node.Length));
        }
    }

    private void TellAsWritten(QDict options)
    {
        foreach (string name in (string[])[.. options.Where(static option => option.Value is QNum or QBool).Select(static option => option.Key)])
        {
            if (OptionTexts is { } texts && texts.TryGetValue(name, out QValue? value) && value is QString)
            {
                options[name] = value;
            }
        }
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>The driver, where it is the one that wants to know of events.</summary>
    internal Drivers.Debug.BlkdebugDriver? Debugger { get; set; }

    /// <summary>A request above or in this node comes to a point at which tests may want to do something. Home loop.</summary>
    internal IoTask DebugAsync(BlkdebugEvent point) => Debugger is null ? IoTask.CompletedTask : Debugger.HappenAsync(point);

    internal void AddChild(BlockEdge edge) => _children.Add(edge);

    internal void RemoveChild(BlockEdge edge) => _children.Remove(edge);

    internal void AddParent(BlockEdge edge) => _parents.Add(edge);

    internal void RemoveParent(BlockEdge edge) => _parents.Remove(edge);

    /// <summary>Takes the limits anew from the children and the driver. No request under way.</summary>
    internal void RefreshLimits()
    {
        BlockLimits limits = new() { RequestAlignment = 1, MemoryAlignment = 1, MaxIov = 1024 };
        foreach (BlockEdge edge in _children)
        {
            if ((edge.Role & (ChildRole.Data | ChildRole.Filtered | ChildRole.Cow)) == 0)
            {
                continue;
            }

            ref readonly BlockLimits child = ref edge.Node.Limits;
            limits.MemoryAlignment = Math.Max(limits.MemoryAlignment, child.MemoryAlignment);
            limits.OptTransfer = Math.Max(limits.OptTransfer, child.OptTransfer);
            limits.MaxTransfer = MinNonZero(limits.MaxTransfer, child.MaxTransfer);
            limits.MaxIov = Math.Min(limits.MaxIov, child.MaxIov);
        }

        Driver.RefreshLimits(ref limits);
        _limits = limits;
    }

    /// <summary>The node has another size: parents are told. Home loop.</summary>
    internal void SetLength(long length)
    {
        if (Length == length)
        {
            return;
        }

        Length = length;
        foreach (IWriteObserver observer in _observers)
        {
            observer.OnTruncated(length);
        }

        foreach (BlockEdge edge in _parents)
        {
            edge.Parent.OnResized(edge);
        }
    }

    private static int MinNonZero(int a, int b) => a == 0 ? b : b == 0 ? a : Math.Min(a, b);
}
