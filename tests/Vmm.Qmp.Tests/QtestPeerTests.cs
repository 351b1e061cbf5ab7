using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>qtest conversations with the binary, and the same with the real emulator beside it.</summary>
public sealed class QtestPeerTests
{
    private const string Clock = "base=2024-02-29T23:59:58,clock=vm";

    private static readonly string[] s_common =
    [
        "-m", "64", "-nodefaults", "-display", "none", "-serial", "null", "-device", "pvpanic",
        "-chardev", "null,id=c1", "-device", "isa-debugcon,chardev=c1", "-rtc", Clock,
    ];

    private static readonly string[] s_ours = ["-accel", "qtest", "-machine", "pc", .. s_common];

    // Debian's build has no qtest accelerator: vCPUs that are never started come to the same, but for the clock.
    private static readonly string[] s_peer = ["-accel", "tcg", "-S", "-machine", "pc,vmport=off", .. s_common];

    private static IEnumerable<string> Recordings() =>
        Directory.GetFiles(Folder()).Select(f => Path.GetFileNameWithoutExtension(f)!).Order(StringComparer.Ordinal);

    [TestCaseSource(nameof(Recordings))]
    public void TheBinaryAnswersAsRecorded(string name)
    {
        using QtestSession ours = new(Emulator.OurBinary, s_ours);
        List<string> expected = [];
        List<string> actual = [];
        foreach (string line in File.ReadLines(Path.Combine(Folder(), name + ".txt")))
        {
            if (line.StartsWith("> ", StringComparison.Ordinal))
            {
                expected.Add(line);
                actual.Add(line);
                actual.AddRange(ours.Ask(line[2..]).Select(a => "< " + a));
            }
            else if (line.StartsWith("< ", StringComparison.Ordinal))
            {
                expected.Add(line);
            }
        }

        Assert.That(actual, Is.EqualTo(expected));
    }

    [Test]
    [Category("Peer")]
    public void BothAnswerAlikeAndLogAlike([Range(1, 4)] int seed)
    {
        if (Emulator.RealQemu is not { } qemu)
        {
            Assert.Ignore("needs QEMU 7.2 installed as the peer to compare with");
            return;
        }

        List<string> requests = Conversation(new Random(seed));
        (List<string> answers, List<string> log) ours = Talk(Emulator.OurBinary, s_ours, requests);
        (List<string> answers, List<string> log) theirs = Talk(qemu, s_peer, requests);
        Assert.Multiple(() =>
        {
            Assert.That(ours.answers, Is.EqualTo(theirs.answers));
            Assert.That(ours.log, Is.EqualTo(theirs.log));
            Assert.That(ours.log, Has.Count.GreaterThan(requests.Count));
        });
    }

    [Test]
    public void AllClocksOfTheMachineMoveByCommand()
    {
        using QtestSession qtest = new(Emulator.OurBinary, s_ours);

        // Power management at 0x600, its ports on.
        qtest.Ask("outl 0xcf8 0x80000b40");
        qtest.Ask("outl 0xcfc 0x601");
        qtest.Ask("outl 0xcf8 0x80000b80");
        qtest.Ask("outb 0xcfc 0x1");
        string[] start = Times(qtest);
        Assert.That(Times(qtest), Is.EqualTo(start), "time passed by itself");
        Assert.That(qtest.Ask("clock_set 1000000000"), Is.EqualTo(new[] { "OK 1000000000" }));
        Assert.That(Times(qtest), Is.EqualTo(new[] { "OK 0x369e99", "OK 0x0059" }), "3579545 ticks of the timer, one second of the clock");
        Assert.That(qtest.Ask("clock_step 1000000000"), Is.EqualTo(new[] { "OK 2000000000" }));
        Assert.That(Times(qtest), Is.EqualTo(new[] { "OK 0x6d3d32", "OK 0x0000" }));

        // Counter 0, mode 2, 1193 counts: its edges arrive at the I/O APIC on their way.
        qtest.Ask("irq_intercept_in ioapic");
        qtest.Ask("outb 0x43 0x34");
        qtest.Ask("outb 0x40 0xa9");
        qtest.Ask("outb 0x40 0x04");
        Assert.That(qtest.Ask("clock_step 10000000").Count(a => a == "IRQ raise 0"), Is.InRange(9, 11));
    }

