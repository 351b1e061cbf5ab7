using System.Globalization;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;

namespace Vmm.Chardevs.Tests;

public sealed class SocketChardevTests
{
    private ChardevWorld _world = null!;

    [SetUp]
    public void SetUp() => _world = new ChardevWorld();

    [TearDown]
    public void TearDown() => _world.Dispose();

    [Test]
    public void UnixServer_ServesOneClientAfterTheOther()
    {
        string path = _world.PathOf("s");
        Chardev chardev = AddUnixServer("s", path);
        Assert.That(chardev.Filename, Is.EqualTo($"disconnected:unix:{path},server=on"));
        var front = new Recorder(chardev);
        Assert.That(front.Events, Is.Empty);

        using (Peer first = Peer.Unix(path))
        {
            _world.Until(() => chardev.IsOpen);
            Assert.That(chardev.Filename, Is.EqualTo($"unix:{path},server=on"));
            first.Send("hello");
            _world.Until(() => front.Text == "hello");
            Assert.That(chardev.Write("answer"u8), Is.EqualTo(6));
            Assert.That(first.Read(), Is.EqualTo("answer"));

            using Peer second = Peer.Unix(path);
            second.Send("next");
            _world.Settle();
            Assert.That(front.Text, Is.EqualTo("hello"));
            first.Dispose();
            _world.Until(() => front.Text == "hellonext");
        }

        _world.Until(() => !chardev.IsOpen);
        Assert.That(front.Events, Is.EqualTo(new[] { ChardevEvent.Opened, ChardevEvent.Closed, ChardevEvent.Opened, ChardevEvent.Closed }));
        Assert.That(chardev.Write("lost"u8), Is.EqualTo(4));
    }

    [Test]
    public void AbstractServer_NamesAndConnects()
    {
        string name = "vmm-test-" + Guid.NewGuid().ToString("N", CultureInfo.InvariantCulture);
        string address = $"'type':'unix','data':{{'path':'{name}','abstract':true";
        Chardev tight = _world.Add("t", $"{{'type':'socket','data':{{'addr':{{{address}}}}},'wait':false}}}}");
        Chardev loose = _world.Add("l", $"{{'type':'socket','data':{{'addr':{{{address},'tight':false}}}},'wait':false}}}}");
        Assert.That(tight.Filename, Is.EqualTo($"disconnected:unix:{name},abstract=on,tight=on,server=on"));
        Assert.That(loose.Filename, Is.EqualTo($"disconnected:unix:{name},abstract=on,server=on"));
        using Peer peer = Peer.Abstract(name);
        _world.Until(() => tight.IsOpen);
        Assert.That(tight.Filename, Is.EqualTo("unix:,server=on"));
        Assert.That(loose.IsOpen, Is.False);
    }

    [Test]
    public void TcpServer_NamesItsRealPortAndItsPeer()
    {
        Chardev chardev = AddTcpServer("t", "");
        int port = PortOf(chardev);
        Assert.That(port, Is.GreaterThan(0));
        using Peer peer = Peer.Tcp(port);
        _world.Until(() => chardev.IsOpen);
        Peer.Check(Libc.GetSockName(peer.Socket.Fd, out SockAddr own));
        Assert.That(chardev.Filename, Is.EqualTo($"tcp:127.0.0.1:{port},server=on <-> 127.0.0.1:{own.Port}"));
    }

    [Test]
    public void TcpServer_ToTakesTheNextFreePort()
    {
        Chardev first = AddTcpServer("a", "");
        int port = PortOf(first);
        Assume.That(port, Is.LessThan(65000));
        Chardev second = _world.Add("b", Tcp(port, $",'to':{port + 50}", ",'wait':false"));
        Assert.That(PortOf(second), Is.InRange(port + 1, port + 50));
        QapiException error = Assert.Throws<QapiException>(() => _world.Add("c", Tcp(port, "", ",'wait':false")))!;
        Assert.That(error.Desc, Is.EqualTo("Failed to add chardev 'c': Failed to find an available port: Address already in use"));
    }

