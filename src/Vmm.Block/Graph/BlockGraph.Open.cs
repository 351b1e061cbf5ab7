using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Making nodes.</content>
public sealed partial class BlockGraph
{
    // Offsets stay what they are after rounding up to any alignment.
    private const long MaxLength = long.MaxValue & ~((1L << 30) - 1);

    /// <summary>
    /// Makes a node and those of its children that its options define; nobody uses it yet. Main loop, with <see cref="Changing"/> held.
    /// </summary>
    /// <param name="options">The options.</param>
    /// <param name="inherited">What a parent hands down; null for a node of its own.</param>
    /// <exception cref="QapiException">It cannot be opened; nothing is left of it.</exception>
    public IoTask<BlockNode> OpenAsync(BlockdevOptions options, NodeOptions? inherited = null) => OpenAsync(options, inherited, default);

    private async IoTask<BlockNode> OpenAsync(BlockdevOptions options, NodeOptions? inherited, OpenHints hints)
    {
        MainLoop.AssertOnHomeLoop();
        NodeOptions common = NodeOptions.Resolve(options, inherited);
        if (common is { DetectZeroes: DetectZeroesMode.Unmap, Discard: not DiscardMode.Unmap })
        {
            throw new QapiException("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
        }

        string name = TakeName(options.NodeName);
        BlockDriverInfo info = DriverRegistry.Find(options.Driver);
        if (common.IsForceShare && !common.IsReadOnly)
        {
            throw new QapiException("force-share=on can only be used with read-only images");
        }

        BlockNode node = new(this, name, options.NodeName is not null, info.Create(options), common)
        {
            IsProbed = hints.IsProbed,
            BackingOptions = hints.Backing,
            OwnOptions = (QDict)options.QapiToValue(),
        };
        _nodes.Add(name, node);
        bool isOpened = false;
        try
        {
            foreach (ChildDefinition child in info.Children(options))
            {
                await AttachChildAsync(node, child);
            }

            _order.Add(node);
            await OpenDriverAsync(node);
            isOpened = true;
            if (hints.Backing is not null && !node.Driver.SupportsBacking)
            {
                throw new QapiException("Driver doesn't support backing files");
            }

            await CompleteOpenAsync(node);
            return node;
        }
        catch (QapiException)
        {
            if (isOpened)
            {
                await node.Driver.CloseAsync();
            }

            await ForgetAsync(node);
            throw;
        }
    }

    /// <summary>Opens or finds the node that a reference names.</summary>
    public async IoTask<BlockNode> ResolveAsync(BlockdevRef reference, NodeOptions? inherited)
    {
        if (reference.Definition is { } definition)
        {
            return await OpenAsync(definition, inherited);
        }

        return Lookup(reference.Reference, reference.Reference);
    }

    /// <summary>Attaches a child while its parent is being opened or changed.</summary>
    internal async IoTask AttachChildAsync(BlockNode node, ChildDefinition child)
    {
        BlockNode target;
        try
        {
            target = await ResolveAsync(child.Reference, node.Options.ForChild(child.Role, node.Driver.IsFormat));
        }
        catch (QapiException e) when ((child.Role & ChildRole.Cow) != 0)
        {
            throw new QapiException(e.ErrorClass, "Could not open backing file: " + e.Desc, e.Hint);
        }

        try
        {
            if (target.Reaches(node))
            {
                throw new QapiException($"Making '{target.Name}' a {child.Name} child of '{node.Name}' would create a cycle");
            }

            Attach(node, target, child.Name, child.Role, BlockPermissions.None, BlockPermissions.All);
        }
        catch (QapiException)
        {
            await CloseIfUnusedAsync(target);
            throw;
        }
    }

    // A child that is at work on another loop has made that one the node's home.
    private async IoTask OpenDriverAsync(BlockNode node)
    {
        if (node.Loop == MainLoop)
        {
            await node.Driver.OpenAsync();
            return;
        }

        await node.Loop.SwitchTo();
        try
        {
            await node.Driver.OpenAsync();
        }
        finally
        {
            await MainLoop.SwitchTo();
        }
    }

    private static async IoTask CompleteOpenAsync(BlockNode node)
    {
        node.RefreshLimits();
        long length = await node.Driver.GetLengthAsync();
        if (length > MaxLength)
        {
            length = -(long)Interop.Errno.EFBIG;
        }

        if (length < 0)
        {
            throw new QapiException("Could not refresh total sector count: " + BlockResult.Text((int)length));
        }

        node.SetLength(length);

        // The driver may know only now what it needs of its children.
        PermissionUpdate.Run(node);
    }
}
