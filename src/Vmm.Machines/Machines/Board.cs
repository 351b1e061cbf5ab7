using Vmm.Devices.Ged;
using Vmm.Devices.I440Fx;
using Vmm.Devices.I8257;
using Vmm.Devices.Isa;
using Vmm.Devices.PcSpeaker;
using Vmm.Devices.Piix;
using Vmm.Devices.PvPanic;
using Vmm.Devices.Rtc;
using Vmm.Devices.Serial16550;
using Vmm.Machines.Acpi;
using Vmm.Machines.Loading;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>Wires the devices that PC-like boards have in common.</summary>
internal sealed class Board(Machine machine, MachineEnvironment environment)
{
    /// <summary>Ports of PIIX4 power management on a machine that starts without firmware.</summary>
    public const ushort PmBase = 0x600;

    private InterruptControllers? _controllers;
    private Mc146818? _rtc;
    private I440FxHost? _host;
    private Piix4Pm? _pm;
    private IsaBus? _isa;

    /// <summary>Where firmware is mapped: the PCI space behind the host bridge; null for the system space.</summary>
    public MemoryRegion? FirmwareParent { get; private set; }

    private DeviceFactory Devices => environment.Devices;

    /// <summary>Makes the interrupt controllers, in the kernel as far as the accelerator has them, and leads the GSIs to them.</summary>
    public void CreateInterruptControllers(bool withPit) => _controllers = new InterruptControllers(machine, environment, withPit);

    /// <summary>Puts the controllers and the interval timer of a board without PCI on its ISA bus.</summary>
    public void RealizeInterruptControllers(IsaBus isa)
    {
        _controllers!.Realize(isa, machine);
        _controllers.RealizePit(isa);
    }

    /// <summary>The real-time clock.</summary>
    public void CreateRtc(IsaBus bus, MachineParameters parameters)
    {
        _rtc = (Mc146818)Devices.Create("mc146818rtc");
        _rtc.TimeBase = parameters.RtcTimeBase;

        // The year in the clock's registers is that of the calendar, not one counted from 1980.
        _rtc.BaseYear = 0;
        _rtc.BaseYear = 0;
        Devices.Realize(_rtc, bus);
    }

    /// <summary>Serial ports that were asked for, at most <paramref name="max"/>.</summary>
    public void CreateSerials(IsaBus bus, MachineParameters parameters, int max)
    {
        for (int i = 0; i < parameters.SerialChardevs.Count && i < max; i++)
        {
            IsaSerial serial = (IsaSerial)Devices.Create("isa-serial");
            serial.Index = (uint)i;
            serial.Chardev = parameters.SerialChardevs[i];
            Devices.Realize(serial, bus);
        }
    }

    /// <summary>The chipset of the standard PC, in the order in which its devices are numbered.</summary>
    public void CreatePcChipset(PcMachine pc, MemoryRegion ram)
    {
        _host = (I440FxHost)Devices.Create("i440FX-pcihost");
        _host.Ram = ram;
        _host.RamSize = pc.Parameters.RamSize;
        machine.AddChild("i440fx", _host);
        Devices.Realize(_host, Devices.MainSystemBus);
        FirmwareParent = _host.PciMemory;
        Piix3 bridge = (Piix3)Devices.Create("PIIX3");
        Devices.Realize(bridge, _host.PciBus);
        _host.PciBus.IrqSink = bridge;
        IsaBus isa = _isa = bridge.IsaBus;

        // Firmware and delay loops write to these: nothing is there, and nothing is logged.
        machine.SystemIo.AddSubregion(0x80, MemoryRegion.Io("ioport80", 1, FloatingPort.Instance, IoConstraints.Bytes, owner: machine));
        machine.SystemIo.AddSubregion(0xf0, MemoryRegion.Io("ioportF0", 1, FloatingPort.Instance, IoConstraints.Bytes, owner: machine));
        Devices.Realize(new DmaController { HighPageBase = -1 }, isa);
        Devices.Realize(new DmaController { HighPageBase = -1, IoBase = 0xc0, PageBase = 0x88, Shift = 1 }, isa);
        _controllers!.Realize(isa, _host);
        CreateRtc(isa, pc.Parameters);
        _controllers.RealizePit(isa);
        var speaker = (PcSpeakerPort)Devices.Create("isa-pcspk");
        speaker.Pit = _controllers.Pit;
        Devices.Realize(speaker, isa);
        CreateSerials(isa, pc.Parameters, 4);
        if (pc.I8042)
        {
            Devices.Realize(Devices.Create("i8042"), isa);
        }

        Devices.Realize(Devices.Create("port92"), isa);
        if (pc.Acpi == OnOffAuto.Off)
        {
            return;
        }

        _pm = (Piix4Pm)Devices.Create("PIIX4_PM");
        _pm.Address = (1 << 3) | 3;
        _pm.HasSmm = machine.Accelerator.IsQtest;
        _pm.SerialPorts = (byte)Math.Min((1 << Math.Min(pc.Parameters.SerialChardevs.Count, 2)) - 1, 3);
        Devices.Realize(_pm, _host.PciBus);
    }

    /// <summary>
    /// What firmware would have done before it starts a kernel: interrupt controllers masked, RAM everywhere below 1 MiB, power management at its
    /// usual ports.
    /// </summary>
    public void PrepareDirectBoot()
    {
        _controllers!.PrepareDirectBoot();
        _host?.Bridge.ShadowAll();
        _pm?.EnableAt(PmBase);
    }

