using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands over single nodes. Home: main loop.</summary>
public sealed class BlockNodeCommands(BlockGraph graph, BlockBackends backends)
{
    /// <summary>Changes the size of a node.</summary>
    [QmpCommand("block_resize", ArgsType = "device:s?,node-name:s?,size:o", AllowPreconfig = true, Since = "0.14")]
    public async Task BlockResize(string? device, string? nodeName, long size)
    {
        BlockNode node = graph.Lookup(device, nodeName);
        if (size < 0)
        {
            throw new QapiException("Parameter 'size' expects a >0 size");
        }

        await graph.ChangeDrainedAsync(node, async () =>
        {
            BlockBackend user = new(graph, "");
            try
            {
                user.SetPermissions(BlockPermissions.Resize, BlockPermissions.All);
                user.Insert(node);
                await OnHomeLoop(node, size);
            }
            finally
            {
                user.Remove();
            }
        });
    }

    /// <summary>Has the next write above an offset reported; 0 for none.</summary>
    [QmpCommand("block-set-write-threshold", ArgsType = "node-name:s,write-threshold:l", AllowPreconfig = true, Since = "2.3")]
    public void SetWriteThreshold(string nodeName, ulong writeThreshold)
    {
        BlockNode node = graph.Find(nodeName) ?? throw new QapiException($"Device '{nodeName}' not found");
        node.WriteThreshold = (long)Math.Min(writeThreshold, long.MaxValue);
    }

    /// <summary>Back ends, nodes and who uses whom.</summary>
    [QmpCommand("x-debug-query-block-graph", AllowPreconfig = true, Since = "4.0")]
    [QapiFeature("unstable")]
    public XDbgBlockGraph QueryBlockGraph()
    {
        Dictionary<object, ulong> ids = new(ReferenceEqualityComparer.Instance);
        List<XDbgBlockGraphNode> nodes = [];
        List<XDbgBlockGraphEdge> edges = [];
        foreach (BlockBackend backend in backends.All)
        {
            string name = backend.Name.Length > 0 ? backend.Name : backend.Device?.QdevName ?? "";
            AddNode(backend, XDbgBlockGraphNodeType.BlockBackend, name);
        }

        // Nodes have the numbers of their age, newest listed first.
        foreach (BlockNode node in graph.Nodes)
        {
            ids.Add(node, (ulong)ids.Count + 1);
        }

        for (int i = graph.Nodes.Count - 1; i >= 0; i--)
        {
            BlockNode node = graph.Nodes[i];
            nodes.Add(new XDbgBlockGraphNode { Id = ids[node], Type = XDbgBlockGraphNodeType.BlockDriver, Name = node.Name });
        }

        foreach (BlockBackend backend in backends.All)
        {
            if (backend.RootEdge is { } root)
            {
                AddEdge(backend, root);
            }
        }

        for (int i = graph.Nodes.Count - 1; i >= 0; i--)
        {
            foreach (BlockEdge edge in graph.Nodes[i].Children)
            {
                AddEdge(graph.Nodes[i], edge);
            }
        }

        return new XDbgBlockGraph { Nodes = nodes, Edges = edges };

        void AddNode(object vertex, XDbgBlockGraphNodeType type, string name)
        {
            ids.Add(vertex, (ulong)ids.Count + 1);
            nodes.Add(new XDbgBlockGraphNode { Id = ids[vertex], Type = type, Name = name });
        }

        void AddEdge(object parent, BlockEdge edge) => edges.Add(new XDbgBlockGraphEdge
        {
            Parent = ids[parent],
            Child = ids[edge.Node],
            Name = edge.Name,
            Perm = Names(edge.Permissions),
            SharedPerm = Names(edge.Shared),
        });
    }

    // The wire has them from the last to the first.
    private static List<BlockPermission> Names(BlockPermissions permissions)
    {
        List<BlockPermission> names = [];
        for (int i = 3; i >= 0; i--)
        {
            if (((int)permissions >> i & 1) != 0)
            {
                names.Add((BlockPermission)i);
            }
        }

        return names;
    }

    private static async IoTask OnHomeLoop(BlockNode node, long size)
    {
        await node.Loop.SwitchTo();
        try
        {
            await node.TruncateAsync(size);
        }
        finally
        {
            await node.Graph.MainLoop.SwitchTo();
        }
    }
}
