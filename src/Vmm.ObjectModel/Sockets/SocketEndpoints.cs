using System.Globalization;
using Vmm.Interop;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Sockets;

/// <summary>
/// Makes listening and connected stream sockets out of addresses as the management interface writes them, with its error texts. All
/// sockets are close-on-exec. Name resolution of names that are not numeric blocks.
/// </summary>
public static class SocketEndpoints
{
    private const int MaxPort = 65535;

    /// <summary>Socket addresses for an Internet address, in the resolver's order.</summary>
    /// <exception cref="QapiException">Unknown name, or both families are excluded.</exception>
    public static List<SockAddr> Resolve(InetSocketAddress address, bool passive, int socketType)
    {
        int family = Family(address);
        string? host = address.Host.Length == 0 ? null : address.Host;
        string? port = address.Port.Length == 0 ? null : address.Port;
        var result = new List<SockAddr>();
        int numeric = Libc.AI_NUMERICHOST | Libc.AI_NUMERICSERV;
        int flags = passive ? Libc.AI_PASSIVE : 0;
        int code = Libc.GetAddrInfo(host, port, family, socketType, flags | numeric, result);
        if (code != 0 && address.Numeric != true)
        {
            code = Libc.GetAddrInfo(host, port, family, socketType, flags, result);
        }

        return code == 0
            ? result
            : throw new QapiException($"address resolution failed for {address.Host}:{address.Port}: {Libc.GaiMessage(code)}");
    }

    /// <summary>Whether an address can be resolved without asking anybody.</summary>
    public static bool IsNumeric(InetSocketAddress address) => Libc.GetAddrInfo(
        address.Host.Length == 0 ? null : address.Host,
        address.Port.Length == 0 ? "0" : address.Port,
        Libc.AF_UNSPEC,
        Libc.SOCK_STREAM,
        Libc.AI_NUMERICHOST | Libc.AI_NUMERICSERV,
        []) == 0;

    /// <summary>The socket address of a unix address.</summary>
    /// <exception cref="QapiException">The path is too long.</exception>
    public static SockAddr Resolve(UnixSocketAddress address)
    {
        const string Hint = "Path must be less than 108 bytes";
        if (address.Abstract == true)
        {
            return SockAddr.UnixAbstract(address.Path, address.Tight ?? true) ?? throw new QapiException(
                QapiErrorClass.GenericError, $"UNIX socket path '{address.Path}' is too long", Hint);
        }

        return SockAddr.Unix(address.Path) ?? throw new QapiException(
            QapiErrorClass.GenericError, $"UNIX socket path '{address.Path}' is too long", Hint);
    }

    /// <summary>
    /// Listens, non-blocking, on every address that the given one stands for; at least one.
    /// </summary>
    /// <param name="address">Where to listen. A socket file is replaced; an empty unix path gets a temporary name.</param>
    /// <param name="fds">Finds the descriptor for an address of type fd.</param>
    /// <param name="backlog">Connections that may wait for being accepted.</param>
    /// <exception cref="QapiException">No address could be bound.</exception>
    public static List<SafeFd> Listen(SocketAddressLegacy address, Func<string, SafeFd> fds, int backlog)
    {
        switch (address.Type)
        {
            case SocketAddressType.Inet:
                return ListenInet(address.Inet!, backlog);
            case SocketAddressType.Unix:
                return [ListenUnix(address.Unix!, backlog)];
            default:
                SafeFd fd = TakeSocket(address.Fd!.Str, fds);
                Errno errno = Libc.Listen(fd.Fd, backlog);
                if (errno == Errno.OK)
                {
                    errno = fd.SetNonBlocking(true);
                }

                if (errno != Errno.OK)
                {
                    fd.Dispose();
                    throw new QapiException("Failed to listen on fd socket: " + errno.Message());
                }

                return [fd];
        }
    }

    /// <summary>Connects, blocking until the connection stands or every address has failed.</summary>
    /// <exception cref="QapiException">Failed to connect to 'ADDRESS': reason of the last failure.</exception>
    public static SafeFd Connect(SocketAddressLegacy address, Func<string, SafeFd> fds)
    {
        if (address.Type == SocketAddressType.Fd)
        {
            return TakeSocket(address.Fd!.Str, fds);
        }

        Errno errno = Errno.OK;
        foreach (SockAddr candidate in Candidates(address))
        {
            errno = Open(candidate, 0, out SafeFd socket, address.Inet);
            if (errno == Errno.OK)
            {
                errno = Libc.Connect(socket.Fd, candidate);
                if (errno == Errno.OK)
                {
                    ApplyKeepAlive(address, socket);
                    return socket;
                }
            }

            socket.Dispose();
        }

        throw ConnectFailed(address, errno);
    }

