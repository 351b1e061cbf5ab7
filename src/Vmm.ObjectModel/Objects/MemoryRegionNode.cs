using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>Shows a memory region in the object tree.</summary>
/// <param name="region">The region shown.</param>
public sealed class MemoryRegionNode(MemoryRegion region) : QomObject
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "memory-region".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "memory-region",
        Parent = "object",
        Properties = static () =>
        [
            new QomPropertyInfo("addr", "uint64", static o => ((MemoryRegionNode)o).Region.Address, null),
            new QomPropertyInfo("priority", "uint32", static o => ((MemoryRegionNode)o).Region.Priority, null),
            new QomPropertyInfo("size", "uint64", static o => SizeOf(((MemoryRegionNode)o).Region), null),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <summary>The region shown.</summary>
    public MemoryRegion Region { get; } = region;

    private static QValue SizeOf(MemoryRegion region) => region.Size > ulong.MaxValue ? ulong.MaxValue : (ulong)region.Size;
}
