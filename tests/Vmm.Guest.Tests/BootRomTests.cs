using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>The demonstration guest of the built-in ROM, with the serial console on standard input and output.</summary>
public sealed class BootRomTests
{
    private const string Banner = "Vmm boot ROM: no kernel and no firmware was given";

    [Test]
    public void ItComesUpAnswersKeysAndSwitchesOff([Values("microvm", "pc")] string machine)
    {
        GuestRun.RequireKvm();
        using Emulator e = Emulator.Start("-accel", "kvm", "-machine", machine, "-m", "64", "-smp", "2", "-nographic");
        QmpClient qmp = e.Qmp();
        e.WaitOutput(Banner);
        Press(e, 'h', "Keys: h help");
        Press(e, 'm', "Memory: 64 MiB.");
        Press(e, 'c', "CPUs: 2, started: 2");
        e.Process.StandardInput.Write('s');
        e.Process.StandardInput.Flush();
        JsonObject shutdown = qmp.WaitEvent("SHUTDOWN");
        Assert.Multiple(() =>
        {
            Assert.That((string?)shutdown["data"]!["reason"], Is.EqualTo("guest-shutdown"));
            Assert.That(e.WaitExit(), Is.Zero);
            Assert.That(e.Output, Does.Contain("Switching off."));
        });
    }

    [Test]
    public void NonMaskableInterruptAndRebootReachIt([Values("microvm", "pc")] string machine)
    {
        GuestRun.RequireKvm();
        using Emulator e = Emulator.Start("-accel", "kvm", "-machine", machine, "-m", "64", "-nographic");
        QmpClient qmp = e.Qmp();
        e.WaitOutput("{\"execute\": \"quit\"}");
        qmp.Execute("inject-nmi");
        e.WaitOutput("A non-maskable interrupt arrived.");
        Press(e, 'r', Banner);
        Assert.That(qmp.WaitEvent("RESET")["data"]!.ToJsonString(), Is.EqualTo("""{"guest":true,"reason":"guest-reset"}"""));
        qmp.Execute("quit");
        Assert.That(e.WaitExit(), Is.Zero);
    }

    /// <summary>Presses a key and waits for one more occurrence of its answer.</summary>
    private static void Press(Emulator e, char key, string answer)
    {
        // The banner ends with the list of keys: what it shows itself is complete then.
        e.WaitOutput("{\"execute\": \"quit\"}");
        int before = Count(e.Output, answer);
        e.Process.StandardInput.Write(key);
        e.Process.StandardInput.Flush();
        bool came = SpinWait.SpinUntil(() => Count(e.Output, answer) > before || e.Process.HasExited, TimeSpan.FromSeconds(60));
        Assert.That(came && Count(e.Output, answer) == before + 1, $"key {key}: {e.Output}{e.Errors}");
    }

    private static int Count(string text, string what) => text.Split(what).Length - 1;
}
