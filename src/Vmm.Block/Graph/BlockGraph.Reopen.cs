using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Nodes that get other options while they are used.</content>
public sealed partial class BlockGraph
{
    /// <summary>Gives nodes new options and children: all of them or none. With <see cref="Changing"/> held.</summary>
    /// <param name="all">For each node all of its options; those that are left out get their defaults.</param>
    /// <exception cref="QapiException">Something cannot be changed, or not together; everything is as before.</exception>
    public async IoTask ReopenAsync(IReadOnlyList<BlockdevOptions> all)
    {
        List<Reopening> steps = [];
        foreach (BlockdevOptions options in all)
        {
            string name = options.NodeName ?? throw new QapiException("node-name not specified");
            BlockNode node = Find(name) ?? throw new QapiException($"Failed to find node with node-name='{name}'");
            Queue(steps, node, options, null);
        }

        List<BlockNode> drained = [];
        foreach (Reopening step in steps)
        {
            drained.Add(step.Node);
            foreach (ChildChange change in step.Changes)
            {
                if (change.To is { } to)
                {
                    drained.Add(to);
                }
            }
        }

        foreach (BlockNode node in drained)
        {
            await node.DrainAsync();
        }

        List<BlockNode> left = [];
        try
        {
            await ReopenDrainedAsync(steps, left);
        }
        finally
        {
            foreach (BlockNode node in drained)
            {
                node.DrainEnd();
            }
        }

        foreach (BlockNode node in left)
        {
            await CloseIfUnusedAsync(node);
        }
    }

    private static async IoTask ReopenDrainedAsync(List<Reopening> steps, List<BlockNode> left)
    {
        int prepared = 0;
        int changed = 0;
        try
        {
            for (; prepared < steps.Count; prepared++)
            {
                Reopening step = steps[prepared];

                // What was written so far is on disk before the way there changes.
                if (await step.Node.FlushAsync() is < 0 and int error && !step.Node.IsReadOnly)
                {
                    throw new QapiException("Error flushing drive: " + BlockResult.Text(error));
                }

                step.Driver = await step.Node.Driver.PrepareReopenAsync(step.Options, step.Common);
            }

            for (; changed < steps.Count; changed++)
            {
                steps[changed].Apply();
            }

            PermissionUpdate.Run(Concerned(steps));
            foreach (Reopening step in steps)
            {
                step.Node.IsBecomingReadOnly = false;
            }
        }
        catch (QapiException)
        {
            for (int i = changed - 1; i >= 0; i--)
            {
                steps[i].Revert();
            }

            if (changed > 0)
            {
                PermissionUpdate.Run(Concerned(steps));
            }

            for (int i = 0; i < prepared; i++)
            {
                if (steps[i].Driver is { } driver)
                {
                    await driver.AbortAsync();
                }
            }

            throw;
        }

        // Children first: what writes to its file as soon as it may has one that can be written.
        for (int i = steps.Count - 1; i >= 0; i--)
        {
            Reopening step = steps[i];
            if (step.Driver is { } driver)
            {
                await driver.CommitAsync();
            }

            step.Node.OwnOptions = step.Own;
            step.Node.RefreshLimits();
            long length = await step.Node.Driver.GetLengthAsync();
            if (length >= 0)
            {
                step.Node.SetLength(length);
            }

            foreach (ChildChange change in step.Changes)
            {
                if (change.From is { } from)
                {
                    left.Add(from);
                }
            }
        }
    }

    private static BlockNode[] Concerned(List<Reopening> steps)
    {
        List<BlockNode> nodes = [];
        foreach (Reopening step in steps)
        {
            nodes.Add(step.Node);
            foreach (ChildChange change in step.Changes)
            {
                if (change.From is { } from)
                {
                    nodes.Add(from);
                }

                if (change.To is { } to)
                {
                    nodes.Add(to);
                }
            }
        }

        return [.. nodes];
    }

    private void Queue(List<Reopening> steps, BlockNode node, BlockdevOptions options, NodeOptions? inherited)
    {
        NodeOptions common = NodeOptions.Resolve(options, inherited);
        QDict own = (QDict)options.QapiToValue();
        Reopening step = new(node, options, common, own);
        steps.RemoveAll(s => s.Node == node);
        steps.Add(step);
        if (node.Driver.SupportsBacking && node.Backing is not null && !own.ContainsKey("backing"))
        {
            throw new QapiException($"backing is missing for '{node.Name}'");
        }

        if (options.Driver.ToWire() != node.Driver.FormatName)
        {
            throw new QapiException("Cannot change the option 'driver'");
        }

        foreach (ChildDefinition child in DriverRegistry.Find(options.Driver).Children(options))
        {
            QueueChild(steps, step, child);
        }

        if (own.TryGetValue("backing", out QValue? backing) && backing is QNull && node.Backing is { } edge)
        {
            step.Add(CheckChange(node, edge, null, "backing", ChildRole.Cow));
        }

        CheckReopening(node);
        CheckFixed(node, own);
    }

    private static void CheckReopening(BlockNode node)
    {
        if (!node.Driver.CanReopen)
        {
            throw new QapiException($"Block format '{node.Driver.FormatName}' used by node '{node.Name}' does not support reopening files");
        }
    }

