using System.Runtime.CompilerServices;

namespace Vmm.Interop.KvmApi;

/// <summary>
/// The kvm_run page a vCPU shares with the kernel. Its fields are valid after KVM_RUN returned and belong to the vCPU's thread; the union
/// members are valid only for their exit reason. Valid while the <see cref="KvmVcpuFd"/> lives.
/// </summary>
public sealed unsafe class KvmRun
{
    /// <summary>Bytes of struct kvm_run.</summary>
    internal const int MinimumSize = 2352;

    // SAFETY: the mapping is owned by the KvmVcpuFd that owns this object and is at least MinimumSize long.
    private readonly byte* _page;
    private readonly ulong _size;

    internal KvmRun(byte* page, ulong size)
    {
        _page = page;
        _size = size;
    }

    /// <summary>Asks for KVM_EXIT_IRQ_WINDOW_OPEN as soon as the guest can take an interrupt.</summary>
    public bool RequestInterruptWindow
    {
        get => _page[0] != 0;
        set => _page[0] = value ? (byte)1 : (byte)0;
    }

    /// <summary>True makes the next KVM_RUN return -EINTR at once. For any thread; see <see cref="RequestImmediateExit"/>.</summary>
    public bool ImmediateExit
    {
        get => Volatile.Read(ref _page[1]) != 0;
        set => Volatile.Write(ref _page[1], value ? (byte)1 : (byte)0);
    }

    /// <summary>KVM_EXIT_*.</summary>
    public int ExitReason => *(int*)(_page + 8);

    /// <summary>The guest can take an interrupt now.</summary>
    public bool ReadyForInterruptInjection => _page[12] != 0;

    /// <summary>RFLAGS.IF.</summary>
    public bool IfFlag => _page[13] != 0;

    /// <summary>KVM_RUN_X86_* flags.</summary>
    public ushort Flags => *(ushort*)(_page + 14);

    /// <summary>The task priority, both ways, without an in-kernel local APIC.</summary>
    public ulong Cr8
    {
        get => *(ulong*)(_page + 16);
        set => *(ulong*)(_page + 16) = value;
    }

    /// <summary>IA32_APIC_BASE, both ways, without an in-kernel local APIC.</summary>
    public ulong ApicBase
    {
        get => *(ulong*)(_page + 24);
        set => *(ulong*)(_page + 24) = value;
    }

    /// <summary>KVM_EXIT_UNKNOWN: the hardware's own exit reason.</summary>
    public ulong HardwareExitReason => *(ulong*)(_page + 32);

    /// <summary>KVM_EXIT_FAIL_ENTRY: why the hardware refused the guest state.</summary>
    public ulong FailEntryReason => *(ulong*)(_page + 32);

    /// <summary>KVM_EXIT_FAIL_ENTRY: the host CPU.</summary>
    public uint FailEntryCpu => *(uint*)(_page + 40);

    /// <summary>KVM_EXIT_EXCEPTION: the vector.</summary>
    public uint ExceptionVector => *(uint*)(_page + 32);

    /// <summary>KVM_EXIT_EXCEPTION: the error code.</summary>
    public uint ExceptionErrorCode => *(uint*)(_page + 36);

    /// <summary>KVM_EXIT_IO: true for OUT.</summary>
    public bool IoIsOut => _page[32] == KvmUapi.KVM_EXIT_IO_OUT;

    /// <summary>KVM_EXIT_IO: bytes per access, 1, 2 or 4.</summary>
    public int IoSize => _page[33];

    /// <summary>KVM_EXIT_IO: the port.</summary>
    public ushort IoPort => *(ushort*)(_page + 34);

    /// <summary>KVM_EXIT_IO: how many accesses a string instruction makes; 1 for the others.</summary>
    public int IoCount => *(int*)(_page + 36);

    /// <summary>KVM_EXIT_IO: size x count bytes, to be read for OUT and filled for IN.</summary>
    public Span<byte> IoData
    {
        get
        {
            ulong offset = *(ulong*)(_page + 40);
            ulong length = (ulong)IoSize * (uint)IoCount;
            return offset > _size || length > _size - offset ? ThrowBadOffset() : new Span<byte>(_page + offset, (int)length);
        }
    }

    /// <summary>KVM_EXIT_DEBUG: the exception, and RIP, DR6 and DR7.</summary>
    public (uint Exception, ulong Pc, ulong Dr6, ulong Dr7) Debug =>
        (*(uint*)(_page + 32), *(ulong*)(_page + 40), *(ulong*)(_page + 48), *(ulong*)(_page + 56));

    /// <summary>KVM_EXIT_MMIO: guest-physical address.</summary>
    public ulong MmioAddress => *(ulong*)(_page + 32);

    /// <summary>KVM_EXIT_MMIO: the bytes written, or to be filled by a read (1 to 8).</summary>
    public Span<byte> MmioData => new(_page + 40, Math.Min(MmioLength, 8));

