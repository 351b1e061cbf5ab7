using System.Runtime.InteropServices;

namespace Vmm.Interop.KvmApi;

/// <summary>A virtual machine's descriptor. The kernel serialises; usable from any thread.</summary>
public sealed unsafe class KvmVmFd : KvmFd
{
    private readonly int _vcpuMmapSize;

    // Bytes of each slot: the kernel writes a dirty log as long as the slot, so the buffer has to be checked against it.
    private readonly Dictionary<uint, ulong> _slots = [];

    internal KvmVmFd(int fd, int vcpuMmapSize)
        : base(fd)
    {
        _vcpuMmapSize = vcpuMmapSize;
    }

    /// <summary>KVM_CHECK_EXTENSION for this VM: 0 when absent.</summary>
    public int CheckExtension(int capability) => Math.Max(0, Ioctl(KvmIoctl.KVM_CHECK_EXTENSION, capability));

    /// <summary>KVM_ENABLE_CAP with up to four arguments.</summary>
    public Errno EnableCap(int capability, params ReadOnlySpan<ulong> arguments) => EnableCapCore(capability, arguments);

    /// <summary>KVM_CREATE_VCPU and the mapping of its kvm_run. The id is the APIC id on x86. EEXIST, EINVAL.</summary>
    public Errno CreateVcpu(uint id, out KvmVcpuFd? vcpu)
    {
        vcpu = null;
        int fd = Ioctl(KvmIoctl.KVM_CREATE_VCPU, (nint)id);
        return fd < 0 ? ErrnoText.FromResult(fd) : KvmVcpuFd.Open(fd, _vcpuMmapSize, out vcpu);
    }

    /// <summary>KVM_SET_USER_MEMORY_REGION. EEXIST when slots overlap.</summary>
    public Errno SetUserMemoryRegion(in KvmUserspaceMemoryRegion region)
    {
        Errno errno = Set(KvmIoctl.KVM_SET_USER_MEMORY_REGION, region);
        if (errno == Errno.OK)
        {
            lock (_slots)
            {
                _slots[region.slot] = region.memory_size;
            }
        }

        return errno;
    }

