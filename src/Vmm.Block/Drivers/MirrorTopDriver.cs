using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers;

/// <summary>
/// The filter that a mirror job puts above its source: it passes everything on, and marks the place at which the users of the source are
/// pointed to the target.
/// </summary>
public sealed class MirrorTopDriver : BlockDriver
{
    /// <inheritdoc/>
    public override string FormatName => "mirror_top";

    /// <inheritdoc/>
    public override bool IsFilter => true;

    /// <inheritdoc/>
    public override bool HasZeroInit => Child.Driver.HasZeroInit;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => Child.Driver.SupportedWriteFlags | BlockRequestFlags.WriteUnchanged | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags =>
        Child.Driver.SupportedZeroFlags | BlockRequestFlags.MayUnmap | BlockRequestFlags.WriteUnchanged | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override string ExactFilename => Child.Filename;

    private BlockNode Child => Node.Backing!.Node;

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(Child.Length);

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits) => limits.RequestAlignment = Child.Limits.RequestAlignment;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image) => Child.Driver.DescribeImage(image);

    /// <inheritdoc/>
    public override long GetAllocatedBytes() => Child.Driver.GetAllocatedBytes();

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
}
