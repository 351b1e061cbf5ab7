using System.Text;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>LUKS volumes, version 1.</summary>
/// <param name="options">Options.</param>
/// <param name="workers">Threads for passwords.</param>
/// <param name="findSecret">The text of a secret object by its id.</param>
public sealed class LuksDriver(BlockdevOptionsLuks options, LoopWorkers workers, Func<string, string> findSecret) : BlockDriver
{
    private LuksVolume? _volume;

    /// <inheritdoc/>
    public override string FormatName => "luks";

    /// <inheritdoc/>
    public override bool IsFormat => true;

    /// <inheritdoc/>
    public override bool IsEncrypted => true;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => File.Driver.SupportedWriteFlags & BlockRequestFlags.Fua;

    private BlockNode File => Node.File!.Node;

    private long PayloadOffset => _volume!.Header.PayloadOffset;

    /// <inheritdoc/>
    public override void DescribeOptions(QDict described)
    {
        if (options.KeySecret is { } secret)
        {
            described["key-secret"] = secret;
        }
    }

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        image.IsDirty = false;
        image.FormatSpecific = new QDict { ["type"] = new QString("luks"), ["data"] = _volume!.Header.Describe() };
    }

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        string secret = options.KeySecret ?? throw new QapiException("Parameter 'key-secret' is required for cipher");
        byte[] password = Encoding.UTF8.GetBytes(findSecret(secret));
        _volume = await LuksVolume.OpenAsync(File, 0, password, workers);
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _volume?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override IoTask AmendAsync(BlockdevAmendOptions amend, bool force) =>
        new LuksAmendment(_volume!, File, 0, findSecret, workers, needsWrites: true).RunAsync(amend.Luks!, options.KeySecret, force);

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync()
    {
        long length = File.Length - PayloadOffset;
        return new(length < 0 ? BlockResult.Invalid : length);
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits) => limits.RequestAlignment = LuksHeader.SectorBytes;

    /// <inheritdoc/>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared)
    {
        // The header is not written while the volume is open, so that others may write what they may of the volume.
        var (neededBelow, _) = base.ChildPermissions(child, needed, shared);
        return ((needed & ~BlockPermissions.Resize) | (needed & BlockPermissions.Resize) | (neededBelow & BlockPermissions.ConsistentRead), shared);
    }

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        _volume!.ReadAsync(File, offset + PayloadOffset, offset / LuksHeader.SectorBytes, data);

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        _volume!.WriteAsync(File, offset + PayloadOffset, offset / LuksHeader.SectorBytes, data, flags);

    /// <inheritdoc/>
    public override IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed) =>
        length > long.MaxValue - PayloadOffset
            ? throw new QapiException("The requested file size is too large")
            : File.TruncateAsync(length + PayloadOffset, exact, prealloc, zeroed: false);
}
