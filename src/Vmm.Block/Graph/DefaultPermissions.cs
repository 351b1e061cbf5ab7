namespace Vmm.Block.Graph;

/// <summary>What nodes need of their children unless their driver says otherwise. Pure.</summary>
public static class DefaultPermissions
{
    private const BlockPermissions PassThrough =
        BlockPermissions.ConsistentRead | BlockPermissions.Write | BlockPermissions.WriteUnchanged | BlockPermissions.Resize;

    /// <summary>The default for a child in its role.</summary>
    public static (BlockPermissions Needed, BlockPermissions Shared) For(
        BlockNode node, BlockEdge child, BlockPermissions needed, BlockPermissions shared)
    {
        if ((child.Role & ChildRole.Filtered) != 0)
        {
            return (needed & PassThrough, (shared & PassThrough) | (BlockPermissions.All & ~PassThrough));
        }

        if ((child.Role & ChildRole.Cow) != 0)
        {
            return Backing(needed, shared);
        }

        return Storage(node, child.Role, needed, shared);
    }

    // A backing file is read as far as the overlay is; nobody may change it, as that would change what the overlay shows.
    private static (BlockPermissions Needed, BlockPermissions Shared) Backing(BlockPermissions needed, BlockPermissions shared)
    {
        BlockPermissions others = (shared & BlockPermissions.Write) != 0
            ? BlockPermissions.Write | BlockPermissions.Resize
            : BlockPermissions.None;
        return (needed & BlockPermissions.ConsistentRead, others | BlockPermissions.ConsistentRead | BlockPermissions.WriteUnchanged);
    }

    private static (BlockPermissions Needed, BlockPermissions Shared) Storage(
        BlockNode node, ChildRole role, BlockPermissions needed, BlockPermissions shared)
    {
        needed &= PassThrough;
        shared &= PassThrough;
        if ((role & ChildRole.Metadata) != 0)
        {
            // Metadata is written even when guest data is not, and must not change under us.
            if (!node.IsReadOnly)
            {
                needed |= BlockPermissions.Write | BlockPermissions.Resize;
            }

            needed |= BlockPermissions.ConsistentRead;
            shared &= ~(BlockPermissions.Write | BlockPermissions.Resize);
        }

        if ((role & ChildRole.Data) != 0)
        {
            // The end of the data is known from the file's size; a write may allocate and so let the file grow.
            shared &= ~BlockPermissions.Resize;
            if ((needed & BlockPermissions.WriteUnchanged) != 0)
            {
                needed |= BlockPermissions.Write;
            }

            if ((needed & BlockPermissions.Write) != 0)
            {
                needed |= BlockPermissions.Resize;
            }
        }

        return (needed, shared);
    }
}
