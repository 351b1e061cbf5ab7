using System.Text;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;

namespace Vmm.Chardevs.Tests;

public sealed class BackendTests
{
    private ChardevWorld _world = null!;

    [SetUp]
    public void SetUp() => _world = new ChardevWorld();

    [TearDown]
    public void TearDown() => _world.Dispose();

    [Test]
    public void Null_TakesEverything()
    {
        Chardev chardev = _world.Add("n", "{'type':'null','data':{}}");
        Assert.That(chardev.Write(new byte[100]), Is.EqualTo(100));
        Assert.That(chardev.Filename, Is.EqualTo("null"));
        Assert.That(new Recorder(chardev).Events, Is.Empty);
    }

    [Test]
    public void File_WritesAppendsAndReads()
    {
        string output = _world.PathOf("out");
        string input = _world.PathOf("in");
        File.WriteAllText(input, "from the file");
        File.WriteAllText(output, "old");
        Chardev first = _world.Add("f", $"{{'type':'file','data':{{'out':'{output}','in':'{input}'}}}}");
        var front = new Recorder(first) { Limit = 5 };
        first.WriteAll("new"u8);
        _world.Until(() => !first.IsOpen);
        Assert.That(front.Text, Is.EqualTo("from the file"));
        Assert.That(front.Events, Is.EqualTo(new[] { ChardevEvent.Opened, ChardevEvent.Closed }));
        Assert.That(File.ReadAllText(output), Is.EqualTo("new"));
        front.Frontend.Disconnect();
        _world.Registry.Remove("f");
        Chardev second = _world.Add("f", $"{{'type':'file','data':{{'out':'{output}','append':true}}}}");
        second.WriteAll("er"u8);
        Assert.That(File.ReadAllText(output), Is.EqualTo("newer"));
    }

    [Test]
    public void File_ThatCannotBeOpened_SaysWhy()
    {
        AssertRefused("{'type':'file','data':{'out':'/nonexistent/x'}}", "Could not open '/nonexistent/x': No such file or directory");
        AssertRefused("{'type':'file','data':{'out':'/dev/fdset/7'}}", "Could not open '/dev/fdset/7': No such file or directory");
        AssertRefused("{'type':'file','data':{'out':'/dev/fdset/x'}}", "Could not open '/dev/fdset/x': Invalid argument");
        AssertRefused(
            "{'type':'null','data':{'logfile':'/nonexistent/x'}}", "Could not create '/nonexistent/x': No such file or directory");
    }

    [Test]
    public void Log_HasWhatWasTaken()
    {
        string log = _world.PathOf("log");
        _world.Add("a", $"{{'type':'null','data':{{'logfile':'{log}'}}}}").Write("first "u8);
        _world.Add("b", $"{{'type':'ringbuf','data':{{'logfile':'{log}','logappend':true}}}}").WriteAll("second"u8);
        Assert.That(File.ReadAllText(log), Is.EqualTo("first second"));
    }

    [Test]
    public void Pipe_UsesAPairOfFifosOrOne()
    {
        string path = _world.PathOf("p");
        AssertRefused($"{{'type':'pipe','data':{{'device':'{path}'}}}}", $"Could not open '{path}': No such file or directory");
        Peer.Check(Libc.MkFifo(path + ".in", 0x180));
        Peer.Check(Libc.MkFifo(path + ".out", 0x180));
        Chardev chardev = _world.Add("p", $"{{'type':'pipe','data':{{'device':'{path}'}}}}");
        var front = new Recorder(chardev);
        Peer.Check(Libc.Open(path + ".in", Libc.O_WRONLY | Libc.O_NONBLOCK, out SafeFd input));
        Peer.Check(Libc.Open(path + ".out", Libc.O_RDONLY | Libc.O_NONBLOCK, out SafeFd output));
        using (input)
        using (output)
        {
            input.Write("in"u8);
            _world.Until(() => front.Text == "in");
            chardev.Write("out"u8);
            byte[] buffer = new byte[10];
            Assert.That(output.Read(buffer), Is.EqualTo(3));
        }

        _world.Settle();
        Assert.That(chardev.IsOpen, "a FIFO held open on both ends does not end");
    }

    [Test]
    public void Pty_ConnectsWhenSomebodyOpensIt()
    {
        Chardev chardev = _world.Add("p", "{'type':'pty','data':{}}");
        var pty = (PtyChardev)chardev;
        var front = new Recorder(chardev);
        Assert.That(chardev.Filename, Is.EqualTo("pty:" + pty.SlavePath));
        Assert.That(chardev.IsOpen, Is.False);
        Assert.That(chardev.Write("nobody sees this"u8), Is.EqualTo(16));
        Peer.Check(Libc.Open(pty.SlavePath, Libc.O_RDWR | Libc.O_NOCTTY | Libc.O_NONBLOCK, out SafeFd slave));
        using (slave)
        {
            _world.Until(() => chardev.IsOpen);
            slave.Write("typed\x03\n"u8);
            _world.Until(() => front.Text == "typed\x03\n");
            chardev.Write("shown\n"u8);
            byte[] buffer = new byte[64];
            int n = 0;
            _world.Until(() => (n = slave.Read(buffer)) > 0);
            Assert.That(Encoding.ASCII.GetString(buffer, 0, n), Is.EqualTo("shown\n"));
        }

        _world.Until(() => !chardev.IsOpen);
        Peer.Check(Libc.Open(pty.SlavePath, Libc.O_RDWR | Libc.O_NOCTTY | Libc.O_NONBLOCK, out SafeFd again));
        using (again)
        {
            chardev.Write("x"u8);
            _world.Until(() => chardev.IsOpen);
        }

        _world.Until(() => !chardev.IsOpen);
        ChardevEvent[] turns = [ChardevEvent.Opened, ChardevEvent.Closed, ChardevEvent.Opened, ChardevEvent.Closed];
        Assert.That(front.Events, Is.EqualTo(turns));
    }

