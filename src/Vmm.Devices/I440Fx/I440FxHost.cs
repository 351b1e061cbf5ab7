using Vmm.Devices.Pci;
using Vmm.Devices.SystemBus;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I440Fx;

/// <summary>
/// The host side of the 440FX (QOM <c>i440FX-pcihost</c>): ports 0xcf8 and 0xcfc, the PCI memory space and the bus
/// <c>pci.0</c> with <see cref="I440FxBridge"/> in slot 0.
/// </summary>
/// <remarks>Source: Intel 440FX data sheet (82441FX). Home: the machine lock.</remarks>
[QomType("i440FX-pcihost", UserCreatable = false)]
[Stateless] // Its registers and its bus have sections of their own.
public sealed partial class I440FxHost : SysBusDevice
{
    private readonly PciHostRegisters _registers;

    /// <summary>A host bridge whose bus can be populated once it is realized.</summary>
    public I440FxHost()
    {
        PciMemory = MemoryRegion.Container("pci", UInt128.One << 64, this);
        PciBus = new PciBus
        {
            BusName = "pci.0",
            MemorySpace = PciMemory,
            MapIrq = static (slot, pin) => (pin + slot - 1) & 3,
        };
        _registers = new PciHostRegisters(PciBus);
    }

    /// <summary>RAM below 4 GiB, address 0 of it at physical 0. Set before realize.</summary>
    public MemoryRegion Ram { get; set; } = null!;

    /// <summary>Size of all RAM in bytes, for the register in which firmware finds it.</summary>
    public ulong RamSize { get; set; }

    /// <summary>What physical addresses without RAM show: BARs, option ROMs, the firmware.</summary>
    public MemoryRegion PciMemory { get; }

    /// <summary>The bus.</summary>
    public PciBus PciBus { get; }

    /// <summary>The function in slot 0.</summary>
    public I440FxBridge Bridge { get; private set; } = null!;

    /// <inheritdoc/>
    public override void Reset() => _registers.Reset();

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        PciBus.IoSpace = Machine.SystemIo;
        Machine.SystemMemory.AddSubregion(0, PciMemory, priority: -1);
        MapPorts("pci-conf-idx", 0xcf8, 4, new IoWindow(_registers.ReadAddress, _registers.WriteAddress), IoConstraints.Exact(4));
        MapPorts("pci-conf-data", 0xcfc, 4, new IoWindow(_registers.ReadData, _registers.WriteData), IoConstraints.Exact(4));
        AddChildBus(PciBus);
        Machine.Devices.VmStates.Add(_registers);
        Machine.Devices.VmStates.Add(PciBus);
        Bridge = new I440FxBridge(this) { Address = 0 };
        Machine.Devices.Realize(Bridge, PciBus);
    }
}
