using System.Text.Json.Nodes;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>Interrupts of devices, wherever the interrupt controllers are.</summary>
public sealed class InterruptTests
{
    [Test]
    public void TimerAndSerialPortInterrupt(
        [Values("microvm", "pc")] string machine, [Values("on", "split")] string irqchip, [Values] InterruptPath path)
    {
        (int status, string debug, _) = GuestRun.ToEnd($"{machine},kernel-irqchip={irqchip}", InterruptGuest.Create(path), "-m", "64");
        Assert.Multiple(() =>
        {
            Assert.That(status, Is.EqualTo(GuestRun.SuccessStatus));
            Assert.That(debug.Count(c => c == 'S'), path == InterruptPath.IoApicLevel ? Is.GreaterThanOrEqualTo(2) : Is.EqualTo(2), debug);
            Assert.That(debug.Count(c => c == 'T'), Is.GreaterThanOrEqualTo(3), debug);
        });
    }

    // The last transport's input: 23 of the second I/O APIC or of the only one, or 12 without ACPI.
    [Test]
    public void ADiskOfAnIoThreadInterrupts(
        [Values("", ",ioapic2=off", ",acpi=off")] string board, [Values("on", "split")] string irqchip, [Values] bool isLevel)
    {
        byte[] guest = DiskInterruptGuest.Build(
            board == "" ? 0xfeb02e00 : 0xfeb00e00, board == "" ? 0xfec10000 : 0xfec00000, board == ",acpi=off" ? 12u : 23, isLevel);
        (int status, _, string serial) = GuestRun.ToEnd(
            $"microvm{board},kernel-irqchip={irqchip}", guest, "-m", "64", "-object", "iothread,id=io", "-global", "virtio-mmio.force-legacy=false",
            "-blockdev", "driver=null-co,node-name=disk", "-device", "virtio-blk-device,drive=disk,iothread=io");
        Assert.That(status, Is.EqualTo(GuestRun.SuccessStatus), serial);
    }

    [Test]
    public void EveryProcessorStartsUnderASplitIrqchip([Values(2, 4)] int cpus)
    {
        (int status, string debug, _) = GuestRun.ToEnd("pc,kernel-irqchip=split", TestGuests.SmpReport(cpus), "-m", "64", "-smp", $"{cpus}");
        Assert.That((status, string.Concat(debug.TrimEnd('\n').Order())), Is.EqualTo((GuestRun.SuccessStatus, "0123"[..cpus])));
    }

    [Test]
    public void ControllersStartOverWithTheMachine([Values("on", "split")] string irqchip)
    {
        using GuestRun run = GuestRun.Start($"pc,kernel-irqchip={irqchip}", InterruptGuest.Create(InterruptPath.IoApicLevel), debugExit: false, "-m", "64");
        QmpClient qmp = run.Emulator.Qmp();
        for (int round = 1; round <= 3; round++)
        {
            run.WaitDebug(t => t.Count(c => c == 'S') >= 2 * round && t.Count(c => c == 'T') >= 3 * round);
            qmp.Execute("system_reset");
            qmp.WaitEvent("RESET");
        }
    }

    [TestCase("split", "ioapic", "isa-i8259", "isa-pit")]
    [TestCase("on", "kvm-ioapic", "kvm-i8259", "kvm-pit")]
    public void TheTreeShowsWhereTheControllersAre(string irqchip, string ioapic, string pic, string pit)
    {
        using GuestRun run = GuestRun.Start($"pc,kernel-irqchip={irqchip}", TestGuests.Spin(), debugExit: false, "-m", "64", "-S");
        QmpClient qmp = run.Emulator.Qmp();
        string tree = (string)qmp.Execute("human-monitor-command", new JsonObject { ["command-line"] = "info qtree" })!;
        foreach (string type in (string[])[ioapic, pic, pit])
        {
            Assert.That(tree, Does.Contain($"dev: {type}, id \"\""));
        }
    }

    [Test]
    public void ALocalApicOutsideTheKernelIsRefused()
    {
        GuestRun.RequireKvm();
        (int status, _, string errors) = Emulator.Run(Emulator.OurBinary, "-accel", "kvm", "-M", "pc,kernel-irqchip=off", "-display", "none", "-nodefaults");
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors, Does.EndWith("kernel-irqchip=off: a local APIC outside the kernel is not supported by this build\n"));
    }
}
