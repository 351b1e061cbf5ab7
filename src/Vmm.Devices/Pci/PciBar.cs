using Vmm.Memory;

namespace Vmm.Devices.Pci;

/// <summary>A base address register and the region behind it.</summary>
internal sealed class PciBar(int offset, byte typeBits, MemoryRegion region)
{
    private const ulong IoLimit = 0x10000;

    private MemoryRegion? _parent;

    public int Offset { get; } = offset;

    public byte TypeBits { get; } = typeBits;

    public MemoryRegion Region { get; } = region;

    public bool IsIo => (TypeBits & PciConfig.BarIo) != 0;

    public bool Is64Bit => !IsIo && (TypeBits & PciConfig.BarMemory64) != 0;

    /// <summary>Where it is mapped; all ones for nowhere.</summary>
    public ulong MappedAt => _parent is null ? ulong.MaxValue : Region.Address;

    /// <summary>Maps, moves or unmaps the region after the register or the command word changed.</summary>
    public void Update(PciBus bus, bool enabled, ulong register)
    {
        ulong size = (ulong)Region.Size;
        ulong address = register & ~(size - 1) & ~(IsIo ? 3ul : 0xful);
        ulong last = address + size - 1;

        // An all-ones or wrapping value is a size probe; zero is an unset register.
        bool valid = enabled && address != 0 && last > address &&
            (IsIo ? last < IoLimit : Is64Bit || last < uint.MaxValue);
        if (!valid)
        {
            Unmap();
            return;
        }

        MemoryRegion parent = IsIo ? bus.IoSpace : bus.MemorySpace;
        if (_parent is null)
        {
            parent.AddSubregion(address, Region, priority: 1);
            _parent = parent;
        }
        else
        {
            Region.SetAddress(address);
        }
    }

    public void Unmap()
    {
        _parent?.RemoveSubregion(Region);
        _parent = null;
    }
}
