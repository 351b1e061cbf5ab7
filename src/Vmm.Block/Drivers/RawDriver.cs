using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>An image without metadata, or a window of its file.</summary>
public sealed class RawDriver : FilterDriver
{
    private const int ProbedBytes = 512;
    private const int SectorBytes = 512;

    private long _offset;
    private long? _size;

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
    public override bool IsFilter => false;

    /// <inheritdoc/>
    public override string? ExactFilename => _offset == 0 && _size is null ? Child.Filename.StartsWith("json:", StringComparison.Ordinal) ? null : Child.Filename : null;

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
    public override BlockRequestFlags SupportedZeroFlags => Child.Driver.SupportedZeroFlags | BlockRequestFlags.MayUnmap;

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        Check(_offset, _size, Child.Length);
        await IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override bool IsChangeable(string option) => option is "offset" or "size";

    /// <inheritdoc/>
    public override IoTask<ReopenStep?> PrepareReopenAsync(BlockdevOptions options, NodeOptions common)
    {
        RawDriver wanted = new(options.Raw!);
        Check(wanted._offset, wanted._size, Child.Length);
        return new(new Window(this, wanted._offset, wanted._size));
    }

    /// <inheritdoc/>
    public override async IoTask<long> GetLengthAsync()
    {
        await IoTask.CompletedTask;
        return Math.Min(_size ?? long.MaxValue, Math.Max(Child.Length - _offset, 0));
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits) =>
        limits.RequestAlignment = Math.Max(Child.Limits.RequestAlignment, Node.IsProbed ? ProbedBytes : 1);

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        Check(offset, data.Size) is < 0 and int error ? new(error) : Child.ReadAsync(offset + _offset, data, flags);

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        Check(offset, data.Size) is < 0 and int error ? new(error)
        : offset == 0 && Node.IsProbed && LooksLikeAnImage(data) ? new(-(int)Errno.EPERM)
        : Child.WriteAsync(offset + _offset, data, flags);

    /// <inheritdoc/>
    public override IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags) =>
        Check(offset, bytes) is < 0 and int error ? new(error) : Child.WriteZeroesAsync(offset + _offset, bytes, flags);

    /// <inheritdoc/>
    public override IoTask<int> DiscardAsync(long offset, long bytes) =>
        Check(offset, bytes) is < 0 and int error ? new(error) : Child.DiscardAsync(offset + _offset, bytes);

    /// <inheritdoc/>
    public override IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero) =>
        new(new BlockStatus(BlockStatusFlags.Raw | BlockStatusFlags.OffsetValid, bytes, offset + _offset, Child));

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

        return Child.TruncateAsync(length + _offset, exact, prealloc, zeroed);
    }

    private static void Check(long offset, long? window, long length)
    {
        if (length < offset)
        {
            throw new QapiException($"Offset ({offset}) cannot be greater than size of the containing file ({length})");
        }

        if (window is { } size && length - offset < size)
        {
            throw new QapiException($"The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the  actual size of the containing file ({length})");
        }

        if (window % SectorBytes is > 0)
        {
            throw new QapiException("Specified size is not multiple of 512");
        }
    }

    // A guest could otherwise make the next run of the program take its data for an image of another format, with a backing file of its choice.
    private bool LooksLikeAnImage(IoVectors data)
    {
        Span<byte> head = stackalloc byte[ProbedBytes];
        data.CopyTo(0, head);
        return Node.Graph.DriverRegistry.Probe(head, null) != FormatName;
    }

    // A window does not grow by writes behind its end.
    private int Check(long offset, long bytes) =>
        _size is { } size && (offset > size || bytes > size - offset) ? -(int)Errno.ENOSPC : offset > long.MaxValue - _offset ? BlockResult.Invalid : 0;

    private sealed class Window(RawDriver driver, long offset, long? size) : ReopenStep
    {
        public override IoTask CommitAsync()
        {
            (driver._offset, driver._size) = (offset, size);
            return IoTask.CompletedTask;
        }
    }
}
