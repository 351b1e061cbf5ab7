using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.TestKit.Guests;

/// <summary>
/// A guest that writes to its disk for ever from ring 3, <see cref="Depth"/> requests at a time: the driver of a modern virtio block device on the
/// last transport of <c>microvm</c>, which <c>-global virtio-mmio.force-legacy=false</c> makes modern. Write number n, from 1 on, fills the block
/// <see cref="BlockOf"/> says with n, as 64-bit words whose upper halves have the number of times that the guest was started. It waits by polling,
/// without exits.
/// </summary>
/// <remarks>Virtio 1.1, sections 2.6, 4.2 and 5.2. Writes 'B' to the debug console when it begins, 'E' and no more when a request has failed.</remarks>
public static class DiskWriterGuest
{
    /// <summary>Bytes of a write.</summary>
    public const int BlockBytes = 4096;

    /// <summary>Blocks of the disk that are written; 4 MiB.</summary>
    public const int Blocks = 1024;

    /// <summary>Writes that are under way together, to different blocks; the next ones follow when all of them are complete.</summary>
    public const int Depth = 4;

    /// <summary>Guest physical address of the number of writes that the device has completed; the upper half of the 64 bits counts the guest's starts.</summary>
    public const uint Completed = 0x200000;

    /// <summary>Guest physical address of the number of writes that the guest has asked for, 16 bits.</summary>
    public const uint Submitted = Available + 2;

    /// <summary>Guest physical address of the number of writes that the device has completed as it says, 16 bits.</summary>
    public const uint Answered = Used + 2;

    private const uint NoIdt = Completed + 0x100;
    private const uint Transport = 0xfeb02e00;
    private const uint Descriptors = GuestImage.Base + 0x20000;
    private const uint Available = Descriptors + 0x100;
    private const uint Used = Descriptors + 0x200;
    private const uint Requests = Descriptors + 0x400;
    private const uint RequestBytes = 0x20;
    private const uint StatusOffset = 16;
    private const uint Buffers = Descriptors + 0x1000;
    private const int QueueSize = 16;
    private const int DescriptorsOfRequest = 3;
    private const uint Step = 611953;
    private const byte FeaturesOk = 8;
    private const byte DriverOk = 4;

    /// <summary>The block of a write; different for <see cref="Depth"/> writes that follow each other.</summary>
    public static int BlockOf(long number) => (int)(unchecked((uint)number * Step) >> 7) & (Blocks - 1);

    /// <summary>PVH ELF.</summary>
    /// <param name="crashAfter">
    /// Other than 0: after so many writes, and with the next ones under way, the guest resets itself by a triple fault. It runs in ring 0 then.
    /// </param>
    public static byte[] Build(int crashAfter = 0) => new GuestImage()
        .EnterLongMode()
        .Code(64, GuestImage.LongCode, c =>
        {
            GuestImage.LongModeProlog(c);
            c.inc(__dword_ptr[Completed + 4]);
            c.mov(__dword_ptr[Completed], 0);
            SetUp(c);
            if (crashAfter == 0)
            {
                GuestImage.EnterUser(c, GuestImage.UserCode);
            }
            else
            {
                c.mov(eax, GuestImage.UserCode);
                c.jmp(rax);
            }
        })
        .Code(64, GuestImage.UserCode, c => Write(c, crashAfter))
        .ToPvhElf();

    private static void SetUp(Assembler c)
    {
        for (uint slot = 0; slot < Depth; slot++)
        {
            uint first = slot * DescriptorsOfRequest;
            Descriptor(c, first, RequestOf(slot), 16, flags: 1);
            Descriptor(c, first + 1, BufferOf(slot), BlockBytes, flags: 1);
            Descriptor(c, first + 2, RequestOf(slot) + StatusOffset, 1, flags: 2);
            c.mov(__dword_ptr[RequestOf(slot)], 1);
        }

        for (uint entry = 0; entry < QueueSize; entry++)
        {
            c.mov(__word_ptr[Available + 4 + (entry * 2)], (short)(entry % Depth * DescriptorsOfRequest));
        }

        c.mov(ebx, Transport);
        Register(c, 0x70, 0);
        Register(c, 0x70, 3);

        // VIRTIO_F_VERSION_1, and nothing else.
        Register(c, 0x24, 1);
        Register(c, 0x20, 1);
        Register(c, 0x24, 0);
        Register(c, 0x20, 0);
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

    private static uint RequestOf(uint slot) => Requests + (slot * RequestBytes);

    private static uint BufferOf(uint slot) => Buffers + (slot * BlockBytes);

    private static void Descriptor(Assembler c, uint index, uint address, uint length, uint flags)
    {
        uint at = Descriptors + (index * 16);
        c.mov(__dword_ptr[at], address);
        c.mov(__dword_ptr[at + 8], length);
        c.mov(__dword_ptr[at + 12], flags | ((index + 1) << 16));
    }

    private static void Register(Assembler c, int offset, uint value) => c.mov(__dword_ptr[rbx + offset], value);

    private static void Write(Assembler c, int crashAfter)
    {
        Label next = c.CreateLabel();
        Label wait = c.CreateLabel();
        Label failed = c.CreateLabel();
        Label park = c.CreateLabel();
        GuestImage.Out(c, 0xe9, (byte)'B');
        c.mov(ebx, Transport);
        c.xor(r12d, r12d);
        c.mov(r13, __qword_ptr[Completed]);
        c.Label(ref next);
        for (uint slot = 0; slot < Depth; slot++)
        {
            c.inc(r12);
            c.mov(edi, BufferOf(slot));
            c.lea(rax, __[r13 + r12]);
            c.mov(ecx, BlockBytes / 8);
            c.rep.stosq();
            c.imul(eax, r12d, (int)Step);
            c.shr(eax, 7);
            c.and(eax, Blocks - 1);
            c.shl(eax, 3);
            c.mov(__dword_ptr[RequestOf(slot) + 8], eax);
            c.mov(__byte_ptr[RequestOf(slot) + StatusOffset], 0xff);
        }

        // What the ring's entries say never changes.
        c.mov(__word_ptr[Available + 2], r12w);
        c.mfence();
        c.mov(__dword_ptr[rbx + 0x50], 0);
        if (crashAfter != 0)
        {
            Label on = c.CreateLabel();
            c.cmp(r12d, crashAfter);
            c.jbe(on);
            c.lidt(__[NoIdt]);
            c.ud2();
            c.Label(ref on);
            c.nop();
        }

        c.Label(ref wait);
        c.pause();
        c.cmp(__word_ptr[Used + 2], r12w);
        c.jne(wait);
        for (uint slot = 0; slot < Depth; slot++)
        {
            c.cmp(__byte_ptr[RequestOf(slot) + StatusOffset], 0);
            c.jne(failed);
        }

        c.mov(__dword_ptr[Completed], r12d);
        c.jmp(next);
        c.Label(ref failed);
        GuestImage.Out(c, 0xe9, (byte)'E');
        c.Label(ref park);
        c.pause();
        c.jmp(park);
    }
}
