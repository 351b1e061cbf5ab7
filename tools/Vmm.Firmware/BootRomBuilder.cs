using System.Buffers.Binary;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Firmware;

/// <summary>
/// The boot ROM that is built into the product: brings the processor from the reset vector to 64-bit ring 3, where a small demonstration guest
/// runs on the serial console (<see cref="DemoProgram"/>).
/// </summary>
/// <remarks>
/// Everything that takes time runs in ring 3, with I/O privilege level 3 and interrupts off: some hosts emulate ring 0 one instruction at a time.
/// The ROM copies itself to RAM at once and is not looked at again until a reset.
/// </remarks>
public static class BootRomBuilder
{
    // Offsets in the ROM. Only the last 16 KiB are used, so only they are copied.
    private const int UsedStart = 0xc000;
    private const int Texts = 0xc000;
    private const int ProtectedCode = 0xd000;
    private const int LongCode = 0xd200;
    private const int NmiHandler = 0xd600;
    private const int ApTrampoline = 0xd700;
    private const int UserCode = 0xd800;
    private const int RealCode = 0xfe00;
    private const int RomCode32 = 0xfe80;
    private const int Gdt = 0xff00;
    private const int RomGdtPointer = 0xff60;
    private const int RamGdtPointer = 0xff70;
    private const int IdtPointer = 0xff80;
    private const int ResetVector = 0xfff0;

    private const ushort Code64 = 0x08;
    private const ushort Data = 0x10;
    private const ushort UserCode64 = 0x1b;
    private const ushort UserData = 0x23;
    private const ushort Code32 = 0x28;
    private const ushort Tss = 0x30;

    // RAM below the copy.
    private const uint TssAddress = 0x9000;
    private const uint IdtAddress = 0x7000;
    private const uint TrampolineAddress = 0x8000;
    private const uint PageTables = 0x10000;
    private const uint KernelStack = 0x20000;
    private const uint UserStack = 0x30000;
    private const uint LocalApic = 0xfee00000;

    // The task state segment ends with a bit for each port and a closing byte.
    private const uint TssSize = 0x68 + 0x2000 + 4;

    /// <summary>The ROM, 64 KiB, to end at 4 GiB.</summary>
    public static byte[] Build()
    {
        var rom = new RomImage(Texts);
        rom.Code(16, ResetVector, 0, c => c.jmp((ulong)RealCode));
        rom.Code(16, RealCode, 0, EmitRealMode);
        rom.Code(32, RomCode32, RomImage.RomBase, EmitCopy);
        PlaceTables(rom);
        rom.Code(32, ProtectedCode, RomImage.RamBase, EmitEnterLongMode);
        rom.Code(64, LongCode, RomImage.RamBase, EmitLongMode);
        rom.Code(64, NmiHandler, RomImage.RamBase, EmitNmiHandler);
        rom.Code(16, ApTrampoline, 0, EmitApTrampoline);
        rom.Code(64, UserCode, RomImage.RamBase, c => new DemoProgram(c, rom).Emit());
        return rom.ToArray();
    }

    private static void PlaceTables(RomImage rom)
    {
        Span<byte> gdt = stackalloc byte[0x40];
        gdt.Clear();
        ReadOnlySpan<ulong> descriptors =
        [
            0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff, 0x00cf9b000000ffff,
            0x0000890000000000 | (TssSize - 1) | (ulong)TssAddress << 16,
        ];
        for (var i = 0; i < descriptors.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(gdt[(i * 8)..], descriptors[i]);
        }

        rom.Bytes(Gdt, gdt);
        PlacePointer(rom, RomGdtPointer, 0x3f, RomImage.RomBase + Gdt);
        PlacePointer(rom, RamGdtPointer, 0x3f, RomImage.RamBase + Gdt);
        PlacePointer(rom, IdtPointer, 0x2f, IdtAddress);
    }

    private static void PlacePointer(RomImage rom, int offset, ushort limit, uint address)
    {
        Span<byte> pointer = stackalloc byte[10];
        pointer.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(pointer, limit);
        BinaryPrimitives.WriteUInt32LittleEndian(pointer[2..], address);
        rom.Bytes(offset, pointer);
    }

    // CS still has its base of FFFF0000 from reset, so offsets in the segment are offsets in the ROM.
    private static void EmitRealMode(Assembler c)
    {
        c.cli();
        c.cld();
        c.db(0x66, 0x2e, 0x0f, 0x01, 0x16);
        c.dw(RomGdtPointer);
        c.mov(eax, cr0);
        c.or(al, 1);
        c.mov(cr0, eax);
        c.db(0x66, 0xea);
        c.dd(RomImage.RomBase + RomCode32);
        c.dw(Code32);
    }