    /// <summary>KVM_EXIT_MMIO: the data as a little-endian number of eight bytes, of which <see cref="MmioLength"/> count.</summary>
    public ulong MmioValue
    {
        get => *(ulong*)(_page + 40);
        set => *(ulong*)(_page + 40) = value;
    }

    /// <summary>KVM_EXIT_MMIO: bytes.</summary>
    public int MmioLength => *(int*)(_page + 48);

    /// <summary>KVM_EXIT_MMIO: true for a write.</summary>
    public bool MmioIsWrite => _page[52] != 0;

    /// <summary>KVM_EXIT_HYPERCALL: the number.</summary>
    public ulong HypercallNumber => *(ulong*)(_page + 32);

    /// <summary>KVM_EXIT_HYPERCALL: six arguments.</summary>
    public ReadOnlySpan<ulong> HypercallArguments => new(_page + 40, 6);

    /// <summary>KVM_EXIT_HYPERCALL: the result given to the guest.</summary>
    public ulong HypercallResult
    {
        set => *(ulong*)(_page + 88) = value;
    }

    /// <summary>KVM_EXIT_TPR_ACCESS: the instruction's RIP and whether it writes.</summary>
    public (ulong Rip, bool IsWrite) TprAccess => (*(ulong*)(_page + 32), *(uint*)(_page + 40) != 0);

    /// <summary>KVM_EXIT_INTERNAL_ERROR: KVM_INTERNAL_ERROR_*.</summary>
    public uint InternalErrorSuberror => *(uint*)(_page + 32);

    /// <summary>KVM_EXIT_INTERNAL_ERROR: up to sixteen words that explain it.</summary>
    public ReadOnlySpan<ulong> InternalErrorData => new(_page + 40, (int)Math.Min(*(uint*)(_page + 36), 16));

    /// <summary>KVM_EXIT_SYSTEM_EVENT: KVM_SYSTEM_EVENT_*.</summary>
    public uint SystemEventType => *(uint*)(_page + 32);

    /// <summary>KVM_EXIT_SYSTEM_EVENT: up to sixteen words.</summary>
    public ReadOnlySpan<ulong> SystemEventData => new(_page + 40, (int)Math.Min(*(uint*)(_page + 36), 16));

    /// <summary>KVM_EXIT_IOAPIC_EOI: the vector (split irqchip).</summary>
    public byte EoiVector => _page[32];

    /// <summary>KVM_EXIT_X86_RDMSR or WRMSR: why (KVM_MSR_EXIT_REASON_*) and which MSR.</summary>
    public (uint Reason, uint Index) Msr => (*(uint*)(_page + 40), *(uint*)(_page + 44));

    /// <summary>KVM_EXIT_X86_RDMSR or WRMSR: the value, both ways.</summary>
    public ulong MsrData
    {
        get => *(ulong*)(_page + 48);
        set => *(ulong*)(_page + 48) = value;
    }

    /// <summary>KVM_EXIT_X86_RDMSR or WRMSR: true injects #GP.</summary>
    public bool MsrError
    {
        set => _page[32] = value ? (byte)1 : (byte)0;
    }

    /// <summary>KVM_EXIT_NOTIFY: KVM_NOTIFY_CONTEXT_INVALID.</summary>
    public uint NotifyFlags => *(uint*)(_page + 32);

    /// <summary>
    /// From any thread: makes the current or next KVM_RUN of this vCPU return. The flag covers a thread that is about to enter, the signal one
    /// that is inside. The vCPU thread clears <see cref="ImmediateExit"/> when it has seen the request.
    /// </summary>
    public Errno RequestImmediateExit(int tid)
    {
        ImmediateExit = true;
        return Threads.TgKill(tid, Signals.Kick);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Span<byte> ThrowBadOffset() => throw new InvalidOperationException("KVM_EXIT_IO data lies outside of kvm_run");
}

/// <summary>A vCPU's ring of dirty pages. One thread collects at a time.</summary>
public sealed unsafe class KvmDirtyRing : IDisposable
{
    private readonly MappedMemory _memory;
    private readonly uint _count;
    private uint _next;

    internal KvmDirtyRing(MappedMemory memory)
    {
        _memory = memory;
        _count = (uint)(memory.Length / (ulong)sizeof(KvmDirtyGfn));
    }

    /// <summary>
    /// Takes the next dirty page: slot (address space in the high half) and page number in it; false when there is none. The kernel gets
    /// the entries back with <see cref="KvmVmFd.ResetDirtyRings"/>.
    /// </summary>
    public bool TryTake(out uint slot, out ulong page)
    {
        KvmDirtyGfn* entry = (KvmDirtyGfn*)_memory.Address + _next % _count;
        if (Volatile.Read(ref entry->flags) != KvmUapi.KVM_DIRTY_GFN_F_DIRTY)
        {
            slot = 0;
            page = 0;
            return false;
        }

        slot = entry->slot;
        page = entry->offset;
        Volatile.Write(ref entry->flags, KvmUapi.KVM_DIRTY_GFN_F_RESET);
        _next++;
        return true;
    }

    /// <summary>Unmaps the ring.</summary>
    public void Dispose() => _memory.Dispose();
}
