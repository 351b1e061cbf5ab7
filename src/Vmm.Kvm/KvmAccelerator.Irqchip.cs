using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;

namespace Vmm.Kvm;

/// <summary>The 8259 pair that feeds the INTR pin (LINT0) of the boot CPU when it is not in the kernel.</summary>
public interface IExternalInterrupts
{
    /// <summary>True while INTR is asserted. Any thread.</summary>
    bool IsPending { get; }

    /// <summary>The interrupt acknowledge cycle: the vector. Machine lock.</summary>
    byte Acknowledge();
}

/// <content>Interrupt controllers in the kernel.</content>
public sealed partial class KvmAccelerator
{
    private const int IoapicPins = 24;

    /// <inheritdoc/>
    public KernelIrqchip CreateIrqchip(KernelIrqchipMode mode)
    {
        if (mode != KernelIrqchipMode.Off && Vm.CheckExtension(KvmUapi.KVM_CAP_IRQCHIP) == 0)
        {
            mode = KernelIrqchipMode.Off;
        }

        switch (mode)
        {
            case KernelIrqchipMode.On:
                Check(Vm.CreateIrqchip(), "Create kernel irqchip failed");
                AddDefaultRoutes();
                break;
            case KernelIrqchipMode.Split:
                Check(Vm.EnableSplitIrqchip(IoapicPins), "Could not enable split IRQ mode");
                Routing.ReserveLow(IoapicPins);
                break;
        }

        Irqchip = mode;
        return new KernelIrqchip(mode, mode == KernelIrqchipMode.On ? new GsiSink(Vm) : null);
    }

    /// <summary>INTR rose: the boot CPU leaves the guest, or HLT, to take it. Any thread.</summary>
    public void KickForExternalInterrupt()
    {
        if (_vcpus.Count > 0)
        {
            _vcpus[0].KickForInterrupt();
        }
    }

    /// <summary>
    /// Under a split irqchip: the kernel learns the message of an I/O APIC input, so that it reports the end of level-triggered
    /// interrupts (<see cref="IoapicEoi"/>) and irqfds can drive the input. Machine lock.
    /// </summary>
    public void SetIoapicRoute(int pin, ulong address, uint data, bool masked)
    {
        // The route of a masked input stays: an interrupt that was sent before has its end reported. What the kernel refuses it has
        // no use for: the model sends its messages itself.
        if (Irqchip == KernelIrqchipMode.Split && !masked)
        {
            _ = Routing.SetReserved((uint)pin, address, data);
        }
    }

    /// <summary>Makes the in-kernel PIT (only with all controllers in the kernel).</summary>
    public void CreatePit() => Check(Vm.CreatePit2(KvmUapi.KVM_PIT_SPEAKER_DUMMY), "Create kernel PIC irqchip failed");

    /// <summary>Sets what happens to PIT ticks that the guest missed: delivered late (policy "delay"), or dropped (policy "discard").</summary>
    public void SetPitReinject(bool reinject)
    {
        if (Vm.CheckExtension(KvmUapi.KVM_CAP_REINJECT_CONTROL) != 0)
        {
            Check(Vm.SetPitReinject(reinject), "Can't set in-kernel PIT reinjection");
        }
    }

    /// <summary>
    /// The window at 0xfee00000 through which devices send messages (<c>kvm-apic-msi</c>); the vCPUs' own accesses never get there.
    /// </summary>
    public MemoryRegion CreateMsiWindow() =>
        MemoryRegion.Io("kvm-apic-msi", 0x100000, new MsiWindow(this), new IoConstraints(4, 4, 4, 4), threadSafe: true);

    /// <inheritdoc/>
    public IMessageSignal? CreateMessageSignal()
    {
        if (Irqchip == KernelIrqchipMode.Off || Vm.CheckExtension(KvmUapi.KVM_CAP_IRQFD) == 0 || Vm.CheckExtension(KvmUapi.KVM_CAP_IRQ_ROUTING) == 0)
        {
            return null;
        }

        return EventFd.TryCreate(out EventFd? trigger) == Errno.OK ? new KvmMessageSignal(Routing, trigger!) : null;
    }

    private static void Check(Errno errno, string text)
    {
        if (errno != Errno.OK)
        {
            throw new Vmm.Qapi.QapiException(Vmm.Qapi.QapiErrorClass.GenericError, $"{text}: {errno.Message()}");
        }
    }

    private void AddDefaultRoutes()
    {
        for (uint i = 0; i < 8; i++)
        {
            Routing.AddPin(i, KvmUapi.KVM_IRQCHIP_PIC_MASTER, i);
        }

        for (uint i = 8; i < 16; i++)
        {
            Routing.AddPin(i, KvmUapi.KVM_IRQCHIP_PIC_SLAVE, i - 8);
        }

        // The timer's GSI 0 is wired to pin 2 of the I/O APIC; GSI 2 is the cascade.
        for (uint i = 0; i < IoapicPins; i++)
        {
            if (i != 2)
            {
                Routing.AddPin(i, KvmUapi.KVM_IRQCHIP_IOAPIC, i == 0 ? 2 : i);
            }
        }

        Check(Routing.Commit(), "Could not set up the interrupt routing table");
    }

    private sealed class GsiSink(KvmVmFd vm) : IFreeInterruptSink
    {
        public void SetLevel(int pin, int level) => _ = vm.IrqLine((uint)pin, level != 0);
    }

    private sealed class MsiWindow(KvmAccelerator accelerator) : IIoHandler
    {
        public ulong Read(ulong offset, int size) => uint.MaxValue;

        public void Write(ulong offset, ulong value, int size) => accelerator.SignalMsi(0xfee00000 + offset, (uint)value);
    }
}
