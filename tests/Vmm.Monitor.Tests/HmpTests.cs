using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Vmm.Qapi;

namespace Vmm.Monitor.Tests;

/// <summary>Texts and terminal bytes were recorded from QEMU 7.2.</summary>
public sealed class HmpTests
{
    private const string TryHelp = "Try \"help {0}\" for more information\r\n";

    [TestCase("help foo", "unknown command: 'foo'\r\n")]
    [TestCase("help stop", "stop|s  -- stop emulation\r\n")]
    [TestCase("help s", "stop|s  -- stop emulation\r\n")]
    [TestCase("info foo", "unknown command: 'info foo'\r\n")]
    [TestCase("foo", "unknown command: 'foo'\r\n")]
    [TestCase("", "")]
    [TestCase("   ", "")]
    [TestCase("info version", "7.2.22Vmm\r\n")]
    [TestCase("nmi", "Error: this feature or command is not currently supported\r\n")]
    [TestCase("p 'a'", "0x61\r\n")]
    [TestCase("p ~0", "0xffffffffffffffff\r\n")]
    [TestCase("p -5", "0xfffffffffffffffb\r\n")]
    [TestCase("p /d -5", "-5\r\n")]
    [TestCase("p /c 65", "'A'\r\n")]
    [TestCase("p /o 8", "010\r\n")]
    [TestCase("p /u -1", "18446744073709551615\r\n")]
    [TestCase("p/x 10", "0xa\r\n")]
    [TestCase("print 1 + 2*3 - (4 & 6)", "0x3\r\n")]
    [TestCase("p 0x10*2+3&1|8^2", "0x2b\r\n")]
    [TestCase("p $rax + 1", "0x1235\r\n")]
    [TestCase("p 0x7fffffffffffffff+1", "0x8000000000000000\r\n")]
    [TestCase("p (1<<2", "')' expected\r\n", "p")]
    [TestCase("p 1+", "unexpected end of expression\r\n", "p")]
    [TestCase("p 1/0", "division by zero\r\n", "p")]
    [TestCase("p 0x8000000000000000/-1", "0x8000000000000000\r\n")]
    [TestCase("p 0x8000000000000000%-1", "0x0\r\n")]
    [TestCase("p (1", "')' expected\r\n", "p")]
    [TestCase("p $foo", "unknown register\r\n", "p")]
    [TestCase("p 'ab'", "missing terminating ' character\r\n", "p")]
    [TestCase("p '", "character constant expected\r\n", "p")]
    [TestCase("p 99999999999999999999999", "number too large\r\n", "p")]
    [TestCase("p zz", "invalid char 'z' in expression\r\n", "p")]
    [TestCase("p 08", "print|p: extraneous characters at the end of line\r\n", "p")]
    [TestCase("p 1 2", "print|p: extraneous characters at the end of line\r\n", "p")]
    [TestCase("p /4z 0", "invalid char in format: 'z'\r\n", "p")]
    [TestCase("stop x", "stop|s: extraneous characters at the end of line\r\n", "stop")]
    [TestCase("memsave 0 10", "memsave: string expected\r\n", "memsave")]
    [TestCase("memsave 0 99999999999 \"a b\"", "'memsave' has failed: integer is for 32-bit values\r\n", "memsave")]
    [TestCase("memsave 0 10 \"a b\\n\\\"\"", "0 10 [a b\r\n\"]\r\n")]
    [TestCase("memsave 0 10 \"a", "memsave: string expected\r\n", "memsave")]
    [TestCase("balloon -1", "enter a positive value\r\n", "balloon")]
    [TestCase("balloon 3", "3145728\r\n")]
    [TestCase("set_link a maybe", "Expected 'on' or 'off'\r\n", "set_link")]
    [TestCase("set_link a on x", "set_link: extraneous characters at the end of line\r\n", "set_link")]
    [TestCase("set_link a on", "a True\r\n")]
    [TestCase("migrate -z x", "migrate: unsupported option -z\r\n", "migrate")]
    [TestCase("migrate -d", "migrate: string expected\r\n", "migrate")]
    [TestCase("migrate -d -b x", "True True x\r\n")]
    [TestCase("migrate -b x", "False True x\r\n")]
    [TestCase("migrate x", "False False x\r\n")]
    [TestCase("block_resize a 10x", "block_resize: extraneous characters at the end of line\r\n", "block_resize")]
    [TestCase("block_resize a", "invalid size\r\n", "block_resize")]
    [TestCase("block_resize a 1.5", "a 1572864\r\n")]
    [TestCase("block_resize a 2G", "a 2147483648\r\n")]
    [TestCase("block_resize", "block_resize: block device name expected\r\n", "block_resize")]
    [TestCase("logfile", "logfile: filename expected\r\n", "logfile")]
    [TestCase("downtime 300ms", "0.29999999999999999\r\n")]
    [TestCase("downtime x", "Number expected\r\n", "downtime")]
    [TestCase("downtime 1h", "Unknown unit suffix\r\n", "downtime")]
    [TestCase("cpu 4294967296", "'cpu' has failed: integer is for 32-bit values\r\n", "cpu")]
    [TestCase("info registers -z", "registers: unsupported option -z\r\n", "info registers")]
    [TestCase("info registers -a", "registers True\r\n")]
    [TestCase("info version x", "version: extraneous characters at the end of line\r\n", "info version")]
    [TestCase("device_add foo", "{\"driver\": \"foo\"}\r\n")]
    [TestCase("device_add", "{}\r\n")]
    public void CommandLinesAreAnsweredAsQemuDoes(string line, string output, string? tryHelp = null)
    {
        if (tryHelp != null)
        {
            output += string.Format(System.Globalization.CultureInfo.InvariantCulture, TryHelp, tryHelp);
        }

        using var fixture = new MonitorFixture();
        Assert.That(Run(fixture, line), Is.EqualTo(output));
    }

