using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Dump;

/// <summary>
/// Where a dump goes. A regular file or a block device that can be written anywhere takes writes in any order and from any thread; pipes,
/// sockets and files that are only appended to take them one after the other. Offsets count from where the descriptor stood.
/// </summary>
internal sealed class DumpFile : IDisposable
{
    // Holes shorter than this cost more calls than they save bytes.
    private const int HoleBytes = 16 << 10;
    private const int PageBytes = 4096;
    private const short PollOut = 4;
    private const int PollMs = 100;

    private readonly SafeFd _fd;
    private readonly DumpProgress _progress;
    private readonly long _start;
    private readonly bool _hasHoles;
    private readonly bool _hadContents;
    private long _position;

    /// <summary>Takes over a descriptor that is open for writing.</summary>
    internal DumpFile(SafeFd fd, DumpProgress progress)
    {
        _fd = fd;
        _progress = progress;
        int flags = Libc.Fcntl(fd.Fd, Libc.F_GETFL, 0);
        _start = Libc.LSeek(fd.Fd, 0, Libc.SEEK_CUR);
        if (flags < 0 || (flags & (Libc.O_APPEND | Libc.O_DIRECT)) != 0 || _start < 0 || Libc.FStat(fd.Fd, out FileStatus status) != Errno.OK)
        {
            return;
        }

        IsSeekable = status.IsRegular || status.IsBlockDevice;
        _hasHoles = status.IsRegular && status.st_size <= _start;
        _hadContents = IsSeekable && !_hasHoles;
    }

    /// <summary>Writes may come in any order and from several threads.</summary>
    internal bool IsSeekable { get; }

    /// <summary>Errors say what the operating system said.</summary>
    internal bool NamesCause { get; init; } = true;

    /// <inheritdoc/>
    public void Dispose() => _fd.Dispose();

    /// <summary>
    /// What a file had where the dump's header comes is overwritten with zeroes: it must not pass for the header of a dump that is written in part.
    /// </summary>
    internal void Invalidate(int headerBytes, string what)
    {
        if (_hadContents)
        {
            WriteAt(0, new byte[headerBytes], what);
        }
    }

    /// <summary>Writes everything at an offset: behind what was written before unless <see cref="IsSeekable"/>.</summary>
    /// <param name="offset">Offset in the dump.</param>
    /// <param name="bytes">Contents.</param>
    /// <param name="what">What fails, for the operator: "save memory".</param>
    /// <exception cref="QapiException">The write failed, or the dump is given up.</exception>
    internal void WriteAt(long offset, ReadOnlySpan<byte> bytes, string what)
    {
        if (!IsSeekable && offset != _position)
        {
            throw new InvalidOperationException($"a stream at {_position} cannot be written at {offset}");
        }

        while (!bytes.IsEmpty)
        {
            _progress.ThrowIfCancelled();
            int n = IsSeekable ? Libc.PWrite(_fd.Fd, bytes, _start + offset) : Libc.Write(_fd.Fd, bytes);
            if (n == -(int)Errno.EAGAIN)
            {
                Span<PollFd> wait = [new PollFd { fd = _fd.Fd, events = PollOut }];
                Libc.Poll(wait, PollMs);
                continue;
            }

            if (n <= 0)
            {
                throw Failure(what, n == 0 ? Errno.ENOSPC : (Errno)(-n));
            }

            bytes = bytes[n..];
            offset += n;
            _position = offset;
        }
    }

    /// <summary>As <see cref="WriteAt"/>; what is zero stays a hole where the file can have one.</summary>
    internal void WriteSparse(long offset, ReadOnlySpan<byte> bytes, string what)
    {
        if (!_hasHoles)
        {
            WriteAt(offset, bytes, what);
            return;
        }

        // [from, at) is to be written, but for the zeroes at its end.
        int from = 0;
        int dataEnd = 0;
        for (int at = 0; at < bytes.Length;)
        {
            int length = Math.Min(PageBytes, bytes.Length - at);
            bool isZero = bytes.Slice(at, length).IndexOfAnyExcept((byte)0) < 0;
            if (!isZero)
            {
                if (at - dataEnd >= HoleBytes || dataEnd == from)
                {
                    WriteAt(offset + from, bytes[from..dataEnd], what);
                    from = at;
                }

                dataEnd = at + length;
            }

            at += length;
        }

        WriteAt(offset + from, bytes[from..dataEnd], what);
    }

    /// <summary>All was written: the file gets its length, and the descriptor stands at its end.</summary>
    internal void Complete(long length, string what)
    {
        if (!IsSeekable)
        {
            return;
        }

        long end = _start + length;
        Errno errno = _hasHoles ? Libc.FTruncate(_fd.Fd, end) : Errno.OK;
        if (errno != Errno.OK)
        {
            throw Failure(what, errno);
        }

        Libc.LSeek(_fd.Fd, end, Libc.SEEK_SET);
    }

    private QapiException Failure(string what, Errno errno) =>
        new(NamesCause ? $"dump: failed to {what}: {errno.Message()}" : $"dump: failed to {what}");
}
