using Vmm.Memory;
using Vmm.ObjectModel.Devices;

namespace Vmm.ObjectModel.Accel;

/// <summary>What happened to a virtual CPU's registers or what can be asked of it, whichever accelerator runs it.</summary>
public interface IVcpu
{
    /// <summary>0-based CPU index.</summary>
    int Index { get; }

    /// <summary>APIC id.</summary>
    uint ApicId { get; }

    /// <summary>Kernel thread id of the vCPU thread; 0 before it runs.</summary>
    int ThreadId { get; }

    /// <summary>True while the vCPU waits in HLT or for a start-up IPI.</summary>
    bool IsHalted { get; }

    /// <summary>Reads the architectural state. The vCPU is stopped, or is stopped for the duration of the call.</summary>
    CpuArchState GetState();

    /// <summary>Writes the architectural state; the vCPU must be stopped.</summary>
    void SetState(CpuArchState state);

    /// <summary>Injects a non-maskable interrupt (through LINT1 of the local APIC as QEMU does). Machine lock.</summary>
    void InjectNmi();

    /// <summary>Runs <paramref name="work"/> on the vCPU thread, outside guest mode, and waits for it.</summary>
    void RunOnVcpu(Action work);
}

/// <summary>
/// What executes the guest: KVM, or the qtest accelerator whose vCPUs never execute. Machine types use only this.
/// </summary>
public interface IAccelerator : IDisposable
{
    /// <summary>Wire name: <c>kvm</c>, <c>qtest</c>.</summary>
    string Name { get; }

    /// <summary>True for qtest: nothing executes and the virtual clock moves by command alone.</summary>
    bool IsQtest { get; }

    /// <summary>vCPUs by index.</summary>
    IReadOnlyList<IVcpu> Vcpus { get; }

    /// <summary>Attaches the machine's address spaces: installs memory listeners so that RAM becomes memslots and ioeventfds are registered.</summary>
    void AttachMemory(AddressSpace memory, AddressSpace ports);

    /// <summary>Creates the in-kernel interrupt controllers asked for, or says that it has none (the machine then uses models).</summary>
    KernelIrqchip CreateIrqchip(KernelIrqchipMode mode);

    /// <summary>Creates one vCPU with its thread, stopped. Main loop, machine lock held.</summary>
    IVcpu CreateVcpu(VcpuSetup setup);

    /// <summary>Destroys a vCPU (hot unplug).</summary>
    void DestroyVcpu(IVcpu vcpu);

    /// <summary>Lets all vCPUs run. Called by run control on the main loop under the machine lock.</summary>
    void ResumeAll();

    /// <summary>Stops all vCPUs and returns when none is in guest mode; completes pending I/O exits so that none is lost. Releases the machine lock while it waits.</summary>
    void PauseAll();

    /// <summary>
    /// Called on a vCPU thread from within an exit: that vCPU does not enter the guest again before the next <see cref="ResumeAll"/>.
    /// On any other thread nothing happens. A guest that resets itself must not see the instruction after that.
    /// </summary>
    void StopCurrentVcpu()
    {
    }

    /// <summary>Brings every vCPU to its state after reset (BSP at the reset vector, APs waiting for SIPI). Stopped vCPUs only.</summary>
    void ResetVcpus();

    /// <summary>MSI write by a device. Any thread.</summary>
    void SignalMsi(ulong address, uint data);

    /// <summary>A message that is sent by signalling a descriptor (irqfd); null when there is no such way. Machine lock.</summary>
    IMessageSignal? CreateMessageSignal() => null;
}

/// <summary>A message that the accelerator sends whenever a descriptor is signalled.</summary>
public interface IMessageSignal : IDisposable
{
    /// <summary>Sets the message. False when the accelerator refuses it: nothing is sent then. Not on two threads at a time.</summary>
    bool SetMessage(ulong address, uint data);

    /// <summary>Sends the message that was set. Any thread.</summary>
    void Send();
}

/// <summary>Which interrupt controllers live in the kernel.</summary>
public enum KernelIrqchipMode
{
    /// <summary>All models in user space.</summary>
    Off,

    /// <summary>PIC, IOAPIC, PIT and local APICs in the kernel.</summary>
    On,

    /// <summary>Local APICs in the kernel, PIC and IOAPIC in user space.</summary>
    Split,
}

/// <summary>Result of <see cref="IAccelerator.CreateIrqchip"/>.</summary>
/// <param name="Mode">What was created.</param>
/// <param name="GsiSink">Receiver for GSI levels when the IOAPIC/PIC are in the kernel (pin = GSI); null otherwise.</param>
public sealed record KernelIrqchip(KernelIrqchipMode Mode, IInterruptSink? GsiSink);

/// <summary>Parameters of a vCPU to create.</summary>
/// <param name="Index">0-based index.</param>
/// <param name="ApicId">APIC id computed from the topology.</param>
/// <param name="Model">The CPU model object (a QOM <c>x86_64-cpu</c>), which yields CPUID leaves and MSR values.</param>
public sealed record VcpuSetup(int Index, uint ApicId, ICpuModel Model);

/// <summary>A CPU model as an accelerator needs it: the CPUID table for one vCPU.</summary>
public interface ICpuModel
{
    /// <summary>CPUID leaves to give the guest.</summary>
    IReadOnlyList<CpuidLeaf> GetCpuid();

    /// <summary>Feature MSRs to give the guest, in order; what the kernel refuses stays at its default.</summary>
    IReadOnlyList<(uint Index, ulong Value)> GetFeatureMsrs() => [];

    /// <summary>TSC frequency in Hz that the guest is to have; 0 for the host's.</summary>
    long TscFrequency => 0;
}

/// <summary>One CPUID leaf.</summary>
public readonly record struct CpuidLeaf(uint Function, uint Index, bool IndexSignificant, uint Eax, uint Ebx, uint Ecx, uint Edx);
