using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Block.Drivers.Nbd;

/// <summary>Makes connections without holding a loop up: names are resolved by a worker, and a connection is waited for.</summary>
internal sealed class NbdConnector : LoopWork
{
    private readonly LoopWorkers _workers;
    private readonly SocketAddressLegacy _address;
    private List<SockAddr> _candidates = [];
    private QapiException? _failure;

    internal NbdConnector(LoopWorkers workers, SocketAddressLegacy address)
    {
        _workers = workers;
        _address = address;
    }

    /// <summary>A connected, non-blocking socket.</summary>
    /// <exception cref="QapiException">No address could be reached.</exception>
    internal async IoTask<SafeFd> ConnectAsync()
    {
        EventLoop.EventLoop loop = EventLoop.EventLoop.Current!;
        if (_address.Type == SocketAddressType.Inet && !SocketEndpoints.IsNumeric(_address.Inet!))
        {
            await RunAsync(_workers);
        }
        else
        {
            Execute();
        }

        if (_failure is { } failure)
        {
            throw failure;
        }

        Errno errno = Errno.OK;
        foreach (SockAddr candidate in _candidates)
        {
            errno = SocketEndpoints.BeginConnect(_address, candidate, out SafeFd socket);
            if (errno == Errno.EINPROGRESS)
            {
                IoCompletion<bool> done = new();
                bool isDone = false;
                using FdWatch watch = loop.Watch(socket.Fd, FdEvents.Writable, _ =>
                {
                    if (!isDone)
                    {
                        isDone = true;
                        done.SetResult(true);
                    }
                });
                await done.Task;
                errno = Libc.SocketError(socket.Fd);
            }

            if (errno == Errno.OK)
            {
                Libc.SetSockOpt(socket.Fd, Libc.IPPROTO_TCP, Libc.TCP_NODELAY, 1);
                return socket;
            }

            socket.Dispose();
        }

        throw SocketEndpoints.ConnectFailed(_address, errno);
    }

    /// <inheritdoc/>
    protected override long Execute()
    {
        try
        {
            _failure = null;
            _candidates = SocketEndpoints.Candidates(_address);
        }
        catch (QapiException e)
        {
            _failure = e;
        }

        return 0;
    }
}
