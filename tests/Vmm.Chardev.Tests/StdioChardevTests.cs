using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;

namespace Vmm.Chardevs.Tests;

/// <summary>Standard input and output of this process are exchanged for a pseudo terminal while a test runs.</summary>
[NonParallelizable]
public sealed class StdioChardevTests
{
    private SafeFd _master = null!;
    private SafeFd _savedInput = null!;
    private SafeFd _savedOutput = null!;

    [SetUp]
    public void SetUp()
    {
        Peer.Check(Libc.OpenPty(out _master, out string path));
        Peer.Check(Libc.Open(path, Libc.O_RDWR | Libc.O_NOCTTY, out SafeFd slave));
        using (slave)
        {
            _savedInput = new SafeFd(Libc.Fcntl(0, Libc.F_DUPFD_CLOEXEC, 3));
            _savedOutput = new SafeFd(Libc.Fcntl(1, Libc.F_DUPFD_CLOEXEC, 3));
            Peer.Check(Libc.Dup3(slave.Fd, 0, 0));
            Peer.Check(Libc.Dup3(slave.Fd, 1, 0));
        }

        _master.SetNonBlocking(true);
    }

    [TearDown]
    public void TearDown()
    {
        Libc.Dup3(_savedInput.Fd, 0, 0);
        Libc.Dup3(_savedOutput.Fd, 1, 0);
        _savedInput.Dispose();
        _savedOutput.Dispose();
        _master.Dispose();
    }

    [Test]
    public void Terminal_IsRawWhileInUse([Values] bool signal)
    {
        Peer.Check(Libc.TcGetAttr(0, out Termios before));
        Assert.That(before.c_lflag & (Libc.ECHO | Libc.ICANON | Libc.ISIG), Is.EqualTo(Libc.ECHO | Libc.ICANON | Libc.ISIG));
        using (var world = new ChardevWorld())
        {
            Chardev chardev = world.Add("s", $"{{'type':'stdio','data':{{'signal':{(signal ? "true" : "false")}}}}}");
            Assert.That(chardev.Filename, Is.EqualTo("stdio"));
            var front = new Recorder(chardev);
            Peer.Check(Libc.TcGetAttr(0, out Termios raw));
            Assert.That(raw.c_lflag & (Libc.ECHO | Libc.ICANON), Is.Zero);
            Assert.That((raw.c_lflag & Libc.ISIG) != 0, Is.EqualTo(signal));
            Assert.That(raw.c_oflag & Libc.OPOST, Is.Not.Zero);
            Assert.That(Libc.Fcntl(0, Libc.F_GETFL, 0) & Libc.O_NONBLOCK, Is.Not.Zero);
            _master.Write("typed\r"u8);
            world.Until(() => front.Text == "typed\r");
            chardev.WriteAll("shown"u8);
            byte[] buffer = new byte[256];
            int n = _master.Read(buffer);
            Assert.That(System.Text.Encoding.ASCII.GetString(buffer, 0, Math.Max(n, 0)), Does.Contain("shown"));
            QapiException error = Assert.Throws<QapiException>(() => world.Add("t", "{'type':'stdio','data':{}}"))!;
            Assert.That(error.Desc, Is.EqualTo("Failed to add chardev 't': cannot use stdio by multiple character devices"));
            front.Frontend.SetEcho(true);
            Peer.Check(Libc.TcGetAttr(0, out Termios cooked));
            Assert.That(cooked.c_lflag & (Libc.ECHO | Libc.ICANON), Is.EqualTo(Libc.ECHO | Libc.ICANON));
        }

        Peer.Check(Libc.TcGetAttr(0, out Termios after));
        Assert.That((after.c_lflag, after.c_iflag, after.c_oflag), Is.EqualTo((before.c_lflag, before.c_iflag, before.c_oflag)));
        Assert.That(Libc.Fcntl(0, Libc.F_GETFL, 0) & Libc.O_NONBLOCK, Is.Zero);
    }
}
