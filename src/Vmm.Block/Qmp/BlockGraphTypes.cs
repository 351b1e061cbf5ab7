using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>What a vertex of the graph is.</summary>
[QapiEnum]
public enum XDbgBlockGraphNodeType
{
    /// <summary>A back end.</summary>
    BlockBackend,

    /// <summary>A job.</summary>
    BlockJob,

    /// <summary>A node.</summary>
    BlockDriver,
}

/// <summary>A permission.</summary>
[QapiEnum]
public enum BlockPermission
{
    /// <summary>Reads of consistent contents.</summary>
    ConsistentRead,

    /// <summary>Writes.</summary>
    Write,

    /// <summary>Writes that change nothing.</summary>
    WriteUnchanged,

    /// <summary>Changes of the size.</summary>
    Resize,
}

/// <summary>A vertex.</summary>
[QapiStruct]
public sealed partial record XDbgBlockGraphNode
{
    /// <summary>Number.</summary>
    public required ulong Id { get; init; }

    /// <summary>What it is.</summary>
    public required XDbgBlockGraphNodeType Type { get; init; }

    /// <summary>Its name.</summary>
    public required string Name { get; init; }
}

/// <summary>An edge.</summary>
[QapiStruct]
public sealed partial record XDbgBlockGraphEdge
{
    /// <summary>The user.</summary>
    public required ulong Parent { get; init; }

    /// <summary>The node used.</summary>
    public required ulong Child { get; init; }

    /// <summary>Name of the child in the parent.</summary>
    public required string Name { get; init; }

    /// <summary>Used.</summary>
    public required IReadOnlyList<BlockPermission> Perm { get; init; }

    /// <summary>Shared.</summary>
    public required IReadOnlyList<BlockPermission> SharedPerm { get; init; }
}

/// <summary>The graph.</summary>
[QapiStruct]
public sealed partial record XDbgBlockGraph
{
    /// <summary>Vertices.</summary>
    public required IReadOnlyList<XDbgBlockGraphNode> Nodes { get; init; }

    /// <summary>Edges.</summary>
    public required IReadOnlyList<XDbgBlockGraphEdge> Edges { get; init; }
}

/// <summary>A write passed the threshold of a node, which is off from now on.</summary>
/// <param name="NodeName">The node.</param>
/// <param name="AmountExceeded">Bytes above.</param>
/// <param name="WriteThreshold">The threshold.</param>
[QmpEvent("BLOCK_WRITE_THRESHOLD")]
public sealed partial record BlockWriteThresholdEvent(string NodeName, ulong AmountExceeded, ulong WriteThreshold);
