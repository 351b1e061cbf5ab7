using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Graph;

/// <content>Copying out of backing files without a reader.</content>
public sealed partial class BlockNode
{
    /// <summary>Has the image keep what a range shows of its backing files. Home loop.</summary>
    public async IoTask<int> CopyUpAsync(long offset, long bytes)
    {
        BeginRequest();
        TrackedRequest request = _tracked.Begin(TrackedKind.Read, offset, bytes);
        int result = await CopyUpAsync(request, offset, bytes);
        _tracked.End(request);
        EndRequest();
        return result;
    }
}
