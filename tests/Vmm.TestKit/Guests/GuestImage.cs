using System.Buffers.Binary;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.TestKit.Guests;

/// <summary>Builds a small guest program from pieces of code and data at fixed addresses, and wraps it as a bootable file.</summary>
/// <remarks>
/// Loaded at 1 MiB, one contiguous range. Conventional places: 32-bit entry at <see cref="Base"/> + 0x40, 64-bit code at + 0x1000, ring 3 code at
/// + 0x2000, GDT at + 0x3000; stacks and page tables are in the cleared range behind the image.
/// </remarks>
public sealed class GuestImage
{
    public const uint Base = 0x100000;
    public const uint Entry = Base + 0x40;
    public const uint LongCode = Base + 0x1000;
    public const uint UserCode = Base + 0x2000;
    public const uint Gdt = Base + 0x3000;
    public const uint GdtPointer = Base + 0x3080;
    public const uint Data = Base + 0x3100;
    public const uint KernelStackTop = Base + 0x8000;
    public const uint UserStackTop = Base + 0x9000;
    public const uint Tss = Base + 0xa000;
    public const uint PageTables = Base + 0x10000;
    public const uint End = Base + 0x40000;

    /// <summary>Selectors in the GDT that <see cref="EnterLongMode"/> loads.</summary>
    public const ushort Code64 = 0x08;
    public const ushort Data0 = 0x10;
    public const ushort UserCode64 = 0x1b;
    public const ushort UserData = 0x23;
    public const ushort Code32 = 0x28;
    public const ushort Task = 0x30;

    private const int MaxImage = 0x4000;

    // With a bit for each port and a closing byte.
    private const uint TssSize = 0x68 + 0x2000 + 4;

    private readonly byte[] _image = new byte[MaxImage];
    private int _length;