    /// <summary>Begins to connect to one resolved address without blocking; EINPROGRESS when the outcome is to be waited for.</summary>
    public static Errno BeginConnect(SocketAddressLegacy address, SockAddr candidate, out SafeFd socket)
    {
        Errno errno = Open(candidate, Libc.SOCK_NONBLOCK, out socket, address.Inet);
        if (errno == Errno.OK)
        {
            ApplyKeepAlive(address, socket);
            errno = Libc.Connect(socket.Fd, candidate);
        }

        return errno;
    }

    /// <summary>The addresses to try in turn.</summary>
    /// <exception cref="QapiException">Unknown name, or a path that is too long.</exception>
    public static List<SockAddr> Candidates(SocketAddressLegacy address) => address.Type == SocketAddressType.Inet
        ? Resolve(address.Inet!, passive: false, Libc.SOCK_STREAM)
        : [Resolve(address.Unix!)];

    /// <summary>The error of a connection that could not be made.</summary>
    public static QapiException ConnectFailed(SocketAddressLegacy address, Errno errno)
    {
        string where = address.Type == SocketAddressType.Inet ? $"{address.Inet!.Host}:{address.Inet.Port}" : address.Unix!.Path;
        return new QapiException($"Failed to connect to '{where}': {errno.Message()}");
    }

    /// <summary>What a bound socket calls itself, with the port that it really has.</summary>
    public static SocketAddressLegacy LocalAddress(SafeFd socket)
    {
        Libc.GetSockName(socket.Fd, out SockAddr local);
        if (local.Family == Libc.AF_UNIX)
        {
            return new SocketAddressLegacy
            {
                Type = SocketAddressType.Unix,
                Unix = local.IsAbstract
                    ? new UnixSocketAddress
                    {
                        Path = local.Host.TrimEnd('\0'),
                        Abstract = true,
                        Tight = local.Bytes.Length < 2 + SockAddr.UnixPathMax,
                    }
                    : new UnixSocketAddress { Path = local.Host },
            };
        }

        return new SocketAddressLegacy
        {
            Type = SocketAddressType.Inet,
            Inet = new InetSocketAddress { Host = local.Host, Port = local.Port.ToString(CultureInfo.InvariantCulture) },
        };
    }

    /// <summary>
    /// Finds the descriptor of an address of type fd: by name among those that the session stored, or by number outside of a monitor.
    /// </summary>
    /// <exception cref="QapiException">No such name, or not a number.</exception>
    public static SafeFd FindFd(IMonitorSession? session, string name)
    {
        if (session is not null)
        {
            return session.TakeNamedFd(name) switch
            {
                SafeFd fd => fd,
                { } handle => Adopt(handle),
                null => throw new QapiException($"File descriptor named '{name}' has not been found"),
            };
        }

        return int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            ? new SafeFd(number)
            : throw new QapiException("Unable to parse FD number " + name);
    }

    private static SafeFd Adopt(System.Runtime.InteropServices.SafeHandle handle)
    {
        int copy = Libc.Fcntl((int)handle.DangerousGetHandle(), Libc.F_DUPFD_CLOEXEC, 0);
        handle.Dispose();
        return new SafeFd(Math.Max(copy, -1));
    }

    private static SafeFd TakeSocket(string name, Func<string, SafeFd> fds)
    {
        SafeFd fd = fds(name);
        if (Libc.FStat(fd.Fd, out FileStatus status) != Errno.OK)
        {
            fd.Detach();
        }
        else if (status.IsSocket)
        {
            Libc.SetCloseOnExec(fd.Fd, true);
            return fd;
        }

        fd.Dispose();
        throw new QapiException($"File descriptor '{name}' is not a socket");
    }

    private static int Family(InetSocketAddress address) => (address.Ipv4, address.Ipv6) switch
    {
        (false, false) => throw new QapiException("Cannot disable IPv4 and IPv6 at same time"),
        (true, true) => Libc.AF_UNSPEC,
        (_, true) or (false, _) => Libc.AF_INET6,
        (true, _) or (_, false) => Libc.AF_INET,
        _ => Libc.AF_UNSPEC,
    };

    private static Errno Open(SockAddr address, int flags, out SafeFd socket, InetSocketAddress? inet = null) =>
        Libc.Socket(address.Family, Libc.SOCK_STREAM | flags, inet?.Mptcp == true ? Libc.IPPROTO_MPTCP : 0, out socket);

    private static void ApplyKeepAlive(SocketAddressLegacy address, SafeFd socket)
    {
        if (address.Inet?.KeepAlive == true)
        {
            Libc.SetSockOpt(socket.Fd, Libc.SOL_SOCKET, Libc.SO_KEEPALIVE, 1);
        }
    }

