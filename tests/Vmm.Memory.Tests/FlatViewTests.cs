using FsCheck;
using FsCheck.Fluent;

namespace Vmm.Memory.Tests;

public sealed class FlatViewTests
{
    private static readonly RamBlock s_block = Ram.Make("ram", 0x1000);

    [Test]
    public void HigherPriorityWinsAndLaterWinsAmongEquals()
    {
        var root = MemoryRegion.Container("root", 0x100);
        var low = MemoryRegion.Io("low", 0x100, new Recorder(0x100));
        var first = MemoryRegion.Io("first", 0x20, new Recorder(0x20));
        var second = MemoryRegion.Io("second", 0x20, new Recorder(0x20));
        root.AddSubregion(0x20, first, 1);
        root.AddSubregion(0x30, second, 1);
        root.AddSubregion(0, low);
        using var space = new AddressSpace("s", root);
        Assert.That(Show(space.View), Is.EqualTo("0-1f low+0, 20-2f first+0, 30-4f second+0, 50-ff low+50"));
    }

    [Test]
    public void AliasShowsWindowAndAdjacentPiecesMerge()
    {
        var ram = MemoryRegion.Ram("ram", s_block);
        var root = MemoryRegion.Container("root", UInt128.One << 64);
        root.AddSubregion(0, MemoryRegion.Alias("a", ram, 0, 0x800));
        root.AddSubregion(0x800, MemoryRegion.Alias("b", ram, 0x800, 0x800));
        root.AddSubregion(0xfffffffffffff000, MemoryRegion.Alias("c", ram, 0, 0x1000));
        using var space = new AddressSpace("s", root);
        Assert.That(Show(space.View), Is.EqualTo("0-fff ram+0, fffffffffffff000-ffffffffffffffff ram+0"));
        Assert.That(space.View.Find(ulong.MaxValue)!.Region, Is.SameAs(ram));
        Assert.That(space.View.Find(0x1000), Is.Null);
    }

    [Test]
    public void ChangesWithinAliasTargetReachTheSpace()
    {
        var pci = MemoryRegion.Container("pci", 0x1000);
        var root = MemoryRegion.Container("root", 0x10000);
        root.AddSubregion(0x4000, MemoryRegion.Alias("window", pci, 0x100, 0x200));
        using var space = new AddressSpace("s", root);
        var bar = MemoryRegion.Io("bar", 0x100, new Recorder(0x100));
        pci.AddSubregion(0x80, bar);
        Assert.That(Show(space.View), Is.EqualTo("4000-407f bar+80"));
        bar.SetAddress(0x2c0);
        Assert.That(Show(space.View), Is.EqualTo("41c0-41ff bar+0"));
        pci.RemoveSubregion(bar);
        Assert.That(space.View.Ranges.Length, Is.Zero);
    }

    [Test]
    public void TransactionTellsListenersOnce()
    {
        var root = MemoryRegion.Container("root", 0x10000);
        using var space = new AddressSpace("s", root);
        var log = new LoggingListener();
        space.AddListener(log);
        log.Lines.Clear();
        MemoryTransaction.Begin();
        var a = MemoryRegion.Io("a", 0x100, new Recorder(0x100));
        root.AddSubregion(0, a);
        root.AddSubregion(0x100, MemoryRegion.Io("b", 0x100, new Recorder(0x100)));
        a.SetEnabled(false);
        a.SetEnabled(true);
        Assert.That(log.Lines, Is.Empty);
        MemoryTransaction.Commit();
        Assert.That(log.Lines, Is.EqualTo(new[] { "begin", "add a 0", "add b 100", "commit" }));
        log.Lines.Clear();
        a.SetAddress(0x180);
        Assert.That(log.Lines, Is.EqualTo(new[] { "begin", "del b 100", "del a 0", "add b 100", "add a 180", "commit" }));
    }

    [Test]
    public void SpacesWithWrappingRootsShareOneView()
    {
        var system = MemoryRegion.Container("system", UInt128.One << 64);
        system.AddSubregion(0, MemoryRegion.Ram("ram", s_block));
        system.AddSubregion(0x8000, MemoryRegion.Io("io", 0x100, new Recorder(0x100)));
        var wrapper = MemoryRegion.Container("bus master container", UInt128.One << 64);
        var alias = MemoryRegion.Alias("bus master", system, 0, UInt128.One << 64);
        wrapper.AddSubregion(0, alias);
        using var memory = new AddressSpace("memory", system);
        using var master = new AddressSpace("dev", wrapper);
        Assert.That(master.View, Is.SameAs(memory.View));
        alias.SetEnabled(false);
        Assert.That(master.View.Ranges.Length, Is.Zero);
        Assert.That(memory.View.Ranges.Length, Is.EqualTo(2));
        alias.SetEnabled(true);
        Assert.That(master.View, Is.SameAs(memory.View));
    }

