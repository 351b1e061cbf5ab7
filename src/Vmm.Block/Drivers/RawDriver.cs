using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>An image without metadata, or a window of its file.</summary>
public sealed class RawDriver : BlockDriver
{
    private readonly long _offset;
    private readonly long? _size;

    /// <summary>A window; the whole file when nothing is given.</summary>
    public RawDriver(BlockdevOptionsRaw options)
    {
        _offset = options.Offset ?? 0;
        _size = options.Size;
        if (_offset < 0 || _size < 0)
        {
            throw new QapiException($"Parameter '{(_offset < 0 ? "offset" : "size")}' expects a non-negative number below 2^64");
        }
    }

    /// <inheritdoc/>
    public override string FormatName => "raw";

    /// <inheritdoc/>
    public override bool IsFormat => true;

    /// <inheritdoc/>
    public override string? ExactFilename => _offset == 0 && _size is null ? File.Filename.StartsWith("json:", StringComparison.Ordinal) ? null : File.Filename : null;

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options)
    {
        if (_offset != 0)
        {
            options["offset"] = _offset;
        }

        if (_size is { } size)
        {
            options["size"] = size;
        }
    }

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image) => File.Driver.DescribeImage(image);

    /// <inheritdoc/>
    public override bool HasZeroInit => Node.File!.Node.Driver.HasZeroInit;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => Node.File!.Node.Driver.SupportedWriteFlags | BlockRequestFlags.WriteUnchanged;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => Node.File!.Node.Driver.SupportedZeroFlags | BlockRequestFlags.MayUnmap;

    private BlockNode File => Node.File!.Node;

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        long length = File.Length;
        if (length < _offset)
        {
            throw new QapiException($"Offset ({_offset}) cannot be greater than size of the containing file ({length})");
        }

        if (_size is { } size && length - _offset < size)
        {
            throw new QapiException($"The sum of offset ({_offset}) and size ({size}) has to be smaller or equal to the  actual size of the containing file ({length})");
        }

        await IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override async IoTask<long> GetLengthAsync()
    {
        await IoTask.CompletedTask;
        return _size ?? Math.Max(File.Length - _offset, 0);
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits) => limits.RequestAlignment = File.Limits.RequestAlignment;

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        Check(offset, data.Size) is < 0 and int error ? new(error) : File.ReadAsync(offset + _offset, data, flags);

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        Check(offset, data.Size) is < 0 and int error ? new(error) : File.WriteAsync(offset + _offset, data, flags);

    /// <inheritdoc/>
    public override IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags) =>
        Check(offset, bytes) is < 0 and int error ? new(error) : File.WriteZeroesAsync(offset + _offset, bytes, flags);

    /// <inheritdoc/>
    public override IoTask<int> DiscardAsync(long offset, long bytes) =>
        Check(offset, bytes) is < 0 and int error ? new(error) : File.DiscardAsync(offset + _offset, bytes);

    /// <inheritdoc/>
    public override IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero) =>
        new(new BlockStatus(BlockStatusFlags.Raw | BlockStatusFlags.OffsetValid, bytes, offset + _offset, File));

    /// <inheritdoc/>
    public override IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed)
    {
        if (_size is not null)
        {
            throw new QapiException("Cannot resize fixed-size raw disks");
        }

        if (long.MaxValue - length < _offset)
        {
            throw new QapiException("Disk size too large for the chosen offset");
        }

        return File.TruncateAsync(length + _offset, exact, prealloc, zeroed);
    }

    // A window does not grow by writes behind its end.
    private int Check(long offset, long bytes) =>
        _size is { } size && (offset > size || bytes > size - offset) ? -(int)Errno.ENOSPC : offset > long.MaxValue - _offset ? BlockResult.Invalid : 0;
}
