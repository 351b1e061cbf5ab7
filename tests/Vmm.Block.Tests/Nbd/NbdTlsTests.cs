using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Interop.Tls;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;
using Vmm.TestKit.Tls;

namespace Vmm.Block.Tests.Nbd;

/// <summary>NBD over TLS (NBD protocol, "NBD_OPT_STARTTLS"): our server and our client, with those that others wrote and with each other.</summary>
public sealed class NbdTlsTests : NbdFixture
{
    private const int Size = 3 << 19;

    private TlsFiles _files = null!;

    private string Remote => Path.Combine(Folder, "r");

    private string Secure(string parameters = "") => $"nbds+unix:///x?socket={SocketPath}&tls-certificates={_files.Folder}{parameters}";

    [SetUp]
    public void MakeCredentials()
    {
        if (!GnuTls.IsAvailable)
        {
            Assert.Ignore("libgnutls.so.30 is not installed");
        }

        _files = TlsFiles.Full(Path.Combine(Folder, "tls"));
        AddObject($$"""{'qom-type': 'tls-creds-x509', 'id': 'server', 'endpoint': 'server', 'dir': '{{_files.Folder}}'}""");
        AddObject($$"""{'qom-type': 'tls-creds-x509', 'id': 'client', 'endpoint': 'client', 'dir': '{{_files.Folder}}'}""");
        AddObject($$"""{'qom-type': 'tls-creds-psk', 'id': 'psk-server', 'endpoint': 'server', 'dir': '{{_files.Folder}}'}""");
        AddObject($$"""{'qom-type': 'tls-creds-psk', 'id': 'psk-client', 'endpoint': 'client', 'username': 'alice', 'dir': '{{_files.Folder}}'}""");
        AddObject("{'qom-type': 'tls-creds-anon', 'id': 'anon-server', 'endpoint': 'server'}");
        AddObject("{'qom-type': 'tls-creds-anon', 'id': 'anon-client', 'endpoint': 'client', 'priority': 'NORMAL:-VERS-TLS1.3'}");
        AddObject("{'qom-type': 'authz-list', 'id': 'acme', 'rules': [{'match': '*O=Acme*', 'policy': 'allow', 'format': 'glob'}]}");
        AddObject("{'qom-type': 'authz-simple', 'id': 'somebody', 'identity': 'CN=somebody'}");
    }

    [Test]
    public void CopiesByCertificateAreEqual()
    {
        Need("nbdcopy", "nbdinfo");
        string from = Serve("server", "acme", 1);
        Assert.That(Good("nbdinfo", Secure()), Does.Contain("protocol: newstyle-fixed with TLS").And.Contain("base:allocation"));
        Good("nbdcopy", Secure(), "out");
        Assert.That(File.ReadAllBytes(Path.Combine(Folder, "out")).AsSpan().SequenceEqual(File.ReadAllBytes(from)));
        byte[] data = Pattern(Size, 3);
        File.WriteAllBytes(Path.Combine(Folder, "in"), data);
        Good("nbdcopy", "--flush", "in", Secure());
        Assert.That(File.ReadAllBytes(from).AsSpan().SequenceEqual(data));
    }

    [Test]
    public void CopiesByKeyAreEqual()
    {
        Need("nbdcopy");
        string from = Serve("psk-server", null, 2);
        Good("nbdcopy", $"nbds+unix://qemu@/x?socket={SocketPath}&tls-psk-file={_files.PathOf("keys.psk")}", "out");
        Assert.That(File.ReadAllBytes(Path.Combine(Folder, "out")).AsSpan().SequenceEqual(File.ReadAllBytes(from)));
        Assert.That(
            Peer("nbdcopy", $"nbds+unix://nobody@/x?socket={SocketPath}&tls-psk-file={_files.PathOf("keys.psk")}", "out").Code, Is.Not.Zero);
    }

