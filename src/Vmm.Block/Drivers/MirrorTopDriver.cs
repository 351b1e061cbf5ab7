using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers;

/// <summary>Does what a mirror wants done with each write beside the write itself. Home: the node's loop.</summary>
internal interface IMirrorWriter
{
    /// <summary>Waits until the range may be written, and keeps copies off it.</summary>
    IoTask BeginAsync(long offset, long bytes);

    /// <summary>The source has been written.</summary>
    /// <param name="offset">Begin of the range.</param>
    /// <param name="bytes">Its length.</param>
    /// <param name="data">What was written; null for zeroes.</param>
    /// <param name="isDiscard">The range was forgotten.</param>
    /// <param name="result">The source's result.</param>
    IoTask EndAsync(long offset, long bytes, IoVectors? data, bool isDiscard, int result);
}

/// <summary>
/// The filter that a mirror job puts above its source: it passes everything on, and marks the place at which the users of the source are
/// pointed to the target. Where the job wants that, each write goes to the target as well before it completes.
/// </summary>
/// <param name="isCommit">The target is a backing file of the source.</param>
public sealed class MirrorTopDriver(bool isCommit) : FilterDriver
{
    /// <inheritdoc/>
    public override string FormatName => "mirror_top";

    /// <inheritdoc/>
    public override bool IsTemporary => true;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => base.SupportedWriteFlags | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => base.SupportedZeroFlags | BlockRequestFlags.MayUnmap | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override string ExactFilename => Child.Filename;

    /// <summary>Gets each write; null when writes are copied afterwards. Set while drained or on the node's loop.</summary>
    internal IMirrorWriter? Writer { get; set; }

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        Writer is { } writer ? WriteBothAsync(writer, offset, data, flags) : base.WriteAsync(offset, data, flags);

    /// <inheritdoc/>
    public override IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags) =>
        Writer is { } writer ? ZeroBothAsync(writer, offset, bytes, flags) : base.WriteZeroesAsync(offset, bytes, flags);

    /// <inheritdoc/>
    public override IoTask<int> DiscardAsync(long offset, long bytes) =>
        Writer is { } writer ? DiscardBothAsync(writer, offset, bytes) : base.DiscardAsync(offset, bytes);

    /// <inheritdoc/>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared)
    {
        (BlockPermissions own, BlockPermissions others) = base.ChildPermissions(child, needed, shared);

        // The backing files are not consistent while the target is written, and all of them must let it be written.
        return isCommit ? (own & ~BlockPermissions.ConsistentRead, others | BlockPermissions.Write) : (own, others);
    }

    private async IoTask<int> WriteBothAsync(IMirrorWriter writer, long offset, IoVectors data, BlockRequestFlags flags)
    {
        await writer.BeginAsync(offset, data.Size);
        int result = await base.WriteAsync(offset, data, flags);
        await writer.EndAsync(offset, data.Size, data, isDiscard: false, result);
        return result;
    }

    private async IoTask<int> ZeroBothAsync(IMirrorWriter writer, long offset, long bytes, BlockRequestFlags flags)
    {
        await writer.BeginAsync(offset, bytes);
        int result = await base.WriteZeroesAsync(offset, bytes, flags);
        await writer.EndAsync(offset, bytes, null, isDiscard: false, result);
        return result;
    }

    private async IoTask<int> DiscardBothAsync(IMirrorWriter writer, long offset, long bytes)
    {
        await writer.BeginAsync(offset, bytes);
        int result = await base.DiscardAsync(offset, bytes);
        await writer.EndAsync(offset, bytes, null, isDiscard: true, result);
        return result;
    }
}