    [Test]
    public void ViewAgreesWithPerAddressResolution()
    {
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(300), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            MemoryRegion root = RandomGraph(random);
            using var space = new AddressSpace("s", root);
            Compare(root, space.View);
            Mutate(random, root);
            Compare(root, space.View);
        }));
    }

    private static void Compare(MemoryRegion root, FlatView view)
    {
        ulong previousEnd = 0;
        foreach (FlatRange range in view.Ranges)
        {
            Assert.That(range.Start, Is.GreaterThanOrEqualTo(previousEnd));
            previousEnd = range.Last + 1;
        }

        for (ulong address = 0; address < 0x120; address++)
        {
            (MemoryRegion Region, ulong Offset, bool ReadOnly)? expected = Resolve(root, address, false);
            FlatRange? actual = view.Find(address);
            Assert.That(actual?.Region, Is.SameAs(expected?.Region), $"address {address:x}");
            if (actual is not null)
            {
                Assert.That(actual.OffsetInRegion + (address - actual.Start), Is.EqualTo(expected!.Value.Offset), $"address {address:x}");
                Assert.That(actual.ReadOnly, Is.EqualTo(expected.Value.ReadOnly), $"address {address:x}");
            }
        }
    }

    /// <summary>The oracle: who answers one byte, straight from the rules.</summary>
    private static (MemoryRegion Region, ulong Offset, bool ReadOnly)? Resolve(MemoryRegion region, ulong offset, bool readOnly)
    {
        if (!region.Enabled || offset >= region.Size)
        {
            return null;
        }

        readOnly |= region.ReadOnly;
        if (region.AliasTarget is { } target)
        {
            return Resolve(target, offset + region.AliasOffset, readOnly);
        }

        foreach (MemoryRegion child in region.Subregions)
        {
            if (offset >= child.Address && Resolve(child, offset - child.Address, readOnly) is { } found)
            {
                return found;
            }
        }

        return region.Terminates ? (region, offset, readOnly) : null;
    }

    private static MemoryRegion RandomGraph(Random random)
    {
        var pool = new List<MemoryRegion>();
        MemoryRegion root = MemoryRegion.Container("root", 0x100);
        for (int i = 0; i < random.Next(2, 12); i++)
        {
            UInt128 size = (UInt128)random.Next(1, 0x80);
            MemoryRegion region = random.Next(4) switch
            {
                0 => MemoryRegion.Container($"c{i}", size),
                1 when pool.Count > 0 => MemoryRegion.Alias($"a{i}", pool[random.Next(pool.Count)], (ulong)random.Next(0x40), size),
                2 => MemoryRegion.Ram($"r{i}", s_block),
                _ => MemoryRegion.Io($"i{i}", size, new Recorder(0x100)),
            };
            region.SetReadOnly(random.Next(4) == 0);

            // A region is mapped into an earlier one, and aliases look at earlier ones: neither can make a cycle
            // as long as nothing is mapped into what an alias already shows.
            List<MemoryRegion> parents = [root, .. pool.FindAll(p => p.AliasTarget is null && region.AliasTarget is null)];
            if (random.Next(5) != 0)
            {
                parents[random.Next(parents.Count)].AddSubregion((ulong)random.Next(0xc0), region, random.Next(-1, 3));
            }

            pool.Add(region);
        }

        return root;
    }

    private static void Mutate(Random random, MemoryRegion root)
    {
        for (int i = 0; i < 4; i++)
        {
            MemoryRegion at = root;
            while (at.Subregions.Count > 0 && random.Next(3) != 0)
            {
                at = at.Subregions[random.Next(at.Subregions.Count)];
            }

            switch (random.Next(5))
            {
                case 0:
                    at.SetEnabled(!at.Enabled);
                    break;
                case 1:
                    at.SetReadOnly(!at.ReadOnly);
                    break;
                case 2 when at != root:
                    at.SetAddress((ulong)random.Next(0xc0));
                    break;
                case 3 when at != root:
                    at.Parent!.RemoveSubregion(at);
                    break;
                default:
                    at.AliasOffset = at.AliasTarget is null ? 0 : (ulong)random.Next(0x40);
                    break;
            }
        }
    }

    private static string Show(FlatView view)
    {
        var parts = new List<string>();
        foreach (FlatRange range in view.Ranges)
        {
            parts.Add($"{range.Start:x}-{range.Last:x} {range.Region.Name}+{range.OffsetInRegion:x}");
        }

        return string.Join(", ", parts);
    }

    private sealed class LoggingListener : IMemoryListener
    {
        public List<string> Lines { get; } = [];

        public void Begin(AddressSpace space) => Lines.Add("begin");

        public void Commit(AddressSpace space) => Lines.Add("commit");

        public void RegionAdd(FlatRange range) => Lines.Add($"add {range.Region.Name} {range.Start:x}");

        public void RegionDel(FlatRange range) => Lines.Add($"del {range.Region.Name} {range.Start:x}");
    }
}
