using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands that make and delete nodes. Home: main loop.</summary>
public sealed class BlockdevCommands(BlockGraph graph)
{
    /// <summary>Makes a node. The options come as they are or, from old clients, in "options".</summary>
    [QmpCommand("blockdev-add", ArgsType = "options:q,properties:O", ArgsSchema = typeof(BlockdevOptions), AllowPreconfig = true, Since = "2.9")]
    public async Task BlockdevAdd([QapiRelaxed] QValue? options, QDict properties)
    {
        QDict all = options as QDict ?? properties;
        BlockdevOptions read = BlockdevOptions.QapiRead(all, new QapiReader(), null);
        if (read.NodeName is null)
        {
            throw new QapiException("'node-name' must be specified for the root node");
        }

        await graph.ChangeAsync(async () => graph.AddMonitorOwned(await graph.OpenAsync(read)));
    }

    /// <summary>Deletes a node that nobody uses.</summary>
    [QmpCommand("blockdev-del", ArgsType = "node-name:s", AllowPreconfig = true, Since = "2.9")]
    public async Task BlockdevDel(string nodeName) => await graph.ChangeAsync(() =>
    {
        BlockNode node = graph.Find(nodeName) ?? throw new QapiException($"Failed to find node with node-name='{nodeName}'");
        foreach (BlockEdge edge in node.Parents)
        {
            if (edge.Parent is BlockBackend)
            {
                throw new QapiException($"Node {node.Name} is in use");
            }
        }

        node.CheckNotInUse();
        if (!graph.IsMonitorOwned(node))
        {
            throw new QapiException($"Node {node.Name} is not owned by the monitor");
        }

        return graph.DeleteAsync(node);
    });
}
