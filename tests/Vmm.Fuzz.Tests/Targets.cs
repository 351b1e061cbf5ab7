using Vmm.Fuzz.Tests.Blocks;
using Vmm.Fuzz.Tests.Booting;
using Vmm.Fuzz.Tests.Devices;
using Vmm.Fuzz.Tests.Dumps;
using Vmm.Fuzz.Tests.Monitors;
using Vmm.Fuzz.Tests.Parsing;

namespace Vmm.Fuzz.Tests;

/// <summary>All targets.</summary>
internal static class Targets
{
    public static IReadOnlyList<FuzzTarget> All { get; } =
    [
        new JsonTarget(),
        new QmpSessionTarget(),
        new OptionsTarget(),
        new HmpTarget(),
        new KernelTarget("elf", "7f454c46", "58656e00", "0400000004000000120000005865", "ffffffff80000000", "0000003f00000000", "00000001"),
        new KernelTarget("bzimage", "48647253", "0f02", "0202", "ffffff7f", "55aa", "00000000", "ffffffff"),
        new KernelTarget("multiboot", "02b0ad1b030001004c4f51e4", "02b0ad1b03000000", "02b0ad1b", "00001000", "7f454c46"),
        new ImageTarget("vmdk"),
        new ImageTarget("vdi"),
        new ImageTarget("vpc"),
        new ImageTarget("vhdx"),
        new ImageTarget("qed"),
        new ImageTarget("parallels"),
        new ImageTarget("bochs"),
        new ImageTarget("cloop"),
        new ImageTarget("dmg"),
        new LuksHeaderTarget(),
        new NbdServerTarget(),
        new NbdClientTarget(),
        new TlsTarget(),
        new VhostUserTarget(),
        new Qcow2Target(),
        new BlockdevAddTarget(),
        new DumpTarget(),
        new FwCfgDmaTarget(),
        new VirtioTarget(),
        new DeviceTarget("serial", (0x3f8, 8)),
        new DeviceTarget("rtc", (0x70, 2)),
        new DeviceTarget("i8042", (0x60, 1), (0x64, 1)),
        new DeviceTarget("pvpanic", (0x505, 1)),
        new DeviceTarget("debug-exit", (0x501, 2)),
        new DeviceTarget("port92", (0x92, 1)),
        new DeviceTarget("fw_cfg", (0x510, 2), (0x514, 8)),
        new DeviceTarget("power", (0x600, 0x40), (0xafe0, 4), (0xb100, 0x40)),
        new DeviceTarget("debugcon", (0xe9, 1)),
        new DeviceTarget("ioapic", (0xfec00000, 0x44)),
        new DeviceTarget("ged", (0xfea00000, 4), (0xfea00200, 3)),
        new DeviceTarget("pvpanic-pci", (DeviceTarget.PciRegisters, 2)),
        new DeviceTarget(
            "chipset", (0x00, 0x10), (0x20, 2), (0x40, 4), (0x61, 1), (0x80, 0x10), (0xa0, 2), (0xb2, 2), (0xc0, 0x20), (0x4d0, 2), (0x600, 0x10), (0xcf8, 8)),
    ];
}
