using Vmm.Memory;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qom;

namespace Vmm.Devices;

/// <summary>The regions that a device has mapped, so that unrealize can take all of them out again. The object tree shows them below their owner.</summary>
public sealed class MappedRegions
{
    private readonly List<(MemoryRegion Parent, MemoryRegion Region, MemoryRegionNode? Node)> _mapped = [];

    /// <summary>Maps <paramref name="region"/> in <paramref name="parent"/> and remembers it.</summary>
    public MemoryRegion Add(MemoryRegion parent, ulong offset, MemoryRegion region, int priority = 0)
    {
        parent.AddSubregion(offset, region, priority);
        MemoryRegionNode? node = null;
        if (region.Owner is QomObject owner)
        {
            node = new MemoryRegionNode(region);
            owner.AddChild(region.Name + "[*]", node);
        }

        _mapped.Add((parent, region, node));
        return region;
    }

    /// <summary>Lines of <c>info qtree</c> about what is mapped in <paramref name="space"/>.</summary>
    public void Describe(MemoryRegion space, Action<string> line)
    {
        foreach ((MemoryRegion parent, MemoryRegion region, _) in _mapped)
        {
            if (parent == space)
            {
                line($"mmio {region.Address:x16}/{(ulong)region.Size:x16}");
            }
        }
    }

    /// <summary>Unmaps everything, last mapped first.</summary>
    public void Clear()
    {
        for (int i = _mapped.Count - 1; i >= 0; i--)
        {
            _mapped[i].Parent.RemoveSubregion(_mapped[i].Region);
            _mapped[i].Node?.Unparent();
        }

        _mapped.Clear();
    }
}
