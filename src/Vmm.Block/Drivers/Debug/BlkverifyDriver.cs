using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Debug;

/// <summary>
/// A filter for tests: what is written goes to two children, what is read is compared, and a difference ends the process through
/// <see cref="BlockGraph.OnMismatch"/>.
/// </summary>
public sealed class BlkverifyDriver : FilterDriver
{
    /// <inheritdoc/>
    public override string FormatName => "blkverify";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => BlockRequestFlags.WriteUnchanged;

    /// <inheritdoc/>
    public override string? ExactFilename =>
        Child.Driver.ExactFilename is { } raw && Test.Driver.ExactFilename is { } test ? $"blkverify:{raw}:{test}" : null;

    private BlockNode Test => Node.FindChild("test")!.Node;

    /// <inheritdoc/>
    public override long GetAllocatedBytes() => BlockResult.NotSupported;

    /// <inheritdoc/>
    public override int ClusterBytes => 0;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        ImageDescription below = new();
        Node.Filtered!.Node.Driver.DescribeImage(below);
        image.IsDirty = below.IsDirty;
    }

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(Test.Length);

    /// <inheritdoc/>
    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        using NativeBuffer buffer = new((int)data.Size);
        IoVectors raw = IoVectors.Rent(buffer.Vector(0, buffer.Length));
        IoTask<int> second = Child.ReadAsync(offset, raw, flags);
        int result = await Test.ReadAsync(offset, data, flags);
        int rawResult = await second;
        raw.Return();
        CheckResults("read", offset, data.Size, result, rawResult);
        if (result >= 0 && FirstDifference(data, buffer.Span) is >= 0 and var position)
        {
            Node.Graph.OnMismatch($"blkverify: read offset={offset} bytes={data.Size} contents mismatch at offset {offset + position}\n");
        }

        return result;
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        IoTask<int> second = Child.WriteAsync(offset, data, flags);
        int result = await Test.WriteAsync(offset, data, flags);
        CheckResults("write", offset, data.Size, result, await second);
        return result;
    }

    /// <inheritdoc/>
    public override IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags) => new(BlockResult.NotSupported);

    /// <inheritdoc/>
    public override IoTask<int> DiscardAsync(long offset, long bytes) => new(BlockResult.NotSupported);

    /// <inheritdoc/>
    public override IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed) =>
        throw new Qapi.QapiException("Image format driver does not support resize");

    private static long FirstDifference(IoVectors data, ReadOnlySpan<byte> other)
    {
        long done = 0;
        foreach (ref readonly IoVec piece in data.Items)
        {
            ReadOnlySpan<byte> part = other.Slice((int)done, (int)piece.Length);
            int equal = piece.Span.CommonPrefixLength(part);
            if (equal < part.Length)
            {
                return done + equal;
            }

            done += part.Length;
        }

        return -1;
    }

    private void CheckResults(string what, long offset, long bytes, int test, int raw)
    {
        if (test != raw)
        {
            Node.Graph.OnMismatch($"blkverify: {what} offset={offset} bytes={bytes} return value mismatch {test} != {raw}\n");
        }
    }
}