    private void QueueChild(List<Reopening> steps, Reopening step, ChildDefinition child)
    {
        BlockNode node = step.Node;
        BlockEdge? edge = node.FindChild(child.Name);
        if (child.Reference.Definition is { } definition)
        {
            // Options of a child that was defined with its parent are options of that child.
            bool isOwn = edge is not null && !edge.Node.IsNamed && (node.OwnOptions is not { } old || !old.TryGetValue(child.Name, out QValue? was) || was is QDict);
            if (!isOwn)
            {
                throw new QapiException($"Cannot change the option '{child.Name}.driver'");
            }

            if (definition.NodeName is { } name && name != edge!.Node.Name)
            {
                throw new QapiException("Cannot change the option 'node-name'");
            }

            Queue(steps, edge!.Node, definition, step.Common.ForChild(edge.Role, node.Driver.IsFormat));
            return;
        }

        string reference = child.Reference.Reference!;
        if (edge is not null && edge.Node.Name == reference)
        {
            return;
        }

        BlockNode to = Find(reference) ?? throw new QapiException($"Cannot find device='' nor node-name='{reference}'");
        if (child.Name is not ("file" or "backing"))
        {
            CheckReopening(node);
            throw new QapiException($"Cannot change the option '{child.Name}'");
        }

        step.Add(CheckChange(node, edge, to, child.Name, child.Role));
    }

    private static ChildChange CheckChange(BlockNode node, BlockEdge? edge, BlockNode? to, string name, ChildRole role)
    {
        if (to is not null && to.Reaches(node))
        {
            throw new QapiException($"Making '{to.Name}' a {name} child of '{node.Name}' would create a cycle");
        }

        if (edge is { IsFrozen: true })
        {
            throw new QapiException($"Cannot change frozen '{name}' link from '{node.Name}' to '{edge.Node.Name}'");
        }

        if (to is not null && to.Loop != node.Loop)
        {
            throw new QapiException("Cannot change iothread of active block backend");
        }

        return new ChildChange(name, role, edge, edge?.Node, to);
    }

    // Options that the driver cannot change must be what they were; those of children are theirs.
    private static void CheckFixed(BlockNode node, QDict options)
    {
        QDict given = node.OwnOptions ?? [];
        foreach (KeyValuePair<string, QValue> old in given)
        {
            if (IsFixed(node, old.Key, node.Driver.IsResettable(old.Key)) && !options.ContainsKey(old.Key))
            {
                throw new QapiException($"Option '{old.Key}' cannot be reset to its default value");
            }
        }

        // The one common option that no open node can change.
        if (options.TryGetValue("force-share", out QValue? shares) && !(given.TryGetValue("force-share", out QValue? shared) && shared.ValueEquals(shares)))
        {
            throw new QapiException("Cannot change the option 'force-share'");
        }

        foreach (KeyValuePair<string, QValue> option in options)
        {
            if (IsFixed(node, option.Key, node.Driver.IsChangeable(option.Key)) && !(given.TryGetValue(option.Key, out QValue? old) && old.ValueEquals(option.Value)))
            {
                throw new QapiException($"Cannot change the option '{Differing(option.Key, old, option.Value)}'");
            }
        }
    }

    private static bool IsFixed(BlockNode node, string option, bool isChangeable) =>
        option is not ("driver" or "node-name" or "read-only" or "auto-read-only" or "force-share" or "cache" or "discard" or "detect-zeroes" or "backing")
        && node.FindChild(option) is null && !isChangeable;

    private static string Differing(string path, QValue? old, QValue value)
    {
        foreach (KeyValuePair<string, QValue> member in value as QDict ?? [])
        {
            QValue? was = null;
            if ((old as QDict)?.TryGetValue(member.Key, out was) != true || !was!.ValueEquals(member.Value))
            {
                return Differing(path + "." + member.Key, was, member.Value);
            }
        }

        return path;
    }

    private static void Attach(BlockEdge edge)
    {
        edge.Node.AddParent(edge);
        edge.ParentNode!.AddChild(edge);
        if (edge.Node.IsQuiesced)
        {
            edge.Parent.DrainBegin();
        }
    }

    private static void Unlink(BlockEdge edge)
    {
        edge.Node.RemoveParent(edge);
        edge.ParentNode!.RemoveChild(edge);
        if (edge.Node.IsQuiesced)
        {
            edge.Parent.DrainEnd();
        }
    }

    /// <summary>A child that becomes another one.</summary>
    private sealed record ChildChange(string Name, ChildRole Role, BlockEdge? Edge, BlockNode? From, BlockNode? To);

    /// <summary>What happens to one node.</summary>
    private sealed class Reopening(BlockNode node, BlockdevOptions options, NodeOptions common, QDict own)
    {
        private readonly NodeOptions _old = node.Options;
        private readonly List<ChildChange> _changes = [];
        private readonly List<BlockEdge> _added = [];

        internal BlockNode Node => node;

        internal BlockdevOptions Options => options;

        internal NodeOptions Common => common;

        internal QDict Own => own;

        internal IReadOnlyList<ChildChange> Changes => _changes;

        internal ReopenStep? Driver { get; set; }

        internal void Add(ChildChange change) => _changes.Add(change);

        internal void Apply()
        {
            node.IsBecomingReadOnly = common.IsReadOnly && !node.IsReadOnly;
            node.Options = common;
            foreach (ChildChange change in _changes)
            {
                if (change.Edge is { } edge && change.To is { } to)
                {
                    Move(edge, to);
                }
                else if (change.Edge is { } removed)
                {
                    Unlink(removed);
                }
                else if (change.To is { } added)
                {
                    BlockEdge fresh = new(change.Name, node, added, change.Role) { Permissions = BlockPermissions.None, Shared = BlockPermissions.All };
                    Attach(fresh);
                    _added.Add(fresh);
                }
            }
        }

        internal void Revert()
        {
            node.Options = _old;
            node.IsBecomingReadOnly = false;
            foreach (BlockEdge fresh in _added)
            {
                Unlink(fresh);
            }

            foreach (ChildChange change in _changes)
            {
                if (change.Edge is { } edge)
                {
                    if (change.To is null)
                    {
                        Attach(edge);
                    }
                    else
                    {
                        Move(edge, change.From!);
                    }
                }
            }
        }
    }
}
