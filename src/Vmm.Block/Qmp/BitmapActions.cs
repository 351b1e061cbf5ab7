using System.Numerics;
using System.Text;
using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Changes of bitmaps, alone or in transactions; each can be undone. Home: main loop.</summary>
internal abstract class BitmapAction(BlockGraph graph) : TransactionAction
{
    /// <summary>The graph.</summary>
    protected BlockGraph Graph => graph;

    /// <inheritdoc/>
    public sealed override async IoTask PrepareAsync(JobTransaction? transaction)
    {
        BlockNode node = Check();
        await node.DrainAsync();
        try
        {
            await ChangeImageAsync();
            Change();
        }
        finally
        {
            node.DrainEnd();
        }
    }

    /// <inheritdoc/>
    public override async IoTask AbortAsync()
    {
        BlockNode node = Check();
        await node.DrainAsync();
        Undo();
        node.DrainEnd();
    }

    /// <summary>Refuses what cannot be done; the node that is concerned.</summary>
    protected abstract BlockNode Check();

    /// <summary>Does what cannot wait for the image to be closed, nor needs to be undone before. Drained.</summary>
    protected virtual IoTask ChangeImageAsync() => IoTask.CompletedTask;

    /// <summary>Does it. Drained.</summary>
    protected abstract void Change();

    /// <summary>Undoes it. Drained.</summary>
    protected abstract void Undo();

    /// <summary>A bitmap of a node.</summary>
    /// <exception cref="QapiException">There is none.</exception>
    internal static DirtyBitmap Find(BlockGraph graph, string node, string name)
    {
        BlockNode owner = graph.TryLookup(node) ?? throw new QapiException($"Node '{node}' not found");
        return owner.FindBitmap(name) ?? throw NotFound(name);
    }

    /// <summary>The error for a bitmap that is not there.</summary>
    protected static QapiException NotFound(string name) => new($"Dirty bitmap '{name}' not found");
}

/// <summary>Adds a bitmap.</summary>
internal sealed class AddBitmapAction(BlockGraph graph, BlockDirtyBitmapAdd add) : BitmapAction(graph)
{
    private const uint MinGranularity = 512;

    private DirtyBitmap? _bitmap;

    /// <inheritdoc/>
    protected override BlockNode Check()
    {
        if (_bitmap is not null)
        {
            return _bitmap.Node;
        }

        if (add.Name.Length == 0)
        {
            throw new QapiException("Bitmap name cannot be empty");
        }

        BlockNode owner = Graph.Lookup(add.Node, add.Node);
        if (add.Granularity is { } wanted && (wanted < MinGranularity || !BitOperations.IsPow2(wanted)))
        {
            throw new QapiException("Granularity must be power of 2 and at least 512");
        }

        if (add.Persistent ?? false)
        {
            owner.Driver.CheckNewBitmap(add.Name);
        }

        if (owner.FindBitmap(add.Name) is not null)
        {
            throw new QapiException("Bitmap already exists: " + add.Name);
        }

        if (Encoding.UTF8.GetByteCount(add.Name) > DirtyBitmap.MaxPersistentName)
        {
            throw new QapiException("Bitmap name too long: " + add.Name);
        }

        long granularity = add.Granularity ?? DirtyBitmap.DefaultGranularity(owner.Driver.ClusterBytes);
        _bitmap = new DirtyBitmap(owner, add.Name, granularity) 
        {
            IsEnabled = !(add.Disabled ?? false),
            IsPersistent = add.Persistent ?? false,
        };
        return owner;
    }

    /// <inheritdoc/>
    protected override void Change() => _bitmap!.Node.AddBitmap(_bitmap);

    /// <inheritdoc/>
    protected override void Undo() => _bitmap!.Node.RemoveBitmap(_bitmap);
}

/// <summary>Removes a bitmap, once it is certain.</summary>
internal sealed class RemoveBitmapAction(BlockGraph graph, BlockDirtyBitmap named) : BitmapAction(graph)
{
    private DirtyBitmap? _bitmap;

    /// <inheritdoc/>
    public override void Commit() => _bitmap!.Node.RemoveBitmap(_bitmap);

