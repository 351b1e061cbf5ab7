using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <content>Registers: what monitors see, what boot code sets, and the state after reset (Intel SDM vol. 3, 9.1).</content>
public sealed partial class KvmVcpu
{
    private const uint MsrTsc = 0x10;
    private const uint MsrMiscEnable = 0x1a0;
    private const uint MsrPat = 0x277;
    private const uint MsrKernelGsBase = 0xc000_0102;
    private const uint MsrKvmWallClockNew = 0x4b564d00;
    private const uint MsrKvmSystemTimeNew = 0x4b564d01;
    private const ulong PatDefault = 0x0007040600070406;
    private const ulong ApicBaseDefault = 0xfee00000 | 1 << 11;
    private const ulong ApicBaseBsp = 1 << 8;
    private const int XstateBv = 512;
    private const int AvxOffset = 576;

    /// <inheritdoc/>
    public CpuArchState GetState()
    {
        CpuArchState? state = null;
        RunOnVcpu(() => state = ReadState());
        return state ?? new CpuArchState();
    }

    /// <inheritdoc/>
    public void SetState(CpuArchState state) => RunOnVcpu(() => WriteState(state));

    /// <summary>The local APIC's register page; null when it is not in the kernel.</summary>
    public byte[]? GetLapic()
    {
        if (_accelerator.Irqchip == KernelIrqchipMode.Off)
        {
            return null;
        }

        byte[]? page = null;
        RunOnVcpu(() =>
        {
            if (_fd.GetLapic(out KvmLapicState lapic) == Errno.OK)
            {
                page = ((ReadOnlySpan<byte>)lapic).ToArray();
            }
        });
        return page;
    }

    /// <summary>The kernel's statistics of this vCPU; null when it keeps none. The caller disposes them.</summary>
    public KvmStats? OpenStats()
    {
        KvmStats? stats = null;
        RunOnVcpu(() => _ = _fd.OpenStats(out stats));
        return stats;
    }

    /// <summary>Gives the new vCPU its CPUID and the state after reset.</summary>
    internal Errno Initialize()
    {
        IReadOnlyList<CpuidLeaf> leaves = _setup.Model.GetCpuid();
        var entries = new KvmCpuidEntry2[leaves.Count];
        for (int i = 0; i < entries.Length; i++)
        {
            CpuidLeaf leaf = leaves[i];
            entries[i] = new KvmCpuidEntry2
            {
                function = leaf.Function,
                index = leaf.Index,
                flags = leaf.IndexSignificant ? KvmUapi.KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                eax = leaf.Eax,
                ebx = leaf.Ebx,
                ecx = leaf.Ecx,
                edx = leaf.Edx,
            };
            if (leaf.Function == 1)
            {
                _signature = leaf.Eax;
            }
        }

        Errno errno = _fd.SetCpuid2(entries);
        if (errno == Errno.OK && _accelerator.DirtyRingBytes != 0)
        {
            errno = _fd.MapDirtyRing(_accelerator.DirtyRingBytes, out KvmDirtyRing? ring);
            DirtyRing = ring;
        }

        if (errno == Errno.OK && _setup.Model.TscFrequency != 0)
        {
            errno = SetTscFrequency((int)(_setup.Model.TscFrequency / 1000));
        }

        if (errno == Errno.OK)
        {
            SetUpMachineChecks(leaves);
            foreach ((uint index, ulong value) in _setup.Model.GetFeatureMsrs())
            {
                SetOneMsr(index, value);
            }

            ResetState();
        }

        return errno;
    }

