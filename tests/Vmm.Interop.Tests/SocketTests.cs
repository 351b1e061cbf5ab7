using FsCheck;
using FsCheck.Fluent;

namespace Vmm.Interop.Tests;

public sealed class SocketTests
{
    [Test]
    public void Descriptors_travel_with_their_bytes()
    {
        Assert.That(Libc.SocketPair(Libc.SOCK_STREAM, out SafeFd a, out SafeFd b), Is.EqualTo(Errno.OK));
        using (a)
        using (b)
        using (EventFd one = EventFd.Create())
        using (EventFd two = EventFd.Create())
        {
            Assert.That(Libc.SendWithFds(a.Fd, "xy"u8, [one.Fd, two.Fd]), Is.EqualTo(2));
            Assert.That(Libc.SendWithFds(a.Fd, "z"u8, []), Is.EqualTo(1));
            List<SafeFd> fds = [];
            byte[] buffer = new byte[16];
            Assert.That(Libc.RecvWithFds(b.Fd, buffer, fds), Is.EqualTo(3).Or.EqualTo(2));
            Assert.That(fds, Has.Count.EqualTo(2));
            Assert.That(Libc.Fcntl(fds[1].Fd, Libc.F_GETFD, 0), Is.EqualTo(Libc.FD_CLOEXEC));
            two.Signal();
            byte[] count = new byte[8];
            Assert.That(fds[1].Read(count), Is.EqualTo(8));
            Assert.That(count[0], Is.EqualTo(1));
            fds.ForEach(static fd => fd.Dispose());
        }
    }

    [Test]
    public void As_many_descriptors_as_the_kernel_allows()
    {
        Assert.That(Libc.SocketPair(Libc.SOCK_STREAM, out SafeFd a, out SafeFd b), Is.EqualTo(Errno.OK));
        using (a)
        using (b)
        using (EventFd one = EventFd.Create())
        {
            int[] many = new int[253];
            Array.Fill(many, one.Fd);
            Assert.That(Libc.SendWithFds(a.Fd, "x"u8, many), Is.EqualTo(1));
            Assert.That(Libc.SendWithFds(a.Fd, "x"u8, new int[254]), Is.EqualTo(-(int)Errno.EINVAL));
            List<SafeFd> fds = [];
            Assert.That(Libc.RecvWithFds(b.Fd, new byte[4], fds), Is.EqualTo(1));
            Assert.That(fds, Has.Count.EqualTo(253));
            fds.ForEach(static fd => fd.Dispose());
        }
    }

    [Test]
    public void A_stream_over_an_abstract_address()
    {
        SockAddr address = SockAddr.UnixAbstract($"vmm-test-{Libc.GetPid()}")!;
        Assert.That(Libc.Socket(Libc.AF_UNIX, Libc.SOCK_STREAM, 0, out SafeFd server), Is.EqualTo(Errno.OK));
        Assert.That(Libc.Bind(server.Fd, address), Is.EqualTo(Errno.OK));
        Assert.That(Libc.Listen(server.Fd, 1), Is.EqualTo(Errno.OK));
        Assert.That(Libc.Socket(Libc.AF_UNIX, Libc.SOCK_STREAM, 0, out SafeFd client), Is.EqualTo(Errno.OK));
        Assert.That(Libc.Connect(client.Fd, address), Is.EqualTo(Errno.OK));
        Assert.That(Libc.Accept(server.Fd, Libc.SOCK_NONBLOCK, out SafeFd connection), Is.EqualTo(Errno.OK));
        Assert.That(Libc.GetSockName(server.Fd, out SockAddr name), Is.EqualTo(Errno.OK));
        Assert.That(name.IsAbstract);
        Assert.That(name.Host, Is.EqualTo(address.Host));
        Assert.That(Libc.PeerCredentials(connection.Fd, out UCred credentials), Is.EqualTo(Errno.OK));
        Assert.That(credentials.pid, Is.EqualTo(Libc.GetPid()));
        Assert.That(connection.Read(new byte[1]), Is.EqualTo(-(int)Errno.EAGAIN));
        client.Dispose();
        Assert.That(connection.Read(new byte[1]), Is.Zero);
        Assert.That(Libc.Send(connection.Fd, "x"u8), Is.EqualTo(-(int)Errno.EPIPE));
        connection.Dispose();
        server.Dispose();
    }