    private static SafeFd ListenUnix(UnixSocketAddress address, int backlog)
    {
        UnixSocketAddress wanted = address;
        if (address.Abstract != true && address.Path.Length == 0)
        {
            string directory = Environment.GetEnvironmentVariable("TMPDIR") ?? "/tmp";
            if (Libc.MkStemp(directory + "/qemu-socket-XXXXXX", out SafeFd placeholder, out string path) is not Errno.OK and var failure)
            {
                throw new QapiException($"Failed to make a temporary socket {directory}/qemu-socket-XXXXXX: {failure.Message()}");
            }

            placeholder.Dispose();
            wanted = address with { Path = path };
        }

        SockAddr name = Resolve(wanted);
        if (wanted.Abstract != true)
        {
            Errno unlink = Libc.Unlink(wanted.Path);
            if (unlink is not Errno.OK and not Errno.ENOENT)
            {
                throw new QapiException($"Failed to unlink socket {wanted.Path}: {unlink.Message()}");
            }
        }

        Errno errno = Open(name, Libc.SOCK_NONBLOCK, out SafeFd socket);
        if (errno != Errno.OK)
        {
            throw new QapiException("Failed to create Unix socket: " + errno.Message());
        }

        errno = Libc.Bind(socket.Fd, name);
        string step = "bind socket to";
        if (errno == Errno.OK)
        {
            step = "listen on socket";
            errno = Libc.Listen(socket.Fd, backlog);
        }

        if (errno != Errno.OK)
        {
            socket.Dispose();
            throw new QapiException($"Failed to {step} {wanted.Path}: {errno.Message()}");
        }

        return socket;
    }

    private static List<SafeFd> ListenInet(InetSocketAddress address, int backlog)
    {
        var sockets = new List<SafeFd>();
        QapiException? failure = null;
        int chosen = 0;
        foreach (SockAddr candidate in Resolve(address, passive: true, Libc.SOCK_STREAM))
        {
            // A name that stands for several addresses listens on the same port on all of them, where that can be had.
            SockAddr at = chosen != 0 && candidate.Port == 0 ? candidate.WithPort(chosen) : candidate;
            QapiException? error = TryListen(address, at, backlog, sockets);
            failure ??= error;
            if (error is null && chosen == 0)
            {
                Libc.GetSockName(sockets[^1].Fd, out SockAddr bound);
                chosen = bound.Port;
            }
        }

        return sockets.Count > 0 ? sockets : throw failure!;
    }

    private static QapiException? TryListen(InetSocketAddress address, SockAddr first, int backlog, List<SafeFd> sockets)
    {
        int last = Math.Max(address.To ?? first.Port, first.Port);
        Errno errno = Errno.OK;
        for (int port = first.Port; port <= Math.Min(last, MaxPort); port++)
        {
            errno = Open(first, Libc.SOCK_NONBLOCK, out SafeFd socket, address);
            if (errno != Errno.OK)
            {
                socket.Dispose();
                return new QapiException("Failed to create a socket: " + errno.Message());
            }

            Libc.SetSockOpt(socket.Fd, Libc.SOL_SOCKET, Libc.SO_REUSEADDR, 1);
            SockAddr at = first.WithPort(port);
            errno = Bind(address, at, socket);
            if (errno == Errno.OK)
            {
                errno = Libc.Listen(socket.Fd, backlog);
                if (errno == Errno.OK)
                {
                    sockets.Add(socket);
                    return null;
                }
            }

            socket.Dispose();
            if (errno != Errno.EADDRINUSE)
            {
                return new QapiException("Failed to bind socket: " + errno.Message());
            }
        }

        return new QapiException("Failed to find an available port: " + errno.Message());
    }

    private static Errno Bind(InetSocketAddress address, SockAddr at, SafeFd socket)
    {
        if (at.Family != Libc.AF_INET6)
        {
            return Libc.Bind(socket.Fd, at);
        }

        // Both families on one socket, unless one was asked for; where the IPv4 side of the port is taken, IPv6 alone.
        bool dual = (address.Ipv4 is null && address.Ipv6 is null) || (address.Ipv4 == true && address.Ipv6 == true);
        Libc.SetSockOpt(socket.Fd, Libc.IPPROTO_IPV6, Libc.IPV6_V6ONLY, dual ? 0 : 1);
        Errno errno = Libc.Bind(socket.Fd, at);
        if (errno == Errno.EADDRINUSE && dual)
        {
            Libc.SetSockOpt(socket.Fd, Libc.IPPROTO_IPV6, Libc.IPV6_V6ONLY, 1);
            errno = Libc.Bind(socket.Fd, at);
        }

        return errno;
    }
}
