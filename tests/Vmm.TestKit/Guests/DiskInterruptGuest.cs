using System.Buffers.Binary;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.TestKit.Guests;

/// <summary>
/// A guest that flushes its disk again and again, and halts until the interrupt of each request: after <see cref="Requests"/> of them it exits with
/// <see cref="TestGuests.Success"/>. An interrupt that is lost leaves it halted for ever.
/// </summary>
/// <remarks>Virtio 1.1, sections 2.6, 4.2 and 5.2; the handler reads the interrupt status, acknowledges it and ends the interrupt.</remarks>
public static class DiskInterruptGuest
{
    /// <summary>Number of requests.</summary>
    public const int Requests = 200;

    private const byte Vector = 0x31;
    private const uint Handler = GuestImage.UserCode;
    private const uint Idt = GuestImage.End - 0x1000;
    private const uint IdtPointer = GuestImage.GdtPointer + 0x10;
    private const uint Spurious = GuestImage.Data;
    private const uint LocalApic = 0xfee00000;
    private const uint Descriptors = GuestImage.Base + 0x20000;
    private const uint Available = Descriptors + 0x100;
    private const uint Used = Descriptors + 0x200;
    private const uint Request = Descriptors + 0x300;
    private const uint Status = Request + 16;
    private const int QueueSize = 8;
    private const byte FeaturesOk = 8;
    private const byte DriverOk = 4;

    /// <summary>PVH ELF.</summary>
    /// <param name="transport">Address of the disk's registers.</param>
    /// <param name="ioApic">Address of the I/O APIC.</param>
    /// <param name="pin">Its input.</param>
    /// <param name="isLevel">The input is level-triggered.</param>
    public static byte[] Build(uint transport, uint ioApic, uint pin, bool isLevel)
    {
        byte[] pointer = new byte[10];
        BinaryPrimitives.WriteUInt16LittleEndian(pointer, ((Vector + 1) * 16) - 1);
        BinaryPrimitives.WriteUInt64LittleEndian(pointer.AsSpan(2), Idt);
        return new GuestImage()
            .EnterLongMode()
            .Bytes(IdtPointer, pointer)
            .Code(64, GuestImage.LongCode, c =>
            {
                GuestImage.LongModeProlog(c);
                SetUpInterrupts(c, ioApic, pin, isLevel);
                SetUpDisk(c, transport);
                Run(c, transport);
            })
            .Code(64, Handler, c => Handle(c, transport, ioApic, isLevel))
            .ToPvhElf();
    }

    private static void SetUpInterrupts(Assembler c, uint ioApic, uint pin, bool isLevel)
    {
        c.lidt(__[IdtPointer]);
        c.mov(__dword_ptr[Idt + (Vector * 16u)], (Handler & 0xffff) | ((uint)GuestImage.Code64 << 16));
        c.mov(__dword_ptr[Idt + (Vector * 16u) + 4], (Handler & 0xffff0000) | 0x8e00);
        GuestImage.Out(c, 0x21, 0xff);
        GuestImage.Out(c, 0xa1, 0xff);
        c.mov(ebx, LocalApic);
        c.mov(__dword_ptr[rbx + 0xf0], 0x1ff);
        c.mov(ebx, ioApic);
        c.mov(__dword_ptr[rbx], 0x11 + (pin * 2));
        c.mov(__dword_ptr[rbx + 0x10], 0);
        c.mov(__dword_ptr[rbx], 0x10 + (pin * 2));
        c.mov(__dword_ptr[rbx + 0x10], Vector | (isLevel ? 1u << 15 : 0));
    }

    private static void SetUpDisk(Assembler c, uint transport)
    {
        Descriptor(c, 0, Request, 16, flags: 1 | (1 << 16));
        Descriptor(c, 1, Status, 1, flags: 2);
        c.mov(__dword_ptr[Request], 4);
        c.mov(ebx, transport);
        Register(c, 0x70, 0);
        Register(c, 0x70, 3);
        Register(c, 0x24, 1);
        Register(c, 0x20, 1);
        Register(c, 0x24, 0);

        // VIRTIO_BLK_F_FLUSH.
        Register(c, 0x20, 1 << 9);
        Register(c, 0x70, 3 | FeaturesOk);
        Register(c, 0x30, 0);
        Register(c, 0x38, QueueSize);
        Register(c, 0x80, Descriptors);
        Register(c, 0x84, 0);
        Register(c, 0x90, Available);
        Register(c, 0x94, 0);
        Register(c, 0xa0, Used);
        Register(c, 0xa4, 0);
        Register(c, 0x44, 1);
        Register(c, 0x70, 3 | FeaturesOk | DriverOk);
    }

    private static void Descriptor(Assembler c, uint index, uint address, uint length, uint flags)
    {
        uint at = Descriptors + (index * 16);
        c.mov(__dword_ptr[at], address);
        c.mov(__dword_ptr[at + 8], length);
        c.mov(__dword_ptr[at + 12], flags);
    }

    private static void Register(Assembler c, int offset, uint value) => c.mov(__dword_ptr[rbx + offset], value);

    private static void Run(Assembler c, uint transport)
    {
        Label next = c.CreateLabel();
        Label wait = c.CreateLabel();
        Label done = c.CreateLabel();
        c.xor(r12d, r12d);
        c.Label(ref next);
        c.inc(r12d);
        c.mov(__byte_ptr[Status], 0xff);
        c.mov(__word_ptr[Available + 2], r12w);
        c.mfence();
        c.mov(ebx, transport);
        c.mov(__dword_ptr[rbx + 0x50], 0);
        c.Label(ref wait);
        c.cli();
        c.cmp(__word_ptr[Used + 2], r12w);
        c.je(done);
        c.sti();
        c.hlt();
        c.jmp(wait);
        c.Label(ref done);

        // It may have been used before the guest halted: its interrupt still comes, for a handler that would else miss the next one.
        c.sti();
        c.nop();
        c.cmp(r12d, Requests);
        c.jb(next);
        GuestImage.ExitAndPark(c, TestGuests.Success);
    }

    private static void Handle(Assembler c, uint transport, uint ioApic, bool isLevel)
    {
        Label seen = c.CreateLabel();
        c.push(rax);
        c.push(rbx);
        c.mov(ebx, transport);
        c.mov(eax, __dword_ptr[rbx + 0x60]);
        c.test(eax, eax);
        c.jne(seen);
        c.inc(__dword_ptr[Spurious]);
        c.Label(ref seen);
        c.mov(__dword_ptr[rbx + 0x64], eax);
        c.mov(ebx, LocalApic);
        c.mov(__dword_ptr[rbx + 0xb0], 0);
        if (isLevel)
        {
            // The kernel tells only its own I/O APIC of the end.
            c.mov(ebx, ioApic);
            c.mov(__dword_ptr[rbx + 0x40], Vector);
        }

        c.pop(rbx);
        c.pop(rax);
        c.iretq();
    }
}