    [TestCase("x509", "server")]
    [TestCase("psk", "psk-server")]
    [TestCase("anon", "anon-server")]
    public void QemuReadsAndWrites(string kind, string credentials)
    {
        Need("qemu-io");
        string path = Serve(credentials, null, 4);
        string options = kind == "psk" ? ",username=alice" : "";
        string folder = kind == "anon" ? "" : ",dir=" + _files.Folder;
        string output = Good(
            "qemu-io",
            "--object", $"tls-creds-{kind},id=t,endpoint=client{folder}{options}",
            "--image-opts", $"driver=nbd,server.type=unix,server.path={SocketPath},export=x,tls-creds=t,tls-hostname=localhost",
            "-c", "write -P 0x5a 100000 700000", "-c", "read -P 0x5a 100000 700000", "-c", "flush");
        Assert.That(output, Does.Contain("wrote 700000/700000").And.Contain("read 700000/700000").And.Not.Contain("failed"));
        Assert.That(File.ReadAllBytes(path).AsSpan(100000, 700000).ContainsAnyExcept((byte)0x5a), Is.False);
    }

    [Test]
    public void WhoeverIsNotWelcomeIsNotServed()
    {
        Need("nbdinfo");
        Serve("server", "somebody", 5);
        Assert.That(Peer("nbdinfo", Secure()).Code, Is.Not.Zero, "another name than the one that may come in");
        Assert.That(Peer("nbdinfo", Uri("x")).Code, Is.Not.Zero, "no TLS at all");
        File.Delete(_files.PathOf("client-cert.pem"));
        File.Delete(_files.PathOf("client-key.pem"));
        Assert.That(Peer("nbdinfo", Secure()).Code, Is.Not.Zero, "no certificate");
        Loop.RunUntil(Exporting.StopServerAsync());
        Serve("server", null, 5, "d2");
        Assert.That(Peer("nbdinfo", Secure()).Code, Is.Not.Zero, "no certificate, anybody may come in");
    }

