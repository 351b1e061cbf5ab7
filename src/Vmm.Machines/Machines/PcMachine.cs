using Vmm.Machines.Acpi;
using Vmm.Machines.Loading;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>The standard PC: i440FX and PIIX3 with the ISA devices that every guest knows.</summary>
[QomType("pc-i440fx-7.2-machine")]
public sealed partial class PcMachine : X86Machine
{
    private const ulong HighestLowRam = 0xe0000000;
    private Board? _board;

    /// <inheritdoc/>
    public override MachineType MachineType => MachineType.Find("pc-i440fx-7.2")!;

    /// <summary>Most RAM below the hole under 4 GiB, in bytes; 0 for the machine's own split.</summary>
    [QomProperty("max-ram-below-4g", Description = "Maximum ram below the 4G boundary (32bit boundary)", IsSize = true, ObjectOnly = true)]
    public ulong MaxRamBelow4G { get; set; }

    /// <summary>Keyboard controller present.</summary>
    [QomProperty("i8042", Description = "Enable/disable Intel 8042 PS/2 Controller", ObjectOnly = true)]
    public bool I8042 { get; set; } = true;

    /// <inheritdoc/>
    protected override void BuildBoard()
    {
        if (MaxRamBelow4G > HighestLowRam)
        {
            throw new QapiException("Machine property 'max-ram-below-4g' exceeds the start of the PCI hole");
        }

        Layout = MaxRamBelow4G > 0 && MaxRamBelow4G < Parameters.RamSize
            ? new RamLayout(MaxRamBelow4G, Parameters.RamSize - MaxRamBelow4G)
            : RamLayout.ForPc(Parameters.RamSize);
        _board = new Board(this, Environment);
        _board.CreateInterruptControllers(withPit: true);
        CreateVcpus();
        Vmm.Memory.MemoryRegion ram = MapRam();
        CreateFwCfg();
        _board.CreatePcChipset(this, ram);
        MapFirmware(asRam: false, 256 << 10, _board.FirmwareParent);
        _board.FillCmos(Layout);
    }

    /// <inheritdoc/>
    protected override AcpiConfig DescribeAcpi() => _board!.DescribePc(ApicIds, Layout, this);

    /// <inheritdoc/>
    public override void SetBootOrder(string order) => _board!.SetBootOrder(order);

    /// <inheritdoc/>
    protected override void CpuCountChanged(int count) => _board?.SetCpuCount(count);

    /// <inheritdoc/>
    protected override void PrepareDirectBoot() => _board!.PrepareDirectBoot();
}
