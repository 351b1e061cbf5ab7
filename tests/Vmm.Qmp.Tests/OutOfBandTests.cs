using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Vmm.Interop;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// Out-of-band commands beside a command that waits: for the reader of a FIFO, which a test controls, or for a connection. Where QEMU
/// does the same, the test is held with it too.
/// </summary>
public sealed class OutOfBandTests
{
    private const int QueueLength = 8;

    [TestCase(false)]
    [TestCase(true)]
    public void OutOfBandCommandsRunBesideAWaitingOne(bool qemu)
    {
        using Emulator emulator = Start(qemu);
        QmpClient client = emulator.Qmp(oob: true);
        string fifo = Block(emulator, client);
        for (int i = 0; i < 3; i++)
        {
            client.SendRaw($"{{\"exec-oob\":\"query-yank\",\"id\":\"oob{i}\"}}");
            Assert.That((string)client.ReadMessage()["id"]!, Is.EqualTo($"oob{i}"));
        }

        client.SendRaw("{\"execute\":\"query-status\",\"id\":\"after\"}{\"exec-oob\":\"no-such-command\",\"id\":\"refused\"}");
        JsonObject refused = client.ReadMessage();
        Assert.That((string)refused["id"]!, Is.EqualTo("refused"));
        Assert.That((string)refused["error"]!["class"]!, Is.EqualTo("CommandNotFound"));
        Assert.That(File.ReadAllBytes(fifo), Has.Length.EqualTo(5000));
        Assert.That((string)client.ReadMessage()["id"]!, Is.EqualTo("blocked"));
        Assert.That((string)client.ReadMessage()["id"]!, Is.EqualTo("after"));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void AFullQueueHoldsOutOfBandCommandsUpToo(bool qemu)
    {
        using Emulator emulator = Start(qemu);
        QmpClient client = emulator.Qmp(oob: true);
        string fifo = Block(emulator, client);
        client.SendRaw("{\"exec-oob\":\"query-yank\",\"id\":\"running\"}");
        Assert.That((string)client.ReadMessage()["id"]!, Is.EqualTo("running"));
        for (int i = 0; i < QueueLength; i++)
        {
            client.SendRaw($"{{\"execute\":\"query-status\",\"id\":\"q{i}\"}}");
        }

        client.SendRaw("{\"exec-oob\":\"query-yank\",\"id\":\"late\"}");
        Assert.That(File.ReadAllBytes(fifo), Has.Length.EqualTo(5000));
        List<string> order = [];
        for (int i = 0; i < QueueLength + 2; i++)
        {
            order.Add((string)client.ReadMessage()["id"]!);
        }

        Assert.That(order[0], Is.EqualTo("blocked"), "nobody overtakes a queue that is full");
        Assert.That(order.Where(id => id[0] == 'q'), Is.EqualTo(Enumerable.Range(0, QueueLength).Select(i => "q" + i)));
    }

    /// <summary>QEMU gives the next client the answer that the one before has not waited for; nobody can want that.</summary>
    [Test]
    public void TheNextClientIsNotToldWhatTheOneBeforeAsked()
    {
        using Emulator emulator = Monitored.Start();
        QmpClient gone = emulator.Qmp(oob: true);
        string fifo = Block(emulator, gone);
        gone.SendRaw("{\"exec-oob\":\"query-yank\",\"id\":\"running\"}");
        gone.ReadMessage();
        gone.SendRaw("{\"execute\":\"query-status\",\"id\":\"never\"}");
        gone.Dispose();
        QmpClient next = emulator.QmpRaw();
        Assert.That(next.ReadMessage().ContainsKey("QMP"), Is.True);
        next.SendRaw("{\"execute\":\"qmp_capabilities\",\"id\":1}");
        Assert.That(File.ReadAllBytes(fifo), Has.Length.EqualTo(5000));
        Assert.That(next.ReadLine(), Is.EqualTo("{\"return\": {}, \"id\": 1}"));
        next.SendRaw("{\"execute\":\"query-name\",\"id\":2}");
        Assert.That(next.ReadLine(), Is.EqualTo("{\"return\": {}, \"id\": 2}"));
    }

    [Test]
    public void AnotherMonitorRunsOutOfBandCommandsMeanwhile()
    {
        using Emulator emulator = Monitored.StartWithTwo();
        QmpClient first = emulator.Qmp(oob: true);
        using QmpClient second = Monitored.Second(emulator);
        second.Negotiate(oob: true);
        string fifo = Block(emulator, first);
        first.SendRaw("{\"exec-oob\":\"query-yank\",\"id\":\"running\"}");
        first.ReadMessage();
        second.SendRaw("{\"execute\":\"query-name\",\"id\":1}{\"exec-oob\":\"query-yank\",\"id\":2}");
        Assert.That((int)second.ReadMessage()["id"]!, Is.EqualTo(2));
        Assert.That(File.ReadAllBytes(fifo), Has.Length.EqualTo(5000));
        Assert.That((int)second.ReadMessage()["id"]!, Is.EqualTo(1));
        Assert.That((string)first.ReadMessage()["id"]!, Is.EqualTo("blocked"));
    }

    [Test]
    public void YankEndsAConnectionThatIsNotAnswered()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(0);
        int port = ((IPEndPoint)listener.LocalEndPoint!).Port;
        List<Socket> filling = [];
        try
        {
            // Nobody accepts: once the queue is full, a further client gets no answer.
            for (int i = 0; i < 4; i++)
            {
                Socket filler = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                _ = filler.ConnectAsync(IPAddress.Loopback, port);
                filling.Add(filler);
            }

            using Emulator emulator = Monitored.Start();
            QmpClient client = emulator.Qmp(oob: true);
            client.SendRaw(
                "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"h\",\"backend\":{\"type\":\"socket\",\"data\":{\"server\":false,"
                + $"\"addr\":{{\"type\":\"inet\",\"data\":{{\"host\":\"127.0.0.1\",\"port\":\"{port}\"}}}}}}}}}},\"id\":1}}");
            client.SendRaw("{\"exec-oob\":\"yank\",\"arguments\":{\"instances\":[{\"type\":\"chardev\",\"id\":\"h\"}]},\"id\":2}");
            Assert.That(client.ReadLine(), Is.EqualTo("{\"return\": {}, \"id\": 2}"));
            JsonObject failed = client.ReadMessage();
            Assert.That((int)failed["id"]!, Is.EqualTo(1));
            Assert.That((string)failed["error"]!["desc"]!, Does.StartWith($"Failed to add chardev 'h': Failed to connect to '127.0.0.1:{port}': "));
            Assert.That(((JsonArray)client.Execute("query-chardev")!).Select(c => (string)c!["label"]!), Has.None.EqualTo("h"));
            Assert.That(((JsonArray)client.Execute("query-yank")!).Select(y => (string)y!["id"]!), Is.EqualTo(new[] { "compat_monitor0" }));
        }
        finally
        {
            filling.ForEach(static s => s.Dispose());
        }
    }

