namespace Vmm.Memory;

/// <summary>A run of guest addresses that one region answers. Immutable; safe to keep and to read on any thread.</summary>
public sealed class FlatRange
{
    internal FlatRange(MemoryRegion region, ulong start, ulong last, ulong offset, bool readOnly, bool romd, DirtyClients dirty)
    {
        Region = region;
        Start = start;
        Last = last;
        OffsetInRegion = offset;
        ReadOnly = readOnly;
        RomdMode = romd;
        DirtyLog = dirty;
        if (region.RamBlock is { } block)
        {
            Block = block;
            BlockOffset = region.RamOffset + offset;
            HostAddress = block.HostAddress + (nint)BlockOffset;
            ReadsDirectly = region.IsRam || romd;
            WritesDirectly = region.IsRam && !readOnly;
            if (dirty != DirtyClients.None)
            {
                block.EnableDirtyBitmap(dirty);
            }
        }
    }

    /// <summary>Region that answers.</summary>
    public MemoryRegion Region { get; }

    /// <summary>First address.</summary>
    public ulong Start { get; }

    /// <summary>Last address (inclusive, so that a range may end at 2^64).</summary>
    public ulong Last { get; }

    /// <summary>Offset of <see cref="Start"/> in <see cref="Region"/>.</summary>
    public ulong OffsetInRegion { get; }

    /// <summary>Guest writes are dropped (memory) here.</summary>
    public bool ReadOnly { get; }

    /// <summary>ROM device in the mode in which reads see memory.</summary>
    public bool RomdMode { get; }

    /// <summary>Clients that log writes to this range.</summary>
    public DirtyClients DirtyLog { get; }

    /// <summary>Memory behind the range; null for I/O.</summary>
    public RamBlock? Block { get; }

    /// <summary>Offset of <see cref="Start"/> in <see cref="Block"/>.</summary>
    public ulong BlockOffset { get; }

    /// <summary>Host address of <see cref="Start"/>; 0 for I/O.</summary>
    public nint HostAddress { get; }

    /// <summary>Guest reads need no handler.</summary>
    public bool ReadsDirectly { get; }

    /// <summary>Guest writes need no handler.</summary>
    public bool WritesDirectly { get; }

    /// <summary>The view that the range is part of.</summary>
    public FlatView View { get; internal set; } = FlatView.Empty;

    /// <summary>Size in bytes.</summary>
    public UInt128 Size => (UInt128)(Last - Start) + 1;

    internal bool Contains(ulong address) => address - Start <= Last - Start;

    internal bool SameMapping(FlatRange other) =>
        Region == other.Region && Start == other.Start && Last == other.Last && OffsetInRegion == other.OffsetInRegion
        && ReadOnly == other.ReadOnly && RomdMode == other.RomdMode;
}

/// <summary>
/// An address space resolved to disjoint ranges in ascending order. Immutable. Keeps its regions and memory alive, so a reader that
/// holds a view may finish an access although the graph has changed meanwhile.
/// </summary>
public sealed class FlatView
{
    private readonly FlatRange[] _ranges;

    private FlatView(MemoryRegion? root, FlatRange[] ranges, bool globalDirtyLog)
    {
        Root = root;
        _ranges = ranges;
        GlobalDirtyLog = globalDirtyLog;
        foreach (FlatRange range in ranges)
        {
            range.View = this;
        }
    }

    /// <summary>A view in which nothing is assigned.</summary>
    public static FlatView Empty { get; } = new(null, [], false);

    /// <summary>Region that was rendered; null when nothing is in the space.</summary>
    public MemoryRegion? Root { get; }

    /// <summary>Ranges in ascending order of addresses.</summary>
    public ReadOnlySpan<FlatRange> Ranges => _ranges;

    internal bool GlobalDirtyLog { get; }

    /// <summary>The range at <paramref name="address"/>; null when unassigned.</summary>
    public FlatRange? Find(ulong address)
    {
        FlatRange[] ranges = _ranges;
        int low = 0;
        int high = ranges.Length - 1;
        while (low <= high)
        {
            int mid = (int)((uint)(low + high) >> 1);
            FlatRange range = ranges[mid];
            if (address < range.Start)
            {
                high = mid - 1;
            }
            else if (address > range.Last)
            {
                low = mid + 1;
            }
            else
            {
                return range;
            }
        }

        return null;
    }