    [TestCase("client", "server", "localhost", null, null)]
    [TestCase("psk-client", "psk-server", null, null, null)]
    [TestCase("anon-client", "anon-server", null, null, null)]
    [TestCase("client", "server", "elsewhere", null, "Certificate does not match the hostname elsewhere")]
    [TestCase("client", "server", null, null, "No hostname for certificate validation")]
    [TestCase("client", "server", "localhost", "acme", null)]
    [TestCase("client", "psk-server", "localhost", null, "TLS handshake failed: ")]
    [TestCase("server", "server", "localhost", null, "Expected TLS credentials for a client endpoint")]
    [TestCase("acme", "server", "localhost", null, "Object with id 'acme' is not TLS credentials")]
    [TestCase("nobody", "server", "localhost", null, "No TLS credentials with id 'nobody'")]
    public void OursReadsOurs(string client, string server, string? host, string? authorization, string? error)
    {
        string path = Serve(server, authorization, 6);
        BlockNode Connect() => Open(
            $$"""{'driver': 'nbd', 'server': {'type': 'unix', 'path': '{{SocketPath}}'}, 'export': 'x', 'tls-creds': '{{client}}'{{Host(host)}} }""");
        if (error is not null)
        {
            Assert.That(Assert.Throws<QapiException>(() => Connect())!.Desc, Does.StartWith(error));
            return;
        }

        BlockNode node = Connect();
        Assert.That(Read(node, 0, Size).AsSpan().SequenceEqual(File.ReadAllBytes(path)));
        byte[] data = Pattern(900_001, 8);
        Write(node, 12345, data);
        Assert.That(Read(node, 12345, data.Length).AsSpan().SequenceEqual(data));
        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.Zero);
        Assert.That(File.ReadAllBytes(path).AsSpan(12345, data.Length).SequenceEqual(data));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
    }

    [TestCase("qemu-nbd")]
    [TestCase("nbdkit")]
    [TestCase("nbdkit-psk")]
    public void WhatIsWrittenIsInThePeersFile(string server)
    {
        Need("qemu-nbd", "nbdkit");
        string path = SparseFile("f", Size, 9);
        switch (server)
        {
            case "qemu-nbd":
                Background(
                    Remote, "qemu-nbd", "-t", "-k", Remote, "-f", "raw", "--object", $"tls-creds-x509,id=t,endpoint=server,dir={_files.Folder}", "--tls-creds", "t", path);
                break;
            case "nbdkit":
                Background(Remote, "nbdkit", "-f", "-U", Remote, "--tls=require", "--tls-verify-peer", "--tls-certificates=" + _files.Folder, "file", path);
                break;
            default:
                Background(Remote, "nbdkit", "-f", "-U", Remote, "--tls=require", "--tls-psk=" + _files.PathOf("keys.psk"), "file", path);
                break;
        }

        string credentials = server == "nbdkit-psk" ? "psk-client" : "client";
        BlockNode node = Open(
            $$"""{'driver': 'nbd', 'server': {'type': 'unix', 'path': '{{Remote}}'}, 'tls-creds': '{{credentials}}', 'tls-hostname': 'localhost'}""");
        Assert.That(Read(node, 0, Size).AsSpan().SequenceEqual(File.ReadAllBytes(path)));
        byte[] data = Pattern(1_000_000, 10);
        Write(node, 4096, data);
        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.Zero);
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
        Assert.That(File.ReadAllBytes(path).AsSpan(4096, data.Length).SequenceEqual(data));
    }

    [TestCase(4096)]
    [TestCase(65536)]
    [Category("Allocation")]
    public void RequestsInSteadyStateAllocateNothingAtEitherEnd(int bytes)
    {
        const int Depth = 8;
        Serve("server", null, 15);
        BlockNode node = Open(
            $$"""{'driver': 'nbd', 'server': {'type': 'unix', 'path': '{{SocketPath}}'}, 'export': 'x', 'tls-creds': 'client', 'tls-hostname': 'localhost'}""");
        using NativeBuffer memory = new(Depth * bytes, zeroed: true);
        var data = new IoVectors[Depth];
        var running = new IoTask<int>[Depth];
        for (int i = 0; i < Depth; i++)
        {
            data[i] = IoVectors.Rent(memory.Vector(i * bytes, bytes));
        }

        // Other threads of the test's host may allocate now and then, but not in each round.
        long least = long.MaxValue;
        for (int round = 0; round < 8; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int batch = 0; batch < 16; batch++)
            {
                for (int i = 0; i < Depth; i++)
                {
                    running[i] = (batch & 1) != 0 ? node.WriteAsync(i * bytes, data[i]) : node.ReadAsync(i * bytes, data[i]);
                }

                for (int i = 0; i < Depth; i++)
                {
                    if (Loop.RunUntil(running[i]) is not 0 and int result)
                    {
                        Assert.Fail($"result {result}");
                    }
                }
            }

            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        Array.ForEach(data, static d => d.Return());
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
#if DEBUG
        Assert.Ignore($"state machines are objects in debug builds: {least} bytes");
#else
        Assert.That(least, Is.Zero);
#endif
    }

    [Test]
    public void AConnectionIsMadeAgain()
    {
        string path = Serve("server", null, 11);
        BlockNode node = Open(
            $$"""{'driver': 'nbd', 'server': {'type': 'unix', 'path': '{{SocketPath}}'}, 'export': 'x', 'tls-creds': 'client', 'tls-hostname': 'localhost', 'reconnect-delay': 600}""");
        Assert.That(Read(node, 0, 4096), Is.EqualTo(File.ReadAllBytes(path)[..4096]));
        Loop.RunUntil(Exporting.StopServerAsync());
        Publish(path, "server", null, "again");
        Assert.That(Read(node, 8192, 4096), Is.EqualTo(File.ReadAllBytes(path)[8192..12288]));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
    }

    [Test]
    public void WhatIsSaidBeforeTlsCountsForNothing()
    {
        Serve("server", null, 12);
        using Socket socket = Connect();
        Hello(socket);

        // An option in the clear right behind STARTTLS: it is no TLS record, and ends the connection.
        socket.Send([.. Option(5), .. Option(3)]);
        Assert.That(Answer(socket), Is.EqualTo((5u, 1u)));
        Assert.That(Receive(socket, 1), Is.Empty);
    }

    [Test]
    public void OptionsBeforeTlsAreRefused()
    {
        Serve("server", null, 13);
        using Socket socket = Connect();
        Hello(socket);
        foreach (uint option in (uint[])[3, 6, 7, 8, 9, 99])
        {
            socket.Send(Option(option));
            Assert.That(Answer(socket), Is.EqualTo((option, 0x80000005u)));
        }

        socket.Send(Option(2));
        Assert.That(Answer(socket), Is.EqualTo((2u, 0x80000005u)));
        Assert.That(Receive(socket, 1), Is.Empty);
        using Socket named = Connect();
        Hello(named);
        named.Send([.. Option(1, 1), (byte)'x']);
        Assert.That(Receive(named, 1), Is.Empty, "an export's name cannot be refused but by hanging up");
    }

    [Test]
    public void WhoeverStopsInTheHandshakeHoldsNobodyUp()
    {
        Need("nbdinfo");
        Serve("server", null, 14);
        List<Socket> idle = [];
        for (int i = 0; i < 8; i++)
        {
            Socket socket = Connect();
            idle.Add(socket);
            Hello(socket);
            socket.Send(Option(5));
            Assert.That(Answer(socket), Is.EqualTo((5u, 1u)));

            // The head of a record of 16384 bytes of handshake that never come.
            socket.Send([0x16, 3, 1, 0x40, 0]);
        }

        Assert.That(Good("nbdinfo", "--size", Secure()).Trim(), Is.EqualTo(Size.ToString(System.Globalization.CultureInfo.InvariantCulture)));
        Assert.That(Exporting.Server!.Connections, Is.GreaterThanOrEqualTo(8));
        idle.ForEach(static s => s.Dispose());
    }

    private static string Host(string? name) => name is null ? "" : $", 'tls-hostname': '{name}'";

    private string Serve(string credentials, string? authorization, int seed, string node = "d")
    {
        string path = SparseFile("file-" + node, Size, seed);
        Publish(path, credentials, authorization, node);
        return path;
    }

    private void Publish(string path, string credentials, string? authorization, string node)
    {
        Open($$"""{'driver': 'raw', 'node-name': '{{node}}', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        StartServer(tls: credentials, authorization: authorization);
        Export($$"""{'type': 'nbd', 'id': 'e', 'node-name': '{{node}}', 'name': 'x', 'writable': true}""");
    }

    private static byte[] Option(uint option, int length = 0)
    {
        byte[] bytes = new byte[16];
        Encoding.ASCII.GetBytes("IHAVEOPT", bytes);
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(8), option);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(12), length);
        return bytes;
    }

    private void Hello(Socket socket)
    {
        Assert.That(Receive(socket, 18), Has.Length.EqualTo(18));
        socket.Send([0, 0, 0, 3]);
    }

    private (uint Option, uint Type) Answer(Socket socket)
    {
        byte[] head = Receive(socket, 20);
        Assert.That(head, Has.Length.EqualTo(20));
        Receive(socket, BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(16)));
        return (BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(8)), BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(12)));
    }

    // Fewer bytes when the connection ends before.
    private byte[] Receive(Socket socket, int count)
    {
        socket.Blocking = false;
        byte[] bytes = new byte[count];
        int done = 0;
        while (done < count)
        {
            int n = socket.Receive(bytes.AsSpan(done), SocketFlags.None, out SocketError error);
            if (error == SocketError.WouldBlock)
            {
                Loop.RunOnce(block: false);
                Thread.Yield();
                continue;
            }

            if (n == 0 || error != SocketError.Success)
            {
                break;
            }

            done += n;
        }

        return bytes[..done];
    }
}
