using System.Runtime.InteropServices;

namespace Vmm.Interop.KvmApi;

/// <summary>
/// A vCPU's descriptor with its kvm_run page. All ioctls belong to the vCPU's own thread, as the kernel holds the vCPU's mutex during
/// KVM_RUN; only <see cref="KvmRun.RequestImmediateExit"/> is for other threads.
/// </summary>
public sealed unsafe class KvmVcpuFd : KvmFd
{
    private const int MsrChunk = 200;

    private readonly MappedMemory _mapping;

    private KvmVcpuFd(int fd, MappedMemory mapping)
        : base(fd)
    {
        _mapping = mapping;
        Run = new KvmRun((byte*)mapping.Address, mapping.Length);
    }

    /// <summary>The shared page.</summary>
    public KvmRun Run { get; }

    /// <summary>
    /// KVM_RUN: 0 when <see cref="Run"/> tells an exit, or -errno: EINTR after a kick (exit_reason is then KVM_EXIT_INTR), EAGAIN for a vCPU
    /// that waits for its INIT. Does not allocate; garbage collections go on beside it.
    /// </summary>
    public int Enter()
    {
        int result = Native.ioctl(Fd, KvmIoctl.KVM_RUN, 0);
        return result >= 0 ? 0 : -Marshal.GetLastSystemError();
    }

    /// <summary>KVM_GET_REGS.</summary>
    public Errno GetRegs(out KvmRegs regs) => Get(KvmIoctl.KVM_GET_REGS, out regs);

    /// <summary>KVM_SET_REGS.</summary>
    public Errno SetRegs(in KvmRegs regs) => Set(KvmIoctl.KVM_SET_REGS, regs);

    /// <summary>KVM_GET_SREGS.</summary>
    public Errno GetSregs(out KvmSregs sregs) => Get(KvmIoctl.KVM_GET_SREGS, out sregs);

    /// <summary>KVM_SET_SREGS.</summary>
    public Errno SetSregs(in KvmSregs sregs) => Set(KvmIoctl.KVM_SET_SREGS, sregs);

    /// <summary>KVM_GET_SREGS2 (KVM_CAP_SREGS2).</summary>
    public Errno GetSregs2(out KvmSregs2 sregs) => Get(KvmIoctl.KVM_GET_SREGS2, out sregs);

    /// <summary>KVM_SET_SREGS2 (KVM_CAP_SREGS2).</summary>
    public Errno SetSregs2(in KvmSregs2 sregs) => Set(KvmIoctl.KVM_SET_SREGS2, sregs);

    /// <summary>KVM_GET_FPU.</summary>
    public Errno GetFpu(out KvmFpu fpu) => Get(KvmIoctl.KVM_GET_FPU, out fpu);

    /// <summary>KVM_SET_FPU.</summary>
    public Errno SetFpu(in KvmFpu fpu) => Set(KvmIoctl.KVM_SET_FPU, fpu);

    /// <summary>KVM_GET_XSAVE (4096 bytes).</summary>
    public Errno GetXsave(out KvmXsave xsave) => Get(KvmIoctl.KVM_GET_XSAVE, out xsave);

    /// <summary>KVM_SET_XSAVE (4096 bytes; where KVM_CAP_XSAVE2 reports more, use the span form).</summary>
    public Errno SetXsave(in KvmXsave xsave) => Set(KvmIoctl.KVM_SET_XSAVE, xsave);

    /// <summary>KVM_GET_XSAVE2: the buffer has at least as many bytes as KVM_CAP_XSAVE2 says.</summary>
    public Errno GetXsave2(Span<byte> area)
    {
        fixed (byte* p = area)
        {
            return Native.CheckErrno(Native.ioctl(Fd, KvmIoctl.KVM_GET_XSAVE2, (nint)p));
        }
    }

