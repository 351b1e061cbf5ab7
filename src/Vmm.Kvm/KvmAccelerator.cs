using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <summary>
/// A machine in KVM: the VM, its memory slots, interrupt routing and vCPU threads. Home: the main loop under the machine lock; the
/// parts that other threads may use say so.
/// </summary>
public sealed partial class KvmAccelerator : IAccelerator
{
    private static readonly (int Capability, string Name)[] s_required =
    [
        (KvmUapi.KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"),
        (KvmUapi.KVM_CAP_DESTROY_MEMORY_REGION_WORKS, "KVM_CAP_DESTROY_MEMORY_REGION_WORKS"),
        (KvmUapi.KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, "KVM_CAP_JOIN_MEMORY_REGIONS_WORKS"),
        (KvmUapi.KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"),
        (KvmUapi.KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"),
        (KvmUapi.KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"),
        (KvmUapi.KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"),
    ];

    private const uint KvmSetNrMmuPages = 0xae44;

    private readonly List<KvmVcpu> _vcpus = [];
    private readonly Dictionary<uint, KvmVcpuFd> _parked = [];
    private readonly IKvmEvents _events;
    private AddressSpace? _memory;
    private AddressSpace? _ports;
    private KvmMemoryListener? _memoryListener;
    private KvmPortListener? _portListener;
    private ulong _pausedClock;
    private bool _clockSaved;
    private bool _running;

    private KvmAccelerator(KvmSystem system, KvmVmFd vm, KvmOptions options, IIoLock machineLock, IKvmEvents events)
    {
        System = system;
        Vm = vm;
        Options = options;
        MachineLock = machineLock;
        _events = events;
        Routing = new KvmIrqRouting(vm);
    }

    /// <inheritdoc/>
    public string Name => "kvm";

    /// <inheritdoc/>
    public bool IsQtest => false;

    /// <inheritdoc/>
    public IReadOnlyList<IVcpu> Vcpus => _vcpus;

    /// <summary>vCPUs with what only KVM has.</summary>
    public IReadOnlyList<KvmVcpu> KvmVcpus => _vcpus;

    /// <summary>Options given.</summary>
    public KvmOptions Options { get; }

    /// <summary>/dev/kvm.</summary>
    public KvmSystem System { get; }

    /// <summary>The VM.</summary>
    public KvmVmFd Vm { get; }

    /// <summary>GSI routing table, irqfds.</summary>
    public KvmIrqRouting Routing { get; }

    /// <summary>What of the interrupt controllers is in the kernel.</summary>
    public KernelIrqchipMode Irqchip { get; private set; }

    /// <summary>Source of external interrupts when no controller is in the kernel (the 8259 pair of the machine); null for none.</summary>
    public IExternalInterrupts? ExternalInterrupts { get; set; }

    /// <summary>Told of end-of-interrupt broadcasts under a split irqchip. Called on vCPU threads with the machine lock held.</summary>
    public Action<byte>? IoapicEoi { get; set; }

    /// <summary>Values of the exits since the VM was made, for tests and statistics.</summary>
    public ulong TotalExits
    {
        get
        {
            ulong sum = 0;
            foreach (KvmVcpu vcpu in _vcpus)
            {
                sum += vcpu.Exits;
            }

            return sum;
        }
    }

    /// <summary>Bytes of each vCPU's dirty ring; 0 when bitmaps are used.</summary>
    internal uint DirtyRingBytes { get; private set; }

    /// <summary>Takes dirty pages out of all rings. Machine lock.</summary>
    internal void CollectDirtyRings() => _memoryListener?.CollectRings();

    internal IIoLock MachineLock { get; }

    internal IKvmEvents Events => _events;

    internal AddressSpace Memory => _memory ?? throw new InvalidOperationException("Memory is not attached");

    internal AddressSpace Ports => _ports ?? throw new InvalidOperationException("Memory is not attached");

    /// <summary>Opens KVM and makes a VM without memory and vCPUs.</summary>
    public static KvmAccelerator? TryCreate(
        KvmOptions options, IIoLock machineLock, IKvmEvents events, out KvmInitError? error, string devicePath = "/dev/kvm")
    {
        Errno errno = KvmSystem.Open(out KvmSystem? system, devicePath);
        if (system is null)
        {
            error = new KvmInitError([$"Could not access KVM kernel module: {errno.Message()}"], errno);
            return null;
        }

        int version = system.ApiVersion();
        if (version != KvmUapi.KVM_API_VERSION)
        {
            system.Dispose();
            errno = version < 0 ? (Errno)(-version) : Errno.EINVAL;
            error = new KvmInitError([version < KvmUapi.KVM_API_VERSION ? "kvm version too old" : "kvm version not supported"], errno);
            return null;
        }

        errno = system.CreateVm(0, out KvmVmFd? vm);
        if (vm is null)
        {
            system.Dispose();
            error = new KvmInitError([$"ioctl(KVM_CREATE_VM) failed: {(int)errno} {errno.Message()}"], errno);
            return null;
        }

        var accelerator = new KvmAccelerator(system, vm, options, machineLock, events);
        error = accelerator.Configure();
        if (error is not null)
        {
            accelerator.Dispose();
            return null;
        }

        return accelerator;
    }

    /// <inheritdoc/>
    public void AttachMemory(AddressSpace memory, AddressSpace ports)
    {
        _memory = memory;
        _ports = ports;
        _memoryListener = new KvmMemoryListener(this);
        _portListener = new KvmPortListener(Vm);
        memory.AddListener(_memoryListener);
        ports.AddListener(_portListener);
    }

    /// <summary>True when the range is a memory slot.</summary>
    public bool IsMapped(AddressSpace space, FlatRange range) => space == _memory && _memoryListener!.HasSlot(range);

    /// <inheritdoc/>
    public IVcpu CreateVcpu(VcpuSetup setup)
    {
        Errno errno = Errno.OK;
        if (!_parked.Remove(setup.ApicId, out KvmVcpuFd? fd))
        {
            errno = Vm.CreateVcpu(setup.ApicId, out fd);
        }

        if (fd is null)
        {
            throw new Vmm.Qapi.QapiException(
                Vmm.Qapi.QapiErrorClass.GenericError, $"kvm_init_vcpu: kvm_get_vcpu failed ({setup.Index}): {errno.Message()}");
        }

        var vcpu = new KvmVcpu(this, fd, setup);
        errno = vcpu.Initialize();
        if (errno != Errno.OK)
        {
            _parked[setup.ApicId] = fd;
            throw new Vmm.Qapi.QapiException(
                Vmm.Qapi.QapiErrorClass.GenericError, $"kvm_init_vcpu: kvm_arch_init_vcpu failed ({setup.Index}): {errno.Message()}");
        }

        _vcpus.Add(vcpu);
        vcpu.Start();
        if (_running)
        {
            vcpu.Resume();
        }

        return vcpu;
    }

    /// <inheritdoc/>
    public void DestroyVcpu(IVcpu vcpu)
    {
        var kvmVcpu = (KvmVcpu)vcpu;
        _vcpus.Remove(kvmVcpu);
        kvmVcpu.RequestExit();
        ReleaseLockAnd(kvmVcpu, static v => v.Join());

        // The kernel keeps a vCPU as long as the VM lives, and its id is taken: keep the descriptor for a later one.
        _parked[kvmVcpu.ApicId] = kvmVcpu.Fd;
    }

    /// <inheritdoc/>
    public void ResumeAll()
    {
        // A vCPU that stopped by itself resumes here too, while the others run.
        _running = true;
        if (_clockSaved)
        {
            _clockSaved = false;
            Vm.SetClock(new KvmClockData { clock = _pausedClock });
            foreach (KvmVcpu vcpu in _vcpus)
            {
                vcpu.TellClockStopped = true;
            }
        }

        foreach (KvmVcpu vcpu in _vcpus)
        {
            vcpu.Resume();
        }
    }

    /// <inheritdoc/>
    public void PauseAll()
    {
        foreach (KvmVcpu vcpu in _vcpus)
        {
            vcpu.RequestStop();
        }

        ReleaseLockAnd(this, static accelerator =>
        {
            foreach (KvmVcpu vcpu in accelerator._vcpus)
            {
                vcpu.WaitStopped();
            }
        });
        if (_running)
        {
            _running = false;
            if (_vcpus.Count > 0 && Vm.GetClock(out KvmClockData clock) == Errno.OK)
            {
                _pausedClock = clock.clock;
                _clockSaved = true;
            }
        }
    }

    /// <inheritdoc/>
    public void StopCurrentVcpu()
    {
        foreach (KvmVcpu vcpu in _vcpus)
        {
            if (vcpu.IsCurrent)
            {
                vcpu.StopHere();
                return;
            }
        }
    }

    /// <inheritdoc/>
    public void ResetVcpus()
    {
        foreach (KvmVcpu vcpu in _vcpus)
        {
            vcpu.RunOnVcpu(vcpu.ResetState);
        }
    }

    /// <inheritdoc/>
    public void SignalMsi(ulong address, uint data)
    {
        if (Irqchip != KernelIrqchipMode.Off)
        {
            _ = Vm.SignalMsi(address, data);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (KvmVcpu vcpu in _vcpus)
        {
            vcpu.RequestExit();
        }

        ReleaseLockAnd(this, static accelerator =>
        {
            foreach (KvmVcpu vcpu in accelerator._vcpus)
            {
                vcpu.Join();
            }
        });
        foreach (KvmVcpu vcpu in _vcpus)
        {
            vcpu.Fd.Dispose();
        }

        foreach (KvmVcpuFd fd in _parked.Values)
        {
            fd.Dispose();
        }

        _vcpus.Clear();
        if (_memoryListener is not null)
        {
            _memory!.RemoveListener(_memoryListener);
            _ports!.RemoveListener(_portListener!);
            _memoryListener = null;
        }

        Vm.Dispose();
        System.Dispose();
    }

    /// <summary>Runs something that waits for vCPU threads, which may be waiting for the machine lock themselves.</summary>
    internal void ReleaseLockAnd<T>(T state, Action<T> wait)
    {
        bool held = MachineLock.IsHeldByCurrentThread;
        if (held)
        {
            MachineLock.Exit();
        }

        try
        {
            wait(state);
        }
        finally
        {
            if (held)
            {
                MachineLock.Enter();
            }
        }
    }

    private KvmInitError? EnableDirtyRing()
    {
        int capability = KvmUapi.KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
        int max = Vm.CheckExtension(capability);
        if (max == 0)
        {
            capability = KvmUapi.KVM_CAP_DIRTY_LOG_RING;
            max = Vm.CheckExtension(capability);
        }

        if (max == 0)
        {
            _events.Warn("KVM dirty ring not available, using bitmap method");
            return null;
        }

        // An entry has 16 bytes: flags, slot, page number.
        uint bytes = Options.DirtyRingSize * 16;
        if (bytes > (uint)max)
        {
            return new KvmInitError(
                [$"KVM dirty ring size {Options.DirtyRingSize} too big (maximum is {max / 16}).  Please use a smaller value."], Errno.EINVAL);
        }

        Errno errno = Vm.EnableCap(capability, bytes);
        if (errno != Errno.OK)
        {
            return new KvmInitError([$"Enabling of KVM dirty ring failed: {errno.Message()}. Suggested minimum value is 1024."], errno);
        }

        DirtyRingBytes = bytes;
        return null;
    }

    private KvmInitError? Configure()
    {
        foreach ((int capability, string name) in s_required)
        {
            if (Vm.CheckExtension(capability) == 0)
            {
                return new KvmInitError([$"kvm does not support {name}"], Errno.EINVAL);
            }
        }

        // Three pages for the TSS and one for the identity map, below the firmware, as firmware tables reserve them.
        const uint identityBase = 0xfffbc000;
        if (Vm.CheckExtension(KvmUapi.KVM_CAP_SET_IDENTITY_MAP_ADDR) != 0)
        {
            _ = Vm.SetIdentityMapAddr(identityBase);
        }

        Errno errno = Vm.SetTssAddr(identityBase + 0x1000);
        if (errno != Errno.OK)
        {
            return new KvmInitError([], errno);
        }

        if (Options.ShadowMem >= 0)
        {
            errno = ErrnoText.FromResult(Libc.Ioctl(Vm.Fd, KvmSetNrMmuPages, (nint)(Options.ShadowMem / 4096)));
            if (errno != Errno.OK)
            {
                return new KvmInitError([], errno);
            }
        }

        if (Options.NotifyVmExit != NotifyVmExit.Disable && System.CheckExtension(KvmUapi.KVM_CAP_X86_NOTIFY_VMEXIT) != 0)
        {
            ulong flags = ((ulong)Options.NotifyWindow << 32) | KvmUapi.KVM_X86_NOTIFY_VMEXIT_ENABLED | KvmUapi.KVM_X86_NOTIFY_VMEXIT_USER;
            errno = Vm.EnableCap(KvmUapi.KVM_CAP_X86_NOTIFY_VMEXIT, flags);
            if (errno != Errno.OK)
            {
                return new KvmInitError([$"kvm: Failed to enable notify vmexit cap: {errno.Message()}"], errno);
            }
        }

        if (Options.GuestPowerManagement)
        {
            const ulong wanted = KvmUapi.KVM_X86_DISABLE_EXITS_MWAIT | KvmUapi.KVM_X86_DISABLE_EXITS_HLT
                | KvmUapi.KVM_X86_DISABLE_EXITS_PAUSE | KvmUapi.KVM_X86_DISABLE_EXITS_CSTATE;
            ulong exits = (ulong)Vm.CheckExtension(KvmUapi.KVM_CAP_X86_DISABLE_EXITS) & wanted;
            errno = Vm.EnableCap(KvmUapi.KVM_CAP_X86_DISABLE_EXITS, exits);
            if (errno != Errno.OK)
            {
                _events.Warn($"kvm: guest stopping CPU not supported: {errno.Message()}");
            }
        }

        if (Options.DirtyRingSize != 0 && EnableDirtyRing() is { } ringError)
        {
            return ringError;
        }

        if (Signals.InstallKick() is var kick && kick != Errno.OK)
        {
            return new KvmInitError([], kick);
        }

        return null;
    }
}