    /// <summary>
    /// The state after reset: the boot CPU at its reset vector, others waiting for their start-up message. On the vCPU thread.
    /// </summary>
    internal void ResetState()
    {
        Volatile.Write(ref _halted, false);
        bool bsp = Index == 0;
        var state = new CpuArchState
        {
            Rip = 0xfff0,
            Cr0 = 0x60000010,
            ApicBase = ApicBaseDefault | (bsp ? ApicBaseBsp : 0),
            Gdt = (0, 0xffff),
            Idt = (0, 0xffff),
            Ldt = new SegmentState(0, 0, 0xffff, 2, true, 0, false, false, false, false),
            Tr = new SegmentState(0, 0, 0xffff, 11, true, 0, false, false, false, false),
            Xcr0 = 1,
        };
        state.Gpr[2] = _signature;
        for (int i = 0; i < 6; i++)
        {
            state.Segments[i] = new SegmentState(0, 0, 0xffff, 3, true, 0, false, true, false, false);
        }

        state.Segments[1] = new SegmentState(0xf000, 0xffff0000, 0xffff, 11, true, 0, false, true, false, false);
        state.Dr[6] = 0xffff0ff0;
        state.Dr[7] = 0x400;

        var events = new KvmVcpuEvents { flags = KvmUapi.KVM_VCPUEVENT_VALID_NMI_PENDING | KvmUapi.KVM_VCPUEVENT_VALID_SIPI_VECTOR };
        _ = _fd.SetVcpuEvents(events);
        WriteState(state);
        SetOneMsr(MsrTsc, 0);
        SetOneMsr(MsrMiscEnable, 1);
        SetOneMsr(MsrPat, PatDefault);
        SetOneMsr(MsrKvmWallClockNew, 0);
        SetOneMsr(MsrKvmSystemTimeNew, 0);
        foreach (uint msr in (ReadOnlySpan<uint>)[0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102])
        {
            // SYSENTER and SYSCALL targets, the kernel's GS base.
            SetOneMsr(msr, 0);
        }

        if (_accelerator.Irqchip != KernelIrqchipMode.Off)
        {
            ResetLapic(bsp);
            _ = _fd.SetMpState(new KvmMpState
            {
                mp_state = bsp ? KvmUapi.KVM_MP_STATE_RUNNABLE : KvmUapi.KVM_MP_STATE_UNINITIALIZED,
            });
        }
    }

    private uint _signature;

    /// <summary>Ten banks, global control and recovery where the host can, if the model has machine checks at all.</summary>
    private void SetUpMachineChecks(IReadOnlyList<CpuidLeaf> leaves)
    {
        const uint mceAndMca = 1 << 7 | 1 << 14;
        const ulong controlAndRecovery = 1 << 8 | 1 << 24;
        const ulong banks = 10;
        foreach (CpuidLeaf leaf in leaves)
        {
            if (leaf.Function == 1 && (leaf.Edx & mceAndMca) == mceAndMca && (leaf.Eax >> 8 & 0xf) >= 6
                && _accelerator.System.GetMceCapabilities(out ulong capabilities) == Errno.OK)
            {
                _ = _fd.SetupMce(banks | (capabilities & controlAndRecovery));
            }
        }
    }

    private Errno SetTscFrequency(int khz)
    {
        int host = _fd.GetTscKhz();
        if (_accelerator.Vm.CheckExtension(KvmUapi.KVM_CAP_TSC_CONTROL) != 0 && _fd.SetTscKhz(khz) == Errno.OK)
        {
            return Errno.OK;
        }

        // A host that cannot scale may be close enough: 250 parts per million, as NTP would correct.
        if (host > 0 && Math.Abs((long)khz - host) <= host / 4000)
        {
            return Errno.OK;
        }

        _accelerator.Events.Warn(
            $"TSC frequency mismatch between VM ({khz} kHz) and host ({Math.Max(host, 0)} kHz), and TSC scaling unavailable");
        return Errno.ENOTSUP;
    }

    private static SegmentState FromKvm(in KvmSegment s) => new(
        s.selector, s.@base, s.limit, s.type, s.present != 0 && s.unusable == 0, s.dpl, s.db != 0,
        s.s != 0, s.l != 0, s.g != 0, s.avl != 0);

    private static KvmSegment ToKvm(in SegmentState s) => new()
    {
        selector = s.Selector,
        @base = s.Base,
        limit = s.Limit,
        type = s.Type,
        present = s.Present ? (byte)1 : (byte)0,
        dpl = s.Dpl,
        db = s.Db ? (byte)1 : (byte)0,
        s = s.S ? (byte)1 : (byte)0,
        l = s.L ? (byte)1 : (byte)0,
        g = s.G ? (byte)1 : (byte)0,
        avl = s.Avl ? (byte)1 : (byte)0,
        unusable = s.Present ? (byte)0 : (byte)1,
    };

    private void SetOneMsr(uint index, ulong value)
    {
        Span<KvmMsrEntry> entry = [new KvmMsrEntry(index, value)];
        _ = _fd.SetMsrs(entry);
    }