    /// <summary>Renders what <paramref name="root"/> and all within it look like from outside.</summary>
    public static FlatView Render(MemoryRegion? root, bool globalDirtyLog = false)
    {
        if (root is null)
        {
            return Empty;
        }

        var runs = new List<Run>();
        Render(runs, root, -(Int128)root.Address, 0, Int128.One << 64, false, globalDirtyLog);
        var ranges = new List<FlatRange>(runs.Count);
        for (int i = 0; i < runs.Count;)
        {
            Run run = runs[i++];
            while (i < runs.Count && run.CanMerge(runs[i]))
            {
                run = run with { End = runs[i].End };
                i++;
            }

            ranges.Add(new FlatRange(
                run.Region, (ulong)run.Start, (ulong)(run.End - 1), run.Offset, run.ReadOnly, run.Romd, run.Dirty));
        }

        return new FlatView(root, ranges.ToArray(), globalDirtyLog);
    }

    /// <summary>
    /// The region that decides everything <paramref name="root"/> shows, so that spaces whose roots are mere wrappers share one view;
    /// null when the space is empty.
    /// </summary>
    internal static MemoryRegion? EffectiveRoot(MemoryRegion root)
    {
        MemoryRegion region = root;
        while (region.Enabled && !region.ReadOnly)
        {
            if (region.AliasTarget is { } target)
            {
                if (region.AliasOffset == 0 && region.Size >= target.Size)
                {
                    region = target;
                    continue;
                }
            }
            else if (!region.Terminates)
            {
                int found = 0;
                MemoryRegion? only = null;
                foreach (MemoryRegion child in region.Subregions)
                {
                    if (child.Enabled)
                    {
                        only = ++found == 1 && child.Address == 0 && region.Size >= child.Size ? child : null;
                    }
                }

                if (found == 0)
                {
                    return null;
                }

                if (only is not null)
                {
                    region = only;
                    continue;
                }
            }

            return region;
        }

        return region.Enabled ? region : null;
    }

    private static void Render(
        List<Run> runs, MemoryRegion region, Int128 origin, Int128 clipStart, Int128 clipEnd, bool readOnly, bool globalDirtyLog)
    {
        if (!region.Enabled)
        {
            return;
        }

        Int128 start = origin + region.Address;
        Int128 from = Int128.Max(start, clipStart);
        Int128 to = Int128.Min(start + (Int128)region.Size, clipEnd);
        if (from >= to)
        {
            return;
        }

        readOnly |= region.ReadOnly;
        if (region.AliasTarget is { } target)
        {
            Render(runs, target, start - target.Address - region.AliasOffset, from, to, readOnly, globalDirtyLog);
            return;
        }

        foreach (MemoryRegion child in region.Subregions)
        {
            Render(runs, child, start, from, to, readOnly, globalDirtyLog);
        }

        if (region.Terminates)
        {
            FillGaps(runs, region, start, from, to, readOnly, globalDirtyLog);
        }
    }

    private static void FillGaps(
        List<Run> runs, MemoryRegion region, Int128 origin, Int128 from, Int128 to, bool readOnly, bool globalDirtyLog)
    {
        bool romd = region.Kind == MemoryRegionKind.RomDevice && region.RomdMode;
        DirtyClients dirty = region.DirtyLog;
        if (globalDirtyLog && region.RamBlock is { IsMigratable: true })
        {
            dirty |= DirtyClients.Migration;
        }

        int i = FirstEndingAfter(runs, from);
        while (from < to)
        {
            Int128 gapEnd = i < runs.Count ? Int128.Min(to, runs[i].Start) : to;
            if (from < gapEnd)
            {
                runs.Insert(i++, new Run(region, from, gapEnd, (ulong)(from - origin), readOnly, romd, dirty));
            }

            if (i >= runs.Count)
            {
                return;
            }

            from = runs[i++].End;
        }
    }

    private static int FirstEndingAfter(List<Run> runs, Int128 address)
    {
        int low = 0;
        int high = runs.Count;
        while (low < high)
        {
            int mid = (low + high) / 2;
            if (runs[mid].End <= address)
            {
                low = mid + 1;
            }
            else
            {
                high = mid;
            }
        }

        return low;
    }

    private readonly record struct Run(
        MemoryRegion Region, Int128 Start, Int128 End, ulong Offset, bool ReadOnly, bool Romd, DirtyClients Dirty)
    {
        public bool CanMerge(Run next) =>
            End == next.Start && Region == next.Region && Offset + (UInt128)(End - Start) == next.Offset
            && ReadOnly == next.ReadOnly && Romd == next.Romd && Dirty == next.Dirty;
    }
}