    [Test]
    public void AMonitorSeesARunningMachineThatExecutesNothing()
    {
        using QtestSession qtest = new(Emulator.OurBinary, s_ours);
        QmpClient qmp = qtest.Emulator.Qmp();
        Assert.That((string?)qmp.Execute("query-status")!["status"], Is.EqualTo("running"));
        Assert.That((bool)qmp.Execute("query-kvm")!["enabled"]!, Is.False);
        Assert.That((JsonArray)qmp.Execute("query-cpus-fast")!, Has.Count.EqualTo(1));
        qmp.Execute("system_reset");
        Assert.That((bool)qmp.WaitEvent("RESET")["data"]!["guest"]!, Is.False);
        Assert.That(qtest.Ask("endianness"), Is.EqualTo(new[] { "OK little" }));
        qmp.Execute("stop");
        qmp.Execute("cont");
        qmp.Execute("quit");
        Assert.That(qtest.Emulator.WaitExit(), Is.Zero);
    }

    [Test]
    public void EveryMachineHasIt([Values("none", "microvm", "pc")] string machine)
    {
        using QtestSession qtest = new(Emulator.OurBinary, ["-accel", "qtest", "-machine", machine, "-m", "64", "-nodefaults", "-display", "none"]);
        Assert.That(qtest.Ask("endianness"), Is.EqualTo(new[] { "OK little" }));
        Assert.That(qtest.Ask("writel 0x1000 0x12345678"), Is.EqualTo(new[] { "OK" }));
        Assert.That(qtest.Ask("readw 0x1002"), Is.EqualTo(new[] { "OK 0x0000000000001234" }));
        Assert.That(qtest.Ask("clock_step 5"), Is.EqualTo(new[] { "OK 5" }));
    }

    [Test]
    public void ItIsAnObjectToo()
    {
        string directory = Emulator.NewDirectory();
        string[] arguments =
        [
            "-accel", "qtest", "-M", "pc", "-nodefaults", "-display", "none",
            "-chardev", "stdio,id=q", "-object", "qtest,id=t,chardev=q,log=talk.txt",
        ];
        using Emulator emulator = Emulator.StartBinary(Emulator.OurBinary, true, directory, arguments);
        emulator.Process.StandardInput.Write("endianness\ninb 0x1234\n");
        emulator.Process.StandardInput.Flush();
        emulator.WaitOutput("OK little\nOK 0x00ff\n");
        QmpClient qmp = emulator.Qmp();
        JsonNode list = qmp.Execute("qom-list", new JsonObject { ["path"] = "/objects" })!;
        Assert.That(list.AsArray().Select(p => (string?)p!["name"]), Does.Contain("t"));
        qmp.Execute("quit");
        Assert.That(emulator.WaitExit(), Is.Zero);
        Assert.That(StripTimes(File.ReadAllLines(Path.Combine(directory, "talk.txt"))).Take(3), Is.EqualTo(new[] { "[I] OPENED", "[R] endianness", "[S] OK little" }));
    }

    [TestCase("-object qtest,id=a,chardev=foo", "Cannot find character device 'foo'")]
    [TestCase("-object qtest,id=a", "-object qtest,id=a: Parameter 'chardev' is missing")]
    [TestCase("-chardev null,id=c -chardev null,id=d -object qtest,id=a,chardev=c -object qtest,id=b,chardev=d", "Only one instance of qtest can be created")]
    [TestCase("-chardev null,id=c -object qtest,id=a,chardev=c,log=none -qtest null -qtest-log none", "Only one instance of qtest can be created")]
    [TestCase("-qtest foo", "Failed to initialize device for qtest: \"foo\"")]
    public void MistakesAreNamedAlike(string arguments, string error)
    {
        string[] split = arguments.Split(' ');
        (int status, _, string errors) = Emulator.Run(Emulator.OurBinary, ["-accel", "qtest", "-nodefaults", "-display", "none", .. split]);
        Assert.That((status, LastLine(errors)), Is.EqualTo((1, $"vmm-system-x86_64: {error}")));
        if (Emulator.RealQemu is { } qemu)
        {
            (status, _, errors) = Emulator.Run(qemu, ["-accel", "tcg", "-S", "-nodefaults", "-display", "none", .. split]);
            Assert.That((status, LastLine(errors)), Is.EqualTo((1, $"qemu-system-x86_64: {error}")));
        }
    }

