using Vmm.Devices;
using Vmm.Devices.I8254;
using Vmm.Devices.I8259;
using Vmm.Devices.IoApic;
using Vmm.Devices.Isa;
using Vmm.Kvm;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>
/// The 8259 pair, the I/O APIC and the interval timer of a PC-like board: stand-ins of those in the kernel, or models where the
/// accelerator has none (qtest). Leads the machine's GSIs to them.
/// </summary>
internal sealed class InterruptControllers
{
    private readonly Machine _machine;
    private readonly MachineEnvironment _environment;
    private readonly I8259Pair? _pic;
    private readonly IoApicDevice? _ioapic;
    private readonly KernelChips? _kernel;
    private readonly GsiCounter? _counter;

    /// <summary>Asks the accelerator for its controllers. Before vCPUs are created.</summary>
    /// <exception cref="QapiException">The accelerator cannot have its controllers as it was told to.</exception>
    public InterruptControllers(Machine machine, MachineEnvironment environment, bool withPit)
    {
        _machine = machine;
        _environment = environment;
        KernelIrqchipMode wanted = environment.Irqchip ?? KernelIrqchipMode.On;
        var kvm = environment.Accelerator as KvmAccelerator;
        if (kvm is not null && wanted == KernelIrqchipMode.Off)
        {
            throw new QapiException("kernel-irqchip=off: a local APIC outside the kernel is not supported by this build");
        }

        KernelIrqchip chip = environment.Accelerator.CreateIrqchip(wanted);
        if (kvm is not null)
        {
            if (chip.Mode == KernelIrqchipMode.Off)
            {
                throw new QapiException("this KVM has no interrupt controllers (KVM_CAP_IRQCHIP)");
            }

            machine.SystemMemory.AddSubregion(0xfee00000, kvm.CreateMsiWindow(), priority: 4096);
        }

        if (chip.Mode == KernelIrqchipMode.On)
        {
            if (withPit)
            {
                kvm!.CreatePit();
            }

            _kernel = new KernelChips(kvm!, environment.Clocks);
            _counter = new GsiCounter(chip.GsiSink!);
            Connect(_counter);
            return;
        }

        // Without KVM nothing takes the CPU's INTR: vCPUs do not execute.
        var intr = new InterruptLine();
        _pic = new I8259Pair(intr);
        _ioapic = new IoApicDevice { AcknowledgeExternal = _pic.Acknowledge };
        Connect(new GsiFanOut(_pic, _ioapic));
        if (kvm is not null)
        {
            var pin = new ExternalInterruptPin(kvm, _pic);
            intr.Connect(pin, 0);
            kvm.ExternalInterrupts = pin;
            kvm.IoapicEoi = _ioapic.EndOfInterrupt;
            _ioapic.RouteChanged = kvm.SetIoapicRoute;
        }
    }

    /// <summary>The timer whose counter 2 is the speaker's, once it is realized.</summary>
    public IToneCounter? Pit { get; private set; }

    /// <summary>Puts the 8259s on the ISA bus and the I/O APIC on the board.</summary>
    /// <param name="isa">The ISA bus.</param>
    /// <param name="ioapicParent">Object below which the I/O APIC is found as <c>ioapic</c>.</param>
    public void Realize(IsaBus isa, QomObject ioapicParent)
    {
        DeviceFactory devices = _environment.Devices;
        if (_kernel is { } kernel)
        {
            KernelI8259 master = Configure(new KernelI8259 { IoBase = 0x20, ElcrPort = 0x4d0, ElcrMask = 0xf8, IsMaster = true }, kernel);
            devices.Realize(master, isa);
            devices.Realize(Configure(new KernelI8259 { IoBase = 0xa0, ElcrPort = 0x4d1, ElcrMask = 0xde }, kernel), isa);
            var ioapic = new KernelIoApic { GetState = kernel.GetIoApic, SetState = kernel.SetIoApic };
            ioapicParent.AddChild("ioapic", ioapic);
            devices.Realize(ioapic, devices.MainSystemBus);
            _counter!.Pic = master.Statistics;
            _counter.IoApic = ioapic.Statistics;
            return;
        }

        devices.ApplyGlobals(_pic!.Master);
        devices.ApplyGlobals(_pic.Slave);
        _pic.Realize(isa, _machine);
        devices.ApplyGlobals(_ioapic!);
        ioapicParent.AddChild("ioapic", _ioapic!);
        devices.Realize(_ioapic!, devices.MainSystemBus);
    }

