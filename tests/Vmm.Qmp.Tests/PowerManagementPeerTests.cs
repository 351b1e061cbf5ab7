using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// The ACPI registers of <c>pc</c> through qtest and QMP: the power button and its interrupt, sleeping and waking. The real emulator answers
/// the same, on a machine whose processor halts at once.
/// </summary>
public sealed class PowerManagementPeerTests
{
    // The registers at 0x600, on; a reset takes both back.
    private const string Map = "q outl 0xcf8 0x80000b40;q outl 0xcfc 0x601;q outl 0xcf8 0x80000b80;q outb 0xcfc 0x1";

    // RAM, in it what the chipset shadows; general purpose events; interrupt controllers, DMA, timer, serial port, the clock's RAM.
    private const string Stir = "q write 0x100000 0x4 0x01020304;q outl 0xcf8 0x80000058;q outl 0xcfc 0x33333333;q write 0xf0000 0x4 0xa5a5a5a5;q outl 0xafe0 0xffff0000;"
        + "q outb 0x21 0xf0;q outb 0xa1 0x0f;q outb 0x0f 0x5;q outb 0x0c 0;q outb 0x02 0x34;q outb 0x02 0x12;q outb 0x43 0x34;q outb 0x61 0x3;q outb 0x3fb 0x83;q outb 0x3ff 0x77;"
        + "q outb 0x70 0x0f;q outb 0x71 0x11;q outb 0x70 0x40;q outb 0x71 0x22;q outb 0x70 0x0b;q outb 0x71 0x72;q outb 0x92 0x2;q outb 0xb3 0x5a;"
        + "q outb 0xb103 0x44;q outb 0xb105 0x55;q outl 0xcf8 0x80000b3c;q outb 0xcfc 0x9;q outl 0xcf8 0x80000b58;q outl 0xcfc 0x0f0f0f0f;q outl 0xcf8 0x80000860;q outl 0xcfc 0x0b0b0a0a";

    private const string Look = "m query-status;q read 0x100000 0x4;q read 0xf0000 0x4;q outl 0xcf8 0x80000058;q inl 0xcfc;q outl 0xcf8 0x80000b40;q inl 0xcfc;"
        + "q outl 0xcf8 0x80000b80;q inl 0xcfc;q inl 0xafe0;q inb 0x21;q inb 0xa1;q inb 0x0f;q inb 0x02;q inb 0x02;q inb 0x3fb;q inb 0x3ff;"
        + "q outb 0x70 0x0f;q inb 0x71;q outb 0x70 0x40;q inb 0x71;q outb 0x70 0x0b;q inb 0x71;q inb 0x92;q inb 0xb2;q inb 0xb3;q inb 0xb103;q inb 0xb105;q outl 0xcf8 0x80000b3c;q inl 0xcfc;"
        + "q outl 0xcf8 0x80000b58;q inl 0xcfc;q outl 0xcf8 0x80000860;q inl 0xcfc;q outl 0xcf8 0x80000b90;q inl 0xcfc;q outl 0xcf8 0x80000bd0;q inl 0xcfc;q inw 0x510;" + Map + ";s;q inw 0x602;q inw 0x604";

