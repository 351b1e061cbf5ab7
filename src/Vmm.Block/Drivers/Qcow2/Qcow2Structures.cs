namespace Vmm.Block.Drivers.Qcow2;

/// <summary>What metadata of an image may be; the lowest bit has precedence in messages.</summary>
[Flags]
internal enum Qcow2Structures
{
    None = 0,
    MainHeader = 1,
    ActiveL1 = 2,
    ActiveL2 = 4,
    RefcountTable = 8,
    RefcountBlock = 16,
    SnapshotTable = 32,
    InactiveL1 = 64,
    InactiveL2 = 128,
    BitmapDirectory = 256,

    /// <summary>What lies at one place that is known without looking.</summary>
    Constant = MainHeader | ActiveL1 | RefcountTable | SnapshotTable | BitmapDirectory,

    /// <summary>What is in memory.</summary>
    Cached = Constant | ActiveL2 | RefcountBlock | InactiveL1,

    All = Cached | InactiveL2,
}

/// <summary>
/// Where the metadata of an image lies, so that nothing else is written over it. A lookup neither waits nor allocates. Home: the node's loop.
/// </summary>
internal sealed class Qcow2MetadataMap
{
    private readonly HashSet<long> _tables = [];
    private readonly HashSet<long> _blocks = [];
    private readonly HashSet<long> _inactiveTables = [];
    private readonly int _clusterBits;
    private (long Start, long End)[] _inactiveL1 = [];

    internal Qcow2MetadataMap(int clusterBits) => _clusterBits = clusterBits;

    /// <summary>Which of it is protected.</summary>
    internal Qcow2Structures Protected { get; set; } = Qcow2Structures.Cached;

    /// <summary>Where the active L1 lies.</summary>
    internal (long Start, long End) L1 { get; set; }

    /// <summary>Where the refcount table lies.</summary>
    internal (long Start, long End) RefcountTable { get; set; }

    /// <summary>Where the table of snapshots lies.</summary>
    internal (long Start, long End) SnapshotTable { get; set; }

    /// <summary>Where the directory of persistent bitmaps lies.</summary>
    internal (long Start, long End) BitmapDirectory { get; set; }

    /// <summary>The name that messages use.</summary>
    internal static string Name(Qcow2Structures one) => one switch
    {
        Qcow2Structures.MainHeader => "qcow2_header",
        Qcow2Structures.ActiveL1 => "active L1 table",
        Qcow2Structures.ActiveL2 => "active L2 table",
        Qcow2Structures.RefcountTable => "refcount table",
        Qcow2Structures.RefcountBlock => "refcount block",
        Qcow2Structures.SnapshotTable => "snapshot table",
        Qcow2Structures.InactiveL1 => "inactive L1 table",
        Qcow2Structures.InactiveL2 => "inactive L2 table",
        _ => "bitmap directory",
    };

    /// <summary>A cluster holds an L2 table of the active image.</summary>
    internal void AddTable(long offset) => _tables.Add(offset >> _clusterBits);

    /// <summary>A cluster holds a refcount block.</summary>
    internal void AddBlock(long offset) => _blocks.Add(offset >> _clusterBits);

    /// <summary>A cluster holds an L2 table of a snapshot.</summary>
    internal void AddInactiveTable(long offset) => _inactiveTables.Add(offset >> _clusterBits);

    /// <summary>A cluster has become free.</summary>
    internal void Remove(long offset)
    {
        _tables.Remove(offset >> _clusterBits);
        _blocks.Remove(offset >> _clusterBits);
    }

    /// <summary>Forgets tables and blocks of the active image.</summary>
    internal void ClearActive()
    {
        _tables.Clear();
        _blocks.Clear();
    }

    /// <summary>Takes the snapshots' L1 tables; their L2 tables are added one by one.</summary>
    internal void SetSnapshots(IReadOnlyList<Qcow2Snapshot> snapshots)
    {
        _inactiveTables.Clear();
        List<(long Start, long End)> ranges = [];
        foreach (Qcow2Snapshot snapshot in snapshots)
        {
            if (snapshot.L1Entries > 0 && snapshot.L1Offset >= 0)
            {
                ranges.Add((snapshot.L1Offset, snapshot.L1Offset + (8L * snapshot.L1Entries)));
            }
        }

        // Disjoint and in order, to be searched.
        ranges.Sort();
        int last = -1;
        for (int i = 0; i < ranges.Count; i++)
        {
            if (last >= 0 && ranges[i].Start <= ranges[last].End)
            {
                ranges[last] = (ranges[last].Start, Math.Max(ranges[last].End, ranges[i].End));
            }
            else
            {
                ranges[++last] = ranges[i];
            }
        }

        ranges.RemoveRange(last + 1, ranges.Count - last - 1);
        _inactiveL1 = [.. ranges];
    }

    /// <summary>The protected metadata that a range of the file touches, whole clusters taken; none for none.</summary>
    /// <param name="offset">Where.</param>
    /// <param name="bytes">How much.</param>
    /// <param name="ignored">What the range is itself.</param>
    internal Qcow2Structures Find(long offset, long bytes, Qcow2Structures ignored)
    {
        Qcow2Structures looked = Protected & ~ignored;
        long mask = (1L << _clusterBits) - 1;
        if ((looked & Qcow2Structures.MainHeader) != 0 && offset <= mask)
        {
            return Qcow2Structures.MainHeader;
        }

        (long Start, long End) range = (offset & ~mask, (offset + bytes + mask) & ~mask);
        return (looked & Qcow2Structures.ActiveL1) != 0 && Touches(L1, range) ? Qcow2Structures.ActiveL1
            : (looked & Qcow2Structures.ActiveL2) != 0 && Has(_tables, range) ? Qcow2Structures.ActiveL2
            : (looked & Qcow2Structures.RefcountTable) != 0 && Touches(RefcountTable, range) ? Qcow2Structures.RefcountTable
            : (looked & Qcow2Structures.RefcountBlock) != 0 && Has(_blocks, range) ? Qcow2Structures.RefcountBlock
            : (looked & Qcow2Structures.SnapshotTable) != 0 && Touches(SnapshotTable, range) ? Qcow2Structures.SnapshotTable
            : (looked & Qcow2Structures.InactiveL1) != 0 && IsInInactiveL1(range) ? Qcow2Structures.InactiveL1
            : (looked & Qcow2Structures.InactiveL2) != 0 && Has(_inactiveTables, range) ? Qcow2Structures.InactiveL2
            : (looked & Qcow2Structures.BitmapDirectory) != 0 && Touches(BitmapDirectory, range) ? Qcow2Structures.BitmapDirectory
            : Qcow2Structures.None;
    }

    private static bool Touches((long Start, long End) structure, (long Start, long End) range) =>
        structure.End > structure.Start && range.Start < structure.End && structure.Start < range.End;

    private bool Has(HashSet<long> clusters, (long Start, long End) range)
    {
        if (clusters.Count > 0)
        {
            for (long cluster = range.Start >> _clusterBits; cluster < range.End >> _clusterBits; cluster++)
            {
                if (clusters.Contains(cluster))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private bool IsInInactiveL1((long Start, long End) range)
    {
        (int low, int high) = (0, _inactiveL1.Length);
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_inactiveL1[middle].End <= range.Start)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low < _inactiveL1.Length && _inactiveL1[low].Start < range.End;
    }
}