    /// <summary>Puts the interval timer on the ISA bus.</summary>
    public void RealizePit(IsaBus isa)
    {
        DeviceFactory devices = _environment.Devices;
        if (_kernel is { } kernel)
        {
            var stand = (KernelPit)devices.Create("kvm-pit");
            stand.GetState = kernel.GetPit;
            stand.SetState = kernel.SetPit;
            stand.SetReinject = kernel.SetPitReinject;
            devices.Realize(stand, isa);
            Pit = stand;
            return;
        }

        var pit = (I8254Pit)devices.Create("isa-pit");
        devices.Realize(pit, isa);
        Pit = pit;
    }

    /// <summary>
    /// Sets the 8259s as firmware leaves them: vectors 8 and 0x70, all lines masked but that of the second one. A kernel that is told of
    /// hardware-reduced ACPI never touches them, and the timer runs from reset.
    /// </summary>
    public void PrepareDirectBoot()
    {
        const byte masterVectors = 8;
        const byte slaveVectors = 0x70;
        const byte masterMask = 0xfb;
        const byte slaveMask = 0xff;
        if (_kernel is { } kernel)
        {
            kernel.SetPic(true, kernel.GetPic(true) with { VectorBase = masterVectors, Imr = masterMask });
            kernel.SetPic(false, kernel.GetPic(false) with { VectorBase = slaveVectors, Imr = slaveMask });
            return;
        }

        _pic!.Master.Prepare(masterVectors, masterMask);
        _pic.Slave.Prepare(slaveVectors, slaveMask);
    }

    private KernelI8259 Configure(KernelI8259 chip, KernelChips kernel)
    {
        bool master = chip.IsMaster;
        chip.GetState = () => kernel.GetPic(master);
        chip.SetState = state => kernel.SetPic(master, state);
        return chip;
    }

    private void Connect(IInterruptSink sink)
    {
        for (int i = 0; i < _machine.Gsi.Count; i++)
        {
            _machine.Gsi[i].Connect(sink, i);
        }
    }

    /// <summary>What the kernel's controllers are sent, counted on its way.</summary>
    private sealed class GsiCounter(IInterruptSink next) : IFreeInterruptSink
    {
        private const int IsaIrqs = 16;

        private uint _levels;

        public InterruptStatistics? Pic { get; set; }

        public InterruptStatistics? IoApic { get; set; }

        public void SetLevel(int pin, int level)
        {
            // The 8259s' statistics count edges, the I/O APIC's every time its input is driven high.
            uint bit = 1u << pin;
            uint before = level != 0 ? Interlocked.Or(ref _levels, bit) : Interlocked.And(ref _levels, ~bit);
            if (level != 0)
            {
                IoApic?.Count(pin);
                if (pin < IsaIrqs && (before & bit) == 0)
                {
                    Pic?.Count(pin);
                }
            }

            next.SetLevel(pin, level);
        }
    }

    /// <summary>INTR of the boot CPU, whose local APIC is in the kernel.</summary>
    private sealed class ExternalInterruptPin(KvmAccelerator kvm, I8259Pair pic) : IInterruptSink, IExternalInterrupts
    {
        private volatile bool _level;

        public bool IsPending => _level;

        public byte Acknowledge() => pic.Acknowledge();

        public void SetLevel(int pin, int level)
        {
            bool rises = level != 0 && !_level;
            _level = level != 0;
            if (rises)
            {
                kvm.KickForExternalInterrupt();
            }
        }
    }

    /// <summary>ISA interrupts reach both kinds of controller, higher GSIs the I/O APIC only.</summary>
    private sealed class GsiFanOut(I8259Pair pic, IoApicDevice ioapic) : IInterruptSink
    {
        private const int IsaIrqs = 16;

        public void SetLevel(int pin, int level)
        {
            if (pin < IsaIrqs)
            {
                pic.SetLevel(pin, level);
            }

            ioapic.SetLevel(pin, level);
        }
    }
}
