using Vmm.Memory;

namespace Vmm.Devices;

/// <summary>The regions that a device has mapped, so that unrealize can take all of them out again.</summary>
public sealed class MappedRegions
{
    private readonly List<(MemoryRegion Parent, MemoryRegion Region)> _mapped = [];

    /// <summary>Maps <paramref name="region"/> in <paramref name="parent"/> and remembers it.</summary>
    public MemoryRegion Add(MemoryRegion parent, ulong offset, MemoryRegion region, int priority = 0)
    {
        parent.AddSubregion(offset, region, priority);
        _mapped.Add((parent, region));
        return region;
    }

    /// <summary>Unmaps everything, last mapped first.</summary>
    public void Clear()
    {
        for (int i = _mapped.Count - 1; i >= 0; i--)
        {
            _mapped[i].Parent.RemoveSubregion(_mapped[i].Region);
        }

        _mapped.Clear();
    }
}