    private CpuArchState ReadState()
    {
        var state = new CpuArchState();
        if (_fd.GetRegs(out KvmRegs r) == Errno.OK)
        {
            ReadOnlySpan<ulong> gpr =
                [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15];
            gpr.CopyTo(state.Gpr);
            state.Rip = r.rip;
            state.Rflags = r.rflags;
        }

        if (_fd.GetSregs(out KvmSregs s) == Errno.OK)
        {
            ReadSystemRegisters(state, s);
        }

        if (_fd.GetDebugRegs(out KvmDebugRegs debug) == Errno.OK)
        {
            for (int i = 0; i < 4; i++)
            {
                state.Dr[i] = debug.db[i];
            }

            state.Dr[6] = debug.dr6;
            state.Dr[7] = debug.dr7;
        }

        if (_fd.GetXcrs(out KvmXcrs xcrs) == Errno.OK && xcrs.nr_xcrs > 0)
        {
            state.Xcr0 = xcrs.xcrs[0].value;
        }

        Span<KvmMsrEntry> kernelGs = [new KvmMsrEntry(MsrKernelGsBase, 0)];
        if (_fd.GetMsrs(kernelGs) == 1)
        {
            state.KernelGsBase = kernelGs[0].data;
        }

        ReadFpu(state);
        if (_accelerator.Irqchip == KernelIrqchipMode.Off)
        {
            state.IsHalted = Volatile.Read(ref _halted);
        }
        else if (_fd.GetMpState(out KvmMpState mp) == Errno.OK)
        {
            state.IsHalted = mp.mp_state == KvmUapi.KVM_MP_STATE_HALTED;
        }

        if (_fd.GetVcpuEvents(out KvmVcpuEvents events) == Errno.OK)
        {
            state.IsSmm = (events.flags & KvmUapi.KVM_VCPUEVENT_VALID_SMM) != 0 && events.smi_smm != 0;
        }

        return state;
    }

    private static void ReadSystemRegisters(CpuArchState state, in KvmSregs s)
    {
        state.Segments[0] = FromKvm(s.es);
        state.Segments[1] = FromKvm(s.cs);
        state.Segments[2] = FromKvm(s.ss);
        state.Segments[3] = FromKvm(s.ds);
        state.Segments[4] = FromKvm(s.fs);
        state.Segments[5] = FromKvm(s.gs);
        state.Ldt = FromKvm(s.ldt);
        state.Tr = FromKvm(s.tr);
        state.Gdt = (s.gdt.@base, s.gdt.limit);
        state.Idt = (s.idt.@base, s.idt.limit);
        state.Cr0 = s.cr0;
        state.Cr2 = s.cr2;
        state.Cr3 = s.cr3;
        state.Cr4 = s.cr4;
        state.Cr8 = s.cr8;
        state.Efer = s.efer;
        state.ApicBase = s.apic_base;
    }

    /// <summary>
    /// x87 and SSE state from the XSAVE area (Intel SDM vol. 1, 13.4): KVM_GET_FPU leaves MXCSR out, so it only serves kernels without.
    /// </summary>
    private void ReadFpu(CpuArchState state)
    {
        FpuArchState fpu = state.Fpu;
        if (_accelerator.Vm.CheckExtension(KvmUapi.KVM_CAP_XSAVE) != 0 && _fd.GetXsave(out KvmXsave xsave) == Errno.OK)
        {
            ReadOnlySpan<byte> area = xsave;
            fpu.ReadLegacyArea(area);

            // XSTATE_BV tells whether the AVX component, at its place in the standard format, is in use.
            if ((BinaryPrimitives.ReadUInt64LittleEndian(area[XstateBv..]) & 4) != 0)
            {
                area.Slice(AvxOffset, 256).CopyTo(fpu.YmmHigh);
            }
        }
        else if (_fd.GetFpu(out KvmFpu k) == Errno.OK)
        {
            fpu.Fcw = k.fcw;
            fpu.Fsw = k.fsw;
            fpu.Ftw = k.ftwx;
            fpu.LastOpcode = k.last_opcode;
            fpu.LastIp = k.last_ip;
            fpu.LastDp = k.last_dp;
            ((ReadOnlySpan<byte>)k.fpr).CopyTo(fpu.St);
            ((ReadOnlySpan<byte>)k.xmm).CopyTo(fpu.Xmm);
        }
    }