    /// <summary>Which sleep states firmware may offer, by number: bit 7, with the sleep type in the low bits.</summary>
    public byte[] SleepStates() =>
    [
        0x80, 0, 0, (byte)(1 | (_pm!.DisableS3 == 0 ? 0x80 : 0)), (byte)(_pm.S4Type | (_pm.DisableS4 == 0 ? 0x80 : 0)), 0x80,
    ];

    /// <summary>What the tables of the standard PC describe.</summary>
    public AcpiConfig DescribePc(IReadOnlyList<uint> apicIds, RamLayout layout, PcMachine pc) => new()
    {
        ApicIds = apicIds,
        Pm = new AcpiPmBlock
        {
            Base = PmBase,
            Gpe0 = 0xafe0,
            ResetPort = 0xcf9,
            SuspendToRamType = _pm!.DisableS3 == 0 ? (byte)1 : null,
            SuspendToDiskType = _pm.DisableS4 == 0 ? _pm.S4Type : null,
        },
        Pci = new AcpiPciHost { WindowStart = (uint)layout.BelowFourGiB },
        Serials = SerialPorts(_isa!),
        PvpanicPort = PvPanicPort(_isa!),
        Keyboard = pc.I8042,
        Rtc = true,
        FwCfgPort = 0x510,
    };

    /// <summary>The generic event device of microvm.</summary>
    public void CreateGed()
    {
        AcpiGed ged = (AcpiGed)Devices.Create("acpi-ged-x86");
        ged.Irq = machine.Gsi[9];
        Devices.Realize(ged, Devices.MainSystemBus);
    }

    /// <summary>The serial ports on an ISA bus, whoever put them there.</summary>
    public static IReadOnlyList<AcpiSerial> SerialPorts(IsaBus isa)
    {
        List<AcpiSerial> ports = [];
        foreach (Device device in isa.Devices)
        {
            if (device is IsaSerial serial)
            {
                ports.Add(new AcpiSerial((int)serial.Index + 1, (ushort)serial.IoBase, (int)serial.Irq));
            }
        }

        return ports;
    }

    /// <summary>Port of the paravirtual panic device on an ISA bus; 0 without one.</summary>
    public static ushort PvPanicPort(IsaBus isa)
    {
        foreach (Device device in isa.Devices)
        {
            if (device is IsaPvPanic panic)
            {
                return panic.IoPort;
            }
        }

        return 0;
    }

    /// <summary>Memory sizes and equipment in the clock's RAM, where firmware and old systems look for them.</summary>
    public void FillCmos(RamLayout layout)
    {
        Mc146818 rtc = _rtc!;
        rtc.SetCmos(0x15, 640 & 0xff);
        rtc.SetCmos(0x16, 640 >> 8);
        ulong extended = Math.Min(layout.BelowFourGiB > 1 << 20 ? (layout.BelowFourGiB - (1 << 20)) >> 10 : 0, 65535);
        SetWord(rtc, 0x17, (ushort)extended);
        SetWord(rtc, 0x30, (ushort)extended);
        ulong above16 = Math.Min(layout.BelowFourGiB > 16 << 20 ? (layout.BelowFourGiB - (16 << 20)) >> 16 : 0, 65535);
        SetWord(rtc, 0x34, (ushort)above16);
        ulong high = layout.AboveFourGiB >> 16;
        rtc.SetCmos(0x5b, (byte)high);
        rtc.SetCmos(0x5c, (byte)(high >> 8));
        rtc.SetCmos(0x5d, (byte)(high >> 16));
        SetCpuCount(machine.Parameters.Smp.Cpus);
        rtc.SetCmos(0x14, 0x02 | 0x04);
        BootParameters boot = machine.Parameters.Boot;
        string order = boot.Order ?? machine.MachineType.DefaultBootOrder;
        SetBootOrder(boot.Once ?? order);
        if (boot.Once is not null)
        {
            int resets = 0;
            machine.AddResetHandler(() =>
            {
                // The reset that starts the machine comes before the boot that "once" is about.
                if (++resets == 2)
                {
                    SetBootOrder(order);
                }
            });
        }
    }

    /// <summary>Number of vCPUs, where firmware looks for it.</summary>
    public void SetCpuCount(int count) => _rtc?.SetCmos(0x5f, (byte)(count - 1));

    /// <summary>Boot devices, where firmware looks for them; the first three count.</summary>
    /// <exception cref="QapiException">Too many, or a device that a PC cannot boot from.</exception>
    public void SetBootOrder(string order)
    {
        BootOrder.Check(order);
        if (order.Length > 3)
        {
            throw new QapiException("Too many boot devices for PC");
        }

        foreach (char device in order)
        {
            if (BootCode(device.ToString(), 0) == 0)
            {
                throw new QapiException($"Invalid boot device for PC: '{device}'");
            }
        }

        _rtc!.SetCmos(0x3d, (byte)((BootCode(order, 1) << 4) | BootCode(order, 0)));
        _rtc.SetCmos(0x38, (byte)((BootCode(order, 2) << 4) | 1));
    }

    /// <summary>A port that takes everything and reads as ones.</summary>
    private sealed class FloatingPort : IIoHandler
    {
        public static FloatingPort Instance { get; } = new();

        public ulong Read(ulong offset, int size) => ulong.MaxValue;

        public void Write(ulong offset, ulong value, int size)
        {
            // Diagnostic codes, coprocessor error resets: nobody listens.
        }
    }

    private static int BootCode(string order, int index) => index >= order.Length ? 0 : order[index] switch
    {
        'a' or 'b' => 1,
        'c' => 2,
        'd' => 3,
        'n' => 4,
        _ => 0,
    };

    private static void SetWord(Mc146818 rtc, int address, ushort value)
    {
        rtc.SetCmos(address, (byte)value);
        rtc.SetCmos(address + 1, (byte)(value >> 8));
    }
}