    /// <summary>Assembles code at <paramref name="address"/>.</summary>
    public GuestImage Code(int bitness, uint address, Action<Assembler> emit)
    {
        var assembler = new Assembler(bitness);
        emit(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        return Bytes(address, stream.ToArray());
    }

    public GuestImage Bytes(uint address, ReadOnlySpan<byte> bytes)
    {
        var at = (int)(address - Base);
        foreach (var old in _image.AsSpan(at, bytes.Length))
        {
            if (old != 0)
            {
                throw new InvalidOperationException($"pieces overlap at 0x{address:x}");
            }
        }

        bytes.CopyTo(_image.AsSpan(at));
        _length = Math.Max(_length, at + bytes.Length);
        return this;
    }

    /// <summary>Adds the GDT and, at <see cref="Entry"/>, code that goes from flat 32-bit mode to 64-bit mode at <see cref="LongCode"/>.</summary>
    /// <param name="gigabytes">How much is identity-mapped, user-accessible, with 2 MiB pages; 1 to 32.</param>
    /// <param name="before">Code to run first, in 32-bit mode; it must keep EBX.</param>
    /// <remarks>EBX is still what the loader passed, in RBX, when the 64-bit code starts. RSP is <see cref="KernelStackTop"/>.</remarks>
    public GuestImage EnterLongMode(int gigabytes = 4, Action<Assembler>? before = null)
    {
        var gdt = new byte[0x40];
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(0x08), 0x00af9b000000ffff);
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(0x10), 0x00cf93000000ffff);
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(0x18), 0x00affb000000ffff);
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(0x20), 0x00cff3000000ffff);
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(0x28), 0x00cf9b000000ffff);
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(0x30), (0x0000890000000000 | (TssSize - 1)) + ((ulong)Tss & 0xffffff) * 0x10000);
        Bytes(Gdt, gdt);
        Span<byte> pointer = stackalloc byte[10];
        pointer.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(pointer, (ushort)(gdt.Length - 1));
        BinaryPrimitives.WriteUInt64LittleEndian(pointer[2..], Gdt);
        Bytes(GdtPointer, pointer);
        return Code(32, Entry, c =>
        {
            before?.Invoke(c);
            c.cli();
            c.lgdt(__[GdtPointer]);

            // Level 4 and level 3 pages, then one level 2 page per GiB; bit 2 lets ring 3 in.
            var level3 = PageTables + 0x1000;
            var level2 = PageTables + 0x2000;
            c.mov(__dword_ptr[PageTables], level3 | 7);
            for (var i = 0; i < gigabytes; i++)
            {
                c.mov(__dword_ptr[level3 + (uint)i * 8], (level2 + (uint)i * 0x1000) | 7);
            }

            c.mov(edi, level2);
            c.mov(eax, 0x87);
            c.xor(edx, edx);
            c.mov(ecx, gigabytes * 512);
            var fill = c.CreateLabel();
            c.Label(ref fill);
            c.mov(__dword_ptr[edi], eax);
            c.mov(__dword_ptr[edi + 4], edx);
            c.add(edi, 8);
            c.add(eax, 0x200000);
            c.adc(edx, 0);
            c.dec(ecx);
            c.jne(fill);

            c.mov(eax, cr4);
            c.or(eax, 0x20);
            c.mov(cr4, eax);
            c.mov(eax, PageTables);
            c.mov(cr3, eax);
            c.mov(ecx, 0xc0000080);
            c.rdmsr();
            c.or(eax, 0x100);
            c.wrmsr();
            c.mov(eax, cr0);
            c.or(eax, 0x80000001);
            c.mov(cr0, eax);
            c.db(0xea);
            c.dd(LongCode);
            c.dw(Code64);
        });
    }

    /// <summary>64-bit code that loads the data segments, the stack and a task state segment that opens every port to ring 3.</summary>
    /// <remarks>The I/O map is there because some hosts' emulation of IRETQ drops the I/O privilege level.</remarks>
    public static void LongModeProlog(Assembler c)
    {
        c.mov(eax, Data0);
        c.mov(ds, eax);
        c.mov(es, eax);
        c.mov(ss, eax);
        c.mov(esp, KernelStackTop);
        c.mov(__word_ptr[Tss + 0x66], 0x68);
        c.mov(__byte_ptr[Tss + 0x68 + 0x2000], 0xff);
        c.mov(eax, Task);
        c.ltr(ax);
    }

    /// <summary>64-bit code that leaves for ring 3 at <paramref name="target"/> with I/O privilege level 3 and interrupts off.</summary>
    public static void EnterUser(Assembler c, uint target, uint stackTop = UserStackTop)
    {
        c.push(UserData);
        c.push((int)stackTop);
        c.push(0x3002);
        c.push(UserCode64);
        c.push((int)target);
        c.iretq();
    }

    /// <summary>Writes AL's value to a port whose number needs DX.</summary>
    public static void Out(Assembler c, ushort port, byte value)
    {
        c.mov(edx, port);
        c.mov(eax, value);
        c.@out(dx, al);
    }

    /// <summary>Writes a status to isa-debug-exit at 0xf4, then waits for ever without touching anything.</summary>
    public static void ExitAndPark(Assembler c, byte status, bool ring3 = false)
    {
        Out(c, 0xf4, status);
        var park = c.CreateLabel();
        c.Label(ref park);
        if (ring3)
        {
            c.pause();
        }
        else
        {
            c.cli();
            c.hlt();
        }

        c.jmp(park);
    }

    /// <summary>The image as a 32-bit ELF executable with a PVH entry note; multiboot too when a header was placed in it.</summary>
    public byte[] ToPvhElf(uint entry = Entry, bool note = true)
    {
        const int headers = 52 + 2 * 32;
        var noteBytes = new byte[20];
        BinaryPrimitives.WriteUInt32LittleEndian(noteBytes, 4);
        BinaryPrimitives.WriteUInt32LittleEndian(noteBytes.AsSpan(4), 4);
        BinaryPrimitives.WriteUInt32LittleEndian(noteBytes.AsSpan(8), 18);
        "Xen\0"u8.CopyTo(noteBytes.AsSpan(12));
        BinaryPrimitives.WriteUInt32LittleEndian(noteBytes.AsSpan(16), entry);

        var file = new byte[0x1000 + _length];
        var h = file.AsSpan();
        "\u007fELF"u8.CopyTo(h);
        h[4] = 1;
        h[5] = 1;
        h[6] = 1;
        W16(h, 16, 2);
        W16(h, 18, 3);
        W32(h, 20, 1);
        W32(h, 24, entry);
        W32(h, 28, 52);
        W16(h, 40, 52);
        W16(h, 42, 32);
        W16(h, 44, (ushort)(note ? 2 : 1));
        ProgramHeader(h[52..], 1, 0x1000, Base, (uint)_length, End - Base, 7);
        ProgramHeader(h[84..], 4, headers, 0, (uint)noteBytes.Length, (uint)noteBytes.Length, 4);
        if (note)
        {
            noteBytes.CopyTo(h[headers..]);
        }

        _image.AsSpan(0, _length).CopyTo(h[0x1000..]);
        return file;
    }

    /// <summary>The image as a flat file with a multiboot 1 header that carries addresses, at its very beginning.</summary>
    public byte[] ToMultiboot(uint entry = Entry)
    {
        PlaceMultibootHeader(0x10003, entry);
        return _image[.._length];
    }

    /// <summary>The image as a 32-bit ELF executable with a multiboot 1 header, and no PVH note.</summary>
    public byte[] ToMultibootElf(uint entry = Entry)
    {
        PlaceMultibootHeader(3, entry);
        return ToPvhElf(entry, note: false);
    }

    private void PlaceMultibootHeader(uint flags, uint entry)
    {
        var h = new byte[32];
        W32(h, 0, 0x1badb002);
        W32(h, 4, flags);
        W32(h, 8, unchecked(0u - 0x1badb002 - flags));
        W32(h, 12, Base);
        W32(h, 16, Base);
        W32(h, 20, Base + (uint)_length);
        W32(h, 24, End);
        W32(h, 28, entry);
        Bytes(Base, h);
    }

    private static void ProgramHeader(Span<byte> at, uint type, uint offset, uint address, uint fileSize, uint memorySize, uint flags)
    {
        W32(at, 0, type);
        W32(at, 4, offset);
        W32(at, 8, address);
        W32(at, 12, address);
        W32(at, 16, fileSize);
        W32(at, 20, memorySize);
        W32(at, 24, flags);
        W32(at, 28, 4);
    }

    private static void W16(Span<byte> b, int at, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(b[at..], value);

    private static void W32(Span<byte> b, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(b[at..], value);
}