    /// <summary>KVM_SET_XSAVE with as many bytes as KVM_CAP_XSAVE2 says.</summary>
    public Errno SetXsave(ReadOnlySpan<byte> area)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(area.Length, sizeof(KvmXsave), nameof(area));
        fixed (byte* p = area)
        {
            return Native.CheckErrno(Native.ioctl(Fd, KvmIoctl.KVM_SET_XSAVE, (nint)p));
        }
    }

    /// <summary>KVM_GET_XCRS.</summary>
    public Errno GetXcrs(out KvmXcrs xcrs) => Get(KvmIoctl.KVM_GET_XCRS, out xcrs);

    /// <summary>KVM_SET_XCRS.</summary>
    public Errno SetXcrs(in KvmXcrs xcrs) => Set(KvmIoctl.KVM_SET_XCRS, xcrs);

    /// <summary>KVM_GET_MSRS into the entries' data: how many were read (it stops at the first unknown index), or -errno.</summary>
    public int GetMsrs(Span<KvmMsrEntry> entries) => TransferMsrs(this, KvmIoctl.KVM_GET_MSRS, entries, copyBack: true);

    /// <summary>KVM_SET_MSRS: how many were set (it stops at the first refused one), or -errno.</summary>
    public int SetMsrs(ReadOnlySpan<KvmMsrEntry> entries) => TransferMsrs(
        this,
        KvmIoctl.KVM_SET_MSRS,
        MemoryMarshal.CreateSpan(ref MemoryMarshal.GetReference(entries), entries.Length),
        copyBack: false);

    /// <summary>KVM_SET_CPUID2. E2BIG, EINVAL.</summary>
    public Errno SetCpuid2(ReadOnlySpan<KvmCpuidEntry2> entries)
    {
        uint* list = (uint*)AllocList(8, sizeof(KvmCpuidEntry2), entries.Length);
        list[0] = (uint)entries.Length;
        entries.CopyTo(new Span<KvmCpuidEntry2>(list + 2, entries.Length));
        Errno errno = Native.CheckErrno(Native.ioctl(Fd, KvmIoctl.KVM_SET_CPUID2, (nint)list));
        NativeMemory.Free(list);
        return errno;
    }

    /// <summary>KVM_GET_CPUID2: the number of entries, or -errno (E2BIG when the buffer is too short).</summary>
    public int GetCpuid2(Span<KvmCpuidEntry2> entries)
    {
        uint* list = (uint*)AllocList(8, sizeof(KvmCpuidEntry2), entries.Length);
        list[0] = (uint)entries.Length;
        int result = Native.Check(Native.ioctl(Fd, KvmIoctl.KVM_GET_CPUID2, (nint)list));
        if (result >= 0)
        {
            result = (int)Math.Min(list[0], (uint)entries.Length);
            new ReadOnlySpan<KvmCpuidEntry2>(list + 2, result).CopyTo(entries);
        }

        NativeMemory.Free(list);
        return result;
    }

    /// <summary>KVM_GET_LAPIC.</summary>
    public Errno GetLapic(out KvmLapicState lapic) => Get(KvmIoctl.KVM_GET_LAPIC, out lapic);

    /// <summary>KVM_SET_LAPIC.</summary>
    public Errno SetLapic(in KvmLapicState lapic) => Set(KvmIoctl.KVM_SET_LAPIC, lapic);

    /// <summary>KVM_GET_MP_STATE.</summary>
    public Errno GetMpState(out KvmMpState state) => Get(KvmIoctl.KVM_GET_MP_STATE, out state);

    /// <summary>KVM_SET_MP_STATE.</summary>
    public Errno SetMpState(KvmMpState state) => Set(KvmIoctl.KVM_SET_MP_STATE, state);

    /// <summary>KVM_GET_VCPU_EVENTS.</summary>
    public Errno GetVcpuEvents(out KvmVcpuEvents events) => Get(KvmIoctl.KVM_GET_VCPU_EVENTS, out events);

    /// <summary>KVM_SET_VCPU_EVENTS.</summary>
    public Errno SetVcpuEvents(in KvmVcpuEvents events) => Set(KvmIoctl.KVM_SET_VCPU_EVENTS, events);

    /// <summary>KVM_GET_DEBUGREGS.</summary>
    public Errno GetDebugRegs(out KvmDebugRegs regs) => Get(KvmIoctl.KVM_GET_DEBUGREGS, out regs);

    /// <summary>KVM_SET_DEBUGREGS.</summary>
    public Errno SetDebugRegs(in KvmDebugRegs regs) => Set(KvmIoctl.KVM_SET_DEBUGREGS, regs);

    /// <summary>KVM_NMI: queues one.</summary>
    public Errno Nmi() => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_NMI));

    /// <summary>KVM_SMI: queues one. EINVAL without KVM_CAP_X86_SMM.</summary>
    public Errno Smi() => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_SMI));

    /// <summary>KVM_INTERRUPT: queues a vector, without an in-kernel local APIC. EEXIST when one is queued already.</summary>
    public Errno Interrupt(uint vector) => Set(KvmIoctl.KVM_INTERRUPT, vector);

    /// <summary>KVM_TPR_ACCESS_REPORTING.</summary>
    public Errno SetTprAccessReporting(bool on)
    {
        KvmTprAccessCtl control = new() { enabled = on ? 1u : 0u };
        return Exchange(KvmIoctl.KVM_TPR_ACCESS_REPORTING, ref control);
    }

    /// <summary>KVM_SET_VAPIC_ADDR.</summary>
    public Errno SetVapicAddr(ulong address) => Set(KvmIoctl.KVM_SET_VAPIC_ADDR, address);

    /// <summary>KVM_SET_SIGNAL_MASK: signals that stay blocked inside KVM_RUN, instead of the thread's own mask.</summary>
    public Errno SetSignalMask(ReadOnlySpan<int> blocked)
    {
        byte* mask = stackalloc byte[12];
        *(uint*)mask = 8;
        ulong bits = 0;
        foreach (int signal in blocked)
        {
            bits |= 1UL << (signal - 1);
        }

        MemoryMarshal.Write(new Span<byte>(mask + 4, 8), in bits);
        return Native.CheckErrno(Native.ioctl(Fd, KvmIoctl.KVM_SET_SIGNAL_MASK, (nint)mask));
    }

    /// <summary>KVM_TRANSLATE: the guest-physical address of a linear one, through the vCPU's current page tables.</summary>
    public Errno Translate(ulong linear, out KvmTranslation translation)
    {
        translation = new KvmTranslation { linear_address = linear };
        return Exchange(KvmIoctl.KVM_TRANSLATE, ref translation);
    }

    /// <summary>KVM_SET_GUEST_DEBUG.</summary>
    public Errno SetGuestDebug(in KvmGuestDebug debug) => Set(KvmIoctl.KVM_SET_GUEST_DEBUG, debug);

    /// <summary>KVM_GET_TSC_KHZ: kHz, or -errno.</summary>
    public int GetTscKhz() => Ioctl(KvmIoctl.KVM_GET_TSC_KHZ);

    /// <summary>KVM_SET_TSC_KHZ.</summary>
    public Errno SetTscKhz(int khz) => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_SET_TSC_KHZ, khz));

    /// <summary>KVM_KVMCLOCK_CTRL: tells the guest that it was paused. EINVAL when it has no kvmclock.</summary>
    public Errno KvmclockCtrl() => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_KVMCLOCK_CTRL));

    /// <summary>KVM_ENABLE_CAP on the vCPU.</summary>
    public Errno EnableCap(int capability, params ReadOnlySpan<ulong> arguments) => EnableCapCore(capability, arguments);

    /// <summary>KVM_X86_SETUP_MCE: number of banks in the low byte, MCG_CAP bits above.</summary>
    public Errno SetupMce(ulong capabilities) => Set(KvmIoctl.KVM_X86_SETUP_MCE, capabilities);

    /// <summary>KVM_X86_SET_MCE: injects a machine check.</summary>
    public Errno SetMce(in KvmX86Mce mce) => Set(KvmIoctl.KVM_X86_SET_MCE, mce);

    /// <summary>KVM_GET_STATS_FD of the vCPU.</summary>
    public Errno OpenStats(out KvmStats? stats) => OpenStatsCore(out stats);

    /// <summary>Maps the dirty ring, whose size in bytes was given to KVM_CAP_DIRTY_LOG_RING before vCPUs were made.</summary>
    public Errno MapDirtyRing(uint bytes, out KvmDirtyRing? ring)
    {
        Errno errno = MappedMemory.Map(
            bytes,
            Libc.PROT_READ | Libc.PROT_WRITE,
            Libc.MAP_SHARED,
            Fd,
            KvmUapi.KVM_DIRTY_LOG_PAGE_OFFSET * (long)Libc.PageSize,
            out MappedMemory? memory);
        ring = memory is null ? null : new KvmDirtyRing(memory);
        return errno;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        _mapping.Dispose();
        return base.ReleaseHandle();
    }

    internal static Errno Open(int fd, int mmapSize, out KvmVcpuFd? vcpu)
    {
        vcpu = null;
        MappedMemory? mapping = null;
        Errno errno = Errno.EINVAL;
        if (mmapSize >= KvmRun.MinimumSize)
        {
            errno = MappedMemory.Map((ulong)mmapSize, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_SHARED, fd, 0, out mapping);
        }

        if (mapping is null)
        {
            _ = Native.close(fd);
            return errno;
        }

        vcpu = new KvmVcpuFd(fd, mapping);
        return Errno.OK;
    }

    internal static int TransferMsrs(KvmFd owner, uint request, Span<KvmMsrEntry> entries, bool copyBack)
    {
        byte* list = stackalloc byte[8 + MsrChunk * sizeof(KvmMsrEntry)];
        int done = 0;
        while (done < entries.Length)
        {
            int count = Math.Min(MsrChunk, entries.Length - done);
            Span<KvmMsrEntry> chunk = entries.Slice(done, count);
            Span<KvmMsrEntry> native = new(list + 8, count);
            *(ulong*)list = (uint)count;
            chunk.CopyTo(native);
            int result = owner.Ioctl(request, (nint)list);
            if (result < 0)
            {
                return done > 0 ? done : result;
            }

            if (copyBack)
            {
                native[..result].CopyTo(chunk);
            }

            done += result;
            if (result < count)
            {
                break;
            }
        }

        return done;
    }
}
