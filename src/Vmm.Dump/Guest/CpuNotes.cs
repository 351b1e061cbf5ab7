using System.Buffers.Binary;
using Vmm.ObjectModel.Accel;

namespace Vmm.Dump.Guest;

/// <summary>
/// Processors as ELF notes: for each one NT_PRSTATUS in the layout of Linux (that of i386 unless the guest is in long mode), then for each one
/// a note QEMU of type 0 with control registers and hidden parts of segments. Processors are numbered from 1 as threads.
/// </summary>
public static class CpuNotes
{
    private const uint NtPrstatus = 1;
    private const int HeaderBytes = 12;
    private const int StatusBytes32 = 144;
    private const int StatusBytes64 = 336;
    private const int CpuStateBytes = 440;
    private const int PidOffset32 = 24;
    private const int PidOffset64 = 32;
    private const int RegistersOffset32 = 72;
    private const int RegistersOffset64 = 112;
    private const int Rax = 0;
    private const int Rcx = 1;
    private const int Rdx = 2;
    private const int Rbx = 3;
    private const int Rsp = 4;
    private const int Rbp = 5;
    private const int Rsi = 6;
    private const int Rdi = 7;
    private const int Es = 0;
    private const int Cs = 1;
    private const int Ss = 2;
    private const int Ds = 3;
    private const int Fs = 4;
    private const int Gs = 5;

    /// <summary>True when a guest with this first processor is one of 64 bits.</summary>
    public static bool IsLong(CpuArchState first) => (first.Efer & 0x400) != 0;

    /// <summary>All notes, the processors in order.</summary>
    public static byte[] Write(ReadOnlySpan<CpuArchState> cpus)
    {
        bool isLong = IsLong(cpus[0]);
        int statusBytes = NoteBytes("CORE", isLong ? StatusBytes64 : StatusBytes32);
        byte[] notes = new byte[cpus.Length * (statusBytes + NoteBytes("QEMU", CpuStateBytes))];
        Span<byte> at = notes;
        for (int i = 0; i < cpus.Length; i++)
        {
            Span<byte> status = WriteHeader(at, "CORE"u8, isLong ? StatusBytes64 : StatusBytes32, NtPrstatus);
            if (isLong)
            {
                WriteStatus64(status, cpus[i], i + 1);
            }
            else
            {
                WriteStatus32(status, cpus[i], i + 1);
            }

            at = at[statusBytes..];
        }

        foreach (CpuArchState cpu in cpus)
        {
            WriteCpuState(WriteHeader(at, "QEMU"u8, CpuStateBytes, 0), cpu);
            at = at[NoteBytes("QEMU", CpuStateBytes)..];
        }

        return notes;
    }

    // Name with its zero and descriptor, each padded to four bytes.
    private static int NoteBytes(string name, int descriptor) => HeaderBytes + ((name.Length + 4) & ~3) + ((descriptor + 3) & ~3);

    private static Span<byte> WriteHeader(Span<byte> note, ReadOnlySpan<byte> name, int descriptor, uint type)
    {
        BinaryPrimitives.WriteInt32LittleEndian(note, name.Length + 1);
        BinaryPrimitives.WriteInt32LittleEndian(note[4..], descriptor);
        BinaryPrimitives.WriteUInt32LittleEndian(note[8..], type);
        name.CopyTo(note[HeaderBytes..]);
        return note.Slice(HeaderBytes + ((name.Length + 4) & ~3), descriptor);
    }

    private static void WriteStatus64(Span<byte> status, CpuArchState cpu, int thread)
    {
        BinaryPrimitives.WriteInt32LittleEndian(status[PidOffset64..], thread);
        ulong[] gpr = cpu.Gpr;

        // orig_rax is of system calls, which processors do not know.
        ReadOnlySpan<ulong> registers =
        [
            gpr[15], gpr[14], gpr[13], gpr[12], gpr[Rbp], gpr[Rbx], gpr[11], gpr[10], gpr[9], gpr[8], gpr[Rax], gpr[Rcx], gpr[Rdx],
            gpr[Rsi], gpr[Rdi], 0, cpu.Rip, cpu.Segments[Cs].Selector, cpu.Rflags, gpr[Rsp], cpu.Segments[Ss].Selector,
            cpu.Segments[Fs].Base, cpu.Segments[Gs].Base, cpu.Segments[Ds].Selector, cpu.Segments[Es].Selector,
            cpu.Segments[Fs].Selector, cpu.Segments[Gs].Selector,
        ];
        for (int i = 0; i < registers.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(status[(RegistersOffset64 + (i * 8))..], registers[i]);
        }
    }

    private static void WriteStatus32(Span<byte> status, CpuArchState cpu, int thread)
    {
        BinaryPrimitives.WriteInt32LittleEndian(status[PidOffset32..], thread);
        ulong[] gpr = cpu.Gpr;
        ReadOnlySpan<ulong> registers =
        [
            gpr[Rbx], gpr[Rcx], gpr[Rdx], gpr[Rsi], gpr[Rdi], gpr[Rbp], gpr[Rax], cpu.Segments[Ds].Selector, cpu.Segments[Es].Selector,
            cpu.Segments[Fs].Selector, cpu.Segments[Gs].Selector, 0, cpu.Rip, cpu.Segments[Cs].Selector, cpu.Rflags, gpr[Rsp],
            cpu.Segments[Ss].Selector,
        ];
        for (int i = 0; i < registers.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(status[(RegistersOffset32 + (i * 4))..], (uint)registers[i]);
        }
    }

    private static void WriteCpuState(Span<byte> state, CpuArchState cpu)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(state, 1);
        BinaryPrimitives.WriteInt32LittleEndian(state[4..], CpuStateBytes);
        ulong[] gpr = cpu.Gpr;
        ReadOnlySpan<ulong> registers =
        [
            gpr[Rax], gpr[Rbx], gpr[Rcx], gpr[Rdx], gpr[Rsi], gpr[Rdi], gpr[Rsp], gpr[Rbp], gpr[8], gpr[9], gpr[10], gpr[11], gpr[12],
            gpr[13], gpr[14], gpr[15], cpu.Rip, cpu.Rflags,
        ];
        Span<byte> at = state[8..];
        foreach (ulong register in registers)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(at, register);
            at = at[8..];
        }

        SegmentState[] segments = cpu.Segments;
        ReadOnlySpan<SegmentState> all =
        [
            segments[Cs], segments[Ds], segments[Es], segments[Fs], segments[Gs], segments[Ss], cpu.Ldt, cpu.Tr,
            new SegmentState { Base = cpu.Gdt.Base, Limit = cpu.Gdt.Limit }, new SegmentState { Base = cpu.Idt.Base, Limit = cpu.Idt.Limit },
        ];
        foreach (SegmentState segment in all)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(at, segment.Selector);
            BinaryPrimitives.WriteUInt32LittleEndian(at[4..], segment.Limit);
            BinaryPrimitives.WriteUInt32LittleEndian(at[8..], segment.Flags);
            BinaryPrimitives.WriteUInt64LittleEndian(at[16..], segment.Base);
            at = at[24..];
        }

        // CR0 to CR4; there is no CR1.
        ReadOnlySpan<ulong> control = [cpu.Cr0, 0, cpu.Cr2, cpu.Cr3, cpu.Cr4, cpu.KernelGsBase];
        foreach (ulong register in control)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(at, register);
            at = at[8..];
        }
    }
}
