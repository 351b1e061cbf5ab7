using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Interop.Tls;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Tls;
using Vmm.Qapi;
using Vmm.TestKit.Tls;

namespace Vmm.ObjectModel.Tests.Tls;

/// <summary>Two ends of a session over a socket pair.</summary>
public sealed class TlsSessionTests
{
    private readonly Clocks _clocks = new();
    private string _folder = null!;
    private TlsFiles _files = null!;
    private QomTree _tree = null!;
    private SafeFd _near = null!;
    private SafeFd _far = null!;

    [SetUp]
    public void Make()
    {
        if (!GnuTls.IsAvailable)
        {
            Assert.Ignore("libgnutls.so.30 is not installed");
        }

        _folder = Directory.CreateTempSubdirectory("vmm-tls-").FullName;
        _files = TlsFiles.Full(Path.Combine(_folder, "good"));
        _tree = new QomTree(new QomTypeRegistry());
        Assert.That(Libc.SocketPair(Libc.SOCK_STREAM | Libc.SOCK_NONBLOCK, out _near, out _far), Is.EqualTo(Errno.OK));
    }

    [TearDown]
    public void End()
    {
        _near?.Dispose();
        _far?.Dispose();
        if (_folder is not null)
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [TestCase("x509", "")]
    [TestCase("x509", ", 'priority': 'NORMAL:-VERS-TLS1.3'")]
    [TestCase("psk", "")]
    [TestCase("psk", ", 'priority': 'NORMAL:-VERS-TLS1.3'")]
    [TestCase("anon", "")]
    public void BytesArriveAsTheyWereSent(string kind, string more)
    {
        // Small buffers, so that records wait in parts.
        Libc.SetSockOpt(_near.Fd, Libc.SOL_SOCKET, Libc.SO_SNDBUF, 1);
        Libc.SetSockOpt(_far.Fd, Libc.SOL_SOCKET, Libc.SO_SNDBUF, 1);
        using TlsSession client = Client(kind, more);
        using TlsSession server = Server(kind, more);
        Shake(client, server);
        Random random = new(7);
        byte[] data = new byte[200_000];
        random.NextBytes(data);
        Exchange(client, server, data, random);
        Exchange(server, client, data, random);
    }

    [Test]
    public void RecordsAllocateNothing()
    {
        using TlsSession client = Client("psk");
        using TlsSession server = Server("psk");
        Shake(client, server);
        using NativeBuffer from = new(20_000);
        using NativeBuffer to = new(20_000);
        IoVec[] pieces = [from.Vector(0, 28), from.Vector(4096, 4096), from.Vector(9000, 5)];
        long allocated = 0;
        for (int i = 0; i < 40; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            int sent = client.Write(pieces) + client.Write(from.Span[..16_000]);
            int received = 0;
            while (received < sent)
            {
                int n = server.Read(to.Vector(0, 20_000));
                if (n <= 0)
                {
                    break;
                }

                received += n;
            }

            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.That(received, Is.EqualTo(sent));
        }

        Assert.That(allocated, Is.Zero);
    }

    [Test]
    public void TheEndIsToldFromACut()
    {
        byte[] buffer = new byte[16];
        TlsSession client = Client("psk");
        using TlsSession server = Server("psk");
        Shake(client, server);
        client.Write("bye"u8);
        client.Dispose();
        Assert.That(server.Read(buffer), Is.EqualTo(3));
        Assert.That(server.Read(buffer), Is.Zero);
    }

    [Test]
    public void ACutIsNoEnd()
    {
        byte[] buffer = new byte[16];
        using TlsSession client = Client("psk");
        using TlsSession server = Server("psk");
        Shake(client, server);
        _near.Dispose();
        Assert.That(server.Read(buffer), Is.EqualTo(-(int)Errno.ECONNABORTED));
        Assert.That(server.Read(buffer), Is.LessThan(0));
    }

    [Test]
    public void WhoeverDoesNotReadIsNotWrittenToForEver()
    {
        using TlsSession client = Client("psk");
        using TlsSession server = Server("psk");
        Shake(client, server);
        byte[] data = new byte[16_384];
        long taken = 0;
        int n;
        while ((n = client.Write(data)) > 0)
        {
            taken += n;
            Assert.That(taken, Is.LessThan(64 << 20));
        }

        Assert.That(n, Is.EqualTo(-(int)Errno.EAGAIN));
        Assert.That(client.HasOutput);
        Assert.That(client.Flush(), Is.EqualTo(-(int)Errno.EAGAIN));
    }

    [TestCase("localhost", null, null)]
    [TestCase("127.0.0.1", null, null)]
    [TestCase("elsewhere", null, "Certificate does not match the hostname elsewhere")]
    [TestCase(null, null, "No hostname for certificate validation")]
    public void TheServersNameIsChecked(string? host, string? authorization, string? error)
    {
        using TlsSession client = Client("x509", host: host);
        using TlsSession server = Server("x509", authorization: authorization);
        Judge(client, server, error, null);
    }

    [TestCase("acme", null)]
    [TestCase("nobody", "TLS x509 authz check for O=Acme,CN=guest is denied")]
    [TestCase("none", "Cannot find QAuthZ object ID none")]
    [TestCase("secret", "Object 'secret' is not a QAuthZ subclass")]
    public void TheClientsNameIsChecked(string authorization, string? error)
    {
        Add("{'qom-type': 'authz-list', 'id': 'acme', 'rules': [{'match': 'O=Acme,*', 'policy': 'allow', 'format': 'glob'}]}");
        Add("{'qom-type': 'authz-list', 'id': 'nobody'}");
        Add("{'qom-type': 'secret', 'id': 'secret', 'data': 'x'}");
        using TlsSession client = Client("x509", host: "localhost");
        using TlsSession server = Server("x509", authorization: authorization);
        Judge(client, server, null, error);
    }

    [Test]
    public void AClientWithoutCertificateIsNotLetIn()
    {
        TlsFiles bare = new TlsFiles(Path.Combine(_folder, "bare")).Authority();
        using TlsSession client = Client("x509", folder: bare.Folder, host: "localhost");
        using TlsSession server = Server("x509");
        Judge(client, server, null, "Verify failed: ");
    }

    [Test]
    public void AClientWithoutCertificateIsLetInWhereNobodyAsks()
    {
        TlsFiles bare = new TlsFiles(Path.Combine(_folder, "bare")).Authority();
        using TlsSession client = Client("x509", folder: bare.Folder, host: "localhost");
        using TlsSession server = Server("x509", ", 'verify-peer': false");
        Judge(client, server, null, null);
    }

    [Test]
    public void AServerOfAnotherAuthorityIsNotTrusted()
    {
        TlsFiles other = new TlsFiles(Path.Combine(_folder, "other")).Authority(TestCertificate.Authority with { Subject = "CN=Another authority" }, isOther: true);
        using TlsSession client = Client("x509", folder: other.Folder, host: "localhost");
        using TlsSession server = Server("x509", ", 'verify-peer': false");
        Judge(client, server, "The certificate hasn't got a known issuer", null);
    }

    [Test]
    public void AnOldCertificateIsNotTrusted()
    {
        TlsFiles old = TlsFiles.Full(Path.Combine(_folder, "old")).Server(TestCertificate.Server with { FromDays = -10, ToDays = -1 });
        using TlsSession client = Client("x509", host: "localhost");
        using TlsSession server = Server("x509", ", 'sanity-check': false, 'verify-peer': false", folder: old.Folder);
        Judge(client, server, "The certificate is not trusted", null);
    }

    [Test]
    public void SessionsOutliveTheirObjects()
    {
        using TlsSession client = Client("psk");
        using TlsSession server = Server("psk");
        _tree.Objects.FindChild("server")!.Unparent();
        _tree.Objects.FindChild("client")!.Unparent();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Shake(client, server);
        Exchange(client, server, new byte[1000], new Random(1));
    }

    [Test]
    public void HostileBytesEndTheHandshake()
    {
        Random random = new(3);
        for (int i = 0; i < 50; i++)
        {
            Libc.SocketPair(Libc.SOCK_STREAM | Libc.SOCK_NONBLOCK, out SafeFd ours, out SafeFd theirs);
            using (ours)
            using (theirs)
            using (TlsSession server = TlsSession.Create(Credentials("x509", true, ""), new TlsPeerPolicy(static _ => null), _clocks, ours))
            {
                byte[] bytes = new byte[random.Next(1, 3000)];
                random.NextBytes(bytes);
                Libc.Send(theirs.Fd, bytes);
                Libc.Shutdown(theirs.Fd, Libc.SHUT_RDWR);
                QapiException? error = null;
                for (int turn = 0; turn < 100 && error is null; turn++)
                {
                    error = Attempt(server);
                }

                Assert.That(error?.Desc, Does.StartWith("TLS handshake failed: "));
                Assert.That(server.IsEstablished, Is.False);
                Assert.That(Attempt(server)?.Desc, Is.EqualTo(error!.Desc), "it stays so");
            }
        }
    }

    [TestCase("x509", "Cannot set default TLS session priority NONSENSE: ")]
    [TestCase("psk", "Unable to set TLS session priority NONSENSE:+ECDHE-PSK:+DHE-PSK:+PSK: ")]
    public void APriorityThatIsNotUnderstoodIsRefused(string kind, string error) => Assert.That(
        Assert.Throws<QapiException>(() => Client(kind, ", 'priority': 'NONSENSE'"))!.Desc, Does.StartWith(error));

    [Test]
    public void CredentialsAreForOneEnd()
    {
        Credentials("psk", true, "");
        Assert.That(
            Assert.Throws<QapiException>(() => TlsCredentials.Find(Objects, "server", isServer: false))!.Desc,
            Is.EqualTo("Expected TLS credentials for a client endpoint"));
        Assert.That(TlsCredentials.Find(Objects, "server", isServer: true).IsServer);
    }

    private QomObject? Objects(string id) => _tree.Objects.FindChild(id);

    private void Add(string json) => new ObjectFactory(new ObjectContext(_tree, null!, _clocks)).Add((QDict)QValue.Parse(json));

    private TlsCredentials Credentials(string kind, bool isServer, string more, string? folder = null)
    {
        string id = isServer ? "server" : "client";
        if (Objects(id) is null)
        {
            string user = kind == "psk" && !isServer ? ", 'username': 'alice'" : "";
            Add($$"""{'qom-type': 'tls-creds-{{kind}}', 'id': '{{id}}', 'endpoint': '{{id}}', 'dir': '{{folder ?? _files.Folder}}'{{user}}{{more}} }""");
        }

        return TlsCredentials.Find(Objects, id, isServer);
    }

    private TlsSession Client(string kind, string more = "", string? folder = null, string? host = "localhost") =>
        TlsSession.Create(Credentials(kind, false, more, folder), new TlsPeerPolicy(Objects, host), _clocks, _near);

    private TlsSession Server(string kind, string more = "", string? folder = null, string? authorization = null) =>
        TlsSession.Create(Credentials(kind, true, more, folder), new TlsPeerPolicy(Objects, null, authorization), _clocks, _far);

    private static QapiException? Attempt(TlsSession session)
    {
        try
        {
            session.Handshake();
            return null;
        }
        catch (QapiException e)
        {
            return e;
        }
    }

    private static void Shake(TlsSession client, TlsSession server)
    {
        for (int i = 0; i < 10_000 && (!client.IsEstablished || !server.IsEstablished || client.HasOutput || server.HasOutput); i++)
        {
            client.Handshake();
            server.Handshake();
        }

        Assert.That(client.IsEstablished && server.IsEstablished);
    }

    private static void Judge(TlsSession client, TlsSession server, string? clientError, string? serverError)
    {
        QapiException? here = null;
        QapiException? there = null;
        for (int i = 0; i < 1000; i++)
        {
            here ??= Attempt(client);
            there ??= Attempt(server);
        }

        Check(here, clientError);
        Check(there, serverError);
        Assert.That(client.IsEstablished, Is.EqualTo(clientError is null));
        Assert.That(server.IsEstablished, Is.EqualTo(serverError is null));
    }

    private static void Check(QapiException? error, string? expected)
    {
        if (expected is null)
        {
            Assert.That(error?.Desc, Is.Null);
        }
        else
        {
            Assert.That(error?.Desc, Does.StartWith(expected));
        }
    }

    private static void Exchange(TlsSession from, TlsSession to, byte[] data, Random random)
    {
        byte[] received = new byte[data.Length];
        int sent = 0;
        int done = 0;
        for (int i = 0; i < 1_000_000 && done < data.Length; i++)
        {
            if (sent < data.Length)
            {
                int n = from.Write(data.AsSpan(sent, Math.Min(random.Next(1, 40_000), data.Length - sent)));
                Assert.That(n, Is.GreaterThan(0).Or.EqualTo(-(int)Errno.EAGAIN));
                sent += Math.Max(n, 0);
            }
            else
            {
                from.Flush();
            }

            int got = to.Read(received.AsSpan(done, Math.Min(random.Next(1, 40_000), data.Length - done)));
            Assert.That(got, Is.GreaterThan(0).Or.EqualTo(-(int)Errno.EAGAIN));
            done += Math.Max(got, 0);
        }

        Assert.That(received.AsSpan().SequenceEqual(data));
    }
}
