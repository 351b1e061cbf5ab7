using Vmm.Chardevs;
using Vmm.Chardevs.Tests;
using Vmm.Interop;
using Vmm.Monitor;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;
using Vmm.System.Wiring;

namespace Vmm.System.Tests.Wiring;

public sealed class CharMonitorChannelTests
{
    private ChardevWorld _world = null!;
    private MonitorCore _core = null!;
    private CharMonitorChannel _channel = null!;
    private TaskCompletionSource? _gate;

    [SetUp]
    public void SetUp()
    {
        _world = new ChardevWorld();
        var table = new CommandTable();
        _core = new MonitorCore(_world.Loop, new MonitorVersion(7, 2, 22, "Vmm"), table);
        ChardevsCatalog.Register(table, new ChardevCommands(_world.Registry), new FdCommands(_world.Fds));
        MonitorCatalog.Register(table, new MonitorCommands(_core), new MonitorHmpCommands(_core));
        table.Add(new CommandEntry
        {
            Name = "wait",
            Invoke = async (_, _, result) =>
            {
                await _gate!.Task;
                result.WriteStartObject();
                result.WriteEndObject();
            },
        });
        string address = $"{{'type':'unix','data':{{'path':'{_world.PathOf("qmp")}'}}}}";
        Chardev chardev = _world.Add("mon", $"{{'type':'socket','data':{{'addr':{address},'wait':false}}}}");
        _channel = new CharMonitorChannel(chardev, _world.Fds, isTerminal: false);
        _core.AddQmp(_channel, "mon");
    }

    [TearDown]
    public void TearDown()
    {
        _channel.Dispose();
        _world.Dispose();
    }

    [Test]
    public void Clients_ComeAndGo()
    {
        for (int round = 0; round < 3; round++)
        {
            using Peer peer = Connect();
            Assert.That(Ask(peer, "{'execute':'query-version'}"), Does.Contain("Vmm"));
            peer.Send("{'execute':'query-ver");
            _world.Settle();
        }

        _world.Until(() => !_world.Registry.Find("mon")!.IsOpen);
        Assert.That(_world.Registry.Find("mon")!.FrontendOpen);
    }

    [Test]
    public void ConnectionThatStandsBeforeTheMonitor_IsServed()
    {
        (Peer peer, SafeFd other) = Peer.Pair();
        using Peer client = peer;
        string address = $"{{'type':'fd','data':{{'str':'{other.Detach()}'}}}}";
        Chardev chardev = _world.Add("given", $"{{'type':'socket','data':{{'addr':{address},'server':false}}}}");
        using CharMonitorChannel channel = new(chardev, _world.Fds, isTerminal: false);
        MonitorSession session = _core.AddQmp(channel, "given");
        Assert.That(peer.Read(), Does.StartWith("{\"QMP\""));
        Assert.That(Ask(peer, "{'execute':'qmp_capabilities'}"), Does.StartWith("{\"return\": {}}"));
        _core.Remove(session);
    }

    [Test]
    public void Descriptors_BelongToTheirCommands()
    {
        using Peer peer = Connect();
        Peer.Check(Libc.Pipe(0, out SafeFd read, out SafeFd write));
        using (read)
        using (write)
        {
            _gate = new TaskCompletionSource();
            peer.Send("{'execute':'wait'}");
            peer.SendWithFds("{'execute':'add-fd','arguments':{'fdset-id':1}}", read.Fd);
            peer.SendWithFds("{'execute':'add-fd','arguments':{'fdset-id':2}}", write.Fd);
            peer.Send("{'execute':'add-fd'}");
            _world.Settle();
            Assert.That(_world.Fds.Query(), Is.Empty);
            _gate.SetResult();
            string answers = "";
            _world.Until(() => (answers += peer.Read()).Count(c => c == '\n') == 4);
            Assert.That(answers, Does.EndWith(
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"No file descriptor supplied via SCM_RIGHTS\"}}\r\n"));
            Assert.That(_world.Fds.Query().Select(s => (s.Id, Mode(s.Members[0].Fd))), Is.EqualTo(new[] { (2L, 1), (1L, 0) }));
        }

        peer.Dispose();
        _world.Until(() => _world.Fds.Query().Count == 0);
    }

