using System.Buffers.Binary;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.TestKit.Guests;

/// <summary>How the interrupts of <see cref="InterruptGuest"/> reach the processor.</summary>
public enum InterruptPath
{
    /// <summary>8259s, and LINT0 of the local APIC as after reset.</summary>
    Pic,

    /// <summary>I/O APIC, edge-triggered.</summary>
    IoApicEdge,

    /// <summary>I/O APIC, the serial port's input level-triggered.</summary>
    IoApicLevel,
}

/// <summary>
/// A guest that halts with interrupts on: it writes 'T' to 0xe9 for each tick of the interval timer and 'S' for each interrupt of the first
/// serial port, and exits with <see cref="TestGuests.Success"/> after three ticks and two serial interrupts.
/// </summary>
/// <remarks>
/// The serial port interrupts for its empty transmitter. The second interrupt comes because the handler sends a byte in the first; on a
/// level-triggered input because it ends the first interrupt with the line still high.
/// </remarks>
public static class InterruptGuest
{
    private const byte TimerVector = 0x20;
    private const byte SerialVector = 0x24;
    private const uint TimerHandler = GuestImage.UserCode;
    private const uint SerialHandler = GuestImage.UserCode + 0x100;
    private const uint Idt = GuestImage.End - 0x1000;
    private const uint IdtPointer = GuestImage.GdtPointer + 0x10;
    private const uint Ticks = GuestImage.Data;
    private const uint Serials = GuestImage.Data + 4;
    private const uint LocalApic = 0xfee00000;
    private const uint IoApic = 0xfec00000;
    private const int WantedTicks = 3;
    private const int WantedSerials = 2;

    /// <summary>The guest as a PVH ELF.</summary>
    public static byte[] Create(InterruptPath path)
    {
        byte[] pointer = new byte[10];
        BinaryPrimitives.WriteUInt16LittleEndian(pointer, (48 * 16) - 1);
        BinaryPrimitives.WriteUInt64LittleEndian(pointer.AsSpan(2), Idt);
        return new GuestImage()
            .EnterLongMode(gigabytes: 4)
            .Bytes(IdtPointer, pointer)
            .Code(64, GuestImage.LongCode, c => EmitMain(c, path))
            .Code(64, TimerHandler, c => EmitTimer(c, path))
            .Code(64, SerialHandler, c => EmitSerial(c, path))
            .ToPvhElf();
    }

    private static void EmitMain(Assembler c, InterruptPath path)
    {
        GuestImage.LongModeProlog(c);
        c.lidt(__[IdtPointer]);
        Gate(c, TimerVector, TimerHandler);
        Gate(c, SerialVector, SerialHandler);

        // 8259s: vectors from 0x20 and 0x28, cascade at 2; only what is used is let through.
        GuestImage.Out(c, 0x20, 0x11);
        GuestImage.Out(c, 0x21, TimerVector);
        GuestImage.Out(c, 0x21, 0x04);
        GuestImage.Out(c, 0x21, 0x01);
        GuestImage.Out(c, 0xa0, 0x11);
        GuestImage.Out(c, 0xa1, TimerVector + 8);
        GuestImage.Out(c, 0xa1, 0x02);
        GuestImage.Out(c, 0xa1, 0x01);
        GuestImage.Out(c, 0x21, path == InterruptPath.Pic ? (byte)0xee : (byte)0xff);
        GuestImage.Out(c, 0xa1, 0xff);
        if (path != InterruptPath.Pic)
        {
            c.mov(ebx, LocalApic);
            c.mov(__dword_ptr[rbx + 0xf0], 0x1ff);
            Redirect(c, 2, TimerVector);
            Redirect(c, 4, SerialVector | (path == InterruptPath.IoApicLevel ? 1u << 15 : 0));
        }

        // Counter 0 in mode 2, about 100 Hz.
        GuestImage.Out(c, 0x43, 0x34);
        GuestImage.Out(c, 0x40, 0x9c);
        GuestImage.Out(c, 0x40, 0x2e);

        // Interrupt output on, interrupt for an empty transmitter.
        GuestImage.Out(c, 0x3fc, 0x08);
        GuestImage.Out(c, 0x3f9, 0x02);
        var wait = c.CreateLabel();
        c.Label(ref wait);
        c.sti();
        c.hlt();
        c.cli();
        c.cmp(__dword_ptr[Ticks], WantedTicks);
        c.jb(wait);
        c.cmp(__dword_ptr[Serials], WantedSerials);
        c.jb(wait);
        GuestImage.ExitAndPark(c, TestGuests.Success);
    }

    private static void EmitTimer(Assembler c, InterruptPath path)
    {
        c.push(rax);
        c.push(rdx);
        c.inc(__dword_ptr[Ticks]);
        GuestImage.Out(c, 0xe9, (byte)'T');
        End(c, path);
        c.pop(rdx);
        c.pop(rax);
        c.iretq();
    }

    private static void EmitSerial(Assembler c, InterruptPath path)
    {
        c.push(rax);
        c.push(rdx);
        c.inc(__dword_ptr[Serials]);
        GuestImage.Out(c, 0xe9, (byte)'S');
        var quiet = c.CreateLabel();
        var done = c.CreateLabel();
        c.cmp(__dword_ptr[Serials], WantedSerials);
        c.jae(quiet);
        if (path != InterruptPath.IoApicLevel)
        {
            // Sending lowers the request, and raises it again when the byte has gone.
            GuestImage.Out(c, 0x3f8, (byte)'x');
        }

        c.jmp(done);
        c.Label(ref quiet);
        GuestImage.Out(c, 0x3f9, 0x00);
        c.Label(ref done);
        End(c, path);
        c.pop(rdx);
        c.pop(rax);
        c.iretq();
    }

    private static void End(Assembler c, InterruptPath path)
    {
        if (path == InterruptPath.Pic)
        {
            GuestImage.Out(c, 0x20, 0x20);
        }
        else
        {
            c.mov(eax, LocalApic);
            c.mov(__dword_ptr[rax + 0xb0], 0);
        }
    }

    private static void Gate(Assembler c, byte vector, uint handler)
    {
        // An interrupt gate of 16 bytes; the upper half of the handler's address is zero.
        c.mov(__dword_ptr[Idt + (vector * 16u)], (handler & 0xffff) | ((uint)GuestImage.Code64 << 16));
        c.mov(__dword_ptr[Idt + (vector * 16u) + 4], (handler & 0xffff0000) | 0x8e00);
    }

    /// <summary>Physical destination 0.</summary>
    private static void Redirect(Assembler c, uint pin, uint low)
    {
        c.mov(ebx, IoApic);
        c.mov(__dword_ptr[rbx], 0x11 + (pin * 2));
        c.mov(__dword_ptr[rbx + 0x10], 0);
        c.mov(__dword_ptr[rbx], 0x10 + (pin * 2));
        c.mov(__dword_ptr[rbx + 0x10], low);
    }
}
