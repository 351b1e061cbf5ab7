using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <summary>
/// Computes what all nodes below some changed ones need of their children, and brings it into force, or changes nothing. Main loop.
/// </summary>
internal sealed class PermissionUpdate
{
    private readonly List<BlockNode> _order = [];
    private readonly HashSet<BlockNode> _seen = [];
    private readonly List<(BlockEdge Edge, BlockPermissions Permissions, BlockPermissions Shared)> _undo = [];

    /// <summary>Updates the given nodes and all below them.</summary>
    /// <exception cref="QapiException">Users conflict, or a driver cannot get what it needs; all permissions are as before.</exception>
    internal static void Run(params ReadOnlySpan<BlockNode> nodes)
    {
        PermissionUpdate update = new();
        foreach (BlockNode node in nodes)
        {
            update.Visit(node);
        }

        update._order.Reverse();
        update.Apply();
    }

    /// <summary>What all users of a node together need and share.</summary>
    internal static (BlockPermissions Needed, BlockPermissions Shared) Cumulative(BlockNode node)
    {
        BlockPermissions needed = BlockPermissions.None;
        BlockPermissions shared = BlockPermissions.All;
        foreach (BlockEdge edge in node.Parents)
        {
            needed |= edge.Permissions;
            shared &= edge.Shared;
        }

        return (needed, shared);
    }

    /// <summary>The names of permissions, as messages list them.</summary>
    internal static string Names(BlockPermissions permissions)
    {
        List<string> names = [];
        if ((permissions & BlockPermissions.ConsistentRead) != 0)
        {
            names.Add("consistent read");
        }

        if ((permissions & BlockPermissions.Write) != 0)
        {
            names.Add("write");
        }

        if ((permissions & BlockPermissions.WriteUnchanged) != 0)
        {
            names.Add("write unchanged");
        }

        if ((permissions & BlockPermissions.Resize) != 0)
        {
            names.Add("resize");
        }

        return string.Join(", ", names);
    }

    // Parents come before their children in the reverse of this order.
    private void Visit(BlockNode node)
    {
        if (!_seen.Add(node))
        {
            return;
        }

        foreach (BlockEdge edge in node.Children)
        {
            Visit(edge.Node);
        }

        _order.Add(node);
    }

    private void Apply()
    {
        int set = 0;
        try
        {
            foreach (BlockNode node in _order)
            {
                Check(node);
                var (needed, shared) = Cumulative(node);
                if ((needed & (BlockPermissions.Write | BlockPermissions.WriteUnchanged)) != 0 && node.IsReadOnly)
                {
                    throw new QapiException(node.IsBecomingReadOnly
                        ? $"Read-only block node '{node.Name}' cannot support read-write users"
                        : "Block node is read-only");
                }

                foreach (BlockEdge edge in node.Children)
                {
                    _undo.Add((edge, edge.Permissions, edge.Shared));
                    (edge.Permissions, edge.Shared) = node.Driver.ChildPermissions(edge, needed, shared);
                }
            }

            for (; set < _order.Count; set++)
            {
                var (needed, shared) = Cumulative(_order[set]);
                _order[set].Driver.SetPermissions(needed, shared);
            }
        }
        catch (QapiException)
        {
            for (int i = _undo.Count - 1; i >= 0; i--)
            {
                (_undo[i].Edge.Permissions, _undo[i].Edge.Shared) = (_undo[i].Permissions, _undo[i].Shared);
            }

            for (int i = 0; i < set; i++)
            {
                var (needed, shared) = Cumulative(_order[i]);
                _order[i].Driver.SetPermissions(needed, shared);
            }

            throw;
        }
    }

    private static void Check(BlockNode node)
    {
        foreach (BlockEdge a in node.Parents)
        {
            foreach (BlockEdge b in node.Parents)
            {
                BlockPermissions refused = a.Permissions & ~b.Shared;
                if (a != b && refused != 0)
                {
                    throw new QapiException(
                        $"Permission conflict on node '{node.Name}': permissions '{Names(refused)}' are both required by {a.Parent.Description} (uses node '{node.Name}' as '{a.Name}' child) and unshared by {b.Parent.Description} (uses node '{node.Name}' as '{b.Name}' child).");
                }
            }
        }
    }
}
