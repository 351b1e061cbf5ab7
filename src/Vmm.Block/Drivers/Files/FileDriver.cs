using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Fds;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Files;

/// <summary>
/// A file or block device of the host. Reads that the page cache can answer are done at once; everything else goes to worker threads.
/// </summary>
public sealed partial class FileDriver : BlockDriver
{
    // Longer reads would keep the loop from its other work even when they are in the page cache.
    private const int MaxInlineBytes = 128 << 10;

    private readonly FileKind _kind;
    private readonly string _filename;
    private readonly LockingMode _locking;
    private readonly AioMode? _aio;
    private readonly long _maxBatch;
    private readonly FdSets _fdSets;
    private readonly LoopWorkers _workers;
    private readonly FileWriter _writer;
    private readonly FileWriteOut _writeOut;
    private FileRing? _ring;
    private readonly Stack<FileRequest> _free = new();
    private SafeFd _fd = new(-1);
    private bool _isWritable;
    private bool _isLocking;
    private bool _isRegular;
    private bool _triesInline;
    private bool _isCached;
    private (long Start, long End) _knownData;
    private int _changes;
    private bool _triesZero = true;
    private bool _triesDiscard = true;
    private int _flushError;
    private FileLocks.Locks _locks;

    /// <summary>A file.</summary>
    public FileDriver(BlockdevOptionsFile options, FileKind kind, FdSets fdSets, LoopWorkers workers)
    {
        _kind = kind;
        _filename = options.Filename;
        if (_filename.Length == 0)
        {
            throw new QapiException($"The '{FormatName}' block driver requires a file name");
        }

        _locking = options.Locking ?? LockingMode.Auto;
        _fdSets = fdSets;
        _workers = workers;
        _aio = options.Aio;
        _maxBatch = options.AioMaxBatch ?? 0;
        _writer = new FileWriter(workers);
        _writeOut = new FileWriteOut(workers);
    }

    /// <inheritdoc/>
    public override string FormatName => _kind switch
    {
        FileKind.Regular => "file",
        FileKind.Cdrom => "host_cdrom",
        _ => "host_device",
    };

