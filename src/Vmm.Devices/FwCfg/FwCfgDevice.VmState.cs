using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.FwCfg;

public abstract partial class FwCfgDevice : IVmStateful
{
    private const ulong HostPageMask = 4095;

    /// <inheritdoc/>
    public string VmStateName => "fw_cfg";

    /// <inheritdoc/>
    public int VmStateVersion => 2;

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer)
    {
        ulong tables = SizeOfFile("etc/acpi/tables");
        ulong linker = SizeOfFile("etc/table-loader");
        ulong rsdp = SizeOfFile("etc/acpi/rsdp");
        new FwCfgState
        {
            CurrentKey = _currentKey,
            Offset = _offset,
            Dma = DmaEnabled ? new FwCfgDmaState { Address = _dmaAddress } : null,
            AcpiSizes = AcpiMrRestore && ((tables | linker | rsdp) & HostPageMask) != 0
                ? new FwCfgAcpiState { TablesSize = tables, LinkerSize = linker, RsdpSize = rsdp }
                : null,
        }.Save(writer);
    }

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        FwCfgState s = FwCfgState.Load(reader, version);
        Select(s.CurrentKey);
        _offset = s.Offset;
        _dmaAddress = s.Dma?.Address ?? 0;
    }
}

/// <summary>Migration section of the configuration device.</summary>
[VmState("fw_cfg", Version = 2, MinimumVersion = 2)]
public sealed partial record FwCfgState
{
    /// <summary>Selected key.</summary>
    public ushort CurrentKey { get; init; }

    /// <summary>Read position in it.</summary>
    public uint Offset { get; init; }

    /// <summary>DMA registers.</summary>
    [VmSubsection]
    public FwCfgDmaState? Dma { get; init; }

    /// <summary>Sizes of the ACPI blobs.</summary>
    [VmSubsection]
    public FwCfgAcpiState? AcpiSizes { get; init; }
}

/// <summary>DMA registers.</summary>
[VmState("fw_cfg/dma", Version = 0, MinimumVersion = 0)]
public sealed partial record FwCfgDmaState
{
    /// <summary>Address latched so far.</summary>
    public ulong Address { get; init; }
}

/// <summary>Sizes of the ACPI blobs at the source.</summary>
[VmState("fw_cfg/acpi_mr")]
public sealed partial record FwCfgAcpiState
{
    /// <summary>etc/acpi/tables.</summary>
    public ulong TablesSize { get; init; }

    /// <summary>etc/table-loader.</summary>
    public ulong LinkerSize { get; init; }

    /// <summary>etc/acpi/rsdp.</summary>
    public ulong RsdpSize { get; init; }
}