    [TestCase(false)]
    [TestCase(true)]
    public void YankCutsAConnection(bool qemu)
    {
        using Emulator emulator = Start(qemu);
        string path = Path.Combine(emulator.Directory, "peer.sock");
        using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();
        QmpClient client = emulator.Qmp();
        client.Execute(
            "chardev-add",
            $"{{\"id\":\"c\",\"backend\":{{\"type\":\"socket\",\"data\":{{\"server\":false,\"addr\":{{\"type\":\"unix\",\"data\":{{\"path\":\"{path}\"}}}}}}}}}}");
        using Socket peer = listener.Accept();
        client.Execute("yank", "{\"instances\":[{\"type\":\"chardev\",\"id\":\"c\"}]}");
        Assert.That(peer.Receive(new byte[1]), Is.Zero, "the peer sees the end");
    }

    private static Emulator Start(bool qemu)
    {
        if (!qemu)
        {
            return Monitored.Start();
        }

        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("needs an installed qemu-system-x86_64 to prove the behaviour");
        }

        return Monitored.StartQemu();
    }

    // A command that runs until somebody reads the FIFO.
    private static string Block(Emulator emulator, QmpClient client)
    {
        string fifo = Path.Combine(emulator.Directory, "fifo");
        Assert.That(Libc.MkFifo(fifo, 0x180), Is.EqualTo(default(Errno)));
        client.SendRaw($"{{\"execute\":\"pmemsave\",\"arguments\":{{\"val\":0,\"size\":5000,\"filename\":\"{fifo}\"}},\"id\":\"blocked\"}}");
        return fifo;
    }
}
