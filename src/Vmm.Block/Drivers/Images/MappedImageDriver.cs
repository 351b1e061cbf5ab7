using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>What an image has at the beginning of a range.</summary>
internal enum ImageKind
{
    /// <summary>Nothing: the backing file shows, or zeroes.</summary>
    Hole,

    /// <summary>Zeroes.</summary>
    Zero,

    /// <summary>Bytes as they are.</summary>
    Data,

    /// <summary>Bytes that must be decompressed.</summary>
    Packed,
}

/// <summary>Where the beginning of a range is.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Bytes">For how many bytes that holds, at least 1.</param>
/// <param name="File">The node that has them.</param>
/// <param name="Offset">Where, in that node.</param>
internal readonly record struct ImageExtent(ImageKind Kind, long Bytes, BlockNode? File = null, long Offset = 0);

/// <summary>
/// An image format of which only the mapping of offsets differs from others, for reading. Where the image could be written by QEMU, a node
/// that is to be written is refused in the words of a QEMU that was built to read the format only.
/// </summary>
public abstract class MappedImageDriver : BlockDriver
{
    /// <inheritdoc/>
    public override bool IsFormat => true;

    /// <inheritdoc/>
    public override bool HasZeroInit => true;

    /// <inheritdoc/>
    public override string? ExactFilename => IsBackingOverridden ? null : FileName;

    /// <inheritdoc/>
    public override string? FileName => Node.File!.Node.Driver.ExactFilename;

    /// <inheritdoc/>
    public override bool IsBackingOverridden => Node.Backing is { } backing
        ? backing.Node.Filename != (AutoBacking ?? (string.IsNullOrEmpty(BackingName) ? null : ImageNames.TryResolve(BackingName, FileName)))
        : !string.IsNullOrEmpty(BackingName);

    /// <summary>Bytes of the disk; set by <see cref="OpenImageAsync"/>.</summary>
    protected long Size { get; set; }

    /// <summary>What is said of a node that is to be written.</summary>
    protected virtual string ReadOnlyReason => $"Driver '{FormatName}' can only be used for read-only devices";

    /// <summary>Name of the backing file as the image has it; null for none.</summary>
    private protected virtual string? BackingName => null;

    /// <summary>What the backing file was opened as, because the image names it.</summary>
    private protected string? AutoBacking { get; set; }

    private protected BlockNode ImageFile => Node.File!.Node;

    /// <inheritdoc/>
    public sealed override async IoTask OpenAsync()
    {
        Node.RequireReadOnly(ReadOnlyReason);
        try
        {
            await OpenImageAsync();
        }
        catch (QapiException)
        {
            await CloseAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(Size);

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits)
    {
        limits.RequestAlignment = 512;
        limits.MaxTransfer = 0;
    }

    /// <inheritdoc/>
    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        int result = 0;
        for (long done = 0; done < data.Size && result >= 0;)
        {
            (result, ImageExtent extent) = await FindAsync(offset + done, data.Size - done);
            if (result < 0)
            {
                break;
            }

            long bytes = Math.Min(extent.Bytes, data.Size - done);
            IoVectors part = IoVectors.RentSlice(data, done, bytes);
            result = await ReadExtentAsync(offset + done, extent, part);
            part.Return();
            done += bytes;
        }

        return result;
    }

    /// <inheritdoc/>
    public override async IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero)
    {
        var (result, extent) = await FindAsync(offset, bytes);
        if (result < 0)
        {
            return BlockStatus.Error(result);
        }

        bytes = Math.Min(bytes, extent.Bytes);
        return extent.Kind switch
        {
            ImageKind.Data => new BlockStatus(
                BlockStatusFlags.Data | BlockStatusFlags.OffsetValid | BlockStatusFlags.Recurse, bytes, extent.Offset, extent.File),
            ImageKind.Packed => new BlockStatus(BlockStatusFlags.Data | BlockStatusFlags.Compressed, bytes),
            ImageKind.Zero => new BlockStatus(BlockStatusFlags.Zero, bytes),
            _ => new BlockStatus(SupportsBacking ? BlockStatusFlags.None : BlockStatusFlags.Zero, bytes),
        };
    }

    /// <summary>Reads what the driver must know, and sets <see cref="Size"/>.</summary>
    /// <exception cref="QapiException">It is no image that can be read.</exception>
    protected abstract IoTask OpenImageAsync();

    /// <summary>Where the beginning of a range within the disk is.</summary>
    private protected abstract IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes);

    /// <summary>Reads a part of a compressed extent.</summary>
    private protected virtual IoTask<int> ReadPackedAsync(long offset, ImageExtent extent, IoVectors data) => new(BlockResult.Io);

    /// <summary>Fails with "what: error" where a request has.</summary>
    private protected static void Check(int result, string what)
    {
        if (result < 0)
        {
            throw new QapiException($"{what}: {BlockResult.Text(result)}");
        }
    }

    /// <summary>Bytes of a node; what lies behind its end is zero.</summary>
    private protected static async IoTask<int> ReadBytesAsync(BlockNode node, long offset, Memory<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return 0;
        }

        using NativeBuffer buffer = new(bytes.Length);
        IoVectors data = IoVectors.Rent(buffer.Vector(0, bytes.Length));
        int result = await node.ReadAsync(offset, data);
        data.Return();
        if (result >= 0)
        {
            buffer.Span.CopyTo(bytes.Span);
        }

        return result;
    }

    private async IoTask<int> ReadExtentAsync(long offset, ImageExtent extent, IoVectors data)
    {
        switch (extent.Kind)
        {
            case ImageKind.Data:
                return await extent.File!.ReadAsync(extent.Offset, data);
            case ImageKind.Packed:
                return await ReadPackedAsync(offset, extent, data);
            case ImageKind.Hole when Node.Backing is { } backing:
                return CheckBacking() is < 0 and int error ? error : await backing.Node.ReadAsync(offset, data);
            default:
                data.Fill(0, data.Size, 0);
                return 0;
        }
    }

    /// <summary>0 while the backing file is the one that the image was made for; a negative errno.</summary>
    private protected virtual int CheckBacking() => 0;
}
