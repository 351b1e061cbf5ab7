using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Graph;

/// <content>All nodes at once.</content>
public sealed partial class BlockGraph
{
    /// <summary>Waits for the requests that are under way and puts all that was written on stable storage. Failures are those of the next flush.</summary>
    public async IoTask FlushAllAsync()
    {
        await SettleAsync();
        foreach (BlockNode node in _order.ToArray())
        {
            if (!_closing.Contains(node))
            {
                await node.Loop.SwitchTo();
                await node.FlushAsync();
                await MainLoop.SwitchTo();
            }
        }
    }

    /// <summary>Holds all requests back, limits or not, waits until none is under way, and lets them go on.</summary>
    internal async IoTask SettleAsync()
    {
        BlockNode[] nodes = [.. _order];
        await DrainAsync(nodes);
        foreach (BlockNode node in nodes)
        {
            node.DrainEnd();
        }
    }

    /// <summary>Holds all requests back for good and waits until none is under way.</summary>
    internal IoTask StandStillAsync() => DrainAsync([.. _order]);

    private static async IoTask DrainAsync(BlockNode[] nodes)
    {
        foreach (BlockNode node in nodes)
        {
            node.DrainBegin();
        }

        foreach (BlockNode node in nodes)
        {
            await node.WaitIdleAsync();
        }
    }
}
