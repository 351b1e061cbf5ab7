namespace Vmm.Machines.Acpi;

/// <summary>A 16550 UART on the ISA bus.</summary>
public readonly record struct AcpiSerial(int Number, ushort Port, int Irq);

/// <summary>An I/O APIC and the first global system interrupt it serves.</summary>
public readonly record struct AcpiIoApic(byte Id, uint Address, uint FirstInterrupt);

/// <summary>A virtio-mmio transport.</summary>
public readonly record struct AcpiVirtioMmio(uint Address, uint Length, uint Interrupt);

/// <summary>The PIIX4 power management block: fixed hardware in I/O space.</summary>
public sealed class AcpiPmBlock
{
    /// <summary>I/O base: events at +0, control at +4, timer at +8.</summary>
    public ushort Base { get; init; } = 0x600;

    /// <summary>General purpose event block of four bytes; 0 without one.</summary>
    public ushort Gpe0 { get; init; }

    /// <summary>
    /// Port for system management commands with the values that switch ACPI mode on and off; 0 where ACPI mode is always on, which the PM block
    /// then shows from reset by SCI_EN in its control register.
    /// </summary>
    public ushort SmiCommandPort { get; init; }

    public byte EnableCommand { get; init; } = 0xf1;

    public byte DisableCommand { get; init; } = 0xf0;

    /// <summary>SLP_TYP for soft off; the PIIX4 wants 0.</summary>
    public byte SoftOffType { get; init; }

    /// <summary>SLP_TYP for suspend to RAM; null where the guest is not to do it.</summary>
    public byte? SuspendToRamType { get; init; }

    /// <summary>SLP_TYP for suspend to disk; null where the guest is not to do it.</summary>
    public byte? SuspendToDiskType { get; init; }

    /// <summary>Port that resets the machine when <see cref="ResetValue"/> is written; 0 without one.</summary>
    public ushort ResetPort { get; init; }

    public byte ResetValue { get; init; } = 0x06;
}

/// <summary>The generic event device of a hardware-reduced machine, in memory space.</summary>
public sealed class AcpiGedBlock
{
    /// <summary>Event selector register, four bytes; bit 1 is the power button.</summary>
    public uint Selector { get; init; } = 0xfea00000;

    /// <summary>Sleep control, sleep status and reset registers, one byte each.</summary>
    public uint Registers { get; init; } = 0xfea00200;

    public uint Interrupt { get; init; } = 9;

    /// <summary>Value that resets when written to the reset register.</summary>
    public byte ResetValue { get; init; } = 0x42;

    /// <summary>SLP_TYP for soft off.</summary>
    public byte SoftOffType { get; init; } = 5;
}

/// <summary>An i440FX host bridge with a PIIX3 that routes its interrupts.</summary>
public sealed class AcpiPciHost
{
    /// <summary>First address of the 32-bit window: the end of low RAM.</summary>
    public required uint WindowStart { get; init; }

    /// <summary>Last address of the 32-bit window.</summary>
    public uint WindowEnd { get; init; } = 0xfebfffff;

    /// <summary>64-bit window; none when both are 0.</summary>
    public ulong Window64Start { get; init; }

    public ulong Window64End { get; init; }
}

/// <summary>What of a machine the ACPI tables describe. Only what is really there may be named.</summary>
public sealed class AcpiConfig
{
    /// <summary>Local APIC identifiers of the vCPUs that are present, in order.</summary>
    public required IReadOnlyList<uint> ApicIds { get; init; }

    public IReadOnlyList<AcpiIoApic> IoApics { get; init; } = [new(0, 0xfec00000, 0)];

    /// <summary>Fixed hardware; exactly one of this and <see cref="Ged"/> is given.</summary>
    public AcpiPmBlock? Pm { get; init; }

    /// <summary>Hardware-reduced ACPI.</summary>
    public AcpiGedBlock? Ged { get; init; }

    public AcpiPciHost? Pci { get; init; }

    public IReadOnlyList<AcpiSerial> Serials { get; init; } = [];

    public IReadOnlyList<AcpiVirtioMmio> VirtioMmio { get; init; } = [];

    /// <summary>i8042 keyboard and mouse.</summary>
    public bool Keyboard { get; init; }

    public bool Rtc { get; init; }

    /// <summary>The 8254's interrupt arrives at input 2 of the I/O APIC.</summary>
    public bool Pit { get; init; } = true;

    /// <summary>Both 8259 controllers are there.</summary>
    public bool Pic { get; init; } = true;

    /// <summary>Port of the pvpanic device; 0 without one.</summary>
    public ushort PvpanicPort { get; init; }

    /// <summary>Base port of fw_cfg with its DMA registers; 0 without one.</summary>
    public ushort FwCfgPort { get; init; }

    /// <summary>Six characters, padded with blanks.</summary>
    public string OemId { get; init; } = "BOCHS ";

    /// <summary>Eight characters, padded with blanks.</summary>
    public string OemTableId { get; init; } = "BXPC    ";
}
