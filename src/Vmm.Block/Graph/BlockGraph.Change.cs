using Vmm.Block.Drivers;
using Vmm.Block.Options;
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
            if (edge.Node.Driver is FilterDriver { IsTemporary: true })
            {
                throw new QapiException($"Cannot freeze '{edge.Name}' link to '{edge.Node.Name}'");
            }
        }

        for (BlockNode node = top; node != bottom && node.FilteredOrBackingEdge is { } edge; node = edge.Node)
        {
            edge.IsFrozen = true;
        }
    }

    /// <summary>True when a node is the other one or in the chain of backing files and filters below it.</summary>
    public static bool ChainContains(BlockNode top, BlockNode node)
    {
        for (BlockNode? at = top; at is not null; at = at.FilteredOrBacking)
        {
            if (at == node)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The node of a chain whose backing file, filters aside, is the given one; null when there is none.</summary>
    public static BlockNode? FindOverlay(BlockNode top, BlockNode bottom)
    {
        BlockNode wanted = bottom.SkipFilters;
        for (BlockNode at = top.SkipFilters; at.Backing is { } backing; at = backing.Node.SkipFilters)
        {
            if (backing.Node.SkipFilters == wanted)
            {
                return at;
            }
        }

        return null;
    }

    /// <summary>The node of a chain that has a file name, which is taken as images name their backing files; null when there is none.</summary>
    public static BlockNode? FindBackingImage(BlockNode top, string name)
    {
        for (BlockNode at = top.SkipFilters; at.Backing is { } backing; at = backing.Node.SkipFilters)
        {
            BlockNode below = backing.Node.SkipFilters;
            ImageDescription image = new();
            at.Driver.DescribeImage(image);
            if (below.Filename == name || image.BackingFile == name || Resolved(name, at) is { } full && Resolved(below.Filename, null) == full)
            {
                return below;
            }
        }

        return null;

        static string? Resolved(string name, BlockNode? image)
        {
            if (name.StartsWith("json:", StringComparison.Ordinal))
            {
                return null;
            }

            try
            {
                return Path.GetFullPath(ImageNames.Resolve(name, image?.File?.Node.Driver.ExactFilename ?? "."));
            }
            catch (QapiException)
            {
                return null;
            }
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
