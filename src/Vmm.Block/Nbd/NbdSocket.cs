using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Tls;

namespace Vmm.Block.Nbd;

/// <summary>
/// A connected, non-blocking stream socket whose bytes are awaited, as they are or, after <see cref="StartTlsAsync"/>, those of a TLS session
/// over it. One reader and one writer at a time. After some system calls that found
/// data at once the others of the loop have their turn, so that a peer that never pauses holds nobody up. Results are 0 or a negative errno.
/// Home: the loop given, until <see cref="MoveTo"/>. No allocation in steady state.
/// </summary>
internal sealed class NbdSocket
{
    private const int BufferBytes = 16 << 10;
    private const int TurnBudget = 32;
    private const int MaxPieces = 1024;

    private readonly SafeFd _fd;
    private readonly NativeBuffer _buffer = new(BufferBytes);
    private readonly IoCompletion<bool> _readable = new();
    private readonly IoCompletion<bool> _writable = new();
    private readonly Action _resume;
    private FdWatch _watch;
    private TlsSession? _tls;
    private int _start;
    private int _end;
    private int _budget = TurnBudget;
    private bool _waitsToRead;
    private bool _isPaused;
    private bool _waitsToWrite;

    /// <summary>Takes a connected socket over.</summary>
    internal NbdSocket(SafeFd fd, EventLoop.EventLoop loop)
    {
        _fd = fd;
        Loop = loop;
        _resume = Resume;
        _watch = loop.Watch(fd.Fd, FdEvents.None, OnReady);
    }

    /// <summary>The loop.</summary>
    internal EventLoop.EventLoop Loop { get; private set; }

    /// <summary>True after <see cref="Close"/>.</summary>
    internal bool IsClosed { get; private set; }

    /// <summary>Has bytes that were received and not taken.</summary>
    internal int Buffered => _end - _start;

    /// <summary>The socket, for a session over it.</summary>
    internal SafeFd Fd => _fd;

    /// <summary>The bytes are those of a TLS session.</summary>
    internal bool IsSecure => _tls is { IsEstablished: true };

    /// <summary>Makes another loop the home. Nobody reads or writes; the caller goes there afterwards.</summary>
    internal void MoveTo(EventLoop.EventLoop loop)
    {
        if (loop == Loop || IsClosed)
        {
            return;
        }

        _watch.Dispose();
        Loop = loop;
        _watch = loop.Watch(_fd.Fd, FdEvents.None, OnReady);
    }

    /// <summary>Ends the connection; who waits is woken and fails.</summary>
    internal void Close()
    {
        if (IsClosed)
        {
            return;
        }

        IsClosed = true;
        _tls?.Dispose();
        _watch.Dispose();
        _fd.Dispose();
        if (!_waitsToRead && !_waitsToWrite)
        {
            _buffer.Dispose();
        }

        Wake(FdEvents.Readable | FdEvents.Writable);
    }

    /// <summary>
    /// Has the bytes of a TLS session instead of the socket's own, once its handshake is done. What the peer has sent already is the session's:
    /// nothing that came in the clear is taken for part of it. Nobody else reads or writes meanwhile.
    /// </summary>
    /// <returns>0 or a negative errno.</returns>
    /// <exception cref="QapiException">The handshake failed, or the peer is not who it should be.</exception>
    internal async IoTask<int> StartTlsAsync(TlsSession session)
    {
        _tls = session;
        session.Feed(Peek(Buffered));
        Skip(Buffered);
        while (true)
        {
            if (IsClosed)
            {
                return -(int)Errno.ESHUTDOWN;
            }

            bool isDone = session.Handshake() == 0;
            if (session.HasOutput)
            {
                await WaitWritableAsync();
            }
            else if (isDone)
            {
                return 0;
            }
            else
            {
                await WaitReadableAsync();
            }
        }
    }

    /// <summary>Waits until the buffer has so many bytes, which <see cref="Peek"/> shows.</summary>
    /// <param name="count">At most 16384.</param>
    internal async IoTask<int> FillAsync(int count)
    {
        while (true)
        {
            if (IsClosed)
            {
                return -(int)Errno.ESHUTDOWN;
            }

            if (_end - _start >= count)
            {
                return 0;
            }

            Compact(count);
            int n = Receive();
            if (n > 0)
            {
                _end += n;
            }
            else if (n == -(int)Errno.EAGAIN)
            {
                await WaitReadableAsync();
            }
            else
            {
                return n == 0 ? -(int)Errno.ECONNRESET : n;
            }
        }
    }

    /// <summary>The next bytes; they stay in the buffer.</summary>
    internal ReadOnlySpan<byte> Peek(int count) => _buffer.Span.Slice(_start, count);

    /// <summary>Takes bytes that were seen.</summary>
    internal void Skip(int count)
    {
        _start += count;
        if (_start == _end)
        {
            _start = _end = 0;
        }
    }

