using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Chardevs.Tests;

public sealed class RegistryTests
{
    private ChardevWorld _world = null!;

    [SetUp]
    public void SetUp() => _world = new ChardevWorld();

    [TearDown]
    public void TearDown() => _world.Dispose();

    [Test]
    public void Query_ListsInTheOrderThatClientsKnow()
    {
        foreach (string id in (string[])["qq", "s-base", "s", "r-base", "r", "p", "pp", "nn-base", "nn"])
        {
            _world.Add(id, "{'type':'null','data':{}}");
        }

        // Recorded from QEMU 7.2 with these names added in this order.
        string[] expected = ["s-base", "p", "nn-base", "pp", "r", "qq", "s", "r-base", "nn"];
        Assert.That(_world.Registry.All().Select(c => c.Label), Is.EqualTo(expected));
        Assert.That(_world.Tree.Resolve("/chardevs/nn"), Is.SameAs(_world.Registry.Find("nn")));
    }

    [Test]
    public void AddAndRemove_ReportWhatIsWrong()
    {
        Chardev chardev = _world.Add("n", "{'type':'null','data':{}}");
        AssertError("Chardev with id 'n' already exists", () => _world.Add("n", "{'type':'null','data':{}}"));
        AssertError("Chardev 'x' not found", () => _world.Registry.Remove("x"));
        AssertError("Chardev 'x' not found", () => _world.Registry.SendBreak("x"));
        var front = new Recorder(chardev);
        AssertError("Chardev 'n' is busy", () => _world.Registry.Remove("n"));
        AssertError("Device 'n' is in use", () => _ = new Recorder(chardev));
        _world.Registry.SendBreak("n");
        Assert.That(front.Events, Is.EqualTo(new[] { ChardevEvent.Break }));
        var commands = new ChardevCommands(_world.Registry);
        Assert.That(commands.QueryChardev()[0].FrontendOpen);
        front.Frontend.Disconnect();
        Assert.That(commands.QueryChardev()[0].FrontendOpen, Is.False);
        _world.Registry.Remove("n");
        Assert.That(_world.Registry.All(), Is.Empty);
    }

    [Test]
    public void Change_KeepsTheFrontEnd()
    {
        ChardevBackend ringbuf = ChardevWorld.Backend("{'type':'ringbuf','data':{}}");
        Chardev old = _world.Add("n", "{'type':'null','data':{}}");
        AssertError("Chardev 'x' does not exist", () => _world.Registry.Change("x", ringbuf, null));
        _world.Registry.Change("n", ringbuf, null);
        Assert.That(_world.Registry.Find("n"), Is.InstanceOf<RingbufChardev>());
        var front = new Recorder(_world.Registry.Find("n"));
        AssertError("Chardev user does not support chardev hotswap", () => _world.Registry.Change("n", ringbuf, null));
        front.AllowsChange = true;
        AssertError(
            "Failed to add chardev 'n': size of ringbuf chardev must be power of two",
            () => _world.Registry.Change("n", ChardevWorld.Backend("{'type':'ringbuf','data':{'size':3}}"), null));
        Assert.That(front.Frontend.Write("kept"u8), Is.EqualTo(4));
        Assert.That(front.Changed, Is.Zero);

        (Peer peer, SafeFd other) = Peer.Pair();
        using (peer)
        {
            string backend = $"{{'type':'socket','data':{{'addr':{{'type':'fd','data':{{'str':'{other.Detach()}'}}}},'server':false}}}}";
            Chardev replacement = _world.Registry.Change("n", ChardevWorld.Backend(backend), null);
            Assert.That(front.Changed, Is.EqualTo(1));
            Assert.That(front.Events, Is.EqualTo(new[] { ChardevEvent.Opened }));
            Assert.That(replacement.FrontendOpen && _world.Registry.Find("n") == replacement && old != replacement);
            front.Frontend.Write("out"u8);
            Assert.That(peer.Read(), Is.EqualTo("out"));
            peer.Send("in");
            _world.Until(() => front.Text == "in");
            _world.Registry.Change("n", ChardevWorld.Backend("{'type':'null','data':{}}"), null);
            Assert.That(front.Events[^1], Is.EqualTo(ChardevEvent.Closed));
            Assert.That(peer.Read(), Is.Null);
        }
    }

    [Test]
    public void Options_MuxMakesABase()
    {
        Chardev mux = Option("ringbuf,id=r,size=4k,mux=on");
        Assert.That(mux, Is.InstanceOf<MuxChardev>());
        Assert.That(_world.Registry.Find("r"), Is.SameAs(mux));
        Assert.That(((RingbufChardev)_world.Registry.Find("r-base")!).Size, Is.EqualTo(4096));
        var front = new Recorder(mux);
        front.Frontend.Write("x"u8);
        Assert.That(((RingbufChardev)_world.Registry.Find("r-base")!).Count, Is.EqualTo(1));
    }

