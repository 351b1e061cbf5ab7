using Vmm.Devices.Isa;
using Vmm.Devices.Rtc;
using Vmm.Devices.Serial16550;
using Vmm.Kvm.CpuModels;
using Vmm.Machines.Acpi;
using Vmm.Machines.Loading;
using Vmm.ObjectModel.Accel;
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
    /// <inheritdoc/>
    public override MachineType MachineType => MachineType.Find("microvm")!;

    /// <summary>Emulate a real-time clock; auto: when the guest has no in-kernel clock.</summary>
    [QomProperty("rtc", Description = "Enable MC146818 RTC", Type = "OnOffAuto", ObjectOnly = true)]
    public OnOffAuto Rtc { get; set; } = OnOffAuto.Auto;

    /// <summary>The first serial port is there without being asked for.</summary>
    [QomProperty("isa-serial", Description = "Set off to disable the instantiation an ISA serial port", ObjectOnly = true)]
    public bool IsaSerial { get; set; } = true;

    /// <inheritdoc/>
    protected override void BuildBoard()
    {
        Layout = RamLayout.ForMicrovm(Parameters.RamSize);
        Board board = new(this, Environment);
        board.CreateInterruptControllers(withPit: true);
        CreateVcpus();
        MapRam();
        CreateFwCfg();
        IsaBusBridge bridge = Plug<IsaBusBridge>("isabus-bridge", SystemBus);
        board.RealizeInterruptControllers(bridge.IsaBus);
        if (Rtc == OnOffAuto.On || (Rtc == OnOffAuto.Auto && Accelerator.IsQtest))
        {
            board.CreateRtc(bridge.IsaBus, Parameters);
        }

        if (IsaSerial)
        {
            board.CreateSerials(bridge.IsaBus, Parameters, 1);
        }

        board.CreateGed();
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
    protected override AcpiConfig DescribeAcpi() => new()
    {
        ApicIds = ApicIds,
        Ged = new AcpiGedBlock(),
        Serials = IsaSerial && Parameters.SerialChardevs.Count > 0 ? [new AcpiSerial(1, 0x3f8, 4)] : [],
        Rtc = Rtc == OnOffAuto.On,
        FwCfgPort = 0x510,
        OemId = "BOCHS ",
        OemTableId = "BXPC    ",
    };
}
