using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Filters that jobs put into the graph.</content>
public sealed partial class BlockGraph
{
    /// <summary>Puts a filter above a node: all users of the node use the filter instead. With <see cref="Changing"/> held.</summary>
    /// <param name="driver">The filter.</param>
    /// <param name="name">Name of the filter's node; null for a generated one.</param>
    /// <param name="node">The node.</param>
    /// <param name="childName">What the node is called as the filter's child.</param>
    /// <param name="target">Another node that the filter writes, which may itself use the node; null for none.</param>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public async IoTask<BlockNode> InsertFilterAsync(BlockDriver driver, string? name, BlockNode node, string childName = "backing", BlockNode? target = null)
    {
        NodeOptions options = new() { IsReadOnly = driver is CommitTopDriver, Discard = DiscardMode.Unmap };
        BlockNode filter = new(this, name is not null, driver, options) { Loop = node.Loop, IsImplicit = name is null };
        Enter(filter, name);
        await node.DrainAsync();
        try
        {
            Attach(filter, node, childName, ChildRole.Filtered | ChildRole.Primary, BlockPermissions.None, BlockPermissions.All);
            if (target is not null)
            {
                Attach(filter, target, "target", ChildRole.Data, BlockPermissions.None, BlockPermissions.All);
            }

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

    /// <summary>Takes a filter out: its users use the filtered node again.</summary>
    public async IoTask RemoveFilterAsync(BlockNode filter)
    {
        BlockNode node = filter.Filtered!.Node;
        await filter.DrainAsync();
        try
        {
            ReplaceNode(filter, node);
        }
        finally
        {
            filter.DrainEnd();
        }

        await CloseIfUnusedAsync(filter);
    }

    /// <summary>Makes a node the backing file of another one, which takes its place for all its users. With <see cref="Changing"/> held.</summary>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public async IoTask AppendAsync(BlockNode overlay, BlockNode node)
    {
        if (node.Reaches(overlay))
        {
            throw new QapiException($"Making '{node.Name}' a backing child of '{overlay.Name}' would create a cycle");
        }

        await node.DrainAsync();
        await overlay.DrainAsync();
        try
        {
            BlockEdge edge = Attach(overlay, node, "backing", ChildRole.Cow, BlockPermissions.None, BlockPermissions.All);
            try
            {
                ReplaceNode(node, overlay);
            }
            catch (QapiException)
            {
                Detach(edge);
                throw;
            }

            overlay.RefreshLimits();
        }
        finally
        {
            overlay.DrainEnd();
            node.DrainEnd();
        }
    }

    /// <summary>Undoes <see cref="AppendAsync"/>.</summary>
    public async IoTask UnappendAsync(BlockNode overlay, BlockNode node)
    {
        await node.DrainAsync();
        await overlay.DrainAsync();
        try
        {
            if (overlay.Backing is { } edge)
            {
                Detach(edge);
            }

            ReplaceNode(overlay, node);
            overlay.RefreshLimits();
        }
        finally
        {
            overlay.DrainEnd();
            node.DrainEnd();
        }
    }

    /// <summary>Gives an image another backing file; what the image says of it stays as it is.</summary>
    /// <param name="node">The image.</param>
    /// <param name="backing">The backing file; null for none.</param>
    /// <exception cref="QapiException">It cannot be done; nothing has changed.</exception>
    public async IoTask SetBackingAsync(BlockNode node, BlockNode? backing)
    {
        BlockEdge? old = node.Backing;
        if (old?.Node == backing)
        {
            return;
        }

        if (old is { IsFrozen: true })
        {
            throw new QapiException($"Cannot change frozen '{old.Name}' link from '{node.Name}' to '{old.Node.Name}'");
        }

        if (backing is not null && backing.Reaches(node))
        {
            throw new QapiException($"Making '{backing.Name}' a backing child of '{node.Name}' would create a cycle");
        }

        await node.DrainAsync();
        try
        {
            if (old is not null)
            {
                Detach(old);
            }

            try
            {
                if (backing is not null)
                {
                    Attach(node, backing, "backing", ChildRole.Cow, BlockPermissions.None, BlockPermissions.All);
                }
            }
            catch (QapiException)
            {
                if (old is not null)
                {
                    Attach(node, old.Node, old.Name, old.Role, BlockPermissions.None, BlockPermissions.All);
                }

                throw;
            }

            node.RefreshLimits();
        }
        finally
        {
            node.DrainEnd();
        }

        if (old is not null)
        {
            await CloseIfUnusedAsync(old.Node);
        }
    }

    /// <summary>Has an image say another name of its backing file; the image is made writable for that.</summary>
    /// <exception cref="QapiException">It cannot be written.</exception>
    public async IoTask ChangeBackingNameAsync(BlockNode node, string? name, string? format, string failure = "Could not change backing file")
    {
        bool wasReadOnly = node.IsReadOnly;
        await SetReadOnlyAsync(node, false);
        await node.DrainAsync();
        await node.Loop.SwitchTo();
        int result = await node.Driver.ChangeBackingFileAsync(name, format);
        if (result >= 0)
        {
            await node.FlushAsync();
        }

        await MainLoop.SwitchTo();
        node.DrainEnd();
        if (wasReadOnly)
        {
            await SetReadOnlyAsync(node, true);
        }

        if (result < 0)
        {
            throw new QapiException($"{failure}: {BlockResult.Text(result)}");
        }
    }
}
