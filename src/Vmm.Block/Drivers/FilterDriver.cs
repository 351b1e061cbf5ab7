using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers;

/// <summary>A driver whose node shows the contents of its one child: everything is passed on unless a filter says otherwise.</summary>
public abstract class FilterDriver : BlockDriver
{
    /// <inheritdoc/>
    public override bool IsFilter => true;

    /// <inheritdoc/>
    public override bool HasZeroInit => Child.Driver.HasZeroInit;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => Child.Driver.SupportedWriteFlags | BlockRequestFlags.WriteUnchanged;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => Child.Driver.SupportedZeroFlags | BlockRequestFlags.WriteUnchanged;

    /// <summary>A job's own filter, which goes when it likes: no other job may rely on it.</summary>
    public virtual bool IsTemporary => false;

    /// <summary>The node that is shown.</summary>
    protected BlockNode Child => Node.Primary!.Node;

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(Child.Length);

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits) => limits.RequestAlignment = Child.Limits.RequestAlignment;

    /// <inheritdoc/>
    public override int ClusterBytes => Child.Driver.ClusterBytes;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        Child.Driver.DescribeImage(image);

        // What the image says of its backing file is its own affair.
        image.BackingFile = image.FullBackingFile = image.BackingFormat = null;
        if (IsFilter)
        {
            image.FormatSpecific = null;
        }
    }

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags) => Child.ReadAsync(offset, data, flags);

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) => Child.WriteAsync(offset, data, flags);

    /// <inheritdoc/>
    public override IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags) => Child.WriteZeroesAsync(offset, bytes, flags);

    /// <inheritdoc/>
    public override IoTask<int> DiscardAsync(long offset, long bytes) => Child.DiscardAsync(offset, bytes);

    /// <inheritdoc/>
    public override IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero) =>
        new(new BlockStatus(BlockStatusFlags.Raw | BlockStatusFlags.OffsetValid, bytes, offset, Child));

    /// <inheritdoc/>
    public override IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed) =>
        Child.TruncateAsync(length, exact, prealloc, zeroed);
}
