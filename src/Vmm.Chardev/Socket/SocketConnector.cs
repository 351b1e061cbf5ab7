using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <summary>One attempt to connect to an address, during which the loop goes on. Home: the loop of the back ends.</summary>
internal sealed class SocketConnector(ChardevHost host, SocketAddressLegacy address)
{
    private SafeFd? _socket;
    private bool _isCut;

    /// <summary>Ends the attempt: it fails soon.</summary>
    public void Cut()
    {
        _isCut = true;
        if (_socket is { } socket)
        {
            Libc.Shutdown(socket.Fd, Libc.SHUT_RDWR);
        }
    }

    /// <summary>Connects to the first address that answers.</summary>
    /// <exception cref="QapiException">None does, or the name is not known.</exception>
    public async Task<SafeFd> ConnectAsync()
    {
        List<SockAddr> candidates = host.Workers is { } workers && address.Type == SocketAddressType.Inet
            && !SocketEndpoints.IsNumeric(address.Inet!)
            ? await workers.RunAsync(() => SocketEndpoints.Candidates(address)).ConfigureAwait(true)
            : SocketEndpoints.Candidates(address);
        await host.Loop.SwitchTo();
        Errno errno = Errno.OK;
        foreach (SockAddr candidate in candidates)
        {
            if (_isCut)
            {
                errno = Errno.ECONNABORTED;
                break;
            }

            errno = SocketEndpoints.BeginConnect(address, candidate, out SafeFd socket);
            if (errno is Errno.EINPROGRESS)
            {
                _socket = socket;
                errno = await Completed(socket).ConfigureAwait(true);
                await host.Loop.SwitchTo();
                _socket = null;
                errno = errno == Errno.OK && _isCut ? Errno.ECONNABORTED : errno;
            }

            if (errno == Errno.OK)
            {
                return socket;
            }

            socket.Dispose();
        }

        throw SocketEndpoints.ConnectFailed(address, errno);
    }

    private async Task<Errno> Completed(SafeFd socket)
    {
        var done = new TaskCompletionSource();
        using FdWatch watch = host.Loop.Watch(socket.Fd, FdEvents.Writable, _ => done.TrySetResult());
        await done.Task.ConfigureAwait(true);
        return Libc.SocketError(socket.Fd);
    }
}