    [Test]
    public void FormatOfThePrintBeforeIsTheDefault()
    {
        using var fixture = new MonitorFixture();
        Assert.That(Run(fixture, "p 255"), Is.EqualTo("0xff\r\n"));
        Assert.That(Run(fixture, "p /d 255"), Is.EqualTo("255\r\n"));
        Assert.That(Run(fixture, "p 254"), Is.EqualTo("254\r\n"));
    }

    [Test]
    public void HelpListsEverythingSorted()
    {
        using var fixture = new MonitorFixture();
        string[] help = Run(fixture, "help").Split("\r\n");
        Assert.That(help, Does.Contain("print|p /fmt expr -- print expression value (use $reg for CPU register access)"));
        Assert.That(help[..^1], Is.Ordered.Using((System.Collections.IComparer)StringComparer.Ordinal));
        Assert.That(Run(fixture, "?"), Is.EqualTo(string.Join("\r\n", help)));
        Assert.That(
            Run(fixture, "info"),
            Is.EqualTo("info history  -- show the command line history\r\ninfo registers [-a] -- show the cpu registers\r\n"
                + "info version  -- show the version of QEMU\r\n"));
        Assert.That(Run(fixture, "help info"), Is.EqualTo(Run(fixture, "info")));
        Assert.That(Run(fixture, "help info version"), Is.EqualTo("info version  -- show the version of QEMU\r\n"));
    }

