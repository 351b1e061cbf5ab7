using System.Globalization;
using System.Text.Json.Nodes;
using Iced.Intel;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Guest.Tests;

/// <summary>A guest without firmware that suspends itself to RAM: it goes on where the FACS says, with its RAM as it was and its devices as after a reset.</summary>
public sealed class SleepTests
{
    private const ushort PmEvent = 0x600;
    private const ushort PmControl = 0x604;
    private const ushort SuspendToRam = (1 << 10) | 0x2000;

    // Not a multiple of a segment's alignment, so that both parts of the address count.
    private const uint WakingVector = 0x5123;

    // In the kernel's file, where it is 0; and how real mode gets at it above 1 MiB.
    private const uint Naps = GuestImage.Data;
    private const ushort HighSegment = 0xffff;
    private const uint NapsInHighSegment = Naps - (HighSegment << 4);

    [Test]
    public void TheGuestGoesOnAtItsWakingVector([Values("on", "split")] string irqchip)
    {
        using GuestRun run = GuestRun.Start($"pc,kernel-irqchip={irqchip}", Sleeper(setVector: true), debugExit: true, "-S", "-m", "64", "-smp", "2");
        using QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("cont");
        for (int nap = 1; nap <= 3; nap++)
        {
            qmp.WaitEvent("SUSPEND");
            Assert.That((string)qmp.Execute("query-status")!["status"]!, Is.EqualTo("suspended"));
            Assert.That(run.DebugText, Is.EqualTo(string.Concat(Enumerable.Range(0, nap).Select(n => n.ToString(CultureInfo.InvariantCulture)))));
            qmp.Execute("system_wakeup");
            qmp.WaitEvent("WAKEUP");
        }

        Assert.That(run.Emulator.WaitExit(), Is.EqualTo(GuestRun.SuccessStatus), run.DebugText + run.Emulator.Errors);
        Assert.That(run.DebugText, Is.EqualTo("0123"));
    }

    [Test]
    public void WithoutAVectorTheMachineStartsAnew()
    {
        using GuestRun run = GuestRun.Start("pc", Sleeper(setVector: false), debugExit: true, "-S", "-m", "64");
        using QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("cont");
        qmp.WaitEvent("SUSPEND");
        qmp.Execute("system_wakeup");
        qmp.WaitEvent("WAKEUP");
        JsonObject data = qmp.WaitEvent("RESET")["data"]!.AsObject();
        Assert.That((string)data["reason"]!, Is.EqualTo("guest-reset"));
        qmp.WaitEvent("SUSPEND");
        Assert.That(run.DebugText, Is.EqualTo("00"));
    }

    // Writes how often it has slept to the debug console and goes to sleep, three times. Where it wakes it expects real mode, the wake status in the
    // power management block at its usual ports, which a reset takes away, and the clock's RAM to say that the machine slept.
    private static byte[] Sleeper(bool setVector) => new GuestImage()
        .Code(32, GuestImage.Entry, c =>
        {
            // PVH's start information, RSDP, RSDT, FADT, FACS.
            c.mov(esi, __dword_ptr[ebx + 32]);
            c.mov(esi, __dword_ptr[esi + 16]);
            c.mov(esi, __dword_ptr[esi + 36]);
            c.mov(esi, __dword_ptr[esi + 36]);
            if (setVector)
            {
                c.mov(__dword_ptr[esi + 12], WakingVector);
            }

            c.mov(esi, GuestImage.UserCode);
            c.mov(edi, WakingVector);
            c.mov(ecx, 0x100);
            c.rep.movsb();
            Sleep(c, Naps);
        })
        .Bytes(GuestImage.UserCode, RealModeCode())
        .Bytes(Naps, [0])
        .ToPvhElf();

    private static void Sleep(Assembler c, uint naps)
    {
        c.mov(al, (byte)'0');
        c.add(al, __byte_ptr[naps]);
        c.@out(0xe9, al);
        c.mov(edx, PmControl);
        c.mov(eax, SuspendToRam);
        c.@out(dx, ax);
        Park(c);
    }

    private static byte[] RealModeCode()
    {
        Assembler c = new(16);
        Label fail = c.CreateLabel();
        Label again = c.CreateLabel();
        c.mov(ax, cs);
        c.cmp(ax, (int)(WakingVector >> 4));
        c.jne(fail);
        c.mov(dx, PmEvent);
        c.@in(ax, dx);
        c.test(ax, 0x8000);
        c.je(fail);
        c.mov(al, 0x0f);
        c.@out(0x70, al);
        c.@in(al, 0x71);
        c.cmp(al, 0xfe);
        c.jne(fail);
        c.mov(ax, HighSegment);
        c.mov(ds, ax);
        c.inc(__byte_ptr[NapsInHighSegment]);
        c.cmp(__byte_ptr[NapsInHighSegment], 3);
        c.jne(again);
        c.mov(al, (byte)'3');
        c.@out(0xe9, al);
        c.mov(al, TestGuests.Success);
        c.@out(0xf4, al);
        Park(c);
        c.Label(ref fail);
        c.mov(al, TestGuests.Failure);
        c.@out(0xf4, al);
        Park(c);
        c.Label(ref again);
        Sleep(c, NapsInHighSegment);
        using MemoryStream code = new();
        c.Assemble(new StreamCodeWriter(code), WakingVector & 15);
        return code.ToArray();
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