    private static void EmitCopy(Assembler c)
    {
        c.mov(eax, Data);
        c.mov(ds, eax);
        c.mov(es, eax);
        c.mov(ss, eax);
        c.mov(esi, RomImage.RomBase + UsedStart);
        c.mov(edi, RomImage.RamBase + UsedStart);
        c.mov(ecx, (RomImage.Size - UsedStart) / 4);
        c.rep.movsd();
        c.mov(eax, RomImage.RamBase + ProtectedCode);
        c.jmp(eax);
    }

    private static void EmitEnterLongMode(Assembler c)
    {
        c.mov(esp, KernelStack);
        c.lgdt(__[RomImage.RamBase + RamGdtPointer]);

        // RAM keeps its contents over a reset: clear the variables.
        c.mov(edi, DemoProgram.Variables);
        c.xor(eax, eax);
        c.mov(ecx, 64);
        c.rep.stosd();

        // The first 4 GiB in 2 MiB pages that ring 3 may use. The two upper levels must not keep stale entries.
        c.mov(edi, PageTables);
        c.mov(ecx, 0x2000 / 4);
        c.rep.stosd();
        c.mov(__dword_ptr[PageTables], (PageTables + 0x1000) | 7);
        for (uint i = 0; i < 4; i++)
        {
            c.mov(__dword_ptr[PageTables + 0x1000 + i * 8], (PageTables + 0x2000 + i * 0x1000) | 7);
        }

        c.mov(edi, PageTables + 0x2000);
        c.mov(eax, 0x87);
        var fill = c.CreateLabel();
        c.Label(ref fill);
        c.mov(__dword_ptr[edi], eax);
        c.mov(__dword_ptr[edi + 4], 0);
        c.add(edi, 8);
        c.add(eax, 0x200000);
        c.jnc(fill);

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

        // Paging on; caches on, which reset left off.
        c.or(eax, 0x80000001);
        c.and(eax, 0x9fffffff);
        c.mov(cr0, eax);
        c.db(0xea);
        c.dd(RomImage.RamBase + LongCode);
        c.dw(Code64);
    }

    private static void EmitLongMode(Assembler c)
    {
        c.mov(eax, Data);
        c.mov(ds, eax);
        c.mov(es, eax);
        c.mov(ss, eax);
        c.mov(esp, KernelStack);

        // A task state segment for the stack of a non-maskable interrupt, which is the only vector there is. Its I/O map opens every port: an
        // emulator that takes only the arithmetic flags from IRETQ leaves ring 3 with I/O privilege level 0.
        c.mov(edi, TssAddress);
        c.xor(eax, eax);
        c.mov(ecx, TssSize / 4);
        c.rep.stosd();
        c.mov(__dword_ptr[TssAddress + 4], KernelStack);
        c.mov(__word_ptr[TssAddress + 0x66], 0x68);
        c.mov(__byte_ptr[TssAddress + 0x68 + 0x2000], 0xff);
        c.mov(eax, Tss);
        c.ltr(ax);
        c.mov(edi, IdtAddress);
        c.xor(eax, eax);
        c.mov(ecx, 0x30 / 4);
        c.rep.stosd();
        const uint handler = RomImage.RamBase + NmiHandler;
        c.mov(__dword_ptr[IdtAddress + 0x20], (handler & 0xffff) | (uint)Code64 << 16);
        c.mov(__dword_ptr[IdtAddress + 0x24], (handler & 0xffff0000) | 0x8e00);
        c.lidt(__[RomImage.RamBase + IdtPointer]);

        StartOtherProcessors(c);

        c.push(UserData);
        c.push((int)UserStack);
        c.push(0x3002);
        c.push(UserCode64);
        c.push((int)RomImage.RamBase + UserCode);
        c.iretq();
    }

    // Each of them counts itself and halts. A virtual processor needs no delay between INIT and start-up; the guest waits for the count.
    private static void StartOtherProcessors(Assembler c)
    {
        c.mov(esi, RomImage.RamBase + ApTrampoline);
        c.mov(edi, TrampolineAddress);
        c.mov(ecx, 16);
        c.rep.movsd();
        c.mov(ebx, LocalApic);
        c.mov(__dword_ptr[rbx + 0xf0], 0x1ff);

        // LINT1 delivers non-maskable interrupts; reset leaves it masked.
        c.mov(__dword_ptr[rbx + 0x360], 0x400);
        c.mov(__dword_ptr[rbx + 0x300], 0xc4500);
        c.mov(__dword_ptr[rbx + 0x300], 0xc4600 | (TrampolineAddress >> 12));
    }

    private static void EmitApTrampoline(Assembler c)
    {
        c.cli();
        c.xor(ax, ax);
        c.mov(ds, ax);
        c.@lock.inc(__dword_ptr[(ushort)DemoProgram.ApCount]);
        var park = c.CreateLabel();
        c.Label(ref park);
        c.hlt();
        c.jmp(park);
    }

    private static void EmitNmiHandler(Assembler c)
    {
        c.inc(__dword_ptr[DemoProgram.NmiCount]);
        c.iretq();
    }
}
