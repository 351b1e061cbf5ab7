using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Exports.VhostUser;

/// <summary>
/// The socket of a front end, whose messages and descriptors are awaited. One reader and one writer at a time. Results are 0 or a negative errno.
/// Home: the loop given.
/// </summary>
internal sealed class VhostUserSocket
{
    private const int TurnBudget = 32;

    private readonly SafeFd _fd;
    private readonly FdWatch _watch;
    private readonly IoCompletion<bool> _ready = new();
    private readonly byte[] _buffer = new byte[VhostUserHeader.Bytes + VhostUserLimits.MaxPayload];
    private readonly List<SafeFd> _fds = [];
    private int _budget = TurnBudget;
    private bool _waits;

    internal VhostUserSocket(SafeFd fd, EventLoop.EventLoop loop)
    {
        _fd = fd;
        _watch = loop.Watch(fd.Fd, FdEvents.None, OnReady);
    }

    internal bool IsClosed { get; private set; }

    /// <summary>The message that was read.</summary>
    internal VhostUserHeader Header { get; private set; }

    /// <summary>What follows the header of the message.</summary>
    internal ReadOnlySpan<byte> Payload => _buffer.AsSpan(VhostUserHeader.Bytes, Header.Size);

    /// <summary>Number of descriptors that came with the message.</summary>
    internal int FdCount => _fds.Count;

    /// <summary>Reads a message; false at the end of the connection, or of sense.</summary>
    internal async IoTask<bool> ReadAsync()
    {
        DropFds();
        if (!await FillAsync(0, VhostUserHeader.Bytes) || !VhostUserHeader.TryRead(_buffer, out VhostUserHeader header))
        {
            return false;
        }

        Header = header;
        return await FillAsync(VhostUserHeader.Bytes, header.Size);
    }

    /// <summary>The descriptor of that number, which is the caller's from now on.</summary>
    internal SafeFd TakeFd(int index)
    {
        SafeFd fd = _fds[index];
        _fds[index] = new SafeFd(-1);
        return fd;
    }

    /// <summary>Answers the message.</summary>
    internal async IoTask<bool> ReplyAsync(ReadOnlyMemory<byte> payload)
    {
        byte[] message = new byte[VhostUserHeader.Bytes + payload.Length];
        VhostUserHeader.Write(message, (uint)Header.Request, VhostUserHeader.Version | VhostUserHeader.ReplyFlag, payload.Length);
        payload.Span.CopyTo(message.AsSpan(VhostUserHeader.Bytes));
        for (int done = 0; done < message.Length;)
        {
            if (IsClosed)
            {
                return false;
            }

            int n = Libc.Send(_fd.Fd, message.AsSpan(done), Libc.MSG_DONTWAIT | Libc.MSG_NOSIGNAL);
            if (n > 0)
            {
                done += n;
            }
            else if (n == -(int)Errno.EAGAIN)
            {
                await WaitAsync(FdEvents.Writable);
            }
            else
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Ends the connection; who waits is woken and fails.</summary>
    internal void Close()
    {
        if (IsClosed)
        {
            return;
        }

        IsClosed = true;
        _watch.Dispose();
        _fd.Dispose();
        DropFds();
        Wake();
    }

    private async IoTask<bool> FillAsync(int start, int count)
    {
        for (int done = 0; done < count;)
        {
            if (IsClosed)
            {
                return false;
            }

            int n = -(int)Errno.EAGAIN;
            if (_budget-- > 0)
            {
                n = Libc.RecvWithFds(_fd.Fd, _buffer.AsSpan(start + done, count - done), _fds, Libc.MSG_DONTWAIT);
            }

            if (n > 0)
            {
                done += n;
            }
            else if (n == -(int)Errno.EAGAIN)
            {
                await WaitAsync(FdEvents.Readable);
            }
            else
            {
                return false;
            }

            if (_fds.Count > VhostUserLimits.MaxFds)
            {
                return false;
            }
        }

        return true;
    }

    private IoTask<bool> WaitAsync(FdEvents events)
    {
        _waits = true;
        _watch.Interest = events;
        return _ready.Task;
    }

    private void OnReady(FdEvents ready)
    {
        _budget = TurnBudget;
        _watch.Interest = FdEvents.None;
        Wake();
    }

    private void Wake()
    {
        if (_waits)
        {
            _waits = false;
            _ready.SetResult(true);
        }
    }

    private void DropFds()
    {
        _fds.ForEach(static f => f.Dispose());
        _fds.Clear();
    }
}
