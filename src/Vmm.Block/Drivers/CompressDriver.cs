using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>A filter whose writes become compressed clusters of the image below.</summary>
public sealed class CompressDriver : FilterDriver
{
    private int _clusterBytes;

    /// <inheritdoc/>
    public override string FormatName => "compress";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags =>
        BlockRequestFlags.WriteUnchanged | (Child.Driver.SupportedWriteFlags & BlockRequestFlags.Fua);

    /// <inheritdoc/>
    public override IoTask OpenAsync()
    {
        if (!Child.Driver.SupportsCompression)
        {
            throw new QapiException($"Compression is not supported for underlying format: {Child.Driver.FormatName}");
        }

        _clusterBytes = Child.Driver.ClusterBytes;
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        ImageDescription below = new();
        Child.Driver.DescribeImage(below);
        (image.IsDirty, image.IsCompressed) = (below.IsDirty, below.IsCompressed);
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits)
    {
        // Clusters are compressed whole; less is read, put together and written.
        limits.RequestAlignment = Math.Max(Child.Limits.RequestAlignment, _clusterBytes);
    }

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        // The last cluster may be a part of one.
        long inside = Math.Min(data.Size, Child.Length - offset);
        return inside == data.Size ? Child.WriteCompressedAsync(offset, data) : WriteLastAsync(offset, data, inside);
    }

    private async IoTask<int> WriteLastAsync(long offset, IoVectors data, long inside)
    {
        IoVectors part = IoVectors.RentSlice(data, 0, inside);
        int result = await Child.WriteCompressedAsync(offset, part);
        part.Return();
        return result;
    }
}
