using System.Text.Json.Nodes;
using Iced.Intel;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Guest.Tests;

/// <summary>The same guest under the same options in the real QEMU and in ours: events, run state, exit status.</summary>
public sealed class SideBySideTests
{
    private const uint GedSelector = 0xfea00000;
    private const uint GedSleepControl = 0xfea00200;
    private const uint GedReset = 0xfea00202;

    /// <summary>What ends a scenario: the process itself, or an event after which the state is asked for.</summary>
    private static IEnumerable<TestCaseData> Scenarios()
    {
        byte[] triple = TripleFault();
        yield return Case("triple fault", triple, "RESET");
        yield return Case("triple fault", triple, null, "-no-reboot");
        yield return Case("triple fault", triple, "STOP", "-no-reboot", "-no-shutdown");
        yield return Case("triple fault", triple, null, "-action", "reboot=shutdown");
        yield return Case("triple fault", triple, "STOP", "-action", "reboot=shutdown,shutdown=pause");
        yield return Case("triple fault", triple, "RESET", "-no-shutdown");

        byte[] panic = PvPanic(1);
        yield return Case("panic", panic, null);
        yield return Case("panic", panic, "STOP", "-no-shutdown");
        yield return Case("panic", panic, "STOP", "-action", "panic=pause");
        yield return Case("panic", panic, null, "-action", "panic=shutdown");
        yield return Case("panic", panic, "STOP", "-action", "panic=shutdown,shutdown=pause");
        yield return Case("panic", panic, null, "-action", "panic=exit-failure");
        yield return Case("panic", panic, null, "-action", "panic=none");
        yield return Case("crash loaded", PvPanic(2), null);
        yield return Case("crash loaded", PvPanic(2), null, "-action", "panic=pause");
        yield return Case("panic and crash loaded", PvPanic(3), null);

        foreach (byte value in (byte[])[0, 0x10, 0x7f, 0x80, 0xff])
        {
            yield return Case($"debug exit {value}", new GuestImage().Code(32, GuestImage.Entry, c => GuestImage.ExitAndPark(c, value)).ToPvhElf(), null);
        }

        byte[] internalError = Jump(0xfd000000);
        yield return Case("code where nothing is", internalError, "STOP");
        yield return Case("code where nothing is", internalError, "STOP", "-no-shutdown");
    }

    private static IEnumerable<TestCaseData> GedScenarios()
    {
        byte[] off = StoreByte(GedSleepControl, (5 << 2) | 0x20, exit: false);
        yield return Case("soft off", off, null);
        yield return Case("soft off", off, "STOP", "-no-shutdown");
        yield return Case("soft off", off, "STOP", "-action", "shutdown=pause");
        yield return Case("soft off", off, null, "-no-reboot");
        yield return Case("soft off of another type", StoreByte(GedSleepControl, (3 << 2) | 0x20), null);
        byte[] reset = StoreByte(GedReset, 0x42);
        yield return Case("reset register", reset, "RESET");
        yield return Case("reset register", reset, null, "-no-reboot");
        yield return Case("reset register", StoreByte(GedReset, 0x41), null);
    }

    [TestCaseSource(nameof(Scenarios))]
    public void AGuestEndsAsInQemu(byte[] kernel, string? until, string[] arguments)
    {
        RequireQemu();
        string expected = Outcome(Emulator.RealQemu!, "microvm", kernel, until, arguments);
        string microvm = Outcome(Emulator.OurBinary, "microvm", kernel, until, arguments);
        string pc = Outcome(Emulator.OurBinary, "pc", kernel, until, arguments);
        TestContext.Out.WriteLine(expected);
        Assert.Multiple(() =>
        {
            Assert.That(microvm, Is.EqualTo(expected));
            Assert.That(pc, Is.EqualTo(expected));
        });
    }

    [TestCaseSource(nameof(GedScenarios))]
    public void AGuestOfMicrovmEndsAsInQemu(byte[] kernel, string? until, string[] arguments)
    {
        RequireQemu();
        string expected = Outcome(Emulator.RealQemu!, "microvm", kernel, until, arguments);
        TestContext.Out.WriteLine(expected);
        Assert.That(Outcome(Emulator.OurBinary, "microvm", kernel, until, arguments), Is.EqualTo(expected));
    }

    [Test]
    public void NothingIsExecutedAfterSoftOff()
    {
        GuestRun.RequireKvm();
        byte[] kernel = StoreByte(GedSleepControl, (5 << 2) | 0x20);
        Assert.That(Outcome(Emulator.OurBinary, "microvm", kernel, null, []), Does.Contain("guest-shutdown").And.EndWith("exit status 0"));
    }

    [Test]
    public void AfterAnInternalErrorOnlyAResetHelps()
    {
        RequireQemu();
        byte[] kernel = Jump(0xfd000000);
        string expected = Converse(Emulator.RealQemu!);
        TestContext.Out.WriteLine(expected);
        Assert.That(Converse(Emulator.OurBinary), Is.EqualTo(expected));

        string Converse(string binary)
        {
            using Emulator e = Start(binary, "microvm", kernel);
            QmpClient qmp = e.Qmp();
            List<string> said = [Clean(qmp.ExecuteRaw("cont"))];
            qmp.WaitEvent("STOP");
            foreach (string command in (string[])["query-status", "cont", "query-status", "stop", "system_reset", "query-status"])
            {
                said.Add(Clean(qmp.ExecuteRaw(command)));
            }

            qmp.WaitEvent("RESET");
            said.Add(Clean(qmp.ExecuteRaw("query-status")));
            said.Add(Clean(qmp.ExecuteRaw("cont")));
            qmp.WaitEvent("STOP");
            said.Add(Clean(qmp.ExecuteRaw("query-status")));
            qmp.Execute("quit");
            said.Add($"{e.WaitExit()}");
            said.AddRange(e.Errors.Split('\n').Where(l => l.StartsWith("KVM", StringComparison.Ordinal)));
            return string.Join('\n', said);
        }
    }

