using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <content>Sockets. Everything made here is close-on-exec; nothing raises SIGPIPE.</content>
public static unsafe partial class Libc
{
    private const int MaxFdsPerMessage = 253;

    /// <summary>socket(2).</summary>
    public static Errno Socket(int family, int type, int protocol, out SafeFd socket)
    {
        int result = Native.Check(Native.socket(family, type | SOCK_CLOEXEC, protocol));
        socket = new SafeFd(Math.Max(result, -1));
        return ErrnoText.FromResult(result);
    }

    /// <summary>socketpair(2) of AF_UNIX sockets.</summary>
    public static Errno SocketPair(int type, out SafeFd first, out SafeFd second)
    {
        int* fds = stackalloc int[2] { -1, -1 };
        Errno errno = Native.CheckErrno(Native.socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds));
        first = new SafeFd(fds[0]);
        second = new SafeFd(fds[1]);
        return errno;
    }

    /// <summary>bind(2).</summary>
    public static Errno Bind(int fd, SockAddr address)
    {
        fixed (byte* p = address.Bytes)
        {
            return Native.CheckErrno(Native.bind(fd, p, (uint)address.Bytes.Length));
        }
    }

    /// <summary>listen(2).</summary>
    public static Errno Listen(int fd, int backlog) => Native.CheckErrno(Native.listen(fd, backlog));

    /// <summary>connect(2). EINPROGRESS on a non-blocking socket: wait for POLLOUT, then read <see cref="SocketError"/>.</summary>
    public static Errno Connect(int fd, SockAddr address)
    {
        fixed (byte* p = address.Bytes)
        {
            return Native.CheckErrno(Native.connect(fd, p, (uint)address.Bytes.Length));
        }
    }

    /// <summary>accept4(2) with flags SOCK_NONBLOCK or 0.</summary>
    public static Errno Accept(int fd, int flags, out SafeFd connection)
    {
        int result;
        do
        {
            result = Native.Check(Native.accept4(fd, null, null, flags | SOCK_CLOEXEC));
        }
        while (result is -(int)Errno.EINTR or -(int)Errno.ECONNABORTED);
        connection = new SafeFd(Math.Max(result, -1));
        return ErrnoText.FromResult(result);
    }

    /// <summary>getsockname(2).</summary>
    public static Errno GetSockName(int fd, out SockAddr address)
    {
        byte* buffer = stackalloc byte[128];
        uint length = 128;
        Errno errno = Native.CheckErrno(Native.getsockname(fd, buffer, &length));
        address = SockAddr.FromBytes(errno == Errno.OK ? new ReadOnlySpan<byte>(buffer, (int)Math.Min(length, 128)) : default);
        return errno;
    }

    /// <summary>getpeername(2). ENOTCONN.</summary>
    public static Errno GetPeerName(int fd, out SockAddr address)
    {
        byte* buffer = stackalloc byte[128];
        uint length = 128;
        Errno errno = Native.CheckErrno(Native.getpeername(fd, buffer, &length));
        address = SockAddr.FromBytes(errno == Errno.OK ? new ReadOnlySpan<byte>(buffer, (int)Math.Min(length, 128)) : default);
        return errno;
    }

    /// <summary>setsockopt(2) with an int value.</summary>
    public static Errno SetSockOpt(int fd, int level, int name, int value) =>
        Native.CheckErrno(Native.setsockopt(fd, level, name, &value, 4));

    /// <summary>setsockopt(2) with a structure.</summary>
    public static Errno SetSockOpt(int fd, int level, int name, ReadOnlySpan<byte> value)
    {
        fixed (byte* p = value)
        {
            return Native.CheckErrno(Native.setsockopt(fd, level, name, p, (uint)value.Length));
        }
    }

    /// <summary>getsockopt(2) of an int value.</summary>
    public static Errno GetSockOpt(int fd, int level, int name, out int value)
    {
        int result = 0;
        uint length = 4;
        Errno errno = Native.CheckErrno(Native.getsockopt(fd, level, name, &result, &length));
        value = result;
        return errno;
    }

    /// <summary>SO_ERROR: the outcome of a non-blocking connect, or the pending error.</summary>
    public static Errno SocketError(int fd)
    {
        Errno errno = GetSockOpt(fd, SOL_SOCKET, SO_ERROR, out int value);
        return errno != Errno.OK ? errno : (Errno)value;
    }

    /// <summary>SO_PEERCRED of a unix socket.</summary>
    public static Errno PeerCredentials(int fd, out UCred credentials)
    {
        UCred value = default;
        uint length = (uint)sizeof(UCred);
        Errno errno = Native.CheckErrno(Native.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &value, &length));
        credentials = value;
        return errno;
    }

    /// <summary>shutdown(2).</summary>
    public static Errno Shutdown(int fd, int how) => Native.CheckErrno(Native.shutdown(fd, how));

    /// <summary>send(2) without SIGPIPE: bytes, or -errno.</summary>
    public static int Send(int fd, ReadOnlySpan<byte> data, int flags = 0) => SendTo(fd, data, flags, null);

    /// <summary>sendto(2) without SIGPIPE: bytes, or -errno.</summary>
    public static int SendTo(int fd, ReadOnlySpan<byte> data, int flags, SockAddr? address)
    {
        fixed (byte* d = data)
        fixed (byte* a = address is null ? default : address.Bytes)
        {
            uint length = address is null ? 0 : (uint)address.Bytes.Length;
            int result;
            do
            {
                result = (int)Native.Check(Native.sendto(fd, d, (nuint)data.Length, flags | MSG_NOSIGNAL, a, length));
            }
            while (result == -(int)Errno.EINTR);
            return result;
        }
    }

    /// <summary>recv(2): bytes, 0 at the end of a stream, or -errno.</summary>
    public static int Recv(int fd, Span<byte> buffer, int flags = 0)
    {
        fixed (byte* d = buffer)
        {
            int result;
            do
            {
                result = (int)Native.Check(Native.recvfrom(fd, d, (nuint)buffer.Length, flags, null, null));
            }
            while (result == -(int)Errno.EINTR);
            return result;
        }
    }

    /// <summary>recvfrom(2) with the sender's address: bytes, or -errno.</summary>
    public static int RecvFrom(int fd, Span<byte> buffer, int flags, out SockAddr sender)
    {
        byte* address = stackalloc byte[128];
        uint length = 128;
        int result;
        fixed (byte* d = buffer)
        {
            do
            {
                result = (int)Native.Check(Native.recvfrom(fd, d, (nuint)buffer.Length, flags, address, &length));
            }
            while (result == -(int)Errno.EINTR);
        }

        sender = SockAddr.FromBytes(result < 0 ? default : new ReadOnlySpan<byte>(address, (int)Math.Min(length, 128)));
        return result;
    }

    /// <summary>
    /// Receives bytes and the descriptors (SCM_RIGHTS) that came with them from a unix socket: bytes, 0 at the end of the stream, or
    /// -errno. Descriptors are appended to <paramref name="fds"/>, close-on-exec; at most 253 can come with one message.
    /// </summary>
    public static int RecvWithFds(int fd, Span<byte> buffer, List<SafeFd> fds, int flags = 0)
    {
        int controlSize = sizeof(CMsgHdr) + (MaxFdsPerMessage + 1) * 4;
        byte* control = stackalloc byte[controlSize];
        int result;
        MsgHdr message;
        fixed (byte* d = buffer)
        {
            IoVec vector = new((nint)d, (nuint)buffer.Length);
            do
            {
                message = new MsgHdr { msg_iov = &vector, msg_iovlen = 1, msg_control = control, msg_controllen = (nuint)controlSize };
                result = (int)Native.Check(Native.recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC));
            }
            while (result == -(int)Errno.EINTR);
        }

        if (result < 0)
        {
            return result;
        }

        nuint offset = 0;
        while (offset + (nuint)sizeof(CMsgHdr) <= message.msg_controllen)
        {
            CMsgHdr* header = (CMsgHdr*)(control + offset);
            if (header->cmsg_len < (nuint)sizeof(CMsgHdr) || header->cmsg_len > message.msg_controllen - offset)
            {
                break;
            }

            if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
            {
                int count = (int)(header->cmsg_len - (nuint)sizeof(CMsgHdr)) / 4;
                int* received = (int*)(header + 1);
                for (int i = 0; i < count; i++)
                {
                    fds.Add(new SafeFd(received[i]));
                }
            }

            offset += (header->cmsg_len + 7) & ~(nuint)7;
        }

        return result;
    }

    /// <summary>Sends bytes with descriptors (at most 253) over a unix socket: bytes, or -errno. The descriptors stay the caller's.</summary>
    public static int SendWithFds(int fd, ReadOnlySpan<byte> data, ReadOnlySpan<int> fds, int flags = 0)
    {
        if (fds.Length > MaxFdsPerMessage)
        {
            return -(int)Errno.EINVAL;
        }

        int payload = sizeof(CMsgHdr) + fds.Length * 4;
        byte* control = stackalloc byte[(payload + 7) & ~7];
        CMsgHdr* header = (CMsgHdr*)control;
        header->cmsg_len = (nuint)payload;
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        fds.CopyTo(new Span<int>(header + 1, fds.Length));
        fixed (byte* d = data)
        {
            IoVec vector = new((nint)d, (nuint)data.Length);
            MsgHdr message = new() { msg_iov = &vector, msg_iovlen = 1 };
            if (!fds.IsEmpty)
            {
                message.msg_control = control;
                message.msg_controllen = (nuint)((payload + 7) & ~7);
            }

            int result;
            do
            {
                result = (int)Native.Check(Native.sendmsg(fd, &message, flags | MSG_NOSIGNAL));
            }
            while (result == -(int)Errno.EINTR);
            return result;
        }
    }

    /// <summary>
    /// getaddrinfo(3): resolves names through the system's resolver. BLOCKING, for seconds in the worst case: call it from a worker unless
    /// both names are numeric (AI_NUMERICHOST, AI_NUMERICSERV). Returns 0, or an EAI_ code for <see cref="GaiMessage"/>.
    /// </summary>
    public static int GetAddrInfo(string? node, string? service, int family, int socketType, int flags, List<SockAddr> addresses)
    {
        AddrInfo hints = new() { ai_family = family, ai_socktype = socketType, ai_flags = flags };
        AddrInfo* list;
        int result;
        fixed (byte* n = node is null ? null : Native.Z(node))
        fixed (byte* s = service is null ? null : Native.Z(service))
        {
            result = Native.getaddrinfo(n, s, &hints, &list);
        }

        if (result != 0)
        {
            return result;
        }

        for (AddrInfo* info = list; info != null; info = info->ai_next)
        {
            addresses.Add(SockAddr.FromBytes(new ReadOnlySpan<byte>(info->ai_addr, (int)info->ai_addrlen)));
        }

        Native.freeaddrinfo(list);
        return 0;
    }

    /// <summary>What gai_strerror says in the C locale.</summary>
    public static string GaiMessage(int code) => code switch
    {
        -1 => "Bad value for ai_flags",
        -2 => "Name or service not known",
        -3 => "Temporary failure in name resolution",
        -4 => "Non-recoverable failure in name resolution",
        -5 => "No address associated with hostname",
        -6 => "ai_family not supported",
        -7 => "ai_socktype not supported",
        -8 => "Servname not supported for ai_socktype",
        -9 => "Address family for hostname not supported",
        -10 => "Memory allocation failure",
        -11 => "System error",
        _ => "Unknown error",
    };

    /// <summary>poll(2): the number of ready entries, 0 after the time-out (ms, negative waits for ever), or -errno.</summary>
    public static int Poll(Span<PollFd> fds, int timeoutMs)
    {
        fixed (PollFd* p = fds)
        {
            return Native.Check(Native.poll(p, (nuint)fds.Length, timeoutMs));
        }
    }

    /// <summary>Polls one descriptor: its revents, 0 after the time-out, or -errno.</summary>
    public static int Poll(int fd, short events, int timeoutMs)
    {
        PollFd entry = new() { fd = fd, events = events };
        int result = Native.Check(Native.poll(&entry, 1, timeoutMs));
        return result > 0 ? (ushort)entry.revents : result;
    }
}
