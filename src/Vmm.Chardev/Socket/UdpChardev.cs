using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <summary>Each write is a datagram to one remote address; what comes from it is input. Never announces itself as connected.</summary>
public sealed class UdpChardev : BackendChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Udp;

    private readonly SafeFd _socket;
    private readonly MediumWatch _watch;
    private readonly WriteWaiters _waiters = new();

    // The rest of a datagram that the front end could not take at once.
    private byte[] _datagram = [];
    private int _start;
    private int _end;

    /// <summary>Binds and connects the socket.</summary>
    /// <exception cref="QapiException">Not an Internet address, or it cannot be resolved, bound or reached.</exception>
    internal UdpChardev(ChardevHost host, ChardevUdp options)
        : base(host)
    {
        _socket = Open(options);
        _watch = new MediumWatch(host.Loop, _socket.Fd, OnReady);
        Filename = "udp";
    }

    /// <inheritdoc/>
    internal override int WriteFd => _socket.Fd;

    /// <inheritdoc/>
    public override void UpdateHandler(CharFrontend frontend) => UpdateInterest();

    /// <inheritdoc/>
    public override void AcceptInput()
    {
        Drain();
        UpdateInterest();
    }

    /// <inheritdoc/>
    public override bool WatchWritable(Action writable)
    {
        _waiters.Add(writable);
        UpdateInterest();
        return true;
    }

    /// <inheritdoc/>
    private protected override int WriteMedium(ReadOnlySpan<byte> data)
    {
        int n = Libc.Send(_socket.Fd, data, Libc.MSG_DONTWAIT);
        return n >= 0 ? n : n == -(int)Errno.EAGAIN ? 0 : data.Length;
    }

    /// <inheritdoc/>
    private protected override void Close()
    {
        _watch.Dispose();
        _socket.Dispose();
    }

    private static SafeFd Open(ChardevUdp options)
    {
        if (options.Remote.Type != SocketAddressType.Inet || options.Local is { Type: not SocketAddressType.Inet })
        {
            throw new QapiException("socket type unsupported for datagram");
        }

        InetSocketAddress remote = options.Remote.Inet!;
        if (remote.Port.Length == 0)
        {
            throw new QapiException("remote port not specified");
        }

        SockAddr peer = SocketEndpoints.Resolve(
            remote with { Host = remote.Host.Length == 0 ? "localhost" : remote.Host }, passive: false, Libc.SOCK_DGRAM)[0];
        InetSocketAddress local = options.Local?.Inet ?? new InetSocketAddress { Host = "", Port = "0" };
        if (local.Port.Length == 0)
        {
            local = local with { Port = "0" };
        }

        bool v6 = peer.Family == Libc.AF_INET6;
        SockAddr own = SocketEndpoints.Resolve(local with { Ipv4 = !v6, Ipv6 = v6 }, passive: true, Libc.SOCK_DGRAM)[0];
        Errno errno = Libc.Socket(peer.Family, Libc.SOCK_DGRAM | Libc.SOCK_NONBLOCK, 0, out SafeFd socket);
        if (errno != Errno.OK)
        {
            throw new QapiException("Failed to create a socket: " + errno.Message());
        }

        Libc.SetSockOpt(socket.Fd, Libc.SOL_SOCKET, Libc.SO_REUSEADDR, 1);
        errno = Libc.Bind(socket.Fd, own);
        if (errno != Errno.OK)
        {
            socket.Dispose();
            throw new QapiException("Failed to bind socket: " + errno.Message());
        }

        errno = Libc.Connect(socket.Fd, peer);
        if (errno != Errno.OK)
        {
            socket.Dispose();
            throw new QapiException($"Failed to connect to '{remote.Host}:{remote.Port}': {errno.Message()}");
        }

        return socket;
    }

    private void OnReady(FdEvents ready)
    {
        if ((ready & FdEvents.Writable) != 0)
        {
            _waiters.Wake();
        }

        if ((ready & ~FdEvents.Writable) != 0 && !IsDisposed && _start == _end && MayReceive() > 0)
        {
            if (_datagram.Length == 0)
            {
                _datagram = new byte[65536];
            }

            // An error here is an ICMP message about an earlier datagram; reading it clears it.
            _start = 0;
            _end = Math.Max(Libc.Recv(_socket.Fd, _datagram, Libc.MSG_DONTWAIT), 0);
            Drain();
        }

        if (!IsDisposed)
        {
            UpdateInterest();
        }
    }

    private void Drain()
    {
        while (_start < _end)
        {
            int n = Math.Min(MayReceive(), _end - _start);
            if (n <= 0)
            {
                return;
            }

            int at = _start;
            _start += n;
            Deliver(_datagram.AsSpan(at, n));
        }
    }

    private void UpdateInterest() => _watch.Want(_start == _end && MayReceive() > 0, _waiters.Any, hangup: false);
}