    /// <summary>KVM_SET_TSS_ADDR: guest-physical home of three pages that Intel hosts need.</summary>
    public Errno SetTssAddr(uint address) => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_SET_TSS_ADDR, (nint)address));

    /// <summary>KVM_SET_IDENTITY_MAP_ADDR: guest-physical home of the real-mode identity page table.</summary>
    public Errno SetIdentityMapAddr(ulong address) => Set(KvmIoctl.KVM_SET_IDENTITY_MAP_ADDR, address);

    /// <summary>KVM_SET_BOOT_CPU_ID, before vCPUs exist.</summary>
    public Errno SetBootCpuId(uint id) => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_SET_BOOT_CPU_ID, (nint)id));

    /// <summary>KVM_CREATE_IRQCHIP: both 8259s, the I/O APIC and local APICs in the kernel.</summary>
    public Errno CreateIrqchip() => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_CREATE_IRQCHIP));

    /// <summary>KVM_CAP_SPLIT_IRQCHIP: local APICs in the kernel, with GSIs reserved for an I/O APIC of ours.</summary>
    public Errno EnableSplitIrqchip(uint ioapicPins) => EnableCap(KvmUapi.KVM_CAP_SPLIT_IRQCHIP, ioapicPins);

    /// <summary>KVM_GET_IRQCHIP for the chip (KVM_IRQCHIP_*).</summary>
    public Errno GetIrqchip(uint chip, out KvmIrqchip state)
    {
        state = new KvmIrqchip { chip_id = chip };
        return Exchange(KvmIoctl.KVM_GET_IRQCHIP, ref state);
    }

    /// <summary>KVM_SET_IRQCHIP.</summary>
    public Errno SetIrqchip(in KvmIrqchip state) => Set(KvmIoctl.KVM_SET_IRQCHIP, state);

    /// <summary>KVM_CREATE_PIT2.</summary>
    public Errno CreatePit2(uint flags) => Set(KvmIoctl.KVM_CREATE_PIT2, new KvmPitConfig { flags = flags });

    /// <summary>KVM_GET_PIT2.</summary>
    public Errno GetPit2(out KvmPitState2 state) => Get(KvmIoctl.KVM_GET_PIT2, out state);

    /// <summary>KVM_SET_PIT2.</summary>
    public Errno SetPit2(in KvmPitState2 state) => Set(KvmIoctl.KVM_SET_PIT2, state);

    /// <summary>KVM_REINJECT_CONTROL: whether lost PIT ticks are delivered late.</summary>
    public Errno SetPitReinject(bool on) =>
        Set(KvmIoctl.KVM_REINJECT_CONTROL, new KvmReinjectControl { pit_reinject = on ? (byte)1 : (byte)0 });

    /// <summary>KVM_IRQ_LINE: level of a GSI.</summary>
    public Errno IrqLine(uint gsi, bool level) => Set(KvmIoctl.KVM_IRQ_LINE, new KvmIrqLevel { irq = gsi, level = level ? 1u : 0u });

    /// <summary>
    /// KVM_IRQ_LINE_STATUS: as <see cref="IrqLine"/>; <paramref name="status"/> is negative when masked or ignored, 0 when merged with
    /// one still pending, positive when delivered.
    /// </summary>
    public Errno IrqLineStatus(uint gsi, bool level, out int status)
    {
        KvmIrqLevel value = new() { irq = gsi, level = level ? 1u : 0u };
        Errno errno = Exchange(KvmIoctl.KVM_IRQ_LINE_STATUS, ref value);
        status = (int)value.irq;
        return errno;
    }

    /// <summary>KVM_SET_GSI_ROUTING: replaces the whole table.</summary>
    public Errno SetGsiRouting(ReadOnlySpan<KvmIrqRoutingEntry> entries)
    {
        uint* list = (uint*)AllocList(8, sizeof(KvmIrqRoutingEntry), entries.Length);
        list[0] = (uint)entries.Length;
        entries.CopyTo(new Span<KvmIrqRoutingEntry>(list + 2, entries.Length));
        Errno errno = Native.CheckErrno(Native.ioctl(Fd, KvmIoctl.KVM_SET_GSI_ROUTING, (nint)list));
        NativeMemory.Free(list);
        return errno;
    }

    /// <summary>KVM_IRQFD: signalling the eventfd raises the GSI.</summary>
    public Errno AssignIrqfd(int eventFd, uint gsi) => Set(KvmIoctl.KVM_IRQFD, new KvmIrqfd { fd = eventFd, gsi = gsi });

    /// <summary>KVM_IRQFD for a level-triggered GSI; the kernel signals <paramref name="resampleFd"/> at the guest's EOI.</summary>
    public Errno AssignResampleIrqfd(int eventFd, uint gsi, int resampleFd) => Set(
        KvmIoctl.KVM_IRQFD,
        new KvmIrqfd { fd = eventFd, gsi = gsi, flags = KvmUapi.KVM_IRQFD_FLAG_RESAMPLE, resamplefd = resampleFd });

    /// <summary>Takes an irqfd away.</summary>
    public Errno DeassignIrqfd(int eventFd, uint gsi) =>
        Set(KvmIoctl.KVM_IRQFD, new KvmIrqfd { fd = eventFd, gsi = gsi, flags = KvmUapi.KVM_IRQFD_FLAG_DEASSIGN });

    /// <summary>
    /// KVM_IOEVENTFD: a guest write to the address signals the eventfd without an exit to us. Length 1, 2, 4, 8, or 0 for any;
    /// <paramref name="match"/> restricts it to that value. ENOSPC, EEXIST.
    /// </summary>
    public Errno AssignIoeventfd(int eventFd, ulong address, uint length, ulong? match, bool pio) =>
        Ioeventfd(eventFd, address, length, match, pio, 0);

    /// <summary>Takes an ioeventfd away; the arguments are those of its assignment. ENOENT.</summary>
    public Errno DeassignIoeventfd(int eventFd, ulong address, uint length, ulong? match, bool pio) =>
        Ioeventfd(eventFd, address, length, match, pio, KvmUapi.KVM_IOEVENTFD_FLAG_DEASSIGN);

    /// <summary>KVM_SIGNAL_MSI: 1 when delivered, 0 when the guest blocked it, or -errno.</summary>
    public int SignalMsi(ulong address, uint data)
    {
        KvmMsi msi = new() { address_lo = (uint)address, address_hi = (uint)(address >> 32), data = data };
        return Native.Check(Native.ioctl(Fd, KvmIoctl.KVM_SIGNAL_MSI, (nint)(&msi)));
    }

    /// <summary>KVM_GET_DIRTY_LOG: one bit per page of the slot, in whole 64-bit words; resets the log unless manual protection is on.</summary>
    public Errno GetDirtyLog(uint slot, Span<ulong> bitmap)
    {
        lock (_slots)
        {
            if (!_slots.TryGetValue(slot, out ulong bytes))
            {
                return Errno.ENOENT;
            }

            ulong pages = bytes / (ulong)Libc.PageSize;
            ArgumentOutOfRangeException.ThrowIfLessThan((ulong)bitmap.Length * 64, pages, nameof(bitmap));
        }

        fixed (ulong* p = bitmap)
        {
            KvmDirtyLog log = new() { slot = slot, dirty_bitmap = (nint)p };
            return Native.CheckErrno(Native.ioctl(Fd, KvmIoctl.KVM_GET_DIRTY_LOG, (nint)(&log)));
        }
    }

    /// <summary>
    /// KVM_CLEAR_DIRTY_LOG: write-protects again the pages whose bit is set. The first page is a multiple of 64, and so is the count
    /// unless it reaches the end of the slot.
    /// </summary>
    public Errno ClearDirtyLog(uint slot, ulong firstPage, uint pages, ReadOnlySpan<ulong> bitmap)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan((long)bitmap.Length * 64, pages, nameof(bitmap));
        fixed (ulong* p = bitmap)
        {
            KvmClearDirtyLog log = new() { slot = slot, num_pages = pages, first_page = firstPage, dirty_bitmap = (nint)p };
            return Native.CheckErrno(Native.ioctl(Fd, KvmIoctl.KVM_CLEAR_DIRTY_LOG, (nint)(&log)));
        }
    }

    /// <summary>KVM_RESET_DIRTY_RINGS: recycles collected entries of all vCPUs: their number, or -errno.</summary>
    public int ResetDirtyRings() => Ioctl(KvmIoctl.KVM_RESET_DIRTY_RINGS);

    /// <summary>KVM_GET_CLOCK.</summary>
    public Errno GetClock(out KvmClockData data) => Get(KvmIoctl.KVM_GET_CLOCK, out data);

    /// <summary>KVM_SET_CLOCK.</summary>
    public Errno SetClock(in KvmClockData data) => Set(KvmIoctl.KVM_SET_CLOCK, data);

    /// <summary>KVM_GET_TSC_KHZ of the VM (new vCPUs inherit it): kHz, or -errno.</summary>
    public int GetTscKhz() => Ioctl(KvmIoctl.KVM_GET_TSC_KHZ);

    /// <summary>KVM_SET_TSC_KHZ for vCPUs made later.</summary>
    public Errno SetTscKhz(int khz) => ErrnoText.FromResult(Ioctl(KvmIoctl.KVM_SET_TSC_KHZ, khz));

    /// <summary>KVM_CREATE_DEVICE. ENODEV, EEXIST.</summary>
    public Errno CreateDevice(uint type, uint flags, out SafeFd device)
    {
        KvmCreateDevice value = new() { type = type, flags = flags };
        Errno errno = Exchange(KvmIoctl.KVM_CREATE_DEVICE, ref value);
        device = new SafeFd(errno == Errno.OK ? (int)value.fd : -1);
        return errno;
    }

    /// <summary>KVM_GET_STATS_FD of the VM.</summary>
    public Errno OpenStats(out KvmStats? stats) => OpenStatsCore(out stats);

    private Errno Ioeventfd(int eventFd, ulong address, uint length, ulong? match, bool pio, uint flags)
    {
        KvmIoeventfd value = new() { fd = eventFd, addr = address, len = length, flags = flags };
        if (match is ulong wanted)
        {
            value.datamatch = wanted;
            value.flags |= KvmUapi.KVM_IOEVENTFD_FLAG_DATAMATCH;
        }

        value.flags |= pio ? KvmUapi.KVM_IOEVENTFD_FLAG_PIO : 0;
        return Set(KvmIoctl.KVM_IOEVENTFD, value);
    }
}
