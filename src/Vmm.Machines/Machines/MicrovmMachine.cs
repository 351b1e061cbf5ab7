using Vmm.Devices.IoApic;
using Vmm.Devices.Isa;
using Vmm.Devices.Rtc;
using Vmm.Devices.Serial16550;
using Vmm.Devices.Virtio;
using Vmm.Kvm.CpuModels;
using Vmm.Machines.Acpi;
using Vmm.Machines.Loading;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>
/// A minimal machine without PCI: ISA serial port, clock and interrupt controllers as asked for, fw_cfg, the generic event device,
/// and virtio-mmio transports.
/// </summary>
[QomType("microvm-machine")]
public sealed partial class MicrovmMachine : X86Machine
{
    private const uint SecondIoApicAddress = 0xfec10000;
    private const ulong TransportsAddress = 0xfeb00000;
    private const int FirstIsaIrq = 5;
    private const int FirstFreeIrq = 16;
    private const int FirstSecondIrq = 24;
    private const int FewTransports = 8;
    private const int AllTransports = 24;

    private readonly List<VirtioMmio> _transports = [];
    private int _firstTransportIrq;
    private Board? _board;
    private IsaBus? _isa;

    /// <inheritdoc/>
    public override MachineType MachineType => MachineType.Find("microvm")!;

    /// <summary>Emulate a real-time clock; auto: when the guest has no in-kernel clock.</summary>
    [QomProperty("rtc", Description = "Enable MC146818 RTC", Type = "OnOffAuto", ObjectOnly = true)]
    public OnOffAuto Rtc { get; set; } = OnOffAuto.Auto;

    /// <summary>The first serial port is there without being asked for.</summary>
    [QomProperty("isa-serial", Description = "Set off to disable the instantiation an ISA serial port", ObjectOnly = true)]
    public bool IsaSerial { get; set; } = true;

    /// <summary>A second I/O APIC, whose inputs are the transports' alone; auto: with ACPI, which describes it.</summary>
    [QomProperty("ioapic2", Description = "Enable second IO-APIC", Type = "OnOffAuto", ObjectOnly = true)]
    public OnOffAuto SecondIoApic { get; set; } = OnOffAuto.Auto;

    /// <summary>Tell a kernel without ACPI on its command line where devices are.</summary>
    [QomProperty("auto-kernel-cmdline", Description = "Set off to disable adding virtio-mmio devices to the kernel cmdline", ObjectOnly = true)]
    public bool AutoKernelCommandLine { get; set; } = true;

    /// <inheritdoc/>
    protected override string KernelCommandLine
    {
        get
        {
            string line = Parameters.Append;
            if (Acpi != OnOffAuto.Off || !AutoKernelCommandLine)
            {
                return line;
            }

            for (int i = _transports.Count - 1; i >= 0; i--)
            {
                if (_transports[i].Device is not null)
                {
                    line += $" virtio_mmio.device={VirtioMmio.RegisterBytes}@0x{_transports[i].Address:x}:{_firstTransportIrq + i}";
                }
            }

            return line;
        }
    }

    private bool HasSecondIoApic => Acpi != OnOffAuto.Off && SecondIoApic != OnOffAuto.Off;

    /// <inheritdoc/>
    protected override void BuildBoard()
    {
        Layout = RamLayout.ForMicrovm(Parameters.RamSize);
        _board = new Board(this, Environment);
        _board.CreateInterruptControllers(withPit: true);
        CreateVcpus();
        MapRam();
        CreateFwCfg();
        IsaBusBridge bridge = Plug<IsaBusBridge>("isabus-bridge", SystemBus);
        _isa = bridge.IsaBus;
        _board.RealizeInterruptControllers(bridge.IsaBus);
        if (Rtc == OnOffAuto.On || (Rtc == OnOffAuto.Auto && Accelerator.IsQtest))
        {
            _board.CreateRtc(bridge.IsaBus, Parameters);
        }

        if (IsaSerial)
        {
            _board.CreateSerials(bridge.IsaBus, Parameters, 1);
        }

        _board.CreateGed();
        CreateTransports();
        MapFirmware(asRam: true, 64 << 10);
    }

    /// <inheritdoc/>
    protected override void CheckPlug(X86Cpu cpu)
    {
        if (Acpi != OnOffAuto.Off && Plugged.Count >= Parameters.Smp.Cpus)
        {
            throw new QapiException($"virt: device plug request for unsupported device type: {cpu.Type.Name}");
        }
    }

    /// <inheritdoc/>
    protected override void PrepareDirectBoot() => _board!.PrepareDirectBoot();

    /// <inheritdoc/>
    protected override AcpiConfig DescribeAcpi() => new()
    {
        ApicIds = ApicIds,
        Ged = new AcpiGedBlock(),
        IoApics = HasSecondIoApic ? [new(0, 0xfec00000, 0), new(1, SecondIoApicAddress, FirstSecondIrq)] : [new(0, 0xfec00000, 0)],
        VirtioMmio = [.. _transports.Select((t, i) => new AcpiVirtioMmio((uint)t.Address, (uint)VirtioMmio.RegisterBytes, (uint)(_firstTransportIrq + i)))
            .Where((_, i) => _transports[i].Device is not null)],
        Serials = Board.SerialPorts(_isa!),
        PvpanicPort = Board.PvPanicPort(_isa!),
        Rtc = Rtc == OnOffAuto.On,
        FwCfgPort = 0x510,
        OemId = "BOCHS ",
        OemTableId = "BXPC    ",
    };

    private void CreateTransports()
    {
        IoApicDevice? second = null;
        if (HasSecondIoApic)
        {
            second = Plug<IoApicDevice>("ioapic", SystemBus, a =>
            {
                a.Address = SecondIoApicAddress;
                a.HasIsaInterrupts = false;
            });
        }

        _firstTransportIrq = second is not null ? FirstSecondIrq : Acpi != OnOffAuto.Off ? FirstFreeIrq : FirstIsaIrq;
        for (int i = 0; i < (second is not null ? AllTransports : FewTransports); i++)
        {
            _transports.Add(Plug<VirtioMmio>("virtio-mmio", SystemBus, t =>
            {
                t.Number = i;
                t.Address = TransportsAddress + ((ulong)i * VirtioMmio.RegisterBytes);
                t.Irq = second is not null ? new InterruptLine(second, i) : Gsi[_firstTransportIrq + i];
            }));
        }
    }
}
