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
        BlockDriverInfo info = DriverRegistry.Find(options.Driver);
        if (common.IsForceShare && !common.IsReadOnly)
        {
            throw new QapiException("force-share=on can only be used with read-only images");
        }

        BlockNode node = new(this, options.NodeName is not null, info.Create(options), common)
        {
            IsProbed = hints.IsProbed,
            BackingOptions = hints.Backing,
            OptionTexts = hints.Texts,
            OwnOptions = (QDict)options.QapiToValue(),
        };
        bool isOpened = false;
        try
        {
            IReadOnlyList<ChildDefinition> children = info.Children(options);
            if (children is [{ Name: "file" } file, ..])
            {
                await OpenFileAsync(node, file, options.NodeName);
            }
            else
            {
                EnterNew(node, options.NodeName);
            }

            await AttachChildrenAsync(node, children, areBacking: false);
            await OpenDriverAsync(node);
            isOpened = true;
            await AttachChildrenAsync(node, children, areBacking: true);
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
    internal async IoTask AttachChildAsync(BlockNode node, ChildDefinition child) =>
        await AttachChildAsync(node, child, await ResolveChildAsync(node, child));

    // A node of its own has its place, and its name, between its file and what its driver opens.
    private async IoTask OpenFileAsync(BlockNode node, ChildDefinition child, string? name)
    {
        BlockNode file = await ResolveChildAsync(node, child);
        try
        {
            EnterNew(node, name);
        }
        catch (QapiException)
        {
            await CloseIfUnusedAsync(file);
            throw;
        }

        await AttachChildAsync(node, child, file);
    }

    private void EnterNew(BlockNode node, string? name)
    {
        if (node.Options is { DetectZeroes: DetectZeroesMode.Unmap, Discard: not DiscardMode.Unmap })
        {
            throw new QapiException("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
        }

        Enter(node, name);
    }

    private async IoTask AttachChildrenAsync(BlockNode node, IReadOnlyList<ChildDefinition> children, bool areBacking)
    {
        foreach (ChildDefinition child in children)
        {
            if (child.Name != "file" && (child.Role & ChildRole.Cow) != 0 == areBacking)
            {
                await AttachChildAsync(node, child);
            }
        }
    }

    private async IoTask<BlockNode> ResolveChildAsync(BlockNode node, ChildDefinition child)
    {
        try
        {
            return await ResolveAsync(child.Reference, node.Options.ForChild(child.Role, node.Driver.IsFormat));
        }
        catch (QapiException e) when ((child.Role & ChildRole.Cow) != 0)
        {
            throw new QapiException(e.ErrorClass, "Could not open backing file: " + e.Desc, e.Hint);
        }
    }

    private async IoTask AttachChildAsync(BlockNode node, ChildDefinition child, BlockNode target)
    {
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
