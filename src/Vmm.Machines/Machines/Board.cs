using Vmm.Devices.Isa;
using Vmm.Devices.Rtc;
using Vmm.Devices.Serial16550;
using Vmm.Kvm;
using Vmm.Machines.Acpi;
using Vmm.Machines.Loading;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;

namespace Vmm.Machines;

/// <summary>Wires the devices that PC-like boards have in common.</summary>
internal sealed class Board(Machine machine, MachineEnvironment environment)
{
    private Mc146818? _rtc;

    /// <summary>Where firmware is mapped: the PCI space behind the host bridge; null for the system space.</summary>
    public MemoryRegion? FirmwareParent { get; private set; }

    private DeviceFactory Devices => environment.Devices;

    /// <summary>Creates interrupt controllers, in the kernel as far as the accelerator has them, and leads the GSIs to them.</summary>
    public void CreateInterruptControllers(bool withPit)
    {
        KernelIrqchipMode mode = environment.Irqchip ?? KernelIrqchipMode.On;
        KernelIrqchip chip = environment.Accelerator.CreateIrqchip(mode);
        if (chip.GsiSink is { } sink)
        {
            for (int i = 0; i < machine.Gsi.Count; i++)
            {
                machine.Gsi[i].Connect(sink, i);
            }

            if (withPit && environment.Accelerator is KvmAccelerator kvm)
            {
                kvm.CreatePit(reinject: true);
            }
        }

        if (environment.Accelerator is KvmAccelerator accelerator && chip.Mode != KernelIrqchipMode.Off)
        {
            machine.SystemMemory.AddSubregion(0xfee00000, accelerator.CreateMsiWindow(), priority: 4096);
        }
    }

    /// <summary>The real-time clock.</summary>
    public void CreateRtc(IsaBus bus, MachineParameters parameters)
    {
        _rtc = (Mc146818)Devices.Create("mc146818rtc");
        _rtc.TimeBase = parameters.RtcTimeBase;
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

    /// <summary>The chipset of the standard PC.</summary>
    public void CreatePcChipset(PcMachine pc)
    {
        IsaBusBridge bridge = (IsaBusBridge)Devices.Create("isabus-bridge");
        Devices.Realize(bridge, environment.Devices.MainSystemBus);
        IsaBus isa = bridge.IsaBus;
        CreateRtc(isa, pc.Parameters);
        CreateSerials(isa, pc.Parameters, 4);
        if (pc.I8042)
        {
            Devices.Realize(Devices.Create("i8042"), isa);
            Devices.Realize(Devices.Create("port92"), isa);
        }
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
        rtc.SetCmos(0x5f, (byte)(machine.Parameters.Smp.Cpus - 1));
        rtc.SetCmos(0x14, 0x02 | 0x04);
    }

    private static void SetWord(Mc146818 rtc, int address, ushort value)
    {
        rtc.SetCmos(address, (byte)value);
        rtc.SetCmos(address + 1, (byte)(value >> 8));
    }
}
