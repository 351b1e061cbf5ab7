using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>A filter that copies what is about to be written to another node, which so keeps the contents of one moment.</summary>
public sealed partial class CopyBeforeWriteDriver : FilterDriver
{
    private readonly BlockdevOptionsCbw? _options;
    private BlockCopy? _copy;
    private int _snapshotError;

    /// <summary>A filter as an operator wants it.</summary>
    public CopyBeforeWriteDriver(BlockdevOptionsCbw options) => _options = options;

    /// <summary>A backup's filter.</summary>
    public CopyBeforeWriteDriver(BlockCopy copy) => _copy = copy;

    /// <inheritdoc/>
    public override string FormatName => "copy-before-write";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    public override string ExactFilename => Child.Filename;

    /// <inheritdoc/>
    public override IoTask OpenAsync()
    {
        _copy = new BlockCopy(Child, Node.FindChild("target")!.Node);
        if (_options!.Bitmap is { } name)
        {
            BlockNode owner = Node.Graph.TryLookup(name.Node) ?? throw new QapiException($"Node '{name.Node}' not found");
            DirtyBitmap bitmap = owner.FindBitmap(name.Name) ?? throw new QapiException($"Dirty bitmap '{name.Name}' not found");
            _copy.Add(bitmap.Bits);
        }
        else
        {
            _copy.Add(0, Child.Length);
        }

        BeginSnapshot();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _copy?.Dispose();
        if (_left is { } left)
        {
            Child.RemoveView(left);
        }

        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        await SaveAsync(offset, data.Size, flags) is < 0 and int error ? error : await base.WriteAsync(offset, data, flags);

    /// <inheritdoc/>
    public override async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags) =>
        await SaveAsync(offset, bytes, flags) is < 0 and int error ? error : await base.WriteZeroesAsync(offset, bytes, flags);

    /// <inheritdoc/>
    public override async IoTask<int> DiscardAsync(long offset, long bytes) =>
        await SaveAsync(offset, bytes, BlockRequestFlags.None) is < 0 and int error ? error : await base.DiscardAsync(offset, bytes);

    /// <summary>Who flushes the filter means the disk; the copy is flushed by whoever uses it, or when it is closed.</summary>
    public override bool Flushes(BlockEdge child) => (child.Role & ChildRole.Filtered) != 0;

    /// <inheritdoc/>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared)
    {
        if ((child.Role & ChildRole.Filtered) == 0)
        {
            return (BlockPermissions.Write, BlockPermissions.All & ~BlockPermissions.Resize);
        }

        (BlockPermissions own, BlockPermissions others) = base.ChildPermissions(child, needed, shared);
        if (Node.Parents.Count == 0)
        {
            return (own, others);
        }

        // What is written is read before, and nobody writes past the filter.
        return (
            (own & BlockPermissions.Write) != 0 ? own | BlockPermissions.ConsistentRead : own,
            others & ~(BlockPermissions.Write | BlockPermissions.Resize));
    }

    private async IoTask<int> SaveAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        if ((flags & BlockRequestFlags.WriteUnchanged) != 0 || _snapshotError < 0)
        {
            return 0;
        }

        int result = await CopyInTimeAsync(offset, bytes);
        if (result < 0)
        {
            if (_options?.OnCbwError != OnCbwError.BreakSnapshot)
            {
                return result;
            }

            _snapshotError = _snapshotError < 0 ? _snapshotError : result;
        }

        await ShowSavedAsync(offset, bytes);
        return 0;
    }
}