    [TestCase("the button without being enabled", "m system_powerdown;e POWERDOWN;s;q inw 0x602;q inw 0x604")]
    [TestCase("the button", "q outb 0xb2 0xf1;q inw 0x604;q outw 0x602 0x100;m system_powerdown;e POWERDOWN;s;m system_powerdown;e POWERDOWN;q outw 0x600 0x100;s")]
    [TestCase("enabled late", "q outw 0x602 0x120;m system_powerdown;e POWERDOWN;q outw 0x602 0;q outw 0x602 0x100;q outw 0x602 0;s")]
    [TestCase("general purpose events", "q inl 0xafe0;q outw 0xafe2 0xffff;q inl 0xafe0;q outl 0xafe0 0xffffffff;q inl 0xafe0")]
    [TestCase("not asleep", "m query-current-machine;m system_wakeup;m query-status")]
    [TestCase("to RAM and back", "q outw 0x604 0x2400;e SUSPEND;m query-status;m cont;m query-status;m system_wakeup;e WAKEUP;m query-status;" + Map + ";s")]
    [TestCase("the button while asleep", "q outw 0x602 0x100;q outw 0x604 0x2400;e SUSPEND;m system_powerdown;e POWERDOWN;m query-status;m system_wakeup;e WAKEUP;m query-status")]
    [TestCase("reset while asleep", "q outw 0x604 0x2400;e SUSPEND;m system_reset;e RESET;m query-status")]
    [TestCase("stopped while asleep", "q outw 0x604 0x2400;e SUSPEND;m stop;m query-status;m system_wakeup;m cont;m query-status")]
    [TestCase("what a wake-up leaves of the chipset", Stir + ";q outw 0x604 0x2400;e SUSPEND;m system_wakeup;e WAKEUP;" + Look)]
    [TestCase("what a reset leaves of the chipset", Stir + ";m system_reset;e RESET;" + Look)]
    [TestCase("woken to what it enabled", "q outw 0x602 0x521;q outw 0x604 0x2400;e SUSPEND;m system_wakeup;e WAKEUP;" + Map + ";s;q inw 0x602;q inw 0x604")]
    [TestCase("sleep that firmware does not offer", "q outw 0x604 0x2400;e SUSPEND;m query-status;m system_wakeup;e WAKEUP;m query-current-machine;" + Map
        + ";q outw 0x604 0x2800;e SUSPEND_DISK;e SHUTDOWN", "-global", "PIIX4_PM.disable_s3=1", "-global", "PIIX4_PM.disable_s4=1")]
    [TestCase("asleep twice", "q outw 0x604 0x2400;e SUSPEND;m system_wakeup;e WAKEUP;" + Map + ";q outw 0x604 0x2400;e SUSPEND;m system_wakeup;e WAKEUP;m query-status")]
    [TestCase("sleep types without meaning", "q outw 0x604 0x2c00;q outw 0x604 0x3c00;q inw 0x604;m query-status")]
    [TestCase("to disk", "q outw 0x604 0x2800;e SUSPEND_DISK;e SHUTDOWN;m query-status")]
    [TestCase("soft off", "q outw 0x604 0x2000;e SHUTDOWN;m query-status")]
    [TestCase("to disk by another type", "q outw 0x604 0x2800;m query-status;q outw 0x604 0x2c00;e SUSPEND_DISK;e SHUTDOWN", "-global", "PIIX4_PM.s4_val=3")]
    public void BothAnswerAlike(string what, string script, params string[] arguments)
    {
        if (Emulator.RealQemu is not { } qemu)
        {
            Assert.Ignore("needs QEMU 7.2 installed as the peer to compare with");
            return;
        }

        script = Map + ";q irq_intercept_in ioapic;" + script;
        string[] common = ["-m", "64", "-nodefaults", "-display", "none", "-serial", "null", "-no-shutdown", "-bios", HaltingRom(), .. arguments];
        List<string> ours = Play(Emulator.OurBinary, ["-accel", "qtest", "-machine", "pc", .. common], script);
        List<string> theirs = Play(qemu, ["-accel", "tcg", "-machine", "pc", .. common], script);
        Assert.That(string.Join('\n', ours), Is.EqualTo(string.Join('\n', theirs)), what);
    }

    [Test]
    public void MicrovmCannotWakeUp()
    {
        List<string> ours = Play(Emulator.OurBinary, ["-accel", "qtest", "-machine", "microvm", "-nodefaults", "-display", "none"], "m query-current-machine;m system_wakeup");
        Assert.That(ours, Is.EqualTo(new[]
        {
            "query-current-machine: {\"wakeup-suspend-support\":false}",
            "system_wakeup: {\"class\":\"GenericError\",\"desc\":\"wake-up from suspend is not supported by this guest\"}",
        }));
    }

    // q: a qtest request, m: a command, e: an event, s: the PM1 status without that of the timer, which runs on one machine only.
    private static List<string> Play(string binary, string[] arguments, string script)
    {
        using QtestSession session = new(binary, arguments);
        using QmpClient qmp = session.Emulator.Qmp();
        List<string> result = [];
        foreach (string step in script.Split(';'))
        {
            string text = step.Length > 2 ? step[2..] : "";
            switch (step[0])
            {
                case 'q':
                    result.Add(text + ": " + string.Join(' ', Sci(session.Ask(text))));
                    break;
                case 's':
                    List<string> status = Sci(session.Ask("inw 0x600"));
                    status[^1] = "status " + (Convert.ToInt32(status[^1]["OK ".Length..], 16) & 0xfffe);
                    result.AddRange(status);
                    break;
                case 'm':
                    JsonObject answer = qmp.ExecuteRaw(text);
                    result.Add($"{text}: {(answer["return"] ?? answer["error"])!.ToJsonString()}");
                    break;
                default:
                    result.Add($"{text}: {qmp.WaitEvent(text)["data"]?.ToJsonString()}");
                    break;
            }
        }

        return result;
    }

    /// <summary>Without the interrupts of the timers, which tick on one machine only.</summary>
    private static List<string> Sci(List<string> lines) =>
        [.. lines.Where(static l => !l.StartsWith("IRQ ", StringComparison.Ordinal) || l.EndsWith(" 9", StringComparison.Ordinal))];

    /// <summary>A firmware image whose processor halts at once, with interrupts off.</summary>
    private static string HaltingRom()
    {
        byte[] rom = new byte[65536];
        byte[] code = [0xfa, 0xf4, 0xeb, 0xfd];
        code.CopyTo(rom, 0xfff0);
        string path = Path.Combine(Emulator.NewDirectory(), "halt.bin");
        File.WriteAllBytes(path, rom);
        return path;
    }
}
