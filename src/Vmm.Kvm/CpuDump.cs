using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <summary>Register dumps in the layout of <c>info registers</c> and of the reports about vCPUs that failed.</summary>
public static class CpuDump
{
    /// <summary>Bytes of code in a crash report.</summary>
    public const int CodeBytes = 50;

    private const int CodeBytesBefore = 20;

    private static readonly string[] s_segmentNames = ["ES", "CS", "SS", "DS", "FS", "GS"];

    private static readonly string[] s_systemTypes32 =
    [
        "Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16",
        "Reserved", "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32",
    ];

    private static readonly string[] s_systemTypes64 =
    [
        "<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
        "Reserved", "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64",
    ];

    /// <summary>Writes registers; with <paramref name="fpu"/> also x87 and vector registers.</summary>
    public static void WriteRegisters(StringBuilder output, CpuArchState state, bool fpu)
    {
        bool wide = state.Is64BitCode;
        WriteGeneral(output, state, wide);
        for (int i = 0; i < 6; i++)
        {
            WriteSegment(output, s_segmentNames[i], state.Segments[i], state, wide);
        }

        WriteSegment(output, "LDT", state.Ldt, state, wide);
        WriteSegment(output, "TR", state.Tr, state, wide);
        WriteTable(output, "GDT", state.Gdt, wide);
        WriteTable(output, "IDT", state.Idt, wide);
        output.Append(wide
            ? Invariant($"CR0={(uint)state.Cr0:x8} CR2={state.Cr2:x16} CR3={state.Cr3:x16} CR4={(uint)state.Cr4:x8}\n")
            : Invariant($"CR0={(uint)state.Cr0:x8} CR2={(uint)state.Cr2:x8} CR3={(uint)state.Cr3:x8} CR4={(uint)state.Cr4:x8}\n"));
        for (int i = 0; i < 4; i++)
        {
            output.Append(Invariant($"DR{i}={state.Dr[i]:x16} "));
        }

        output.Append(Invariant($"\nDR6={state.Dr[6]:x16} DR7={state.Dr[7]:x16}\n"));
        output.Append(Invariant($"EFER={state.Efer:x16}\n"));
        if (fpu)
        {
            WriteFpu(output, state, wide);
        }
    }

