using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Graph;

/// <content>Reads that have the image keep what it got from its backing file.</content>
public sealed partial class BlockNode
{
    private const int CopyBytes = 512 << 10;

    private NativeBuffer? _freeCopy;

    /// <summary>All reads copy what comes from below into the image.</summary>
    public bool CopiesOnRead { get; set; }

    // The read itself comes after: it finds everything here.
    private async IoTask<int> CopyUpAsync(TrackedRequest request, long offset, long bytes)
    {
        int cluster = CopyAlignment();
        _tracked.MakeSerialising(request, cluster);
        await _tracked.WaitAsync(request);
        long end = Math.Min((offset + bytes + cluster - 1) & ~(cluster - 1L), Length);
        long position = offset & ~(cluster - 1L);
        while (position < end)
        {
            BlockStatus status = await StatusAsync(position, end - position, wantZero: false);
            if (status.Result < 0)
            {
                return status.Result;
            }

            long part = Math.Min(status.Bytes, end - position);
            if ((status.Flags & BlockStatusFlags.Allocated) == 0)
            {
                part = Math.Min(part, CopyBytes);
                if (await CopyPartAsync(position, (int)part) is < 0 and int error)
                {
                    return error;
                }
            }

            position += part;
        }

        return 0;
    }

    private async IoTask<int> CopyPartAsync(long offset, int bytes)
    {
        NativeBuffer buffer = TakeCopyBuffer();
        IoVectors data = IoVectors.Rent(buffer.Vector(0, bytes));
        int result = await Driver.ReadAsync(offset, data, BlockRequestFlags.None);
        if (result >= 0)
        {
            result = data.IsZero(0, bytes)
                ? await ZeroUntrackedAsync(offset, bytes, BlockRequestFlags.WriteUnchanged)
                : await WriteDriverAsync(offset, data, BlockRequestFlags.WriteUnchanged);
        }

        _writeGeneration++;
        data.Return();
        GiveCopyBuffer(buffer);
        return result;
    }

    // One stays with the node: memory that is new for each part costs more than the copy.
    private NativeBuffer TakeCopyBuffer()
    {
        NativeBuffer? buffer = _freeCopy;
        _freeCopy = null;
        return buffer ?? new NativeBuffer(CopyBytes, Math.Max(_limits.MemoryAlignment, 4096));
    }

    private void GiveCopyBuffer(NativeBuffer buffer)
    {
        if (_freeCopy is null)
        {
            _freeCopy = buffer;
        }
        else
        {
            buffer.Dispose();
        }
    }

    private int CopyAlignment() => Math.Max(Driver.ClusterBytes, _limits.RequestAlignment);
}
