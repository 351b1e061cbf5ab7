using System.Buffers.Binary;
using System.Globalization;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.TestKit.Guests;

/// <summary>
/// A kernel that is in memory already goes on where another machine left it: the guest loads that machine's registers, as its monitor has shown
/// them, and jumps.
/// </summary>
/// <remarks>
/// The guest's own memory (1 MiB from <see cref="GuestImage.Base"/>) must be free in the kernel's. Interrupts are off, and the top level page table
/// is a copy of the kernel's with the guest's own pages in its lower half.
/// </remarks>
public static class ResumeGuest
{
    /// <summary>What it writes to the debug console (0xe9) before the jump.</summary>
    public const char Mark = 'R';

    private const uint TopTable = GuestImage.PageTables;
    private const uint Tables = GuestImage.Data;
    private const uint FsBase = 0xc0000100;
    private const uint GsBase = 0xc0000101;
    private const uint Efer = 0xc0000080;
    private const uint NoExecute = 0x800;
    private const int InterruptsOn = 0x200;

    /// <summary>The file to pass as <c>-kernel</c>.</summary>
    /// <param name="registers">Output of the monitor's <c>info registers</c> for a vCPU in ring 0 of long mode with four levels of tables.</param>
    public static byte[] From(string registers)
    {
        byte[] pointers = new byte[32];
        Pointer(pointers, registers, "GDT=");
        Pointer(pointers.AsSpan(16), registers, "IDT=");
        return new GuestImage()
            .EnterLongMode()
            .Bytes(Tables, pointers)
            .Code(64, GuestImage.LongCode, c => Resume(c, registers))
            .ToPvhElf();
    }

    private static void Resume(Assembler c, string registers)
    {
        GuestImage.LongModeProlog(c);
        c.mov(ecx, Efer);
        c.rdmsr();
        c.or(eax, NoExecute);
        c.wrmsr();
        c.mov(esi, (uint)Value(registers, "CR3=") + 0x800);
        c.mov(edi, TopTable + 0x800);
        c.mov(ecx, 0x100);
        c.rep.movsq();
        c.mov(rax, cr3);
        c.mov(cr3, rax);
        c.lgdt(__[Tables]);
        c.lidt(__[Tables + 16]);
        Base(c, FsBase, Value(registers, "FS =", 1));
        Base(c, GsBase, Value(registers, "GS =", 1));
        GuestImage.Out(c, 0xe9, (byte)Mark);

        c.push((int)Value(registers, "SS ="));
        c.mov(rax, Value(registers, "RSP="));
        c.push(rax);
        c.push((int)Value(registers, "RFL=") & ~InterruptsOn);
        c.push((int)Value(registers, "CS ="));
        c.mov(rax, Value(registers, "RIP="));
        c.push(rax);
        (AssemblerRegister64 Register, string Name)[] general =
        [
            (rax, "RAX="), (rbx, "RBX="), (rcx, "RCX="), (rdx, "RDX="), (rsi, "RSI="), (rdi, "RDI="), (rbp, "RBP="), (r8, "R8 ="),
            (r9, "R9 ="), (r10, "R10="), (r11, "R11="), (r12, "R12="), (r13, "R13="), (r14, "R14="), (r15, "R15="),
        ];
        foreach ((AssemblerRegister64 register, string name) in general)
        {
            c.mov(register, Value(registers, name));
        }

        c.iretq();
    }

    private static void Base(Assembler c, uint register, ulong value)
    {
        c.mov(ecx, register);
        c.mov(eax, (uint)value);
        c.mov(edx, (uint)(value >> 32));
        c.wrmsr();
    }

    private static void Pointer(Span<byte> bytes, string registers, string name)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)Value(registers, name, 1));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[2..], Value(registers, name));
    }

    // The hexadecimal number behind a name, or a later one of the same line.
    private static ulong Value(string registers, string name, int index = 0)
    {
        int at = registers.IndexOf(name, StringComparison.Ordinal);
        string[] words = at < 0 ? [] : registers[(at + name.Length)..].Split([' ', '\r', '\n'], index + 2, StringSplitOptions.RemoveEmptyEntries);
        return words.Length > index
            ? ulong.Parse(words[index], NumberStyles.HexNumber, CultureInfo.InvariantCulture)
            : throw new ArgumentException($"no {name} in: {registers}", nameof(registers));
    }
}
