using FsCheck;
using FsCheck.Fluent;
using Vmm.Dump.Guest;
using Vmm.Dump.Tests.Readers;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;

namespace Vmm.Dump.Tests;

public sealed class PageTableTests
{
    private const ulong MemoryBytes = 8 << 20;

    private static readonly PageTables.Mode[] s_modes =
        [PageTables.Mode.Bits32, PageTables.Mode.Pae, PageTables.Mode.Level4, PageTables.Mode.Level5];

    [TestCaseSource(nameof(s_modes))]
    public void PagesOfAllSizesAreFound(PageTables.Mode mode)
    {
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(40), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            TableBuilder tables = new(mode, MemoryBytes);
            HashSet<(ulong Linear, ulong Physical)> expected = [];
            HashSet<ulong> taken = [];
            ulong linear = 0;
            for (int i = 0; i < 40; i++)
            {
                int level = random.Next(6) == 0 ? 2 : 1;
                ulong bytes = tables.PageBytes(level);
                linear = random.Next(2) == 0 ? (linear + bytes) & ~(bytes - 1) : RandomLinear(random, mode) & ~(bytes - 1);
                linear = mode <= PageTables.Mode.Pae ? (uint)linear : linear;

                // What is mapped at another level already keeps that.
                ulong large = linear & ~(tables.PageBytes(2) - 1);
                if ((level == 2 && !taken.Add(large)) || (level == 1 && taken.Contains(large) && !taken.Contains(large + 1)))
                {
                    continue;
                }

                taken.Add(large);
                if (level == 1)
                {
                    taken.Add(large + 1);
                }

                ulong physical = (ulong)random.NextInt64(0, (long)(2 * MemoryBytes)) & ~(bytes - 1);
                tables.MapPage(linear, physical, level);
                expected.RemoveWhere(e => e.Linear == linear);
                if (physical < MemoryBytes)
                {
                    for (ulong at = 0; at < bytes; at += 4096)
                    {
                        expected.Add((linear + at, physical + at));
                    }
                }
            }

            Assert.That(Pages(Walk(tables)).ToHashSet().SetEquals(expected), Is.True);
        }));
    }

    [TestCase(PageTables.Mode.Level4, 0xffff_ffc0_4000_0000)]
    [TestCase(PageTables.Mode.Level5, 0xff00_0000_4000_0000)]
    public void PagesOfOneGigabyteAreFoundAtCanonicalAddresses(PageTables.Mode mode, ulong linear)
    {
        TableBuilder tables = new(mode, MemoryBytes);
        tables.MapPage(linear, 0, 3);
        Assert.That(Walk(tables), Is.EqualTo(new[] { new MemoryMapping(0, linear, 1 << 30) }));
    }

    [Test]
    public void WithoutPageSizeExtensionsTheBitOfLargePagesIsIgnored()
    {
        TableBuilder tables = new(PageTables.Mode.Bits32, MemoryBytes, hasPse: false);
        ulong inner = tables.NewTable();
        tables.Set(tables.Root, 3, inner | 0x87);
        tables.Set(inner, 5, 0x9000 | 7);
        Assert.That(Walk(tables), Is.EqualTo(new[] { new MemoryMapping(0x9000, (3ul << 22) | (5 << 12), 4096) }));
    }

    [Test]
    public void PagesOfFourMegabytesReachBeyondFourGigabytes()
    {
        Vmm.Memory.RamBlock low = TestMemory.Block(0x1000);
        BitConverter.TryWriteBytes(low.Span(0, 4), 0x0080_0087u | (0x3u << 13));
        GuestMemoryMap memory = GuestMemoryMap.Of([new(0, 0x1000, low, 0), new(0x3_0080_0000, 0x40_0000, TestMemory.Block(0x40_0000), 0)]);
        MemoryMappings mappings = new();
        Assert.That(new PageTableMappings(memory, mappings).TryAdd(new CpuArchState { Cr0 = 0x8000_0001, Cr4 = 0x10 }), Is.True);
        Assert.That(mappings.ToSorted(), Is.EqualTo(new[] { new MemoryMapping(0x3_0080_0000, 0, 0x40_0000) }));
    }

    [TestCaseSource(nameof(s_modes))]
    public void TableThatMapsItselfAsKernelsDoIsAFewPages(PageTables.Mode mode)
    {
        TableBuilder tables = new(mode, MemoryBytes);
        tables.MapPage(0x40_0000, 0x10_0000);
        if (mode == PageTables.Mode.Pae)
        {
            ulong second = tables.NewTable();
            tables.Set(tables.Root, 3, second | 1);
            tables.Set(second, 511, second | 7);
        }
        else
        {
            tables.Set(tables.Root, (1 << tables.IndexBits) - 1, tables.Root | 7);
        }

        MemoryMapping[] found = Walk(tables);
        Assert.That(found, Does.Contain(new MemoryMapping(0x10_0000, 0x40_0000, 4096)));
        Assert.That(found, Has.Length.LessThan(12));
    }

    [Test]
    public void TablesFullOfThemselvesEndTheWalk([ValueSource(nameof(s_modes))] PageTables.Mode mode, [Values(1, 2, 3, 4, 5)] int level)
    {
        const int MaxTables = 1 << 11;
        const int MaxCount = 1 << 12;
        TableBuilder tables = new(mode, MemoryBytes);
        if (level > tables.Levels)
        {
            Assert.Pass("no such level");
        }

        // Down to the level there is one table each; that and all below are the same, full of its own address.
        ulong table = tables.Root;
        for (int at = tables.Levels; at > level; at--)
        {
            ulong next = tables.NewTable();
            tables.Set(table, 0, next | 1);
            table = next;
        }

        for (int i = 0; i < 4096 / tables.EntryBytes; i++)
        {
            tables.Set(table, i, table | 7);
        }

        MemoryMappings mappings = new(MaxCount);
        PageTableMappings walk = new(tables.Map, mappings, MaxTables);
        bool isComplete = walk.TryAdd(tables.Cpu);
        Assert.That(walk.Tables, Is.LessThanOrEqualTo(MaxTables));
        Assert.That(mappings.Count, Is.LessThanOrEqualTo(MaxCount));
        Assert.That(isComplete, Is.EqualTo(level == 1));
    }

    [Test]
    public void TablesThatMapNothingEndTheWalk()
    {
        const int MaxTables = 1 << 11;
        TableBuilder tables = new(PageTables.Mode.Level4, MemoryBytes);
        ulong[] chain = [tables.Root, tables.NewTable(), tables.NewTable(), tables.NewTable()];
        for (int level = 0; level < 3; level++)
        {
            for (int i = 0; i < 512; i++)
            {
                tables.Set(chain[level], i, chain[level + 1] | 7);
            }
        }

        MemoryMappings mappings = new();
        PageTableMappings walk = new(tables.Map, mappings, MaxTables);
        Assert.That(walk.TryAdd(tables.Cpu), Is.False);
        Assert.That(walk.Tables, Is.EqualTo(MaxTables));
        Assert.That(mappings.Count, Is.Zero);
    }

    [Test]
    public void PagesThatMergeOnlyAfterSortingAreBoundedToo()
    {
        const int MaxCount = 64;
        MemoryMappings mappings = new(MaxCount);
        int added = 0;
        for (ulong page = 10_000; page > 0 && mappings.TryAdd(page << 12, page << 12, 4096); page--)
        {
            added++;
            Assert.That(mappings.Count, Is.LessThanOrEqualTo(MaxCount));
        }

        Assert.That(added, Is.EqualTo(4 * MaxCount));
        Assert.That(mappings.ToSorted(), Has.Length.EqualTo(1));
    }

    [TestCaseSource(nameof(s_modes))]
    public void RandomTablesAreBounded(PageTables.Mode mode)
    {
        var random = new Random((int)mode);
        for (int round = 0; round < 20; round++)
        {
            TableBuilder tables = new(mode, 64 << 10);
            byte[] noise = new byte[60 << 10];
            random.NextBytes(noise);
            for (int i = 0; i < noise.Length; i += tables.EntryBytes)
            {
                // Every other entry leads to a table.
                if (random.Next(2) == 0)
                {
                    noise.AsSpan(i, tables.EntryBytes).Clear();
                    noise[i] = 7;
                    noise[i + 1] = (byte)(random.Next(16) << 4);
                }
            }

            tables.Fill(0x1000, noise);
            MemoryMappings mappings = new(1 << 12);
            PageTableMappings walk = new(tables.Map, mappings, 1 << 11);
            walk.TryAdd(tables.Cpu);
            Assert.That(walk.Tables, Is.LessThanOrEqualTo(1 << 11));
            Assert.That(mappings.Count, Is.LessThanOrEqualTo(1 << 12));
        }
    }

    [Test]
    public void MergedMappingsCoverWhatWasAddedAndNothingElse()
    {
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(200), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            MemoryMappings mappings = new();
            HashSet<(ulong, ulong)> expected = [];
            for (int i = random.Next(30); i > 0; i--)
            {
                ulong physical = (ulong)random.Next(40) << 12;
                ulong linear = random.Next(4) switch
                {
                    0 => physical,
                    1 => physical + 0x5000,
                    2 => unchecked((ulong)-0x8000L) + physical,
                    _ => (ulong)random.Next(40) << 12,
                };
                ulong length = (ulong)random.Next(1, 4) << 12;
                if (linear + length < linear && linear + length != 0)
                {
                    length = 0 - linear;
                }

                Assert.That(mappings.TryAdd(physical, linear, length), Is.True);
                for (ulong at = 0; at < length; at += 4096)
                {
                    expected.Add((linear + at, physical + at));
                }
            }

            MemoryMapping[] sorted = mappings.ToSorted();
            (ulong Linear, ulong Physical)[] pages = [.. Pages(sorted)];
            Assert.That(pages.ToHashSet().SetEquals(expected), Is.True);
            Assert.That(pages, Has.Length.EqualTo(expected.Count), "nothing is there twice");
            Assert.That(sorted.Select(static m => m.Physical), Is.Ordered);
            Assert.That(sorted.All(static m => m.LastLinear >= m.Linear), Is.True, "no segment goes on at address 0");
        }));
    }

    [Test]
    public void CoreFileHasTheMemoryAtItsLinearAddresses()
    {
        TableBuilder tables = new(PageTables.Mode.Level4, MemoryBytes);
        byte[] page = new byte[4096];
        for (int i = 0; i < 3; i++)
        {
            page.AsSpan().Fill((byte)(i + 1));
            tables.Fill(0x20_0000 + ((ulong)i * 0x1000), page);
        }

        const ulong High = 0xffff_ffff_8100_0000;
        tables.MapPage(High, 0x20_0000);
        tables.MapPage(High + 0x1000, 0x20_1000);
        tables.MapPage(High + 0x2000, 0x20_1000);
        tables.MapPage(0x7fff_f000, 0x20_2000);
        tables.MapPage(0x8000_0000, 0x40_0000_0000);
        CoreFile file = new(Dumps.ToFile(tables.Map, isPaging: true, cpus: tables.Cpu));
        Assert.That(
            file.Loads.Select(l => (l.Linear, l.Physical, l.Length, file.Contents(l)[0], file.Contents(l)[^1])),
            Is.EqualTo(new (ulong, ulong, ulong, byte, byte)[]
            {
                (High, 0x20_0000, 0x2000, 1, 2), (High + 0x2000, 0x20_1000, 0x1000, 2, 2), (0x7fff_f000, 0x20_2000, 0x1000, 3, 3),
            }));
        CoreFile part = new(Dumps.ToFile(tables.Map, isPaging: true, window: (0x20_1800, 0x1000), cpus: tables.Cpu));
        Assert.That(
            part.Loads.Select(l => (l.Linear, l.Physical, l.Length, part.Contents(l)[0])),
            Is.EqualTo(new (ulong, ulong, ulong, byte)[]
            {
                (High + 0x1800, 0x20_1800, 0x800, 2), (High + 0x2800, 0x20_1800, 0x800, 2), (0x7fff_f000, 0x20_2000, 0x800, 3),
            }));
    }

    [Test]
    public void HostileTablesAreAnError()
    {
        TableBuilder tables = new(PageTables.Mode.Level4, 64 << 10);
        for (int i = 0; i < 512; i++)
        {
            tables.Set(tables.Root, i, tables.Root | 7);
        }

        QapiException error = Assert.Throws<QapiException>(() => Dumps.ToFile(tables.Map, isPaging: true, cpus: tables.Cpu))!;
        Assert.That(error.Desc, Is.EqualTo("dump: the guest's page tables are too large to be walked"));
    }

    private static MemoryMapping[] Walk(TableBuilder tables)
    {
        MemoryMappings mappings = new();
        Assert.That(new PageTableMappings(tables.Map, mappings).TryAdd(tables.Cpu), Is.True);
        return mappings.ToSorted();
    }

    private static IEnumerable<(ulong Linear, ulong Physical)> Pages(MemoryMapping[] mappings)
    {
        foreach (MemoryMapping mapping in mappings)
        {
            for (ulong at = 0; at < mapping.Length; at += 4096)
            {
                yield return (mapping.Linear + at, mapping.Physical + at);
            }
        }
    }

    private static ulong RandomLinear(Random random, PageTables.Mode mode)
    {
        int bits = mode switch { PageTables.Mode.Level5 => 57, PageTables.Mode.Level4 => 48, _ => 32 };
        long value = random.NextInt64(0, 1L << bits);
        return mode <= PageTables.Mode.Pae ? (ulong)value : (ulong)(value << (64 - bits) >> (64 - bits));
    }
}