    [Test]
    public void Options_PtyIsAnnounced()
    {
        Chardev pty = Option("pty,id=p");
        Assert.That(_world.Announcements, Is.EqualTo(new[] { $"char device redirected to {((PtyChardev)pty).SlavePath} (label p)" }));
    }

    [Test]
    public void Options_DuplicateIsAnError()
    {
        Option("null,id=n");
        AssertError("attempt to add duplicate property 'n' to object (type 'container')", () => Option("null,id=n"));
    }

    [Test]
    public void FdSets_LendDescriptors()
    {
        string path = _world.PathOf("f");
        var session = new FakeSession();
        var commands = new FdCommands(_world.Fds);
        AssertError("No file descriptor supplied via SCM_RIGHTS", () => commands.AddFd(session));
        Peer.Check(Libc.Open(path, Libc.O_WRONLY | Libc.O_CREAT, out SafeFd writable));
        Peer.Check(Libc.Open(path, Libc.O_RDONLY, out SafeFd readable));
        session.Received.Enqueue(writable);
        session.Received.Enqueue(readable);
        _world.Fds.MonitorOpened();
        AddfdInfo first = commands.AddFd(session);
        AddfdInfo second = commands.AddFd(session, 5, "text");
        Assert.That((first.FdsetId, first.Fd, second.FdsetId, second.Fd), Is.EqualTo((0L, (long)writable.Fd, 5L, (long)readable.Fd)));
        Assert.That(commands.QueryFdsets().Select(s => s.FdsetId), Is.EqualTo(new[] { 5L, 0L }));
        Assert.That(commands.QueryFdsets()[0].Fds[0].Opaque, Is.EqualTo("text"));

        AssertError(
            "Failed to add chardev 'f': Could not open '/dev/fdset/5': Permission denied",
            () => _world.Add("f", "{'type':'file','data':{'out':'/dev/fdset/5'}}"));
        AssertError(
            "Failed to add chardev 'f': Could not dup FD for /dev/fdset/5 flags 241: Permission denied",
            () => _world.Add("f", "{'type':'null','data':{'logfile':'/dev/fdset/5'}}"));
        _world.Add("f", "{'type':'file','data':{'out':'/dev/fdset/0'}}").WriteAll("lent"u8);
        Assert.That(File.ReadAllText(path), Is.EqualTo("lent"));

        AssertError("File descriptor named 'fdset-id:5, fd:9999' not found", () => commands.RemoveFd(5, 9999));
        AssertError("File descriptor named 'fdset-id:7' not found", () => commands.RemoveFd(7));
        commands.RemoveFd(5, second.Fd);
        commands.RemoveFd(0);
        Assert.That(commands.QueryFdsets(), Has.Count.EqualTo(1), "the set in use stays");
        Assert.That(commands.QueryFdsets()[0].Fds, Is.Empty);
        _world.Registry.Remove("f");
        Assert.That(commands.QueryFdsets(), Is.Empty);
    }

    [Test]
    public void FdSets_GoWithTheLastMonitorWhileTheGuestRuns()
    {
        Peer.Check(Libc.Pipe(0, out SafeFd read, out SafeFd write));
        bool running = false;
        _world.Fds.IsRunning = () => running;
        _world.Fds.MonitorOpened();
        _world.Fds.Add(read, null, null);
        _world.Fds.MonitorClosed();
        Assert.That(_world.Fds.Query(), Has.Count.EqualTo(1));
        running = true;
        _world.Fds.MonitorOpened();
        Assert.That(_world.Fds.Add(write, 0, null).Id, Is.Zero);
        _world.Fds.MonitorClosed();
        Assert.That(_world.Fds.Query(), Is.Empty);
        Assert.That(read.IsClosed && write.IsClosed);
        AssertError("Parameter 'fdset-id' expects a non-negative value", () => _world.Fds.Add(read, -1, null));
    }

    [Test]
    public void NamedFds_AreCheckedAndClosed()
    {
        var session = new FakeSession();
        AssertError("No file descriptor supplied via SCM_RIGHTS", () => FdCommands.GetFd("a", session));
        Peer.Check(Libc.Pipe(0, out SafeFd read, out SafeFd write));
        session.Received.Enqueue(read);
        AssertError("Parameter 'fdname' expects a name not starting with a digit", () => FdCommands.GetFd("1a", session));
        Assert.That(read.IsClosed);
        session.Received.Enqueue(write);
        FdCommands.GetFd("a", session);
        FdCommands.CloseFd("a", session);
        Assert.That(write.IsClosed);
        AssertError("File descriptor named 'a' not found", () => FdCommands.CloseFd("a", session));
    }

    private static void AssertError(string expected, Action action)
    {
        QapiException error = Assert.Throws<QapiException>(() => action())!;
        Assert.That(error.Desc, Is.EqualTo(expected));
    }

    private Chardev Option(string text)
    {
        var list = new OptsList(ChardevOptions.Group);
        QemuOpts opts = OptsParser.Parse(list, text, implied: true, location: null, SilentOptionDiagnostics.Instance)!;
        return _world.Registry.Add(opts, null);
    }
}