    /// <inheritdoc/>
    protected override BlockNode Check()
    {
        if (_bitmap is null)
        {
            _bitmap = Find(Graph, named.Node, named.Name);
            _bitmap.CheckUsable(allowInconsistent: true, changes: true);
        }

        return _bitmap.Node;
    }

    /// <inheritdoc/>
    protected override async IoTask ChangeImageAsync()
    {
        if (_bitmap!.IsPersistent)
        {
            BlockNode node = _bitmap.Node;
            await node.Loop.SwitchTo();
            try
            {
                await node.Driver.ForgetBitmapAsync(_bitmap.Name!);
            }
            finally
            {
                await Graph.MainLoop.SwitchTo();
            }
        }
    }

    /// <inheritdoc/>
    protected override void Change() => _bitmap!.IsBusy = true;

    /// <inheritdoc/>
    protected override void Undo() => _bitmap!.IsBusy = false;
}

/// <summary>Makes a bitmap clean.</summary>
internal sealed class ClearBitmapAction(BlockGraph graph, BlockDirtyBitmap named) : BitmapAction(graph)
{
    private DirtyBitmap? _bitmap;
    private BitSet? _before;

    /// <inheritdoc/>
    protected override BlockNode Check()
    {
        if (_bitmap is null)
        {
            _bitmap = Find(Graph, named.Node, named.Name);
            _bitmap.CheckUsable(changes: true);
        }

        return _bitmap.Node;
    }

    /// <inheritdoc/>
    protected override void Change()
    {
        _before = _bitmap!.Bits;
        _bitmap.Restore(new BitSet(_before.Length, _before.Granularity));
    }

    /// <inheritdoc/>
    protected override void Undo() => _bitmap!.Restore(_before!);
}

/// <summary>Has a bitmap record writes, or not.</summary>
internal sealed class EnableBitmapAction(BlockGraph graph, BlockDirtyBitmap named, bool isEnabled) : BitmapAction(graph)
{
    private DirtyBitmap? _bitmap;
    private bool _before;

    /// <inheritdoc/>
    protected override BlockNode Check()
    {
        if (_bitmap is null)
        {
            _bitmap = Find(Graph, named.Node, named.Name);
            _bitmap.CheckUsable();
        }

        return _bitmap.Node;
    }

    /// <inheritdoc/>
    protected override void Change() => (_before, _bitmap!.IsEnabled) = (_bitmap!.IsEnabled, isEnabled);

    /// <inheritdoc/>
    protected override void Undo() => _bitmap!.IsEnabled = _before;
}

/// <summary>Adds what other bitmaps have to one; all of them or none.</summary>
internal sealed class MergeBitmapAction(BlockGraph graph, BlockDirtyBitmapMerge merge) : BitmapAction(graph)
{
    private DirtyBitmap? _target;
    private BitSet? _before;
    private BitSet? _merged;

    /// <inheritdoc/>
    protected override BlockNode Check()
    {
        if (_target is not null)
        {
            return _target.Node;
        }

        DirtyBitmap target = Find(Graph, merge.Node, merge.Target);

        // The target may be among the sources.
        BitSet merged = target.Bits.Clone();
        foreach (BlockDirtyBitmapOrStr item in merge.Bitmaps)
        {
            DirtyBitmap source = item.External is { } external
                ? Find(Graph, external.Node, external.Name)
                : target.Node.FindBitmap(item.Local!) ?? throw NotFound(item.Local!);
            if (source.Bits.Length != target.Bits.Length)
            {
                throw new QapiException(
                    $"Bitmaps are of different sizes (destination size is {target.Bits.Length}, source size is {source.Bits.Length}) and can't be merged");
            }

            target.CheckUsable(changes: true);
            source.CheckUsable();
            merged.Merge(source.Bits);
        }

        (_target, _merged) = (target, merged);
        return target.Node;
    }

    /// <inheritdoc/>
    protected override void Change()
    {
        // What was written since the check is dirty as well.
        _before = _target!.Bits;
        _merged!.Merge(_before);
        _target.Restore(_merged);
    }

    /// <inheritdoc/>
    protected override void Undo() => _target!.Restore(_before!);
}
