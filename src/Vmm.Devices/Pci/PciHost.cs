using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Pci;

/// <summary>
/// Configuration mechanism #1 (PCI specification 3.0, 3.2.2.3.2): an address register and a data window, as a host bridge maps them.
/// </summary>
public sealed class PciHostRegisters(PciBus bus) : IVmStateful
{
    private const uint Enable = 1u << 31;

    private uint _address;

    /// <inheritdoc/>
    public string VmStateName => "PCIHost";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <summary>Reads the address register.</summary>
    public ulong ReadAddress(ulong offset, int size) => _address;

    /// <summary>Writes the address register, which only takes whole 32-bit writes.</summary>
    public void WriteAddress(ulong offset, ulong value, int size)
    {
        if (offset == 0 && size == 4)
        {
            _address = (uint)value;
        }
    }

    /// <summary>Reads the data window.</summary>
    public ulong ReadData(ulong offset, int size) =>
        IsAccepted(out int function) ? bus.ReadConfig(function, Register(offset), size) : uint.MaxValue;

    /// <summary>Writes the data window.</summary>
    public void WriteData(ulong offset, ulong value, int size)
    {
        if (IsAccepted(out int function))
        {
            bus.WriteConfig(function, Register(offset), (uint)value, size);
        }
    }

    /// <summary>Power-on state.</summary>
    public void Reset() => _address = 0;

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new PciHostState { Address = _address }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version) => _address = PciHostState.Load(reader, version).Address;

    private bool IsAccepted(out int function)
    {
        function = (int)(_address >> 8) & 0xff;
        return (_address & Enable) != 0 && ((_address >> 16) & 0xff) == bus.Number;
    }

    private int Register(ulong offset) => (int)((_address & 0xfc) | ((uint)offset & 3));
}

/// <summary>Migration section of a host bridge's registers.</summary>
[VmState("PCIHost")]
public sealed partial record PciHostState
{
    /// <summary>Address register.</summary>
    public uint Address { get; init; }
}
