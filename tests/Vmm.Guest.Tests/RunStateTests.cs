using System.Text.Json.Nodes;
using Iced.Intel;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Guest.Tests;

/// <summary>A running guest under commands from outside, and guests that end in a bad way.</summary>
public sealed class RunStateTests
{
    [Test]
    public void ATripleFaultResets([Values("microvm", "pc")] string machine)
    {
        // Held back at first, so that the client is there to see the first reset.
        using GuestRun run = GuestRun.Start(machine, TripleFault(), debugExit: false, "-m", "64", "-S");
        QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("cont");
        JsonObject reset = qmp.WaitEvent("RESET");
        Assert.That(reset["data"]!.ToJsonString(), Is.EqualTo("""{"guest":true,"reason":"guest-reset"}"""));
        run.WaitDebug(t => t.StartsWith("TT", StringComparison.Ordinal));
        qmp.Execute("quit");
        Assert.That(run.Emulator.WaitExit(), Is.Zero);
    }

    [Test]
    public void ATripleFaultEndsAGuestThatMustNotReboot([Values("microvm", "pc")] string machine)
    {
        using GuestRun run = GuestRun.Start(machine, TripleFault(), debugExit: false, "-m", "64", "-S", "-no-reboot");
        QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("cont");
        JsonObject shutdown = qmp.WaitEvent("SHUTDOWN");
        Assert.That(shutdown["data"]!.ToJsonString(), Is.EqualTo("""{"guest":true,"reason":"guest-reset"}"""));
        Assert.That((run.Emulator.WaitExit(), run.DebugText), Is.EqualTo((0, "T")));
    }

    [Test]
    public void NoShutdownKeepsTheProcess()
    {
        using GuestRun run = GuestRun.Start("pc", TripleFault(), debugExit: false, "-m", "64", "-S", "-no-reboot", "-no-shutdown");
        QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("cont");
        qmp.WaitEvent("SHUTDOWN");
        qmp.WaitEvent("STOP");
        JsonNode status = qmp.Execute("query-status")!;
        Assert.That(((string?)status["status"], (bool)status["running"]!), Is.EqualTo(("shutdown", false)));
        qmp.Execute("quit");
        Assert.That(run.Emulator.WaitExit(), Is.Zero);
    }

    [Test]
    public void APanicIsReported([Values("microvm", "pc")] string machine)
    {
        using GuestRun run = GuestRun.Start(machine, Panic(), debugExit: false, "-m", "64", "-S", "-device", "pvpanic", "-no-shutdown");
        QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("cont");
        JsonObject panicked = qmp.WaitEvent("GUEST_PANICKED");
        Assert.That((string?)panicked["data"]!["action"], Is.EqualTo("pause"));
        qmp.WaitEvent("STOP");
        Assert.That((string?)qmp.Execute("query-status")!["status"], Is.EqualTo("guest-panicked"));
    }

    [Test]
    public void APanicEndsTheProcessOtherwise()
    {
        using GuestRun run = GuestRun.Start("pc", Panic(), debugExit: false, "-m", "64", "-S", "-device", "pvpanic");
        QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("cont");
        Assert.That((string?)qmp.WaitEvent("GUEST_PANICKED")["data"]!["action"], Is.EqualTo("poweroff"));
        Assert.That((string?)qmp.WaitEvent("SHUTDOWN")["data"]!["reason"], Is.EqualTo("guest-panic"));
        Assert.That(run.Emulator.WaitExit(), Is.Zero);
    }

    [Test]
    public void PmemsaveIsWhatTheGuestWrote()
    {
        const uint start = 16 << 20;
        const int length = 1 << 20;
        using GuestRun run = GuestRun.Start("microvm", TestGuests.DirtyMemory(start, length, 3), debugExit: false, "-m", "64");
        QmpClient qmp = run.Emulator.Qmp();
        run.WaitDebug(t => t == "...");
        string file = Path.Combine(run.Emulator.Directory, "memory");
        qmp.Execute("pmemsave", new JsonObject { ["val"] = start - 4096, ["size"] = length + 8192, ["filename"] = file });
        byte[] saved = File.ReadAllBytes(file);
        byte[] expected = new byte[length + 8192];
        for (int page = 4096; page < length + 4096; page += 4096)
        {
            expected[page] = 3;
        }

        Assert.That(saved.AsSpan().SequenceEqual(expected));
    }

    [Test]
    public void ThreadsOfTheProcessorsAreNamed()
    {
        using GuestRun run = GuestRun.Start("pc", TestGuests.Spin(), debugExit: false, "-m", "64", "-smp", "2");
        QmpClient qmp = run.Emulator.Qmp();
        var cpus = (JsonArray)qmp.Execute("query-cpus-fast")!;
        int[] threads = [.. cpus.Select(c => (int)c!["thread-id"]!)];
        Assert.That(threads, Has.Length.EqualTo(2).And.Unique);
        foreach (int thread in threads)
        {
            Assert.That(Directory.Exists($"/proc/{run.Emulator.Process.Id}/task/{thread}"), $"thread {thread}");
        }
    }

    private static byte[] TripleFault()
    {
        return new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                // The descriptor is in the cleared range behind the image: no IDT at all.
                GuestImage.Out(c, 0xe9, (byte)'T');
                c.lidt(__[GuestImage.Tss]);
                c.ud2();
            })
            .ToPvhElf();
    }

    private static byte[] Panic()
    {
        return new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                GuestImage.Out(c, 0x505, 1);
                GuestImage.ExitAndPark(c, TestGuests.Failure);
            })
            .ToPvhElf();
    }
}
