using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Graph;

/// <content>What a filter keeps of one moment. Home loop.</content>
public sealed partial class BlockNode
{
    /// <summary>Reads what the node held at the moment that its driver keeps.</summary>
    public async IoTask<int> SnapshotReadAsync(long offset, IoVectors data)
    {
        BeginRequest();
        int result = await Driver.SnapshotReadAsync(offset, data);
        EndRequest();
        return result;
    }

    /// <summary>What is known about the beginning of a range as it was at that moment.</summary>
    public async IoTask<BlockStatus> SnapshotStatusAsync(long offset, long bytes, bool wantZero)
    {
        BeginRequest();
        BlockStatus status = await Driver.SnapshotStatusAsync(offset, bytes, wantZero);
        EndRequest();
        return status;
    }

    /// <summary>A range as it was at that moment is wanted no more.</summary>
    public async IoTask<int> SnapshotDiscardAsync(long offset, long bytes)
    {
        BeginRequest();
        int result = await Driver.SnapshotDiscardAsync(offset, bytes);
        EndRequest();
        return result;
    }
}
