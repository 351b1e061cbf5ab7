using System.Buffers.Binary;

namespace Vmm.Devices.Pci;

/// <summary>How monitors describe PCI functions.</summary>
public static class PciNames
{
    /// <summary>Name of a class as <c>info pci</c> shows it; "Class xxxx" for unknown ones.</summary>
    public static string OfClass(ushort deviceClass) => deviceClass switch
    {
        0x0100 => "SCSI controller",
        0x0101 => "IDE controller",
        0x0106 => "SATA controller",
        0x0108 => "NVMe controller",
        0x0200 => "Ethernet controller",
        0x0300 => "VGA controller",
        0x0380 => "Display controller",
        0x0500 => "RAM controller",
        0x0600 => "Host bridge",
        0x0601 => "ISA bridge",
        0x0604 => "PCI bridge",
        0x0680 => "Bridge",
        0x0780 => "Communication controller",
        0x0c03 => "USB controller",
        0x0c05 => "SMBus",
        _ => $"Class {deviceClass:x4}",
    };

    /// <summary>The line of <c>info qtree</c>.</summary>
    public static string DescribeForTree(PciDevice device, int bus)
    {
        ReadOnlySpan<byte> config = device.Config;
        return $"class {OfClass(Word(config, PciConfig.ClassDevice))}, addr {bus:x2}:{device.Slot:x2}.{device.Function:x}, " +
            $"pci id {Word(config, PciConfig.VendorId):x4}:{Word(config, PciConfig.DeviceId):x4} " +
            $"(sub {Word(config, PciConfig.SubsystemVendorId):x4}:{Word(config, PciConfig.SubsystemId):x4})";
    }

    private static ushort Word(ReadOnlySpan<byte> config, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(config[offset..]);
}
