using System.Buffers.Binary;

namespace Vmm.ObjectModel.Accel;

/// <summary>A segment register with its hidden part (Intel SDM vol. 3, 3.4.3).</summary>
public record struct SegmentState(ushort Selector, ulong Base, uint Limit, byte Type, bool Present, byte Dpl, bool Db, bool S, bool L, bool G, bool Avl = false)
{
    /// <summary>Flags as QEMU shows them: descriptor bits 8..23 in place (type, S, DPL, P, AVL, L, D/B, G).</summary>
    public readonly uint Flags =>
        ((uint)Type << 8) | (S ? 1u << 12 : 0) | ((uint)Dpl << 13) | (Present ? 1u << 15 : 0)
        | (Avl ? 1u << 20 : 0) | (L ? 1u << 21 : 0) | (Db ? 1u << 22 : 0) | (G ? 1u << 23 : 0);
}

/// <summary>
/// Architectural register state of one x86 vCPU, as monitors, dumps and boot code see it. General registers are indexed
/// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8..R15.
/// </summary>
public sealed class CpuArchState
{
    /// <summary>General registers in encoding order (RAX=0, RCX=1, RDX=2, RBX=3, RSP=4, RBP=5, RSI=6, RDI=7, R8..R15).</summary>
    public ulong[] Gpr { get; } = new ulong[16];

    /// <summary>Instruction pointer.</summary>
    public ulong Rip { get; set; }

    /// <summary>RFLAGS.</summary>
    public ulong Rflags { get; set; } = 2;

    /// <summary>ES, CS, SS, DS, FS, GS in encoding order (ES=0, CS=1, SS=2, DS=3, FS=4, GS=5).</summary>
    public SegmentState[] Segments { get; } = new SegmentState[6];

    /// <summary>Local descriptor table register.</summary>
    public SegmentState Ldt { get; set; }

    /// <summary>Task register.</summary>
    public SegmentState Tr { get; set; }

    /// <summary>GDT base and limit.</summary>
    public (ulong Base, ushort Limit) Gdt { get; set; }

    /// <summary>IDT base and limit.</summary>
    public (ulong Base, ushort Limit) Idt { get; set; }

    /// <summary>Control registers CR0, CR2, CR3, CR4, CR8.</summary>
    public ulong Cr0 { get; set; }

    /// <inheritdoc cref="Cr0"/>
    public ulong Cr2 { get; set; }

    /// <inheritdoc cref="Cr0"/>
    public ulong Cr3 { get; set; }

    /// <inheritdoc cref="Cr0"/>
    public ulong Cr4 { get; set; }

    /// <inheritdoc cref="Cr0"/>
    public ulong Cr8 { get; set; }

    /// <summary>IA32_EFER.</summary>
    public ulong Efer { get; set; }

    /// <summary>IA32_KERNEL_GS_BASE: what SWAPGS exchanges the base of GS with.</summary>
    public ulong KernelGsBase { get; set; }

    /// <summary>IA32_APIC_BASE.</summary>
    public ulong ApicBase { get; set; }

    /// <summary>DR0..DR3, DR6, DR7 at indices 0..3, 6, 7.</summary>
    public ulong[] Dr { get; } = new ulong[8];

    /// <summary>x87 control, status, tag words and the eight 80-bit registers (16 bytes each), MXCSR and 16 XMM registers (16 bytes each).</summary>
    public FpuArchState Fpu { get; } = new();

    /// <summary>XCR0: the state components that XSAVE manages; 0 where the CPU has no XSAVE.</summary>
    public ulong Xcr0 { get; set; }

    /// <summary>In system management mode.</summary>
    public bool IsSmm { get; set; }

    /// <summary>Waiting in HLT (or for its start-up message).</summary>
    public bool IsHalted { get; set; }

    /// <summary>Current privilege level.</summary>
    public int Cpl => Segments[2].Dpl;

    /// <summary>True in long mode with a 64-bit code segment.</summary>
    public bool Is64BitCode => (Efer & 0x400) != 0 && Segments[1].L;
}

/// <summary>x87 and SSE state.</summary>
public sealed class FpuArchState
{
    /// <summary>x87 control word.</summary>
    public ushort Fcw { get; set; } = 0x37f;

    /// <summary>x87 status word.</summary>
    public ushort Fsw { get; set; }

    /// <summary>Abridged tag word (FXSAVE form).</summary>
    public byte Ftw { get; set; }

    /// <summary>Last opcode.</summary>
    public ushort LastOpcode { get; set; }

    /// <summary>Last instruction pointer.</summary>
    public ulong LastIp { get; set; }

    /// <summary>Last data pointer.</summary>
    public ulong LastDp { get; set; }

    /// <summary>ST0..ST7, 16 bytes each.</summary>
    public byte[] St { get; } = new byte[128];

    /// <summary>XMM0..XMM15, 16 bytes each.</summary>
    public byte[] Xmm { get; } = new byte[256];

    /// <summary>Upper halves of YMM0..YMM15, 16 bytes each.</summary>
    public byte[] YmmHigh { get; } = new byte[256];

    /// <summary>MXCSR.</summary>
    public uint Mxcsr { get; set; } = 0x1f80;

    /// <summary>Takes the state from the legacy region of an XSAVE area (Intel SDM vol. 1, 13.4.1), which is what FXSAVE writes.</summary>
    public void ReadLegacyArea(ReadOnlySpan<byte> area)
    {
        Fcw = BinaryPrimitives.ReadUInt16LittleEndian(area);
        Fsw = BinaryPrimitives.ReadUInt16LittleEndian(area[2..]);
        Ftw = area[4];
        LastOpcode = BinaryPrimitives.ReadUInt16LittleEndian(area[6..]);
        LastIp = BinaryPrimitives.ReadUInt64LittleEndian(area[8..]);
        LastDp = BinaryPrimitives.ReadUInt64LittleEndian(area[16..]);
        Mxcsr = BinaryPrimitives.ReadUInt32LittleEndian(area[24..]);
        area.Slice(32, St.Length).CopyTo(St);
        area.Slice(160, Xmm.Length).CopyTo(Xmm);
    }

    /// <summary>The inverse of <see cref="ReadLegacyArea"/>; other bytes of the area stay.</summary>
    public void WriteLegacyArea(Span<byte> area)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(area, Fcw);
        BinaryPrimitives.WriteUInt16LittleEndian(area[2..], Fsw);
        area[4] = Ftw;
        BinaryPrimitives.WriteUInt16LittleEndian(area[6..], LastOpcode);
        BinaryPrimitives.WriteUInt64LittleEndian(area[8..], LastIp);
        BinaryPrimitives.WriteUInt64LittleEndian(area[16..], LastDp);
        BinaryPrimitives.WriteUInt32LittleEndian(area[24..], Mxcsr);
        St.CopyTo(area[32..]);
        Xmm.CopyTo(area[160..]);
    }
}
