namespace Vmm.Machines.Loading;

/// <summary>Address range types of the ACPI specification 6.4, table 15.1, as firmware reports them.</summary>
public enum E820Type : uint
{
    Ram = 1,
    Reserved = 2,
    AcpiReclaimable = 3,
    AcpiNvs = 4,
}

/// <summary>One entry of the memory map that a guest is given.</summary>
public readonly record struct E820Entry(ulong Address, ulong Length, E820Type Type);

/// <summary>Where a machine's RAM is: below and above the hole under 4 GiB, with the map that the guest sees when no firmware makes one.</summary>
public sealed class RamLayout
{
    private const ulong FourGiB = 1UL << 32;

    /// <summary>RAM from address 0, in bytes.</summary>
    public ulong BelowFourGiB { get; }

    /// <summary>RAM from 4 GiB, in bytes.</summary>
    public ulong AboveFourGiB { get; }

    /// <summary>The memory map for a guest that is started without firmware, in ascending order.</summary>
    public IReadOnlyList<E820Entry> E820 { get; }

    /// <param name="below">RAM from address 0, in bytes; at least 1 MiB for a usable map.</param>
    /// <param name="above">RAM from 4 GiB, in bytes.</param>
    public RamLayout(ulong below, ulong above)
    {
        BelowFourGiB = below;
        AboveFourGiB = above;
        var map = new List<E820Entry>(7)
        {
            new(0, LowMemory.AcpiBase, E820Type.Ram),
            new(LowMemory.AcpiBase, LowMemory.EbdaBase - LowMemory.AcpiBase, E820Type.AcpiReclaimable),
            new(LowMemory.EbdaBase, 0xa0000 - LowMemory.EbdaBase, E820Type.Reserved),
            new(0xe0000, 0x20000, E820Type.Reserved),
        };
        if (below > 0x100000)
        {
            map.Add(new(0x100000, below - 0x100000, E820Type.Ram));
        }

        // KVM keeps its identity map and its task state segments in the four pages under the firmware; the rest up to 4 GiB is firmware.
        map.Add(new(0xfeffc000, 0x4000, E820Type.Reserved));
        map.Add(new(0xfffc0000, 0x40000, E820Type.Reserved));
        if (above > 0)
        {
            map.Add(new(FourGiB, above, E820Type.Ram));
        }

        E820 = map;
    }

    /// <summary>The layout of <c>pc</c>: up to 3.5 GiB without a hole; a machine that has more starts it at 3 GiB.</summary>
    /// <param name="size">RAM in bytes.</param>
    public static RamLayout ForPc(ulong size) => Split(size, size >= 0xe0000000 ? 0xc0000000 : 0xe0000000);

    /// <summary>The layout of <c>microvm</c>: the hole starts at 3 GiB, whatever the size.</summary>
    /// <param name="size">RAM in bytes.</param>
    public static RamLayout ForMicrovm(ulong size) => Split(size, 0xc0000000);

    private static RamLayout Split(ulong size, ulong hole) => size > hole ? new(hole, size - hole) : new(size, 0);

    /// <summary>True when the whole range is RAM.</summary>
    public bool IsRam(ulong gpa, ulong length)
    {
        var end = gpa + length;
        if (end < gpa)
        {
            return false;
        }

        return end <= BelowFourGiB || (gpa >= FourGiB && end <= FourGiB + AboveFourGiB);
    }
}