    [Test]
    public void Client_IsConnectedAtOnce()
    {
        Chardev server = AddTcpServer("s", "");
        var serverFront = new Recorder(server);
        Chardev client = _world.Add("c", Tcp(PortOf(server), "", ",'server':false,'nodelay':true"));
        var clientFront = new Recorder(client);
        Assert.That(clientFront.Events, Is.EqualTo(new[] { ChardevEvent.Opened }));
        _world.Until(() => server.IsOpen);
        clientFront.Frontend.Write("ping"u8);
        _world.Until(() => serverFront.Text == "ping");
        Assert.That(client.Filename, Does.EndWith($" <-> 127.0.0.1:{PortOf(server)}").And.StartsWith("tcp:127.0.0.1:"));
    }

    [Test]
    public void Client_ReconnectsAndReportsItsTroubleOnce()
    {
        string path = _world.PathOf("late");
        Chardev client = _world.Add(
            "c", $"{{'type':'socket','data':{{'addr':{{'type':'unix','data':{{'path':'{path}'}}}},'server':false,'reconnect':1}}}}");
        var front = new Recorder(client);
        Assert.That(_world.Reports, Is.EqualTo(new[]
        {
            $"Unable to connect character device c: Failed to connect to '{path}': No such file or directory",
        }));
        Assert.That(client.Filename, Is.EqualTo($"disconnected:unix:{path}"));
        Chardev server = AddUnixServer("s", path);
        var serverFront = new Recorder(server);
        _world.Until(() => client.IsOpen && server.IsOpen);
        Assert.That(_world.Reports, Has.Count.EqualTo(1));
        serverFront.Frontend.Disconnect();
        _world.Registry.Remove("s");
        _world.Until(() => !client.IsOpen);
        AddUnixServer("s", path);
        _world.Until(() => client.IsOpen);
        Assert.That(front.Events, Is.EqualTo(new[] { ChardevEvent.Opened, ChardevEvent.Closed, ChardevEvent.Opened }));
    }

    [Test]
    public void Client_LooksNamesUpInTheBackground()
    {
        using var workers = new Vmm.EventLoop.WorkerPool(1);
        var registry = new ChardevRegistry(_world.Host with { Workers = workers }, _world.Tree.GetContainer("/others"));
        Chardev server = AddTcpServer("s", "");
        string address = $"{{'type':'inet','data':{{'host':'localhost','port':'{PortOf(server)}','ipv4':true}}}}";
        Chardev client = registry.Add(
            "c", ChardevWorld.Backend($"{{'type':'socket','data':{{'addr':{address},'server':false,'reconnect':1}}}}"), null);
        Assert.That(client.IsOpen, Is.False);
        _world.Until(() => client.IsOpen && server.IsOpen);
        registry.Close();
    }

    [Test]
    public void Server_MayWaitForItsFirstClient()
    {
        string path = _world.PathOf("w");
        Peer.Check(Libc.Socket(Libc.AF_UNIX, Libc.SOCK_STREAM, 0, out SafeFd listener));
        Peer.Check(Libc.Bind(listener.Fd, SockAddr.Unix(path)!));
        Peer.Check(Libc.Listen(listener.Fd, 1));
        using Peer peer = Peer.Unix(path);
        Chardev chardev = _world.Add(
            "w", $"{{'type':'socket','data':{{'addr':{{'type':'fd','data':{{'str':'{listener.Detach()}'}}}},'wait':true}}}}");
        Assert.That(chardev.IsOpen);
        Assert.That(_world.Reports, Is.EqualTo(new[] { $"info: QEMU waiting for connection on: disconnected:unix:{path},server=on" }));
    }

