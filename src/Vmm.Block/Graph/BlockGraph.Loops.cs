using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Home loops of nodes: those that share requests share a loop.</content>
public sealed partial class BlockGraph
{
    /// <summary>Makes another loop the home of a node, of all below it and of all their users. Drained.</summary>
    /// <param name="node">The node.</param>
    /// <param name="mover">The user for whom it moves; it follows by itself. Null when there is none.</param>
    /// <param name="loop">The loop.</param>
    /// <exception cref="QapiException">Another user cannot follow; nothing has changed.</exception>
    public void MoveToLoop(BlockNode node, IBlockParent? mover, EventLoop.EventLoop loop)
    {
        HashSet<BlockNode> nodes = [];
        Collect(node, nodes);
        if (IsHeld(nodes, mover))
        {
            throw new QapiException("Cannot change iothread of active block backend");
        }

        Move(nodes, mover, loop);
    }

    /// <summary>Nodes that nobody is at work with come back to the main loop from one that may end. Main loop.</summary>
    public void LeaveLoop(EventLoop.EventLoop loop)
    {
        HashSet<BlockNode> seen = [];
        foreach (BlockNode node in _order)
        {
            HashSet<BlockNode> nodes = [];
            if (node.Loop == loop && loop != MainLoop && !seen.Contains(node))
            {
                Collect(node, nodes);
                seen.UnionWith(nodes);
                if (!IsHeld(nodes, null))
                {
                    Move(nodes, null, MainLoop);
                }
            }
        }
    }

    // Before one becomes a child of the other: who is at work stays where it is. Both are idle, or have the same loop.
    private void ShareLoop(BlockNode parent, BlockNode child)
    {
        if (parent.Loop == child.Loop)
        {
            return;
        }

        HashSet<BlockNode> nodes = [];
        Collect(child, nodes);
        if (IsHeld(nodes, null))
        {
            MoveToLoop(parent, null, child.Loop);
        }
        else
        {
            Move(nodes, null, parent.Loop);
        }
    }

    // A user that is no node keeps to its loop while it may have requests.
    private static bool IsHeld(HashSet<BlockNode> nodes, IBlockParent? mover)
    {
        foreach (BlockNode node in nodes)
        {
            foreach (BlockEdge edge in node.Parents)
            {
                if (edge.ParentNode is null && edge.Parent != mover && edge.Permissions != BlockPermissions.None)
                {
                    return true;
                }
            }
        }

        return false;
    }

    private static void Move(HashSet<BlockNode> nodes, IBlockParent? mover, EventLoop.EventLoop loop)
    {
        foreach (BlockNode node in nodes)
        {
            node.Loop = loop;
            node.Driver.OnLoopChanged();
            foreach (BlockEdge edge in node.Parents)
            {
                if (edge.Parent != mover)
                {
                    edge.Parent.OnLoopChanged(loop);
                }
            }
        }
    }

    // A node moves with all that use it and all that it uses: they share its requests.
    private static void Collect(BlockNode node, HashSet<BlockNode> nodes)
    {
        if (!nodes.Add(node))
        {
            return;
        }

        foreach (BlockEdge edge in node.Children)
        {
            Collect(edge.Node, nodes);
        }

        foreach (BlockEdge edge in node.Parents)
        {
            if (edge.ParentNode is { } parent)
            {
                Collect(parent, nodes);
            }
        }
    }
}