    [Test]
    public void ThePowerButtonIsSeenAndAnsweredWithSoftOff()
    {
        RequireQemu();

        // The event device shows the button in bit 1 of its selector, once; type 5 is soft off.
        byte[] kernel = new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                GuestImage.Out(c, 0xe9, (byte)'W');
                Label wait = c.CreateLabel();
                c.Label(ref wait);
                c.mov(eax, __dword_ptr[GedSelector]);
                c.test(eax, eax);
                c.je(wait);
                c.add(eax, '0');
                c.mov(edx, 0xe9);
                c.@out(dx, al);
                c.mov(eax, __dword_ptr[GedSelector]);
                c.add(eax, '0');
                c.@out(dx, al);
                c.mov(__byte_ptr[GedSleepControl], (5 << 2) | 0x20);
                Park(c);
            })
            .ToPvhElf();
        string expected = PressButton(Emulator.RealQemu!);
        TestContext.Out.WriteLine(expected);
        Assert.That(expected, Does.Contain("guest-shutdown").And.Contain("W20"));
        Assert.That(PressButton(Emulator.OurBinary), Is.EqualTo(expected));

        string PressButton(string binary)
        {
            using Emulator e = Start(binary, "microvm", kernel, "-debugcon", "file:debug");
            QmpClient qmp = e.Qmp();
            qmp.Execute("cont");
            string debug = Path.Combine(e.Directory, "debug");
            Assert.That(SpinWait.SpinUntil(() => new FileInfo(debug).Length > 0, 60_000), e.Errors);
            string answer = Clean(qmp.ExecuteRaw("system_powerdown"));
            List<string> events = ToEnd(qmp);
            return $"{answer}\n{string.Join('\n', events)}\n{e.WaitExit()} {File.ReadAllText(debug)}";
        }
    }

    private static TestCaseData Case(string name, byte[] kernel, string? until, params string[] arguments)
    {
        return new TestCaseData(kernel, until, arguments).SetArgDisplayNames([name, until ?? "exit", .. arguments]);
    }

    private static void RequireQemu()
    {
        GuestRun.RequireKvm();
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("compares with Debian's qemu-system-x86, which is not installed");
        }
    }

    private static Emulator Start(string binary, string machine, byte[] kernel, params string[] arguments)
    {
        string directory = Emulator.NewDirectory();
        File.WriteAllBytes(Path.Combine(directory, "kernel"), kernel);
        return Emulator.StartBinary(binary, true, directory,
        [
            "-accel", "kvm", "-machine", machine, "-m", "64", "-nodefaults", "-display", "none", "-S", "-kernel", "kernel",
            "-device", "pvpanic", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", .. arguments,
        ]);
    }

    /// <summary>Events in their order without their time, then the run state or the exit status.</summary>
    private static string Outcome(string binary, string machine, byte[] kernel, string? until, string[] arguments)
    {
        using Emulator e = Start(binary, machine, kernel, arguments);
        QmpClient qmp = e.Qmp();
        qmp.ExecuteRaw("cont");
        if (until is null)
        {
            return string.Join('\n', [.. ToEnd(qmp), $"exit status {e.WaitExit()}"]);
        }

        List<string> events = [];
        string name;
        do
        {
            JsonObject message = Next(qmp);
            name = (string)message["event"]!;
            events.Add(Clean(message));
        }
        while (name != until);

        // A machine that was reset runs on: its state is not a matter of the event.
        return until == "RESET" ? string.Join('\n', events) : string.Join('\n', [.. events, Clean(qmp.ExecuteRaw("query-status"))]);
    }

    private static JsonObject Next(QmpClient qmp)
    {
        if (qmp.Events.Count == 0)
        {
            return qmp.ReadMessage();
        }

        JsonObject first = qmp.Events[0];
        qmp.Events.RemoveAt(0);
        return first;
    }

    private static List<string> ToEnd(QmpClient qmp)
    {
        List<string> events = [.. qmp.Events.Select(Clean)];
        while (qmp.ReadLine() is { } line)
        {
            events.Add(Clean((JsonObject)JsonNode.Parse(line)!));
        }

        return events;
    }

    private static string Clean(JsonObject message)
    {
        message.Remove("timestamp");
        message.Remove("id");
        return message.ToJsonString();
    }

    private static byte[] TripleFault()
    {
        return new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                // The descriptor is in the cleared range behind the image: no IDT at all.
                c.lidt(__[GuestImage.Tss]);
                c.ud2();
            })
            .ToPvhElf();
    }

    private static byte[] PvPanic(byte value)
    {
        return new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                GuestImage.Out(c, 0x505, value);
                GuestImage.ExitAndPark(c, TestGuests.Success);
            })
            .ToPvhElf();
    }

    private static byte[] Jump(uint target)
    {
        return new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                c.mov(eax, target);
                c.jmp(eax);
            })
            .ToPvhElf();
    }

    /// <summary>With <paramref name="exit"/> the guest ends itself when the write did not; QEMU's may get so far before a shutdown that it asked for.</summary>
    private static byte[] StoreByte(uint address, byte value, bool exit = true)
    {
        return new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                c.mov(__byte_ptr[address], value);
                if (exit)
                {
                    GuestImage.ExitAndPark(c, TestGuests.Success);
                }

                Park(c);
            })
            .ToPvhElf();
    }

    private static void Park(Assembler c)
    {
        Label park = c.CreateLabel();
        c.Label(ref park);
        c.cli();
        c.hlt();
        c.jmp(park);
    }
}
