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

    [TestCase("the button without being enabled", "m system_powerdown;e POWERDOWN;s;q inw 0x602;q inw 0x604")]
    [TestCase("the button", "q outb 0xb2 0xf1;q inw 0x604;q outw 0x602 0x100;m system_powerdown;e POWERDOWN;s;m system_powerdown;e POWERDOWN;q outw 0x600 0x100;s")]
    [TestCase("enabled late", "q outw 0x602 0x120;m system_powerdown;e POWERDOWN;q outw 0x602 0;q outw 0x602 0x100;q outw 0x602 0;s")]
    [TestCase("general purpose events", "q inl 0xafe0;q outw 0xafe2 0xffff;q inl 0xafe0;q outl 0xafe0 0xffffffff;q inl 0xafe0")]
    [TestCase("not asleep", "m query-current-machine;m system_wakeup;m query-status")]
    [TestCase("to RAM and back", "q outw 0x604 0x2400;e SUSPEND;m query-status;m cont;m query-status;m system_wakeup;e WAKEUP;m query-status;" + Map + ";s")]
    [TestCase("the button while asleep", "q outw 0x602 0x100;q outw 0x604 0x2400;e SUSPEND;m system_powerdown;e POWERDOWN;m query-status;m system_wakeup;e WAKEUP;m query-status")]
    [TestCase("reset while asleep", "q outw 0x604 0x2400;e SUSPEND;m system_reset;e RESET;m query-status")]
    [TestCase("stopped while asleep", "q outw 0x604 0x2400;e SUSPEND;m stop;m query-status;m system_wakeup;m cont;m query-status")]
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
        string[] common = ["-m", "64", "-nodefaults", "-display", "none", "-no-shutdown", .. arguments];
        List<string> ours = Play(Emulator.OurBinary, ["-accel", "qtest", "-machine", "pc", .. common], script);
        List<string> theirs = Play(qemu, ["-accel", "tcg", "-machine", "pc", "-bios", HaltingRom(), .. common], script);
        Assert.That(ours, Is.EqualTo(theirs), what);
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
