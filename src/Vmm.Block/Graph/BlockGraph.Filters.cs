using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Filters that jobs put into the graph.</content>
public sealed partial class BlockGraph
{
    /// <summary>Puts a filter above a node: all users of the node use the filter instead. With <see cref="Changing"/> held.</summary>
    /// <param name="driver">The filter; its child is called "backing".</param>
    /// <param name="name">Name of the filter's node; null for a generated one.</param>
    /// <param name="node">The node.</param>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public async IoTask<BlockNode> InsertFilterAsync(BlockDriver driver, string? name, BlockNode node)
    {
        NodeOptions options = node.Options with { DetectZeroes = DetectZeroesMode.Off, Discard = DiscardMode.Unmap };
        BlockNode filter = new(this, TakeName(name), name is not null, driver, options) { Loop = node.Loop, IsImplicit = name is null };
        await node.DrainAsync();
        try
        {
            _nodes.Add(filter.Name, filter);
            _order.Add(filter);
            Attach(filter, node, "backing", ChildRole.Filtered | ChildRole.Primary, BlockPermissions.None, BlockPermissions.All);
            filter.RefreshLimits();
            filter.SetLength(node.Length);
            ReplaceNode(node, filter);
            return filter;
        }
        catch (QapiException)
        {
            await ForgetAsync(filter);
            throw;
        }
        finally
        {
            node.DrainEnd();
        }
    }
}
