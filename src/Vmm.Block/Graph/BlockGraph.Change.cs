using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>What an operator's request does to the graph, one after the other.</content>
public sealed partial class BlockGraph
{
    /// <summary>Runs a change of the graph while no other one is under way.</summary>
    public async IoTask ChangeAsync(Func<IoTask> change)
    {
        await Changing.EnterAsync();
        try
        {
            await change();
        }
        finally
        {
            Changing.Exit();
        }
    }

    /// <summary>Has the chain of backing files and filters stay as it is, from a node down to another one.</summary>
    /// <param name="top">Where the chain begins.</param>
    /// <param name="bottom">Its last node, of whose own children nothing is said.</param>
    /// <exception cref="QapiException">A job relies on a part of it already; nothing has changed.</exception>
    public static void FreezeChain(BlockNode top, BlockNode bottom)
    {
        CheckChain(top, bottom);
        for (BlockNode node = top; node != bottom && node.FilteredOrBackingEdge is { } edge; node = edge.Node)
        {
            edge.IsFrozen = true;
        }
    }

    /// <summary>Ends one <see cref="FreezeChain"/>.</summary>
    public static void UnfreezeChain(BlockNode top, BlockNode bottom)
    {
        for (BlockNode node = top; node != bottom && node.FilteredOrBackingEdge is { } edge; node = edge.Node)
        {
            edge.IsFrozen = false;
        }
    }

    /// <summary>Refuses to change a chain on which a job relies.</summary>
    /// <exception cref="QapiException">One does.</exception>
    public static void CheckChain(BlockNode top, BlockNode? bottom)
    {
        for (BlockNode node = top; node != bottom && node.FilteredOrBackingEdge is { } edge; node = edge.Node)
        {
            if (edge.IsFrozen)
            {
                throw new QapiException($"Cannot change '{edge.Name}' link from '{node.Name}' to '{edge.Node.Name}'");
            }
        }
    }

    /// <summary>Runs a change of a node while no other one is under way, in a drained section of the node.</summary>
    public IoTask ChangeDrainedAsync(BlockNode node, Action change) => ChangeDrainedAsync(node, () =>
    {
        change();
        return IoTask.CompletedTask;
    });

    /// <summary>Runs a change of a node while no other one is under way, in a drained section of the node.</summary>
    public IoTask ChangeDrainedAsync(BlockNode node, Func<IoTask> change) => ChangeAsync(async () =>
    {
        await node.DrainAsync();
        try
        {
            await change();
        }
        finally
        {
            node.DrainEnd();
        }
    });
}