    /// <inheritdoc/>
    public override string ExactFilename => _filename;

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options) => options["filename"] = _filename;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image) => image.IsDirty = false;

    /// <inheritdoc/>
    public override bool HasZeroInit => _isRegular;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => BlockRequestFlags.MayUnmap | BlockRequestFlags.NoFallback;

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        NodeOptions options = Node.Options;
        _isWritable = !options.IsReadOnly;
        Errno errno = Open(_isWritable);
        if (errno is Errno.EACCES or Errno.EROFS or Errno.EPERM or Errno.EISDIR && _isWritable && options.IsAutoReadOnly)
        {
            _isWritable = false;
            Node.Options = options with { IsReadOnly = true };
            errno = Open(writable: false);
        }

        if (errno != Errno.OK)
        {
            throw new QapiException(_filename.StartsWith("/dev/fdset/", StringComparison.Ordinal)
                ? $"Could not dup FD for {_filename} flags {Flags(_isWritable):x}: {errno.Message()}"
                : $"Could not open '{_filename}': {errno.Message()}");
        }

        Libc.FStat(_fd.Fd, out FileStatus status);
        CheckKind(status);
        _isRegular = status.IsRegular;
        _isCached = _isRegular && !options.IsDirect;
        _triesInline = !options.IsDirect;
        _isLocking = _locking == LockingMode.On || (_locking == LockingMode.Auto && !options.IsForceShare && FileLocks.IsAvailable(_fd.Fd));

        // Last: a ring belongs to a file that is open, and goes with it.
        OpenRing(_aio ?? options.Aio ?? AioMode.Threads);
        if (_ring is not null)
        {
            _ring.MaxBatch = _maxBatch > 0 ? _maxBatch : long.MaxValue;
        }

        await IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _fd.Dispose();
        _ring?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync()
    {
        long length = Libc.LSeek(_fd.Fd, 0, Libc.SEEK_END);
        return new(length);
    }

    /// <inheritdoc/>
    public override long GetAllocatedBytes()
    {
        Errno errno = Libc.FStat(_fd.Fd, out FileStatus status);
        return errno != Errno.OK ? -(long)errno : status.st_blocks * 512;
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits)
    {
        // Without asking the device nothing smaller than a page is safe for O_DIRECT on every file system; 512 bytes are tried first.
        limits.RequestAlignment = Node.Options.IsDirect ? ProbeAlignment() : 1;
        limits.MemoryAlignment = Node.Options.IsDirect ? 4096 : 1;
        limits.MaxIov = 1024;
    }

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        if (_kind == FileKind.Cdrom && !Cdrom.HasDisc(_fd.Fd))
        {
            return new(BlockResult.NoMedium);
        }

        if (_triesInline && data.Size <= MaxInlineBytes)
        {
            long count = Libc.PReadV(_fd.Fd, data.Items, offset, Libc.RWF_NOWAIT);
            if (count == data.Size)
            {
                return new(0);
            }

            if (count is -(long)Errno.EOPNOTSUPP or -(long)Errno.EINVAL or -(long)Errno.ENOSYS)
            {
                _triesInline = false;
            }
        }

        return CanRing(data) ? _ring!.ReadAsync(_fd.Fd, offset, data) : SubmitAsync(FileOperation.Read, offset, data.Size, data);
    }

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        _isCached && Node.IsFilledByJob ? WriteMuchAsync(offset, data) : WriteAsync(offset, data);

    private IoTask<int> WriteAsync(long offset, IoVectors data) =>
        CanRing(data) ? _ring!.WriteAsync(_fd.Fd, offset, data)
        : _isCached ? WriteInOrderAsync(offset, data) : SubmitAsync(FileOperation.Write, offset, data.Size, data);

    /// <inheritdoc/>
    public override async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        if (!_triesZero)
        {
            return BlockResult.NotSupported;
        }

        FileOperation operation = (flags & BlockRequestFlags.MayUnmap) != 0 ? FileOperation.ZeroUnmap : FileOperation.Zero;
        ForgetData();
        int result = await SubmitAsync(operation, offset, bytes, null);
        ForgetData();
        if (result == BlockResult.NotSupported)
        {
            _triesZero = false;
        }

        return result;
    }

    /// <inheritdoc/>
    public override async IoTask<int> DiscardAsync(long offset, long bytes)
    {
        if (!_triesDiscard)
        {
            return BlockResult.NotSupported;
        }

        ForgetData();
        int result = await SubmitAsync(FileOperation.Discard, offset, bytes, null);
        ForgetData();
        if (result == BlockResult.NotSupported)
        {
            _triesDiscard = false;
        }

        DiscardStatistics.Count(result, bytes);
        return result;
    }

    /// <summary>How often the kernel was told to begin to write out what jobs have written.</summary>
    internal long WriteOutSteps => _writeOut.Steps;

    /// <summary>Discards so far.</summary>
    public DiscardCounters DiscardStatistics { get; } = new();

    /// <inheritdoc/>
    public override async IoTask<int> FlushToDiskAsync()
    {
        // After a failed flush the kernel may have dropped what could not be written: no later flush can promise it.
        if (_flushError != 0)
        {
            return _flushError;
        }

        int result = _ring is not null ? await _ring.FlushAsync(_fd.Fd) : await SubmitAsync(FileOperation.Flush, 0, 0, null);
        if (result < 0 && !Node.Options.IsDirect)
        {
            _flushError = result;
        }

        return result;
    }

    /// <inheritdoc/>
    public override async IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero)
    {
        if (!wantZero)
        {
            return new BlockStatus(BlockStatusFlags.Data | BlockStatusFlags.OffsetValid, bytes, offset, Node);
        }

        // Looking for the end of a range costs a walk through all of it: one that was found serves until something is punched out.
        if (offset >= _knownData.Start && offset < _knownData.End)
        {
            return new BlockStatus(BlockStatusFlags.OffsetValid | BlockStatusFlags.Data, Math.Min(bytes, _knownData.End - offset), offset, Node);
        }

        int changes = _changes;
        FileRequest request = Rent(FileOperation.SeekData, offset, bytes, null);
        await request.RunAsync(_workers);
        BlockStatusFlags flags = BlockStatusFlags.OffsetValid | (request.IsData ? BlockStatusFlags.Data : BlockStatusFlags.Zero);
        long part = Math.Min(bytes, request.RangeEnd - offset);
        int align = Node.Limits.RequestAlignment;
        part = Math.Min(bytes, (part + align - 1) & ~(long)(align - 1));
        if (request.IsData && changes == _changes)
        {
            _knownData = (offset, request.RangeEnd & ~(long)(align - 1));
        }

        Return(request);
        return new BlockStatus(flags, part, offset, Node);
    }

    /// <inheritdoc/>
    public override async IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed)
    {
        if (!_isRegular)
        {
            long current = await GetLengthAsync();
            if (length != current && exact)
            {
                throw new QapiException("Cannot resize device files");
            }

            if (length > current)
            {
                throw new QapiException("Cannot grow device files");
            }

            return;
        }

        ForgetData();
        await PreallocateAsync(length, prealloc);
        ForgetData();
    }

    /// <inheritdoc/>
    public override void SetPermissions(BlockPermissions needed, BlockPermissions shared)
    {
        if (!_isLocking || _fd.IsInvalid)
        {
            return;
        }

        FileLocks.Locks wanted = new(needed, BlockPermissions.All & ~shared);
        FileLocks.Acquire(_fd.Fd, _filename, _locks, wanted);
        FileLocks.Drop(_fd.Fd, _locks.Without(wanted));
        _locks = wanted;
    }

    /// <inheritdoc/>
    public override void SetWritable(bool isWritable)
    {
        if (_isWritable == isWritable)
        {
            return;
        }

        SafeFd old = _fd;
        Errno errno = Open(isWritable);
        if (errno != Errno.OK)
        {
            _fd = old;
            throw new QapiException($"Could not open '{_filename}': {errno.Message()}");
        }

        // The same locks again: nobody can be in the way of what is held already.
        FileLocks.Copy(_fd.Fd, _locks);
        old.Dispose();
        _isWritable = isWritable;
    }

    /// <summary>True for the path of a drive that says it is one.</summary>
    internal static bool IsCdrom(string path)
    {
        if (Libc.Open(path, Libc.O_RDONLY | Libc.O_NONBLOCK | Libc.O_CLOEXEC, 0, out SafeFd drive) != Errno.OK)
        {
            return false;
        }

        using (drive)
        {
            return Libc.FStat(drive.Fd, out FileStatus status) == Errno.OK && status.IsBlockDevice && Cdrom.IsDrive(drive.Fd);
        }
    }

    internal static void Check(Errno errno, string what)
    {
        if (errno != Errno.OK)
        {
            throw new QapiException($"{what}: {errno.Message()}");
        }
    }

    private Errno Open(bool writable) => _fdSets.Open(_filename, Flags(writable), out _fd);

    // A drive without a disc is opened as well.
    private int Flags(bool writable) => Flags(writable, Node.Options.IsDirect) | (_kind == FileKind.Cdrom ? Libc.O_NONBLOCK : 0);

    private static int Flags(bool writable, bool isDirect) =>
        (writable ? Libc.O_RDWR : Libc.O_RDONLY) | (isDirect ? Libc.O_DIRECT : 0);

    private void CheckKind(in FileStatus status)
    {
        if (_kind != FileKind.Regular)
        {
            if (!status.IsBlockDevice && !status.IsCharDevice)
            {
                throw new QapiException($"'{FormatName}' driver requires '{_filename}' to be either a character or block device");
            }
        }
        else if (!status.IsRegular)
        {
            throw new QapiException($"'{FormatName}' driver requires '{_filename}' to be a regular file");
        }
    }

    private async IoTask PreallocateAsync(long length, PreallocMode prealloc)
    {
        long current = await GetLengthAsync();
        if (prealloc == PreallocMode.Metadata)
        {
            throw new QapiException("Unsupported preallocation mode 'metadata'");
        }

        if (length < current && prealloc != PreallocMode.Off)
        {
            throw new QapiException("Preallocation can't be used for shrinking files");
        }

        if (prealloc == PreallocMode.Falloc && length > current)
        {
            Check(Libc.FAllocate(_fd.Fd, 0, current, length - current), "Could not preallocate data for the new file");
        }

        Check(Libc.FTruncate(_fd.Fd, length), "Failed to resize file");
        if (prealloc != PreallocMode.Full)
        {
            return;
        }

        for (long offset = current; offset < length;)
        {
            long part = Math.Min(length - offset, ZeroMemory.MaxBytes);
            IoVectors zeroes = ZeroMemory.Rent(part);
            int result = await SubmitAsync(FileOperation.Write, offset, part, zeroes);
            zeroes.Return();
            if (result < 0)
            {
                Libc.FTruncate(_fd.Fd, current);
                throw new QapiException($"Could not write zeros for preallocation: {BlockResult.Text(result)}");
            }

            offset += part;
        }
    }

    private int ProbeAlignment()
    {
        using NativeBuffer buffer = new(4096);
        foreach (int align in (ReadOnlySpan<int>)[1, 512, 1024, 2048])
        {
            if (Libc.PRead(_fd.Fd, buffer.Address, (nuint)align, 0) >= 0)
            {
                // Some file systems fall back to buffered reads for odd lengths but not for odd offsets.
                return Math.Max(align, 512);
            }
        }

        return 4096;
    }

    // aio=native asks for the kernel's asynchronous I/O whichever way there is.
    private void OpenRing(AioMode mode)
    {
        if (mode == AioMode.Native && !Node.Options.IsDirect)
        {
            throw new QapiException("aio=native was specified, but it requires cache.direct=on, which was not specified.");
        }

        if (mode == AioMode.IoUring)
        {
            _ring = FileRing.Create();
        }
        else if (mode == AioMode.Native)
        {
            FileRing.TryCreate(out _ring);
        }
    }

    // What has to go through a buffer for O_DIRECT is a worker's.
    private bool CanRing(IoVectors data) => _ring is not null && !NeedsBounce(data);

    private bool NeedsBounce(IoVectors data) => Node.Options.IsDirect && !data.IsAligned(Node.Limits.RequestAlignment);

    private void ForgetData()
    {
        _knownData = default;
        _changes++;
    }

    private async IoTask<int> WriteMuchAsync(long offset, IoVectors data)
    {
        int result = await WriteAsync(offset, data);
        if (result >= 0 && _writeOut.Add(offset, data.Size))
        {
            WriteOutAsync().Forget();
        }

        return result;
    }

    // A request of its own, for which drained sections wait: it has the descriptor.
    private async IoTask WriteOutAsync()
    {
        Node.BeginRequest();
        await _writeOut.StepAsync(_fd.Fd);
        Node.EndRequest();
    }

    private async IoTask<int> WriteInOrderAsync(long offset, IoVectors data)
    {
        FileRequest request = Rent(FileOperation.Write, offset, data.Size, data);
        int result = await _writer.WriteAsync(request);
        Return(request);
        return result;
    }

    private async IoTask<int> SubmitAsync(FileOperation operation, long offset, long bytes, IoVectors? data)
    {
        FileRequest request = Rent(operation, offset, bytes, data);
        int result = (int)await request.RunAsync(_workers);
        Return(request);
        return result;
    }

    private FileRequest Rent(FileOperation operation, long offset, long bytes, IoVectors? data)
    {
        FileRequest request = _free.TryPop(out FileRequest? free) ? free : new FileRequest();
        request.Operation = operation;
        request.Fd = _fd.Fd;
        request.Offset = offset;
        request.Bytes = bytes;
        request.Data = data;
        request.BounceAlignment = data is not null && NeedsBounce(data) ? Node.Limits.RequestAlignment : 0;
        return request;
    }

    private void Return(FileRequest request)
    {
        request.Data = null;
        _free.Push(request);
    }
}

/// <summary>What query-blockstats says of the discards of a file.</summary>
public sealed class DiscardCounters
{
    /// <summary>Discards that succeeded.</summary>
    public long Succeeded { get; private set; }

    /// <summary>Discards that failed.</summary>
    public long Failed { get; private set; }

    /// <summary>Bytes of those that succeeded.</summary>
    public long Bytes { get; private set; }

    internal void Count(int result, long bytes)
    {
        if (result < 0)
        {
            Failed++;
            return;
        }

        Succeeded++;
        Bytes += bytes;
    }
}