    [Test]
    public void Tcp_by_numeric_resolution()
    {
        List<SockAddr> addresses = [];
        Assert.That(
            Libc.GetAddrInfo("127.0.0.1", "0", Libc.AF_UNSPEC, Libc.SOCK_STREAM, Libc.AI_NUMERICHOST | Libc.AI_NUMERICSERV, addresses),
            Is.Zero);
        Assert.That(addresses, Has.Count.EqualTo(1));
        Assert.That(Libc.Socket(addresses[0].Family, Libc.SOCK_STREAM, 0, out SafeFd server), Is.EqualTo(Errno.OK));
        using (server)
        {
            Assert.That(Libc.Bind(server.Fd, addresses[0]), Is.EqualTo(Errno.OK));
            Assert.That(Libc.GetSockName(server.Fd, out SockAddr bound), Is.EqualTo(Errno.OK));
            Assert.That(bound.Host, Is.EqualTo("127.0.0.1"));
            Assert.That(bound.Port, Is.Positive);
            Assert.That(Libc.Listen(server.Fd, 1), Is.EqualTo(Errno.OK));
            Assert.That(Libc.Socket(Libc.AF_INET, Libc.SOCK_STREAM, 0, out SafeFd client), Is.EqualTo(Errno.OK));
            using (client)
            {
                Assert.That(Libc.Connect(client.Fd, SockAddr.InetV4([127, 0, 0, 1], bound.Port)), Is.EqualTo(Errno.OK));
                Assert.That(Libc.SetSockOpt(client.Fd, Libc.IPPROTO_TCP, Libc.TCP_NODELAY, 1), Is.EqualTo(Errno.OK));
                Assert.That(Libc.SocketError(client.Fd), Is.EqualTo(Errno.OK));
            }
        }

        int error = Libc.GetAddrInfo("not numeric", "1", Libc.AF_INET, Libc.SOCK_STREAM, Libc.AI_NUMERICHOST, addresses);
        Assert.That(Libc.GaiMessage(error), Is.EqualTo("Name or service not known"));
    }

    [Test]
    public void Unix_paths_up_to_their_limit()
    {
        Assert.That(SockAddr.Unix(new string('a', 108))!.Host, Has.Length.EqualTo(108));
        Assert.That(SockAddr.Unix(new string('a', 109)), Is.Null);
        Assert.That(SockAddr.Unix("/run/x")!.Host, Is.EqualTo("/run/x"));
        Assert.That(SockAddr.UnixAbstract("n", tight: false)!.Bytes.Length, Is.EqualTo(110));
        Assert.That(SockAddr.UnixAbstract("n")!.Bytes.Length, Is.EqualTo(4));
    }

    [Test]
    public void Ipv6_text_is_the_one_of_RFC_5952()
    {
        Prop.ForAll(
            ArbMap.Default.ArbFor<byte[]>().Filter(static bytes => bytes.Length > 0),
            static seed =>
            {
                // Few distinct bytes, so that runs of zeroes are common.
                byte[] address = new byte[16];
                for (int i = 0; i < 16; i++)
                {
                    address[i] = (byte)(seed[i % seed.Length] < 150 ? 0 : seed[(i * 7) % seed.Length]);
                }

                // The framework writes the deprecated IPv4-compatible form with dots; the RFC asks for that of mapped ones alone.
                bool isCompatible = address.AsSpan(0, 12).IndexOfAnyExcept((byte)0) < 0;
                string expected = new System.Net.IPAddress(address).ToString();
                return isCompatible || SockAddr.InetV6(address, 1).Host == expected;
            }).QuickCheckThrowOnFailure();
    }
}