    [Test]
    public void ClientThatStopsReading_IsServedWhenItReadsAgain()
    {
        using Peer peer = Connect();
        const int Limit = 3000;
        byte[] command = "{'execute':'query-commands'}"u8.ToArray();
        int sent = 0;
        while (sent < Limit && Libc.Send(peer.Socket.Fd, command) == command.Length)
        {
            sent++;
            _world.Settle();
        }

        int answers = 0;
        _world.Until(() =>
        {
            while (peer.Read() is { Length: > 0 } text)
            {
                answers += text.Count(c => c == '\n');
            }

            return answers == sent;
        });
    }

    [Test]
    public void Terminal_BehindAMux_KeepsItsOutputForTheFocus()
    {
        (Peer peer, SafeFd other) = Peer.Pair();
        using (peer)
        {
            _world.Add("base", $"{{'type':'socket','data':{{'addr':{{'type':'fd','data':{{'str':'{other.Detach()}'}}}},'server':false}}}}");
            Chardev mux = _world.Add("mux", "{'type':'mux','data':{'chardev':'base'}}");
            var terminal = new Terminal();
            using var channel = new CharMonitorChannel(mux, _world.Fds, isTerminal: true);
            var serial = new Recorder(mux);
            channel.Attach(terminal);
            serial.Frontend.TakeFocus();
            Assert.That(terminal.Log, Is.EqualTo("in open out "));
            Assert.That(channel.Write("kept"u8), Is.Zero);
            channel.RequestWritable();
            _world.Settle();
            Assert.That(terminal.Log, Is.EqualTo("in open out "));
            peer.Send("\x01" + "chello");
            _world.Until(() => terminal.Log.EndsWith("hello", StringComparison.Ordinal));
            Assert.That(terminal.Log, Is.EqualTo("in open out writable in hello"));
            Assert.That(channel.Write("now"u8), Is.EqualTo(3));
            Assert.That(peer.Read(3), Is.EqualTo("now"));
            peer.Dispose();
            _world.Until(() => terminal.Log.EndsWith("closed", StringComparison.Ordinal));
            Assert.That(channel.Write("lost"u8), Is.EqualTo(4));
        }
    }

    [Test]
    public void Hmp_BehindAMux_GreetsWhenItGetsTheFocus()
    {
        (Peer peer, SafeFd other) = Peer.Pair();
        using (peer)
        {
            _world.Add("base", $"{{'type':'socket','data':{{'addr':{{'type':'fd','data':{{'str':'{other.Detach()}'}}}},'server':false}}}}");
            Chardev mux = _world.Add("mux", "{'type':'mux','data':{'chardev':'base'}}");
            var serial = new Recorder(mux);
            using var channel = new CharMonitorChannel(mux, _world.Fds, isTerminal: true);
            _core.AddHmp(channel, "hmp");
            const string Greeting = "QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ";
            Assert.That(peer.Read(Greeting.Length), Is.EqualTo(Greeting));
            serial.Frontend.TakeFocus();
            Assert.That(peer.Read(), Is.EqualTo("\r\n"));
            peer.Send("typed\x01" + "c");
            _world.Until(() => serial.Text == "typed");
            _world.Settle();
            Assert.That(peer.Read(7), Is.EqualTo("(qemu) "));
        }
    }

    private static int Mode(int fd) => Libc.Fcntl(fd, Libc.F_GETFL, 0) & Libc.O_ACCMODE;

    private Peer Connect()
    {
        Peer peer = Peer.Unix(_world.PathOf("qmp"));
        string greeting = "";
        _world.Until(() => (greeting += peer.Read()).EndsWith('\n'));
        Assert.That(greeting, Does.StartWith("{\"QMP\": "));
        Ask(peer, "{'execute':'qmp_capabilities'}");
        return peer;
    }

    private string Ask(Peer peer, string command)
    {
        peer.Send(command);
        string answer = "";
        _world.Until(() => (answer += peer.Read()).EndsWith('\n'));
        return answer;
    }

    private sealed class Terminal : IMonitorChannelHandler
    {
        public string Log { get; private set; } = "";

        public int CanReceive => 100;

        public void Receive(ReadOnlySpan<byte> data) => Log += global::System.Text.Encoding.ASCII.GetString(data);

        public void OnOpened() => Log += "open ";

        public void OnClosed() => Log += "closed";

        public void OnWritable() => Log += "writable ";

        public void OnFocus(bool focused) => Log += focused ? "in " : "out ";
    }
}