    /// <summary>Reads so many bytes into memory.</summary>
    internal async IoTask<int> ReadAsync(IoVectors into, long offset, long length)
    {
        while (length > 0)
        {
            if (IsClosed)
            {
                return -(int)Errno.ESHUTDOWN;
            }

            if (_end > _start)
            {
                int part = (int)Math.Min(length, _end - _start);
                into.CopyFrom(offset, Peek(part));
                Skip(part);
                offset += part;
                length -= part;
                continue;
            }

            long n = Receive(into, offset, length);
            if (n > 0)
            {
                offset += n;
                length -= n;
            }
            else if (n == -(int)Errno.EAGAIN)
            {
                await WaitReadableAsync();
            }
            else if (n != -(int)Errno.EINTR)
            {
                return n == 0 ? -(int)Errno.ECONNRESET : (int)n;
            }
        }

        return 0;
    }

    /// <summary>Reads so many bytes and forgets them.</summary>
    internal async IoTask<int> DiscardAsync(long length)
    {
        while (length > 0)
        {
            int part = (int)Math.Min(length, BufferBytes);
            int result = Buffered > 0 ? 0 : await FillAsync(1);
            if (result < 0)
            {
                return result;
            }

            part = Math.Min(part, Buffered);
            Skip(part);
            length -= part;
        }

        return 0;
    }

    /// <summary>Writes all of the memory.</summary>
    internal async IoTask<int> WriteAsync(IoVectors data)
    {
        long done = 0;
        while (done < data.Size)
        {
            if (IsClosed)
            {
                return -(int)Errno.ESHUTDOWN;
            }

            long n;
            if (done == 0)
            {
                n = Send(data.Items);
            }
            else
            {
                IoVectors rest = IoVectors.RentSlice(data, done, data.Size - done);
                n = Send(rest.Items);
                rest.Return();
            }

            if (n >= 0)
            {
                done += n;
            }
            else if (n == -(int)Errno.EAGAIN)
            {
                await WaitWritableAsync();
            }
            else if (n != -(int)Errno.EINTR)
            {
                return (int)n;
            }
        }

        return _tls is { HasOutput: true } ? await FlushAsync() : 0;
    }

    private async IoTask<int> FlushAsync()
    {
        while (!IsClosed)
        {
            int result = _tls!.Flush();
            if (result != -(int)Errno.EAGAIN)
            {
                return result;
            }

            await WaitWritableAsync();
        }

        return -(int)Errno.ESHUTDOWN;
    }

    private int Receive()
    {
        if (_budget-- <= 0)
        {
            return Pause();
        }

        return _tls is { } session ? session.Read(_buffer.Span[_end..]) : Libc.Recv(_fd.Fd, _buffer.Span[_end..], Libc.MSG_DONTWAIT);
    }

    private long Receive(IoVectors into, long offset, long length)
    {
        if (_budget-- <= 0)
        {
            return Pause();
        }

        IoVectors rest = IoVectors.RentSlice(into, offset, length);
        long n = _tls is { } session ? session.Read(rest.Items[0]) : Libc.ReadV(_fd.Fd, rest.Items[..Math.Min(rest.Count, MaxPieces)]);
        rest.Return();
        return n;
    }

    // A session may hold bytes of which the socket knows nothing any more: then the loop itself says when to go on.
    private int Pause()
    {
        _isPaused = _tls is not null;
        return -(int)Errno.EAGAIN;
    }

    private void Resume()
    {
        _isPaused = false;
        _budget = TurnBudget;
        if (_waitsToRead && !IsClosed)
        {
            Wake(FdEvents.Readable);
        }
    }

    private long Send(ReadOnlySpan<IoVec> data) =>
        _tls is { } session ? session.Write(data) : Libc.WriteV(_fd.Fd, data[..Math.Min(data.Length, MaxPieces)]);

    private IoTask<bool> WaitReadableAsync()
    {
        _waitsToRead = true;
        if (_isPaused)
        {
            Loop.Post(_resume);
        }
        else
        {
            _watch.Interest |= FdEvents.Readable;
        }

        return _readable.Task;
    }

    private IoTask<bool> WaitWritableAsync()
    {
        _waitsToWrite = true;
        _watch.Interest |= FdEvents.Writable;
        return _writable.Task;
    }

    private void OnReady(FdEvents ready)
    {
        // What nobody waits for any more is looked at only now: a peer that keeps its pace costs no change of the watch.
        if (!_waitsToRead && (ready & FdEvents.Readable) != 0)
        {
            _watch.Interest &= ~FdEvents.Readable;
        }

        _budget = TurnBudget;
        if ((ready & (FdEvents.Error | FdEvents.HangUp)) != 0)
        {
            if (!_waitsToRead && !_waitsToWrite)
            {
                _watch.Interest = FdEvents.None;
            }

            ready |= FdEvents.Readable | FdEvents.Writable;
        }

        Wake(ready);
    }

    // Readers are woken last: they may take the socket to another loop.
    private void Wake(FdEvents ready)
    {
        if ((ready & FdEvents.Writable) != 0)
        {
            if (!IsClosed)
            {
                _watch.Interest &= ~FdEvents.Writable;
            }

            if (_waitsToWrite)
            {
                _waitsToWrite = false;
                _writable.SetResult(true);
            }
        }

        if (_waitsToRead && (ready & FdEvents.Readable) != 0 && (!_isPaused || IsClosed))
        {
            _waitsToRead = false;
            _readable.SetResult(true);
        }
    }

    private void Compact(int count)
    {
        if (_start > 0 && BufferBytes - _start < count)
        {
            _buffer.Span[_start.._end].CopyTo(_buffer.Span);
            (_start, _end) = (0, _end - _start);
        }
    }
}