    [Test]
    public void Server_StopsWaitingWhenInterrupted()
    {
        Peer.Check(Libc.Pipe(0, out SafeFd read, out SafeFd write));
        using (read)
        {
            write.Dispose();
            var registry = new ChardevRegistry(_world.Host with { InterruptFd = read.Fd }, _world.Tree.GetContainer("/others"));
            string path = _world.PathOf("w");
            string address = $"{{'type':'unix','data':{{'path':'{path}'}}}}";
            Assert.Throws<QapiException>(() => registry.Add(
                "w", ChardevWorld.Backend($"{{'type':'socket','data':{{'addr':{address},'wait':true}}}}"), null));
            Assert.That(File.Exists(path), Is.False);
        }
    }

    [Test]
    public void InheritedListener_IsFoundByName()
    {
        string path = _world.PathOf("inherited");
        Peer.Check(Libc.Socket(Libc.AF_UNIX, Libc.SOCK_STREAM, 0, out SafeFd listener));
        Peer.Check(Libc.Bind(listener.Fd, SockAddr.Unix(path)!));
        var session = new FakeSession();
        session.AddNamedFd("given", listener);
        Chardev chardev = _world.Add("f", "{'type':'socket','data':{'addr':{'type':'fd','data':{'str':'given'}},'wait':false}}", session);
        Assert.That(chardev.Filename, Is.EqualTo($"disconnected:unix:{path},server=on"));
        using Peer peer = Peer.Unix(path);
        _world.Until(() => chardev.IsOpen);
        Assert.That(session.TakeNamedFd("given"), Is.Null);
    }

    [Test]
    public void InheritedConnection_IsFoundByNumber()
    {
        (Peer peer, SafeFd other) = Peer.Pair();
        int number = other.Detach();
        Chardev chardev = _world.Add(
            "f", $"{{'type':'socket','data':{{'addr':{{'type':'fd','data':{{'str':'{number}'}}}},'server':false}}}}");
        Assert.That(chardev.IsOpen);
        Assert.That(chardev.Filename, Is.EqualTo("unix:"));
        peer.Dispose();
        _world.Until(() => !chardev.IsOpen);
        Assert.That(chardev.Filename, Is.EqualTo($"disconnected:fd:{number}"));
    }

