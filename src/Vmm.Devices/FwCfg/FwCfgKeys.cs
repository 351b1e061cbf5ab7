namespace Vmm.Devices.FwCfg;

/// <summary>Selector keys with fixed numbers (QEMU docs/specs/fw_cfg). Files get theirs from <see cref="FileFirst"/> on.</summary>
public static class FwCfgKeys
{
    /// <summary>"QEMU".</summary>
    public const ushort Signature = 0x00;

    /// <summary>Feature bits: 1 traditional interface, 2 DMA.</summary>
    public const ushort Id = 0x01;

    /// <summary>UUID of the machine, 16 bytes.</summary>
    public const ushort Uuid = 0x02;

    /// <summary>RAM size, 64 bits.</summary>
    public const ushort RamSize = 0x03;

    /// <summary>Non-zero without graphics, 16 bits.</summary>
    public const ushort NoGraphic = 0x04;

    /// <summary>Number of CPUs at boot, 16 bits.</summary>
    public const ushort NbCpus = 0x05;

    /// <summary>Load address of the kernel, 32 bits.</summary>
    public const ushort KernelAddr = 0x07;

    /// <summary>Size of the kernel, 32 bits.</summary>
    public const ushort KernelSize = 0x08;

    /// <summary>Load address of the initial RAM disk, 32 bits.</summary>
    public const ushort InitrdAddr = 0x0a;

    /// <summary>Size of the initial RAM disk, 32 bits.</summary>
    public const ushort InitrdSize = 0x0b;

    /// <summary>NUMA topology, 64-bit words.</summary>
    public const ushort Numa = 0x0d;

    /// <summary>Non-zero when the boot menu is wanted, 16 bits.</summary>
    public const ushort BootMenu = 0x0e;

    /// <summary>APIC ids possible, 16 bits.</summary>
    public const ushort MaxCpus = 0x0f;

    /// <summary>Entry point of the kernel, 32 bits.</summary>
    public const ushort KernelEntry = 0x10;

    /// <summary>Contents of the kernel.</summary>
    public const ushort KernelData = 0x11;

    /// <summary>Contents of the initial RAM disk.</summary>
    public const ushort InitrdData = 0x12;

    /// <summary>Load address of the command line, 32 bits.</summary>
    public const ushort CmdlineAddr = 0x13;

    /// <summary>Size of the command line with its NUL, 32 bits.</summary>
    public const ushort CmdlineSize = 0x14;

    /// <summary>The command line.</summary>
    public const ushort CmdlineData = 0x15;

    /// <summary>Load address of the real-mode kernel, 32 bits.</summary>
    public const ushort SetupAddr = 0x16;

    /// <summary>Size of the real-mode kernel, 32 bits.</summary>
    public const ushort SetupSize = 0x17;

    /// <summary>Contents of the real-mode kernel.</summary>
    public const ushort SetupData = 0x18;

    /// <summary>Directory of files.</summary>
    public const ushort FileDir = 0x19;

    /// <summary>First file.</summary>
    public const ushort FileFirst = 0x20;

    /// <summary>Keys of the architecture carry this bit.</summary>
    public const ushort ArchLocal = 0x8000;

    /// <summary>ACPI tables of -acpitable (x86).</summary>
    public const ushort AcpiTables = ArchLocal + 0;

    /// <summary>SMBIOS entries of -smbios, old form (x86).</summary>
    public const ushort SmbiosEntries = ArchLocal + 1;

    /// <summary>Timer interrupt override is active (x86), 32 bits.</summary>
    public const ushort Irq0Override = ArchLocal + 2;

    /// <summary>HPET description (x86).</summary>
    public const ushort Hpet = ArchLocal + 4;
}