    /// <summary>Writes the code around the instruction pointer.</summary>
    /// <param name="output">Where the text goes.</param>
    /// <param name="state">Registers.</param>
    /// <param name="read">Reads the byte at a linear address; negative where nothing is mapped.</param>
    public static void WriteCode(StringBuilder output, CpuArchState state, Func<ulong, int> read)
    {
        ulong before = Math.Min(state.Rip, CodeBytesBefore);
        ulong start = state.Segments[1].Base + state.Rip - before;
        output.Append("Code=");
        for (uint i = 0; i < CodeBytes; i++)
        {
            int value = read(start + i);
            string text = value < 0 ? "??" : value.ToString("x2", CultureInfo.InvariantCulture);
            output.Append(i > 0 ? " " : "");
            output.Append(i == before ? $"<{text}>" : text);
        }

        output.Append('\n');
    }

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);

    private static void WriteGeneral(StringBuilder output, CpuArchState s, bool wide)
    {
        ulong[] r = s.Gpr;
        ulong flags = s.Rflags;
        string letters = string.Create(7, flags, static (span, f) =>
        {
            ReadOnlySpan<byte> bits = [10, 11, 7, 6, 4, 2, 0];
            const string names = "DOSZAPC";
            for (int i = 0; i < 7; i++)
            {
                span[i] = (f >> bits[i] & 1) != 0 ? names[i] : '-';
            }
        });
        int halted = s.IsHalted ? 1 : 0;
        int smm = s.IsSmm ? 1 : 0;
        if (wide)
        {
            output.Append(Invariant($"RAX={r[0]:x16} RBX={r[3]:x16} RCX={r[1]:x16} RDX={r[2]:x16}\n"));
            output.Append(Invariant($"RSI={r[6]:x16} RDI={r[7]:x16} RBP={r[5]:x16} RSP={r[4]:x16}\n"));
            output.Append(Invariant($"R8 ={r[8]:x16} R9 ={r[9]:x16} R10={r[10]:x16} R11={r[11]:x16}\n"));
            output.Append(Invariant($"R12={r[12]:x16} R13={r[13]:x16} R14={r[14]:x16} R15={r[15]:x16}\n"));
            output.Append(Invariant($"RIP={s.Rip:x16} RFL={(uint)flags:x8} [{letters}] CPL={s.Cpl} II=0 A20=1 SMM={smm} HLT={halted}\n"));
        }
        else
        {
            output.Append(Invariant($"EAX={(uint)r[0]:x8} EBX={(uint)r[3]:x8} ECX={(uint)r[1]:x8} EDX={(uint)r[2]:x8}\n"));
            output.Append(Invariant($"ESI={(uint)r[6]:x8} EDI={(uint)r[7]:x8} EBP={(uint)r[5]:x8} ESP={(uint)r[4]:x8}\n"));
            output.Append(Invariant($"EIP={(uint)s.Rip:x8} EFL={(uint)flags:x8} [{letters}] "));
            output.Append(Invariant($"CPL={s.Cpl} II=0 A20=1 SMM={smm} HLT={halted}\n"));
        }
    }

    private static void WriteSegment(StringBuilder output, string name, SegmentState segment, CpuArchState state, bool wide)
    {
        uint flags = segment.Flags;
        output.Append(wide
            ? Invariant($"{name,-3}={segment.Selector:x4} {segment.Base:x16} {segment.Limit:x8} {flags:x8}")
            : Invariant($"{name,-3}={segment.Selector:x4} {(uint)segment.Base:x8} {segment.Limit:x8} {flags:x8}"));
        if ((state.Cr0 & 1) != 0 && segment.Present)
        {
            bool longMode = (state.Efer & 0x400) != 0;
            output.Append(Invariant($" DPL={segment.Dpl} "));
            int type = segment.Type;
            if (!segment.S)
            {
                output.Append((longMode ? s_systemTypes64 : s_systemTypes32)[type & 15]);
            }
            else
            {
                if ((type & 8) != 0)
                {
                    output.Append(segment.L ? "CS64" : segment.Db ? "CS32" : "CS16");
                    output.Append(" [").Append((type & 4) != 0 ? 'C' : '-').Append((type & 2) != 0 ? 'R' : '-');
                }
                else
                {
                    output.Append(segment.Db || longMode ? "DS  " : "DS16");
                    output.Append(" [").Append((type & 4) != 0 ? 'E' : '-').Append((type & 2) != 0 ? 'W' : '-');
                }

                output.Append((type & 1) != 0 ? 'A' : '-').Append(']');
            }
        }

        output.Append('\n');
    }

    private static void WriteTable(StringBuilder output, string name, (ulong Base, ushort Limit) table, bool wide) => output.Append(wide
        ? Invariant($"{name}=     {table.Base:x16} {(uint)table.Limit:x8}\n")
        : Invariant($"{name}=     {(uint)table.Base:x8} {(uint)table.Limit:x8}\n"));

    private static void WriteFpu(StringBuilder output, CpuArchState state, bool wide)
    {
        FpuArchState fpu = state.Fpu;
        int top = fpu.Fsw >> 11 & 7;
        output.Append(Invariant($"FCW={fpu.Fcw:x4} FSW={fpu.Fsw:x4} [ST={top}] FTW={fpu.Ftw:x2} MXCSR={fpu.Mxcsr:x8}\n"));
        for (int i = 0; i < 8; i++)
        {
            ulong low = BinaryPrimitives.ReadUInt64LittleEndian(fpu.St.AsSpan(i * 16));
            ushort high = BinaryPrimitives.ReadUInt16LittleEndian(fpu.St.AsSpan((i * 16) + 8));
            output.Append(Invariant($"FPR{i}={low:x16} {high:x4}")).Append((i & 1) != 0 ? '\n' : ' ');
        }

        int count = wide ? 16 : 8;
        bool ymm = (state.Xcr0 & 4) != 0;
        for (int i = 0; i < count; i++)
        {
            ulong q0 = BinaryPrimitives.ReadUInt64LittleEndian(fpu.Xmm.AsSpan(i * 16));
            ulong q1 = BinaryPrimitives.ReadUInt64LittleEndian(fpu.Xmm.AsSpan((i * 16) + 8));
            if (ymm)
            {
                ulong q2 = BinaryPrimitives.ReadUInt64LittleEndian(fpu.YmmHigh.AsSpan(i * 16));
                ulong q3 = BinaryPrimitives.ReadUInt64LittleEndian(fpu.YmmHigh.AsSpan((i * 16) + 8));
                output.Append(Invariant($"YMM{i:d2}={q3:x16} {q2:x16} {q1:x16} {q0:x16}\n"));
            }
            else
            {
                output.Append(Invariant($"XMM{i:d2}={q1:x16} {q0:x16}")).Append((i & 1) != 0 ? '\n' : ' ');
            }
        }
    }
}
