namespace Vmm.Devices.Pci;

/// <summary>Offsets and bits of the configuration header (PCI Local Bus Specification 3.0, chapter 6).</summary>
public static class PciConfig
{
    public const int Size = 256;
    public const int VendorId = 0x00;
    public const int DeviceId = 0x02;
    public const int Command = 0x04;
    public const int Status = 0x06;
    public const int Revision = 0x08;
    public const int ProgrammingInterface = 0x09;
    public const int ClassDevice = 0x0a;
    public const int CacheLineSize = 0x0c;
    public const int HeaderType = 0x0e;
    public const int BarFirst = 0x10;
    public const int SubsystemVendorId = 0x2c;
    public const int SubsystemId = 0x2e;
    public const int RomBar = 0x30;
    public const int CapabilityList = 0x34;
    public const int InterruptLine = 0x3c;
    public const int InterruptPin = 0x3d;
    public const int HeaderSize = 0x40;

    public const ushort CommandIo = 0x0001;
    public const ushort CommandMemory = 0x0002;
    public const ushort CommandMaster = 0x0004;
    public const ushort CommandSerr = 0x0100;
    public const ushort CommandInterruptDisable = 0x0400;

    public const ushort StatusInterrupt = 0x0008;
    public const ushort StatusCapabilityList = 0x0010;
    public const ushort StatusFastBackToBack = 0x0080;
    public const ushort StatusDevselMedium = 0x0200;
    public const ushort StatusWriteOneToClear = 0xf900;

    public const byte HeaderMultifunction = 0x80;

    public const byte BarIo = 0x01;
    public const byte BarMemory64 = 0x04;
    public const byte BarPrefetch = 0x08;

    public const ushort SubsystemVendorQumranet = 0x1af4;
    public const ushort SubsystemQemu = 0x1100;
    public const ushort VendorIntel = 0x8086;
}
