using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.IoTool;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>The terminal command that has single requests made. What they say goes to standard output and error, as qemu-io itself would write it. Home: main loop.</summary>
public sealed class QemuIoHmpCommands(BlockGraph graph, BlockBackends backends, Action<string> output, Action<string> errors)
{
    private readonly IoRunner _runner = new(graph, output, errors);

    /// <summary>Runs a command of qemu-io over a back end or a node.</summary>
    [HmpCommand(
        "qemu-io",
        ArgsType = "qdev:-d,device:B,command:s",
        Params = "[-d] [device] \"[command]\"",
        Help = "run a qemu-io command on a block device\n\t\t\t-d: [device] is a device ID rather than a drive ID or node name")]
    public async ValueTask QemuIo(HmpContext context, bool qdev, string device, string command)
    {
        BlockBackend? own = null;
        BlockBackend? backend = qdev ? backends.Resolve(null, device) : backends.Find(device);
        if (backend is null)
        {
            BlockNode node = graph.Find(device) ?? throw new QapiException($"Cannot find device='' nor node-name='{device}'");
            own = backend = new BlockBackend(graph, "");
            own.Insert(node);
        }

        try
        {
            if (await _runner.RunAsync(backend, command, context, () => own?.Remove()))
            {
                return;
            }
        }
        catch (QapiException e)
        {
            context.PrintLine(e.Desc);
        }

        await EndUseAsync(own);
    }

    // Whoever else uses the node, a job above all, is told to pause, and twice: for what was asked and for the end of the use.
    private static async Task EndUseAsync(BlockBackend? own)
    {
        if (own?.Root is not { } node)
        {
            return;
        }

        for (int i = 0; i < 2; i++)
        {
            await node.DrainAsync();
            node.DrainEnd();
        }

        own.Remove();
    }
}
