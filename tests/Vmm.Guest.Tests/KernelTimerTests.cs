using System.Text.Json.Nodes;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>Interrupt controllers and timer in the kernel, as the monitor shows and steers them.</summary>
public sealed class KernelTimerTests
{
    [TestCase("discard", "discard")]
    [TestCase("delay", "delay")]
    public void ThePolicyOfLostTicksIsAProperty(string given, string shown)
    {
        using GuestRun run = GuestRun.Start("pc", TestGuests.Spin(), debugExit: false, "-m", "64", "-S", "-global", $"kvm-pit.lost_tick_policy={given}");
        Assert.That(Human(run.Emulator.Qmp(), "info qtree"), Does.Contain($"lost_tick_policy = \"{shown}\"\r\n          dev: mc146818rtc"));
    }

    [TestCase("slew", "Lost tick policy not supported.")]
    [TestCase("merge", "can't apply global kvm-pit.lost_tick_policy=merge: Parameter 'lost_tick_policy' does not accept value 'merge'")]
    public void OtherPoliciesAreRefusedAlike(string given, string error)
    {
        GuestRun.RequireKvm();
        string[] arguments = ["-accel", "kvm", "-display", "none", "-nodefaults", "-S", "-global", $"kvm-pit.lost_tick_policy={given}"];
        foreach (string binary in new[] { Emulator.OurBinary, Emulator.RealQemu }.OfType<string>())
        {
            (int status, _, string errors) = Emulator.Run(binary, arguments);
            Assert.That((status, errors.TrimEnd('\n').Split('\n')[^1]), Is.EqualTo((1, $"{Path.GetFileName(binary)}: {error}")));
        }
    }

    [Test]
    public void TheMonitorSeesThemAsOnQemu([Values("info pic", "info irq", "i 0x20", "i 0x40", "i 0x80")] string command)
    {
        GuestRun.RequireKvm();
        string[] arguments = ["-accel", "kvm", "-M", "pc", "-m", "64", "-display", "none", "-nodefaults", "-S"];
        using Emulator ours = Emulator.Start(arguments);
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("needs QEMU 7.2 installed as the peer to compare with");
        }

        using Emulator theirs = Emulator.StartQemu(arguments);
        Assert.That(Human(ours.Qmp(), command), Is.EqualTo(Human(theirs.Qmp(), command)));
    }

    [Test]
    public void TheCommonDevicesLookAsOnQemu([Values("on", "split")] string irqchip)
    {
        GuestRun.RequireKvm();
        string[] arguments = ["-accel", "kvm", "-M", $"pc,kernel-irqchip={irqchip}", "-m", "64", "-display", "none", "-nodefaults", "-S"];
        using Emulator ours = Emulator.Start(arguments);
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("needs QEMU 7.2 installed as the peer to compare with");
        }

        using Emulator theirs = Emulator.StartQemu(arguments);
        List<string> devices = Blocks(Human(ours.Qmp(), "info qtree"));
        List<string> expected = Blocks(Human(theirs.Qmp(), "info qtree"));
        string prefix = irqchip == "on" ? "kvm-" : "";
        foreach (string type in (string[])[prefix + "ioapic", irqchip == "on" ? "kvm-i8259" : "isa-i8259", irqchip == "on" ? "kvm-pit" : "isa-pit", "mc146818rtc", "port92", "i8257", "fw_cfg_io"])
        {
            Assert.That(devices.Where(d => d.StartsWith($"dev: {type},", StringComparison.Ordinal)), Is.EqualTo(expected.Where(d => d.StartsWith($"dev: {type},", StringComparison.Ordinal))), type);
        }
    }

    private static string Human(QmpClient qmp, string command) =>
        (string)qmp.Execute("human-monitor-command", new JsonObject { ["command-line"] = command })!;

    /// <summary>The lines of each device, without those of buses and devices below it.</summary>
    private static List<string> Blocks(string tree)
    {
        List<string> blocks = [];
        foreach (string line in tree.Split("\r\n").Select(static l => l.Trim()))
        {
            if (line.StartsWith("dev: ", StringComparison.Ordinal))
            {
                blocks.Add(line);
            }
            else if (line.StartsWith("bus: ", StringComparison.Ordinal) || line.StartsWith("type ", StringComparison.Ordinal))
            {
                blocks.Add(line);
            }
            else if (blocks.Count > 0 && line.Length > 0)
            {
                blocks[^1] += "\n" + line;
            }
        }

        return blocks;
    }
}
