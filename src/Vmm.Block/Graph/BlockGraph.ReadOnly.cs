using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Nodes that become writable or read-only while they are open.</content>
public sealed partial class BlockGraph
{
    /// <summary>Makes a node, and what it stores its data in, writable or read-only. Main loop.</summary>
    /// <exception cref="QapiException">It cannot be written, or a user writes it; nothing has changed.</exception>
    public async IoTask SetReadOnlyAsync(BlockNode node, bool isReadOnly)
    {
        if (node.IsReadOnly == isReadOnly)
        {
            return;
        }

        await node.DrainAsync();
        NodeOptions old = node.Options;
        try
        {
            if (isReadOnly)
            {
                await OnLoopAsync(node, async () =>
                {
                    await node.Driver.SuspendWritesAsync();
                    await node.FlushAsync();
                });
                node.Options = old with { IsReadOnly = true };
                PermissionUpdate.Run(node);
                await SetChildrenAsync(node, isReadOnly: true);
            }
            else
            {
                await SetChildrenAsync(node, isReadOnly: false);
                node.Driver.SetWritable(true);
                node.Options = old with { IsReadOnly = false };
                PermissionUpdate.Run(node);
                await OnLoopAsync(node, node.Driver.ResumeWritesAsync);
            }
        }
        catch (QapiException)
        {
            node.Options = old;
            PermissionUpdate.Run(node);
            throw;
        }
        finally
        {
            node.DrainEnd();
        }

        if (isReadOnly)
        {
            node.Driver.SetWritable(false);
        }
    }

    private async IoTask OnLoopAsync(BlockNode node, Func<IoTask> call)
    {
        await node.Loop.SwitchTo();
        try
        {
            await call();
        }
        finally
        {
            await MainLoop.SwitchTo();
        }
    }

    // What others use as well, or an operator has made as it is, stays so.
    private async IoTask SetChildrenAsync(BlockNode node, bool isReadOnly)
    {
        foreach (BlockEdge edge in node.Children)
        {
            bool isOwn = edge.Node.Parents.Count == 1 && !IsMonitorOwned(edge.Node);
            if ((edge.Role & ChildRole.Cow) == 0 && isOwn)
            {
                await SetReadOnlyAsync(edge.Node, isReadOnly);
            }
        }
    }
}