    private void WriteFpu(FpuArchState fpu)
    {
        if (_accelerator.Vm.CheckExtension(KvmUapi.KVM_CAP_XSAVE) != 0 && _fd.GetXsave(out KvmXsave xsave) == Errno.OK)
        {
            Span<byte> area = xsave;
            fpu.WriteLegacyArea(area);
            ulong inUse = BinaryPrimitives.ReadUInt64LittleEndian(area[XstateBv..]) | 3;
            if (fpu.YmmHigh.AsSpan().ContainsAnyExcept((byte)0) || (inUse & 4) != 0)
            {
                fpu.YmmHigh.CopyTo(area[AvxOffset..]);
                inUse |= 4;
            }

            BinaryPrimitives.WriteUInt64LittleEndian(area[XstateBv..], inUse);
            if (_fd.SetXsave(xsave) == Errno.OK)
            {
                return;
            }
        }

        var k = new KvmFpu
        {
            fcw = fpu.Fcw, fsw = fpu.Fsw, ftwx = fpu.Ftw, last_opcode = fpu.LastOpcode, last_ip = fpu.LastIp, last_dp = fpu.LastDp,
            mxcsr = fpu.Mxcsr,
        };
        fpu.St.CopyTo((Span<byte>)k.fpr);
        fpu.Xmm.CopyTo((Span<byte>)k.xmm);
        _ = _fd.SetFpu(k);
    }

    private void WriteState(CpuArchState state)
    {
        ulong[] g = state.Gpr;
        _ = _fd.SetRegs(new KvmRegs
        {
            rax = g[0], rcx = g[1], rdx = g[2], rbx = g[3], rsp = g[4], rbp = g[5], rsi = g[6], rdi = g[7],
            r8 = g[8], r9 = g[9], r10 = g[10], r11 = g[11], r12 = g[12], r13 = g[13], r14 = g[14], r15 = g[15],
            rip = state.Rip, rflags = state.Rflags,
        });
        _ = _fd.GetSregs(out KvmSregs s);
        s.es = ToKvm(state.Segments[0]);
        s.cs = ToKvm(state.Segments[1]);
        s.ss = ToKvm(state.Segments[2]);
        s.ds = ToKvm(state.Segments[3]);
        s.fs = ToKvm(state.Segments[4]);
        s.gs = ToKvm(state.Segments[5]);
        s.ldt = ToKvm(state.Ldt);
        s.tr = ToKvm(state.Tr);
        s.gdt = new KvmDtable { @base = state.Gdt.Base, limit = state.Gdt.Limit };
        s.idt = new KvmDtable { @base = state.Idt.Base, limit = state.Idt.Limit };
        s.cr0 = state.Cr0;
        s.cr2 = state.Cr2;
        s.cr3 = state.Cr3;
        s.cr4 = state.Cr4;
        s.cr8 = state.Cr8;
        s.efer = state.Efer;
        if (state.ApicBase != 0)
        {
            s.apic_base = state.ApicBase;
        }

        s.interrupt_bitmap = default;
        _ = _fd.SetSregs(s);
        var debug = new KvmDebugRegs { dr6 = state.Dr[6], dr7 = state.Dr[7] };
        for (int i = 0; i < 4; i++)
        {
            debug.db[i] = state.Dr[i];
        }

        _ = _fd.SetDebugRegs(debug);
        if (state.Xcr0 != 0)
        {
            var xcrs = new KvmXcrs { nr_xcrs = 1 };
            xcrs.xcrs[0].value = state.Xcr0;
            _ = _fd.SetXcrs(xcrs);
        }

        WriteFpu(state.Fpu);
    }

    /// <summary>The local APIC after reset (Intel SDM vol. 3, 10.4.7.1); version and id stay.</summary>
    private void ResetLapic(bool bsp)
    {
        if (_fd.GetLapic(out KvmLapicState lapic) != Errno.OK)
        {
            return;
        }

        Span<byte> page = lapic;
        uint version = MemoryMarshal.Read<uint>(page[0x30..]);
        page.Clear();
        Set(page, 0x20, ApicId << 24);
        Set(page, 0x30, version);
        Set(page, 0xe0, uint.MaxValue);
        Set(page, 0xf0, 0xff);
        foreach (int lvt in (ReadOnlySpan<int>)[0x320, 0x330, 0x340, 0x350, 0x360, 0x370])
        {
            Set(page, lvt, 1 << 16);
        }

        if (bsp)
        {
            // The PIC's output is wired to LINT0 of the boot CPU, as an ExtINT, until the guest sets the APIC up.
            Set(page, 0x350, 0x700);
        }

        _ = _fd.SetLapic(lapic);

        static void Set(Span<byte> page, int register, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(page[register..], value);
    }
}
