using System.Buffers.Binary;
using Iced.Intel;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Guest.Tests;

/// <summary>inject-nmi is a wire to LINT1 of each local APIC, which decides what becomes of it; the real emulator's does the same.</summary>
public sealed class NmiTests
{
    private const uint Handler = GuestImage.UserCode;
    private const uint Idt = GuestImage.End - 0x1000;
    private const uint IdtPointer = GuestImage.GdtPointer + 0x10;
    private const uint LocalApic = 0xfee00000;
    private const uint Lint1 = 0x360;
    private const uint DeliverNmi = 4 << 8;
    private const uint Masked = 1 << 16;
    private const byte FixedVector = 0x31;

    // The scratch register of a serial port, through which the monitor says that it has injected.
    private const ushort Scratch = 0x3ff;

    [Test]
    public void TheLocalApicDecides([Values("on", "split")] string irqchip)
    {
        GuestRun.RequireKvm();
        string microvm = Talk(Emulator.OurBinary, $"microvm,kernel-irqchip={irqchip}");
        string pc = Talk(Emulator.OurBinary, $"pc,kernel-irqchip={irqchip}");
        Assert.That((microvm, pc), Is.EqualTo(("abcNdN", "abcNdN")));
        if (Emulator.RealQemu is { } qemu)
        {
            Assert.That(Talk(qemu, $"microvm,kernel-irqchip={irqchip}"), Is.EqualTo(microvm));
        }
    }

    private static string Talk(string binary, string machine)
    {
        string directory = Emulator.NewDirectory();
        string log = Path.Combine(directory, "debug.txt");
        File.WriteAllBytes(Path.Combine(directory, "kernel"), Guest());
        using Emulator emulator = Emulator.StartBinary(binary, true, directory,
        [
            "-accel", "kvm", "-machine", machine, "-m", "64", "-smp", "2", "-nodefaults", "-display", "none", "-kernel", "kernel", "-serial", "null",
            "-debugcon", "file:debug.txt", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
        ]);
        using QmpClient qmp = emulator.Qmp();
        foreach ((char phase, byte answer) in ((char, byte)[])[('a', 1), ('b', 2), ('c', 0), ('d', 3)])
        {
            bool reached = SpinWait.SpinUntil(() => ReadLog(log).Contains(phase) || emulator.Process.HasExited, TimeSpan.FromSeconds(60));
            Assert.That(reached && !emulator.Process.HasExited, $"{binary} {machine}: {ReadLog(log)} {emulator.Errors}");
            qmp.Execute("inject-nmi");
            if (answer != 0)
            {
                qmp.Human($"o /b {Scratch} {answer}");
            }
        }

        Assert.That(emulator.WaitExit(), Is.EqualTo(GuestRun.SuccessStatus), ReadLog(log));
        return ReadLog(log);
    }

    private static string ReadLog(string path)
    {
        if (!File.Exists(path))
        {
            return "";
        }

        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using StreamReader reader = new(file);
        return reader.ReadToEnd();
    }

    // Phases: LINT1 masked; an interrupt like any other, which interrupts off keep away; an NMI, while halted; the same, while running.
    private static byte[] Guest()
    {
        byte[] pointer = new byte[10];
        BinaryPrimitives.WriteUInt16LittleEndian(pointer, (3 * 16) - 1);
        BinaryPrimitives.WriteUInt64LittleEndian(pointer.AsSpan(2), Idt);
        return new GuestImage()
            .EnterLongMode(gigabytes: 4)
            .Bytes(IdtPointer, pointer)
            .Code(64, GuestImage.LongCode, c =>
            {
                GuestImage.LongModeProlog(c);
                c.mov(__dword_ptr[Idt + 0x20], (Handler & 0xffff) | ((uint)GuestImage.Code64 << 16));
                c.mov(__dword_ptr[Idt + 0x24], (Handler & 0xffff0000) | 0x8e00);
                c.lidt(__[IdtPointer]);
                c.mov(ebx, LocalApic);
                c.mov(__dword_ptr[rbx + 0xf0], 0x1ff);
                Phase(c, 'a', DeliverNmi | Masked);
                WaitScratch(c, 1);
                Phase(c, 'b', FixedVector);
                WaitScratch(c, 2);
                Phase(c, 'c', DeliverNmi);
                c.hlt();
                GuestImage.Out(c, 0xe9, (byte)'d');
                WaitScratch(c, 3);
                GuestImage.ExitAndPark(c, TestGuests.Success);
            })
            .Code(64, Handler, c =>
            {
                c.push(rax);
                c.push(rdx);
                GuestImage.Out(c, 0xe9, (byte)'N');
                c.pop(rdx);
                c.pop(rax);
                c.iretq();
            })
            .ToPvhElf();
    }

    private static void Phase(Assembler c, char name, uint lint1)
    {
        c.mov(__dword_ptr[rbx + Lint1], lint1);
        GuestImage.Out(c, 0xe9, (byte)name);
    }

    private static void WaitScratch(Assembler c, byte value)
    {
        Label wait = c.CreateLabel();
        c.mov(edx, Scratch);
        c.Label(ref wait);
        c.pause();
        c.@in(al, dx);
        c.cmp(al, value);
        c.jne(wait);
    }
}
