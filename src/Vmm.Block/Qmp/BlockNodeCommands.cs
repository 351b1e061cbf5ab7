using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands over single nodes. Home: main loop.</summary>
public sealed class BlockNodeCommands(BlockGraph graph, BlockBackends backends, JobManager jobs)
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
            try
            {
                node.CheckNotInUse();
                node.CheckNotBacking();
            }
            catch (QapiException)
            {
                throw new QapiException($"Device '{device ?? "(null)"}' is in use");
            }

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
        foreach (BlockBackend backend in AllBackends())
        {
            AddNode(backend, XDbgBlockGraphNodeType.BlockBackend, backend.Name.Length > 0 ? backend.Name : backend.Device?.QdevName ?? "");
            if (backend.RootEdge is { } root)
            {
                AddEdge(backend, root);
            }
        }

        foreach (Job job in jobs.Jobs)
        {
            if (job.IsBlockJob)
            {
                AddNode(job, XDbgBlockGraphNodeType.BlockJob, job.Id);
                for (int i = job.Uses.Count - 1; i >= 0; i--)
                {
                    AddEdge(job, job.Uses[i]);
                }
            }
        }

        foreach (BlockNode node in graph.Nodes)
        {
            AddNode(node, XDbgBlockGraphNodeType.BlockDriver, node.Name);
            for (int i = node.Children.Count - 1; i >= 0; i--)
            {
                AddEdge(node, node.Children[i]);
            }
        }

        // The wire has all from the last to the first.
        nodes.Reverse();
        edges.Reverse();
        return new XDbgBlockGraph { Nodes = nodes, Edges = edges };

        void AddNode(object vertex, XDbgBlockGraphNodeType type, string name) =>
            nodes.Add(new XDbgBlockGraphNode { Id = IdOf(vertex), Type = type, Name = name });

        void AddEdge(object parent, BlockEdge edge) => edges.Add(new XDbgBlockGraphEdge
        {
            Parent = IdOf(parent),
            Child = IdOf(edge.Node),
            Name = edge.Name,
            Perm = Names(edge.Permissions),
            SharedPerm = Names(edge.Shared),
        });

        // Whoever is met first has the lowest number.
        ulong IdOf(object vertex)
        {
            if (!ids.TryGetValue(vertex, out ulong id))
            {
                id = (ulong)ids.Count + 1;
                ids.Add(vertex, id);
            }

            return id;
        }
    }

    // Oldest first. Those of jobs and exports are known to their nodes alone.
    private List<BlockBackend> AllBackends()
    {
        List<BlockBackend> all = [.. backends.All];
        foreach (BlockNode node in graph.Nodes)
        {
            foreach (BlockEdge edge in node.Parents)
            {
                if (edge.Parent is BlockBackend backend && !all.Contains(backend))
                {
                    all.Add(backend);
                }
            }
        }

        all.Sort(static (a, b) => a.Number.CompareTo(b.Number));
        return all;
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