    [Test]
    public void Udp_SendsAndReceivesDatagrams()
    {
        Peer.Check(Libc.Socket(Libc.AF_INET, Libc.SOCK_DGRAM | Libc.SOCK_NONBLOCK, 0, out SafeFd socket));
        using (socket)
        {
            Peer.Check(Libc.Bind(socket.Fd, SockAddr.InetV4([127, 0, 0, 1], 0)));
            Peer.Check(Libc.GetSockName(socket.Fd, out SockAddr own));
            string address = $"{{'type':'inet','data':{{'host':'127.0.0.1','port':'{own.Port}'}}}}";
            Chardev chardev = _world.Add("u", $"{{'type':'udp','data':{{'remote':{address}}}}}");
            var front = new Recorder(chardev) { Limit = 4 };
            chardev.Write("datagram"u8);
            byte[] buffer = new byte[100];
            Assert.That(Libc.RecvFrom(socket.Fd, buffer, 0, out SockAddr from), Is.EqualTo(8));
            Assert.That(Libc.SendTo(socket.Fd, "0123456789"u8, 0, from), Is.EqualTo(10));
            _world.Until(() => front.Text == "0123456789");
            front.Limit = 0;
            Libc.SendTo(socket.Fd, "late"u8, 0, from);
            _world.Settle();
            front.Limit = 10;
            front.Frontend.AcceptInput();
            _world.Until(() => front.Text == "0123456789late");
        }

        AssertRefused(
            "{'type':'udp','data':{'remote':{'type':'unix','data':{'path':'/x'}}}}", "socket type unsupported for datagram");
        AssertRefused(
            "{'type':'udp','data':{'remote':{'type':'inet','data':{'host':'127.0.0.1','port':''}}}}", "remote port not specified");
    }

    [Test]
    public void Ringbuf_KeepsTheLastBytes([Values(1, 3, 8, 11, 64)] int step)
    {
        const int Size = 16;
        Chardev chardev = _world.Add("r", $"{{'type':'ringbuf','data':{{'size':{Size}}}}}");
        var ringbuf = (RingbufChardev)chardev;
        var expected = new List<byte>();
        byte next = 0;
        for (int round = 0; round < 20; round++)
        {
            byte[] data = new byte[step];
            for (int i = 0; i < step; i++)
            {
                data[i] = next++;
            }

            Assert.That(chardev.Write(data), Is.EqualTo(step));
            expected.AddRange(data);
            expected.RemoveRange(0, Math.Max(0, expected.Count - Size));
            byte[] some = new byte[5];
            int n = ringbuf.Read(some);
            Assert.That(some[..n], Is.EqualTo(expected.Take(5)));
            expected.RemoveRange(0, n);
            Assert.That(ringbuf.Count, Is.EqualTo(expected.Count));
        }
    }

    [TestCase("1000", "size of ringbuf chardev must be power of two")]
    [TestCase("-1", "size of ringbuf chardev must be power of two")]
    [TestCase("1099511627776", "size of ringbuf chardev must not exceed 1 GiB")]
    public void Ringbuf_RefusesSizes(string size, string expected) =>
        AssertRefused($"{{'type':'ringbuf','data':{{'size':{size}}}}}", expected);

    [Test]
    public void RingbufCommands_ConvertTextAndBase64()
    {
        _world.Add("r", "{'type':'memory','data':{'size':64}}");
        _world.Add("n", "{'type':'null','data':{}}");
        var commands = new ChardevCommands(_world.Registry);
        commands.RingbufWrite("r", "h\u00E9");
        Assert.That(commands.RingbufRead("r", 2), Is.EqualTo("h\uFFFD"));
        Assert.That(commands.RingbufRead("r", 64, DataFormat.Base64), Is.EqualTo("qQ=="));
        commands.RingbufWrite("r", "YWJj", DataFormat.Base64);
        Assert.That(commands.RingbufRead("r", 64), Is.EqualTo("abc"));
        commands.RingbufWrite("r", "/wBBwg==", DataFormat.Base64);
        Assert.That(commands.RingbufRead("r", 64), Is.EqualTo("\uFFFD"));
        Assert.That(commands.RingbufRead("r", 64), Is.Empty);
        AssertError("Base64 data contains invalid characters", () => commands.RingbufWrite("r", "YW!j", DataFormat.Base64));
        AssertError("Base64 data contains invalid characters", () => commands.RingbufWrite("r", "YW Jj", DataFormat.Base64));
        AssertError("Base64 data contains invalid characters", () => commands.RingbufWrite("r", "YW-j", DataFormat.Base64));
        AssertError("n is not a ringbuf device", () => commands.RingbufWrite("n", ""));
        AssertError("Device 'x' not found", () => commands.RingbufRead("x", 1));
        AssertError("size must be greater than zero", () => commands.RingbufRead("r", 0));
    }

    private static void AssertError(string expected, Action action)
    {
        QapiException error = Assert.Throws<QapiException>(() => action())!;
        Assert.That(error.Desc, Is.EqualTo(expected));
    }

    private void AssertRefused(string backend, string expected) =>
        AssertError("Failed to add chardev 'x': " + expected, () => _world.Add("x", backend));
}
