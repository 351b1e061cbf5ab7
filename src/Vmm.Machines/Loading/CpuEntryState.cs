namespace Vmm.Machines.Loading;

/// <summary>How the first instruction is executed.</summary>
public enum CpuEntryMode
{
    /// <summary>Real mode, as after a reset.</summary>
    Real16,

    /// <summary>Protected mode, flat 4 GiB segments, no paging.</summary>
    Protected32,

    /// <summary>Long mode, flat segments, identity-mapped page tables in guest RAM.</summary>
    Long64,
}

/// <summary>A segment register with its hidden part, in the terms of the Intel SDM volume 3A, section 3.4.5.</summary>
/// <param name="Selector">Visible selector.</param>
/// <param name="Base">Linear base address.</param>
/// <param name="Limit">Limit in bytes, already scaled by the granularity.</param>
/// <param name="Type">4-bit segment type.</param>
/// <param name="System">True for a system segment (TSS, LDT): descriptor bit S clear.</param>
/// <param name="Big">D/B: 32-bit operands.</param>
/// <param name="Long">L: 64-bit code.</param>
/// <param name="Granular">G: the limit field counts 4 KiB units.</param>
/// <param name="Present">P.</param>
public readonly record struct SegmentState(
    ushort Selector, ulong Base, uint Limit, byte Type, bool System, bool Big, bool Long, bool Granular, bool Present = true)
{
    public static SegmentState Code32(ushort selector) => new(selector, 0, 0xffffffff, 0xb, false, true, false, true);

    public static SegmentState Code64(ushort selector) => new(selector, 0, 0xffffffff, 0xb, false, false, true, true);

    public static SegmentState Data32(ushort selector) => new(selector, 0, 0xffffffff, 0x3, false, true, false, true);

    /// <summary>A busy 32-bit (in long mode: 64-bit) task state segment, as the processor demands in TR once it is in protected mode.</summary>
    public static SegmentState Task(ushort selector) => new(selector, 0, 0x67, 0xb, true, false, false, false);

    /// <summary>The 8-byte descriptor of this segment, as it stands in the GDT.</summary>
    public ulong ToDescriptor()
    {
        ulong limit = Granular ? Limit >> 12 : Limit;
        var access = (ulong)Type | (System ? 0u : 0x10u) | (Present ? 0x80u : 0u);
        var flags = (Granular ? 8u : 0u) | (Big ? 4u : 0u) | (Long ? 2u : 0u);
        return (limit & 0xffff) | ((Base & 0xffffff) << 16) | (access << 40) | ((limit >> 16 & 0xf) << 48) | ((ulong)flags << 52)
            | ((Base >> 24 & 0xff) << 56);
    }
}

/// <summary>Register state of the bootstrap processor at the first instruction of a directly loaded kernel. What is not named here is as after reset.</summary>
public sealed class CpuEntryState
{
    public required CpuEntryMode Mode { get; init; }

    public required ulong Rip { get; init; }

    public ulong Rsp { get; init; }

    public ulong Rax { get; init; }

    public ulong Rbx { get; init; }

    public ulong Rcx { get; init; }

    public ulong Rdx { get; init; }

    public ulong Rsi { get; init; }

    public ulong Rdi { get; init; }

    public ulong Rbp { get; init; }

    /// <summary>Bit 1 is always set; interrupts are off.</summary>
    public ulong Rflags { get; init; } = 0x2;

    public required ulong Cr0 { get; init; }

    public ulong Cr3 { get; init; }

    public ulong Cr4 { get; init; }

    public ulong Efer { get; init; }

    public required SegmentState Cs { get; init; }

    /// <summary>DS, ES, FS, GS and SS.</summary>
    public required SegmentState Data { get; init; }

    public required SegmentState Tr { get; init; }

    /// <summary>GDTR base; the table itself is one of the segments of the image.</summary>
    public required ulong GdtBase { get; init; }

    /// <summary>GDTR limit: size in bytes less one.</summary>
    public required ushort GdtLimit { get; init; }
}
