using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Graph;

/// <content>Reads that have the image keep what it got from its backing file.</content>
public sealed partial class BlockNode
{
    private const int CopyBytes = 256 << 10;

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
            BlockStatus status = await Driver.StatusAsync(position, end - position, wantZero: false);
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
        using NativeBuffer buffer = new(bytes, Math.Max(_limits.MemoryAlignment, 1));
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
        return result;
    }

    private int CopyAlignment()
    {
        Drivers.ImageDescription image = new();
        Driver.DescribeImage(image);
        return Math.Max(image.ClusterSize, _limits.RequestAlignment);
    }
}