    [Test]
    public void CpuIndexIsChecked()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        channel.Send("""{"execute":"human-monitor-command","arguments":{"command-line":"stop","cpu-index":3}}""");
        Assert.That(
            channel.TakeOutput(),
            Is.EqualTo("""{"error": {"class": "GenericError", "desc": "Parameter 'cpu-index' expects a CPU number"}}""" + "\r\n"));
        channel.Send("""{"execute":"human-monitor-command","arguments":{"command-line":"stop","cpu-index":0}}""");
        Assert.That(channel.TakeOutput(), Is.EqualTo("{\"return\": \"\"}\r\n"));
        Assert.That(fixture.Commands.Log, Is.EqualTo(new[] { "hmp stop" }));
    }

    [Test]
    public void TerminalGreetsAndEchoes()
    {
        using var fixture = new MonitorFixture();
        MemoryChannel terminal = Terminal(fixture, out string greeting);
        Assert.That(greeting, Is.EqualTo("QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) "));
        (string Input, string Output)[] conversation =
        [
            ("i", "i\e[K"),
            ("n", "\e[Din\e[K"),
            ("\x7f", "\e[D\e[Di\e[K"),
            ("\x02", ""),
            ("x", "\e[Dix\e[K"),
            ("\e[C", ""),
            ("\e[D", "\e[D"),
            ("\e[3~", "\e[Di\e[K"),
            ("\x01", "\e[D"),
            ("z", "zi\e[K\e[D"),
            ("\x05", "\e[C"),
            ("\x0b", ""),
            ("\x15", ""),
            ("\r", "\r\nunknown command: 'zi'\r\n(qemu) "),
            ("\e[A", "zi\e[K"),
            ("\e[B", "\e[D\e[D\e[K"),
            ("foo\n", "f\e[K\e[Dfo\e[K\e[D\e[Dfoo\e[K\r\nunknown command: 'foo'\r\n(qemu) "),
            ("\x03", ""),
            ("a b", "a\e[K\e[Da \e[K\e[D\e[Da b\e[K"),
            ("\x17", "\e[D\e[D\e[Da \e[K"),
            ("\x0c", "\e[2J\e[1;1H(qemu) a \e[K"),
            ("\r", "\r\nunknown command: 'a'\r\n(qemu) "),
        ];
        foreach ((string input, string output) in conversation)
        {
            terminal.Send(input);
            Assert.That(terminal.TakeOutput(), Is.EqualTo(output), input);
        }
    }

    [Test]
    public void TabCompletes()
    {
        using var fixture = new MonitorFixture();
        MemoryChannel terminal = Terminal(fixture, out _);
        terminal.Send("in\t");
        Assert.That(terminal.TakeOutput(), Is.EqualTo("i\e[K\e[Din\e[K\e[D\e[Dinfo \e[K"));
        terminal.Send("\t");
        Assert.That(terminal.TakeOutput(), Is.EqualTo("\r\nhistory    registers  version    \r\n(qemu) info \e[K"));
        terminal.Send("v\t\r");
        Assert.That(terminal.TakeOutput(), Does.EndWith("info version \e[K\r\n7.2.22Vmm\r\n(qemu) "));
        terminal.Send("help ba\t\r");
        Assert.That(terminal.TakeOutput(), Does.EndWith("help balloon \e[K\r\nballoon target -- set size\r\n(qemu) "));
        terminal.Send("xyzzy\t");
        Assert.That(terminal.TakeOutput(), Does.EndWith("xyzzy\e[K"));
    }

    [Test]
    public void InputWaitsWhileACommandRuns()
    {
        using var fixture = new MonitorFixture();
        MemoryChannel terminal = Terminal(fixture, out _);
        terminal.Send("wait\rp 1\r");
        Assert.That(terminal.TakeOutput(), Does.EndWith("wait\e[K\r\n"));
        fixture.Commands.Blocked!.SetResult();
        fixture.Turn();
        Assert.That(terminal.TakeOutput(), Is.EqualTo("waited\r\n(qemu) p\e[K\e[Dp \e[K\e[D\e[Dp 1\e[K\r\n0x1\r\n(qemu) "));
    }

    [Test]
    public void HistoryKeepsEachLineOnce()
    {
        using var fixture = new MonitorFixture();
        MemoryChannel terminal = Terminal(fixture, out _);
        terminal.Send("p 1\rp 2\rp 1\r\r");
        terminal.TakeOutput();
        terminal.Send("info history\r");
        Assert.That(terminal.TakeOutput(), Does.EndWith("\r\n0: 'p 2'\r\n1: 'p 1'\r\n2: 'info history'\r\n(qemu) "));
    }

    [Test]
    public void FocusOfAMultiplexedTerminal()
    {
        using var fixture = new MonitorFixture();
        MemoryChannel terminal = Terminal(fixture, out _);
        var session = (HmpSession)fixture.Core.Sessions[0];
        session.OnFocus(false);
        Assert.That(terminal.TakeOutput(), Is.EqualTo("\r\n"));
        session.OnFocus(true);
        Assert.That(terminal.TakeOutput(), Is.EqualTo("(qemu) "));
    }

    [Test]
    public void AnyInputIsSurvivedAndBounded() => Prop.ForAll<byte[]>(bytes =>
    {
        using var fixture = new MonitorFixture();
        byte[] alphabet = "\t\r\n\e[ABCDFHO~0123456789 pinfo help/x$rax'\"\\()+-*/%&|^~\u00e9\x01\x04\x05\x08\x0c\x17\x7f"u8.ToArray();
        byte[] input = bytes.Select(b => alphabet[b % alphabet.Length]).ToArray();
        MemoryChannel whole = Terminal(fixture, out _);
        whole.Send(input);
        using var second = new MonitorFixture();
        MemoryChannel pieces = Terminal(second, out _);
        foreach (byte b in input)
        {
            pieces.Send([b]);
        }

        Assert.That(pieces.TakeOutput(), Is.EqualTo(whole.TakeOutput()));
    }).QuickCheckThrowOnFailure();

    [Test]
    public void HostileExpressionsDoNotExhaustTheStack()
    {
        using var fixture = new MonitorFixture();
        Assert.That(Run(fixture, "p " + new string('(', 1_000_000)), Does.StartWith("expression is nested too deeply"));
        Assert.That(Run(fixture, "p " + new string('-', 1_000_000)), Does.StartWith("expression is nested too deeply"));
    }

    private static MemoryChannel Terminal(MonitorFixture fixture, out string greeting)
    {
        var channel = new MemoryChannel();
        fixture.Core.AddHmp(channel, "mon0");
        greeting = channel.TakeOutput();
        return channel;
    }

    private static string Run(MonitorFixture fixture, string line)
    {
        (MemoryChannel channel, QmpSession session) = fixture.Open(negotiate: true);
        QDict request = new()
        {
            ["execute"] = "human-monitor-command",
            ["arguments"] = new QDict { ["command-line"] = line },
        };
        channel.Send(Encoding.UTF8.GetBytes(request.ToJson()));
        string output = channel.TakeOutput();
        fixture.Core.Remove(session);
        return ((QDict)QValue.Parse(output)).GetString("return")!;
    }
}
