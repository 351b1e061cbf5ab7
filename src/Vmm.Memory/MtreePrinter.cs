using System.Globalization;
using System.Text;

namespace Vmm.Memory;

/// <summary>Options of <c>info mtree</c>.</summary>
/// <param name="ShowDisabled">Disabled regions too (<c>-D</c>).</param>
/// <param name="DescribeOwner">Text for the owner of a region such as <c> owner:{dev id=x}</c> (<c>-o</c>); null for none.</param>
public sealed record MtreeOptions(bool ShowDisabled = false, Func<object?, string>? DescribeOwner = null);

/// <summary>Writes memory graphs and flat views in the layout of <c>info mtree</c>.</summary>
public static class MtreePrinter
{
    /// <summary>The regions of all <paramref name="spaces"/>, then the targets of aliases that were seen.</summary>
    public static void WriteTree(StringBuilder output, IReadOnlyList<AddressSpace> spaces, MtreeOptions options)
    {
        var aliased = new List<MemoryRegion>();
        var done = new HashSet<MemoryRegion>(ReferenceEqualityComparer.Instance);
        foreach (AddressSpace space in spaces)
        {
            if (!done.Add(space.Root))
            {
                continue;
            }

            foreach (AddressSpace same in spaces)
            {
                if (same.Root == space.Root)
                {
                    output.Append("address-space: ").Append(same.Name).Append('\n');
                }
            }

            Write(output, space.Root, 1, 0, options, aliased);
            output.Append('\n');
        }

        // The list grows while aliases are found within the targets of aliases.
        for (int i = 0; i < aliased.Count; i++)
        {
            output.Append("memory-region: ").Append(aliased[i].Name).Append('\n');
            Write(output, aliased[i], 1, 0, options, aliased);
            output.Append('\n');
        }
    }

    /// <summary>The flat views of all <paramref name="spaces"/> (<c>-f</c>); spaces that share a view are listed with it.</summary>
    /// <param name="output">Where the text goes.</param>
    /// <param name="spaces">Address spaces.</param>
    /// <param name="options">Options.</param>
    /// <param name="acceleratorSuffix">What follows ranges that the accelerator has mapped, e.g. <c>" KVM"</c>.</param>
    /// <param name="isMapped">Tells whether the accelerator has mapped a range of a space.</param>
    public static void WriteFlat(
        StringBuilder output,
        IReadOnlyList<AddressSpace> spaces,
        MtreeOptions options,
        string acceleratorSuffix,
        Func<AddressSpace, FlatRange, bool> isMapped)
    {
        var views = new List<FlatView>();
        foreach (AddressSpace space in spaces)
        {
            FlatView view = space.View;
            if (!views.Exists(v => v.Root == view.Root))
            {
                views.Add(view);
            }
        }

        for (int i = 0; i < views.Count; i++)
        {
            FlatView view = views[i];
            output.Append(CultureInfo.InvariantCulture, $"FlatView #{i}\n");
            AddressSpace? first = null;
            foreach (AddressSpace space in spaces)
            {
                if (space.View.Root == view.Root)
                {
                    first ??= space;
                    output.Append(" AS \"").Append(space.Name).Append("\", root: ").Append(space.Root.Name);
                    if (space.Root.AliasTarget is { } target)
                    {
                        output.Append(", alias ").Append(target.Name);
                    }

                    output.Append('\n');
                }
            }

            output.Append(" Root memory region: ").Append(view.Root?.Name ?? "(none)").Append('\n');
            if (view.Ranges.IsEmpty)
            {
                output.Append("  No rendered FlatView\n\n");
                continue;
            }

            foreach (FlatRange range in view.Ranges)
            {
                MemoryRegion region = range.Region;
                string type = range.ReadOnly && region.IsRam ? "rom" : TypeName(region);
                output.Append(CultureInfo.InvariantCulture, $"  {range.Start:x16}-{range.Last:x16} (prio {region.Priority}, {type}): {region.Name}");
                if (range.OffsetInRegion != 0)
                {
                    output.Append(CultureInfo.InvariantCulture, $" @{range.OffsetInRegion:x16}");
                }

                if (first is not null && isMapped(first, range))
                {
                    output.Append(acceleratorSuffix);
                }

                output.Append(options.DescribeOwner?.Invoke(region.Owner)).Append('\n');
            }

            output.Append('\n');
        }
    }

    private static void Write(
        StringBuilder output, MemoryRegion region, int level, ulong origin, MtreeOptions options, List<MemoryRegion> aliased)
    {
        ulong start = unchecked(origin + region.Address);
        ulong last = region.Size == 0 ? start : unchecked(start + (ulong)(region.Size - 1));
        if (region.AliasTarget is { } target)
        {
            if (!aliased.Contains(target))
            {
                aliased.Add(target);
            }

            if (region.Enabled || options.ShowDisabled)
            {
                Indent(output, level);
                ulong targetLast = region.Size == 0 ? region.AliasOffset : unchecked(region.AliasOffset + (ulong)(region.Size - 1));
                string type = region.ReadOnly && target.IsRam ? "rom" : TypeName(Resolve(target));
                output.Append(
                    CultureInfo.InvariantCulture,
                    $"{start:x16}-{last:x16} (prio {region.Priority}, {type}): alias {region.Name} @{target.Name} {region.AliasOffset:x16}-{targetLast:x16}");
                Finish(output, region, options);
            }
        }
        else if (region.Enabled || options.ShowDisabled)
        {
            Indent(output, level);
            output.Append(CultureInfo.InvariantCulture, $"{start:x16}-{last:x16} (prio {region.Priority}, {TypeName(region)}): {region.Name}");
            Finish(output, region, options);
        }

        if (region.Subregions.Count == 0)
        {
            return;
        }

        // By address, winners first among those that begin at the same one.
        var children = new List<MemoryRegion>(region.Subregions.Count);
        foreach (MemoryRegion child in region.Subregions)
        {
            int i = 0;
            while (i < children.Count && !Before(child, children[i]))
            {
                i++;
            }

            children.Insert(i, child);
        }

        foreach (MemoryRegion child in children)
        {
            Write(output, child, level + 1, start, options, aliased);
        }
    }

    private static bool Before(MemoryRegion a, MemoryRegion b) =>
        a.Address < b.Address || (a.Address == b.Address && a.Priority > b.Priority);

    private static MemoryRegion Resolve(MemoryRegion region)
    {
        while (region.AliasTarget is { } target)
        {
            region = target;
        }

        return region;
    }

    private static void Indent(StringBuilder output, int level) => output.Append(' ', level * 2);

    private static void Finish(StringBuilder output, MemoryRegion region, MtreeOptions options)
    {
        if (!region.Enabled)
        {
            output.Append(" [disabled]");
        }

        output.Append(options.DescribeOwner?.Invoke(region.Owner)).Append('\n');
    }

    private static string TypeName(MemoryRegion region) => region.Kind switch
    {
        MemoryRegionKind.Ram => region.ReadOnly ? "rom" : "ram",
        MemoryRegionKind.Rom => "rom",
        MemoryRegionKind.RomDevice => "romd",
        _ => "i/o",
    };
}