    [Test]
    public void Input_IsLimitedByWhatTheFrontEndTakes()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        var front = new Recorder(chardev) { Limit = 3 };
        using Peer peer = Peer.Unix(_world.PathOf("s"));
        peer.Send("0123456789");
        _world.Until(() => front.Bytes.Count == 10);
        Assert.That(front.Sizes, Is.EqualTo(new[] { 3, 3, 3, 1 }));
        front.Limit = 0;
        front.Frontend.AcceptInput();
        peer.Send("more");
        _world.Settle();
        Assert.That(front.Bytes, Has.Count.EqualTo(10));
        front.Limit = 100;
        front.Frontend.AcceptInput();
        _world.Until(() => front.Text == "0123456789more");
    }

    [Test]
    public void HangUp_OfABusyFrontEnd_KeepsWhatWasSent()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        var front = new Recorder(chardev) { Limit = 0 };
        using (Peer peer = Peer.Unix(_world.PathOf("s")))
        {
            _world.Until(() => chardev.IsOpen);
            peer.Send("last words");
        }

        _world.Settle();
        Assert.That(chardev.IsOpen);
        front.Limit = 4;
        front.Frontend.AcceptInput();
        _world.Until(() => !chardev.IsOpen);
        Assert.That(front.Text, Is.EqualTo("last words"));
        Assert.That(front.Events[^1], Is.EqualTo(ChardevEvent.Closed));
    }

    [Test]
    public void HangUp_WithoutFrontEnd_IsSeen()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        using (Peer peer = Peer.Unix(_world.PathOf("s")))
        {
            peer.Send("nobody listens");
            _world.Until(() => chardev.IsOpen);
        }

        _world.Until(() => !chardev.IsOpen);
    }

    [Test]
    public void ClientThatStopsReading_IsWaitedForWithoutBlocking()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        var front = new Recorder(chardev);
        using Peer peer = Peer.Unix(_world.PathOf("s"));
        _world.Until(() => chardev.IsOpen);
        byte[] block = new byte[8192];
        long sent = 0;
        int n;
        while ((n = front.Frontend.Write(block)) > 0)
        {
            sent += n;
            Assert.That(sent, Is.LessThan(1 << 24));
        }

        int woken = 0;
        Assert.That(front.Frontend.WatchWritable(() => woken++));
        _world.Settle();
        Assert.That(woken, Is.Zero);
        byte[] sink = new byte[1 << 16];
        while (Libc.Recv(peer.Socket.Fd, sink) > 0)
        {
        }

        _world.Until(() => woken > 0);
        _world.Settle();
        Assert.That(woken, Is.EqualTo(1));
        Assert.That(front.Frontend.Write(block), Is.GreaterThan(0));
    }

    [Test]
    public void WaitingWriter_HearsOfTheHangUp()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        var front = new Recorder(chardev);
        int woken = 0;
        using (Peer peer = Peer.Unix(_world.PathOf("s")))
        {
            _world.Until(() => chardev.IsOpen);
            byte[] block = new byte[65536];
            while (front.Frontend.Write(block) > 0)
            {
            }

            front.Frontend.WatchWritable(() => woken++);
        }

        _world.Until(() => woken == 1 && !chardev.IsOpen);
        Assert.That(front.Frontend.WatchWritable(() => woken++), Is.False);
    }

    [Test]
    public void Descriptors_StayWithTheirMessage()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        var front = new Recorder(chardev);
        using Peer peer = Peer.Unix(_world.PathOf("s"));
        Peer.Check(Libc.Pipe(0, out SafeFd read, out SafeFd write));
        using (read)
        using (write)
        {
            peer.SendWithFds("one", read.Fd, write.Fd);
            _world.Until(() => front.Text == "one");
            peer.Send("two");
            _world.Until(() => front.Text == "onetwo");
            using SafeFd first = front.Frontend.TakeReceivedFd()!;
            Assert.That(SameFile(first, read));
            peer.SendWithFds("three", read.Fd);
            _world.Until(() => front.Text == "onetwothree");
            using SafeFd second = front.Frontend.TakeReceivedFd()!;
            Assert.That(SameFile(second, read), "the untaken descriptor of the first message is gone");
            Assert.That(front.Frontend.TakeReceivedFd(), Is.Null);
        }
    }

    [Test]
    public void Descriptors_OfPipelinedMessages_ComeOneMessageAtATime()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        var front = new Recorder(chardev) { TakesFds = true };
        using Peer peer = Peer.Unix(_world.PathOf("s"));
        Peer.Check(Libc.Pipe(0, out SafeFd read, out SafeFd write));
        using (read)
        using (write)
        {
            peer.SendWithFds("a", read.Fd);
            peer.SendWithFds("b", write.Fd);
            _world.Until(() => front.Text == "ab");
            Assert.That(front.Fds, Has.Count.EqualTo(2));
            Assert.That(SameFile(front.Fds[0], read) && SameFile(front.Fds[1], write));
            front.Fds.ForEach(f => f.Dispose());
        }
    }

    [Test]
    public void SocketFile_IsRemovedUnlessItWasReplaced()
    {
        string path = _world.PathOf("s");
        AddUnixServer("a", path);
        AddUnixServer("b", path);
        _world.Registry.Remove("a");
        Assert.That(File.Exists(path));
        _world.Registry.Remove("b");
        Assert.That(File.Exists(path), Is.False);
    }

    [Test]
    public void WriteAll_GivesUpAStuckClientAndThenDoesNotWaitForIt()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        using Peer peer = Peer.Unix(_world.PathOf("s"));
        _world.Until(() => chardev.IsOpen);
        byte[] block = new byte[1 << 16];
        for (int i = 0; i < 100; i++)
        {
            chardev.WriteAll(block);
        }

        byte[] sink = new byte[1 << 16];
        while (Libc.Recv(peer.Socket.Fd, sink) > 0)
        {
        }

        chardev.WriteAll("alive"u8);
        Assert.That(peer.Read(), Is.EqualTo("alive"));
    }

    [Test]
    public void SteadyState_DoesNotAllocate()
    {
        Chardev chardev = AddUnixServer("s", _world.PathOf("s"));
        var front = new Counter(chardev);
        using Peer peer = Peer.Unix(_world.PathOf("s"));
        _world.Until(() => chardev.IsOpen);
        byte[] data = new byte[100];
        Exchange(50);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Exchange(200);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(200));

        void Exchange(int rounds)
        {
            for (int i = 0; i < rounds; i++)
            {
                Libc.Send(peer.Socket.Fd, data);
                long seen = front.Total;
                while (front.Total == seen)
                {
                    _world.Loop.RunOnce(block: true);
                }

                front.Frontend.Write(data);
                Libc.Recv(peer.Socket.Fd, data);
            }
        }
    }

    [TestCase("'reconnect':5", "'reconnect' option is incompatible with socket in server listen mode")]
    [TestCase("'server':false,'wait':false", "'wait' option is incompatible with socket in client connect mode")]
    [TestCase("'server':false,'websocket':true", "Websocket client is not implemented")]
    [TestCase("'tls-creds':'x'", "No TLS credentials with id 'x'")]
    [TestCase("'tls-authz':'x'", "'tls_authz' option requires 'tls_creds' option")]
    public void ContradictoryOptions_AreRefused(string options, string expected)
    {
        string backend = "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'/nonexistent/x'}}," + options + "}}";
        QapiException error = Assert.Throws<QapiException>(() => _world.Add("x", backend))!;
        Assert.That(error.Desc, Is.EqualTo("Failed to add chardev 'x': " + expected));
        Assert.That(_world.Registry.All(), Is.Empty);
    }

    internal static int PortOf(Chardev chardev) =>
        int.Parse(((SocketChardev)chardev).Address.Inet!.Port, CultureInfo.InvariantCulture);

    internal static string Tcp(int port, string addressExtra, string extra) =>
        $"{{'type':'socket','data':{{'addr':{{'type':'inet','data':{{'host':'127.0.0.1','port':'{port}'{addressExtra}}}}}{extra}}}}}";

    private static bool SameFile(SafeFd a, SafeFd b)
    {
        Peer.Check(Libc.FStat(a.Fd, out FileStatus first));
        Peer.Check(Libc.FStat(b.Fd, out FileStatus second));
        int modeA = Libc.Fcntl(a.Fd, Libc.F_GETFL, 0) & Libc.O_ACCMODE;
        int modeB = Libc.Fcntl(b.Fd, Libc.F_GETFL, 0) & Libc.O_ACCMODE;
        return first.st_ino == second.st_ino && modeA == modeB;
    }

    private Chardev AddUnixServer(string id, string path) =>
        _world.Add(id, $"{{'type':'socket','data':{{'addr':{{'type':'unix','data':{{'path':'{path}'}}}},'wait':false}}}}");

    private Chardev AddTcpServer(string id, string extra) => _world.Add(id, Tcp(0, "", ",'wait':false" + extra));

    private sealed class Counter : ICharHandler
    {
        public Counter(Chardev backend)
        {
            Frontend.Connect(backend);
            Frontend.SetHandler(this);
        }

        public CharFrontend Frontend { get; } = new();

        public long Total { get; private set; }

        public int CanReceive() => 4096;

        public void Receive(ReadOnlySpan<byte> data) => Total += data.Length;

        public void OnEvent(ChardevEvent ev)
        {
        }
    }
}
