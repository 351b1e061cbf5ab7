using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Vmm.Interop.KvmApi;

/// <summary>struct kvm_regs: general registers.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmRegs
{
    public ulong rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags;
}

/// <summary>struct kvm_segment: a segment register with its hidden part.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmSegment
{
    public ulong @base;
    public uint limit;
    public ushort selector;
    public byte type, present, dpl, db, s, l, g, avl, unusable;
    private readonly byte _padding;
}

/// <summary>struct kvm_dtable: GDTR or IDTR.</summary>
[StructLayout(LayoutKind.Sequential, Size = 16)]
public struct KvmDtable
{
    public ulong @base;
    public ushort limit;
}

/// <summary>Four 64-bit words.</summary>
[InlineArray(4)]
public struct KvmU64x4
{
    private ulong _first;
}

/// <summary>Eight 64-bit words.</summary>
[InlineArray(8)]
public struct KvmU64x8
{
    private ulong _first;
}

/// <summary>struct kvm_sregs: segment, control and table registers. interrupt_bitmap holds the vector to be injected (at most one bit).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmSregs
{
    public KvmSegment cs, ds, es, fs, gs, ss, tr, ldt;
    public KvmDtable gdt, idt;
    public ulong cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    public KvmU64x4 interrupt_bitmap;
}

/// <summary>struct kvm_sregs2: as <see cref="KvmSregs"/>, with the PDPTRs in place of the pending vector.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmSregs2
{
    public KvmSegment cs, ds, es, fs, gs, ss, tr, ldt;
    public KvmDtable gdt, idt;
    public ulong cr0, cr2, cr3, cr4, cr8, efer, apic_base, flags;
    public KvmU64x4 pdptrs;
}

/// <summary>struct kvm_fpu: x87 and SSE registers; fpr and xmm hold 16 bytes per register.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmFpu
{
    public FprArray fpr;
    public ushort fcw, fsw;
    public byte ftwx;
    private readonly byte _pad1;
    public ushort last_opcode;
    public ulong last_ip, last_dp;
    public XmmArray xmm;
    public uint mxcsr;
    private readonly uint _pad2;

    /// <summary>ST0 to ST7, 16 bytes each of which 10 count.</summary>
    [InlineArray(128)]
    public struct FprArray
    {
        private byte _first;
    }

    /// <summary>XMM0 to XMM15.</summary>
    [InlineArray(256)]
    public struct XmmArray
    {
        private byte _first;
    }
}

/// <summary>struct kvm_msr_entry.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmMsrEntry(uint index, ulong data)
{
    public uint index = index;
    private readonly uint _reserved;
    public ulong data = data;
}

/// <summary>struct kvm_cpuid_entry2.</summary>
[StructLayout(LayoutKind.Sequential, Size = 40)]
public struct KvmCpuidEntry2
{
    public uint function, index, flags, eax, ebx, ecx, edx;
}

/// <summary>struct kvm_lapic_state: the local APIC's register page, 32-bit registers at multiples of 16.</summary>
[InlineArray(1024)]
public struct KvmLapicState
{
    private byte _first;
}

/// <summary>struct kvm_mp_state.</summary>
public struct KvmMpState
{
    public uint mp_state;
}

/// <summary>struct kvm_vcpu_events: what is pending or being injected.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
public struct KvmVcpuEvents
{
    [FieldOffset(0)] public byte exception_injected;
    [FieldOffset(1)] public byte exception_nr;
    [FieldOffset(2)] public byte exception_has_error_code;
    [FieldOffset(3)] public byte exception_pending;
    [FieldOffset(4)] public uint exception_error_code;
    [FieldOffset(8)] public byte interrupt_injected;
    [FieldOffset(9)] public byte interrupt_nr;
    [FieldOffset(10)] public byte interrupt_soft;
    [FieldOffset(11)] public byte interrupt_shadow;
    [FieldOffset(12)] public byte nmi_injected;
    [FieldOffset(13)] public byte nmi_pending;
    [FieldOffset(14)] public byte nmi_masked;
    [FieldOffset(16)] public uint sipi_vector;
    [FieldOffset(20)] public uint flags;
    [FieldOffset(24)] public byte smi_smm;
    [FieldOffset(25)] public byte smi_pending;
    [FieldOffset(26)] public byte smi_smm_inside_nmi;
    [FieldOffset(27)] public byte smi_latched_init;
    [FieldOffset(28)] public byte triple_fault_pending;
    [FieldOffset(55)] public byte exception_has_payload;
    [FieldOffset(56)] public ulong exception_payload;
}

/// <summary>struct kvm_debugregs.</summary>
[StructLayout(LayoutKind.Sequential, Size = 128)]
public struct KvmDebugRegs
{
    public KvmU64x4 db;
    public ulong dr6, dr7, flags;
}

/// <summary>struct kvm_xsave: the first 4096 bytes of the XSAVE area in its standard format.</summary>
[InlineArray(4096)]
public struct KvmXsave
{
    private byte _first;
}

/// <summary>struct kvm_xcr.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmXcr
{
    public uint xcr;
    private readonly uint _reserved;
    public ulong value;
}

/// <summary>struct kvm_xcrs.</summary>
[StructLayout(LayoutKind.Sequential, Size = 392)]
public struct KvmXcrs
{
    public uint nr_xcrs, flags;
    public XcrArray xcrs;

    /// <summary>KVM_MAX_XCRS entries.</summary>
    [InlineArray(16)]
    public struct XcrArray
    {
        private KvmXcr _first;
    }
}

/// <summary>struct kvm_translation: a linear address walked through the vCPU's page tables.</summary>
[StructLayout(LayoutKind.Sequential, Size = 24)]
public struct KvmTranslation
{
    public ulong linear_address, physical_address;
    public byte valid, writeable, usermode;
}

/// <summary>struct kvm_guest_debug.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmGuestDebug
{
    public uint control;
    private readonly uint _pad;
    public KvmU64x8 debugreg;
}

/// <summary>struct kvm_tpr_access_ctl.</summary>
[StructLayout(LayoutKind.Sequential, Size = 40)]
public struct KvmTprAccessCtl
{
    public uint enabled, flags;
}

/// <summary>struct kvm_x86_mce.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
public struct KvmX86Mce
{
    public ulong status, addr, misc, mcg_status;
    public byte bank;
}