    private static string LastLine(string text) => text.TrimEnd('\n').Split('\n')[^1];

    /// <summary>The power management timer and the clock's seconds.</summary>
    private static string[] Times(QtestSession qtest)
    {
        qtest.Ask("outb 0x70 0");
        return [qtest.Ask("inl 0x608")[0], qtest.Ask("inb 0x71")[0]];
    }

    private static (List<string> Answers, List<string> Log) Talk(string binary, string[] arguments, List<string> requests)
    {
        using QtestSession session = new(binary, arguments);
        List<string> answers = [];
        foreach (string request in requests)
        {
            answers.Add("> " + request);
            answers.AddRange(session.Ask(request));
        }

        return (answers, session.End());
    }

    /// <summary>Requests that neither emulator's host can influence: no clock, nothing that resets.</summary>
    private static List<string> Conversation(Random random)
    {
        string[] ports =
        [
            "0x20", "0x21", "0xa0", "0xa1", "0x4d0", "0x4d1", "0x40", "0x41", "0x42", "0x43", "0x3f9", "0x3fa", "0x3fb", "0x3fd", "0x3fe", "0x3ff",
            "0x0", "0x1", "0x4", "0x5", "0x72", "0x81", "0x82", "0x87", "0xc0", "0xc4", "0xe9", "0x1234",
        ];
        List<string> requests =
        [
            "endianness", "irq_intercept_in ioapic",
            "outb 0x70 0x0f", "inl 0x71", "inl 0x70", "inw 0x71", "inl 0x6f", "inl 0xcfa", "inl 0xcfb", "inl 0x511", "inl 0xe8", "inl 0xdd", "inl 0xb3",
        ];
        for (int i = 0; i < 300; i++)
        {
            string port = ports[random.Next(ports.Length)];

            // Modes 6 and 7 of the timer are 2 and 3 by its data sheet, and nothing to QEMU; a wide access has several chances to choose them.
            bool timer = port.StartsWith("0x4", StringComparison.Ordinal) && port.Length == 4;
            int value = random.Next(256) & (port == "0x43" ? 0xf7 : 0xff);
            char wide = timer ? 'b' : "wl"[random.Next(2)];
            string address = "0x" + random.Next(0x1000, 0x9000).ToString("x", CultureInfo.InvariantCulture);
            int size = random.Next(1, 16);
            requests.Add(random.Next(14) switch
            {
                0 or 1 or 2 => $"inb {port}",
                3 or 4 or 5 => $"outb {port} {value}",
                12 => $"in{wide} {port}",
                13 => $"out{wide} {port} 0x{(timer ? value : random.Next()):x}",
                6 => $"write{"bwlq"[random.Next(4)]} {address} 0x{random.NextInt64():x}",
                7 => $"read{"bwlq"[random.Next(4)]} {address}",
                8 => $"write {address} {size} 0x{Convert.ToHexStringLower(Bytes(random, size))}",
                9 => $"read {address} {size}",
                10 => $"b64write {address} {size} {Convert.ToBase64String(Bytes(random, random.Next(4) == 0 ? size + 1 : size))}",
                _ => random.Next(3) switch
                {
                    0 => $"memset {address} {size} {random.Next(256)}",
                    1 => $"b64read {address} {size}",
                    _ => "frobnicate 1 2",
                },
            });
        }

        return requests;
    }

    private static byte[] Bytes(Random random, int count)
    {
        byte[] bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }

    private static string Folder([CallerFilePath] string file = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(file)!, "../corpora/qtest"));

    internal static List<string> StripTimes(IEnumerable<string> lines) =>
        [.. lines.Select(l => l.StartsWith('[') && l.IndexOf(']') is > 3 and var end ? $"[{l[1]}{l[end..]}" : l)];
}
