using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers;

/// <summary>A node that shows what the filter below keeps of one moment, while others write to that filter.</summary>
public sealed class SnapshotAccessDriver : BlockDriver
{
    /// <inheritdoc/>
    public override string FormatName => "snapshot-access";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    public override string ExactFilename => Child.Filename;

    private BlockNode Child => Node.Primary!.Node;

    /// <inheritdoc/>
    public override IoTask OpenAsync() => IoTask.CompletedTask;

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(Child.Length);

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags) => Child.SnapshotReadAsync(offset, data);

    /// <inheritdoc/>
    public override IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero) => Child.SnapshotStatusAsync(offset, bytes, wantZero);

    /// <inheritdoc/>
    public override IoTask<int> DiscardAsync(long offset, long bytes) => Child.SnapshotDiscardAsync(offset, bytes);

    /// <summary>Nothing of the child itself is read or written.</summary>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared) => (BlockPermissions.None, BlockPermissions.All);
}
