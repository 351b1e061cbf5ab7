using FsCheck;
using FsCheck.Fluent;
using Vmm.Dump.Kdump;
using Vmm.Dump.Tests.Readers;

namespace Vmm.Dump.Tests;

public sealed class KdumpTests
{
    [TestCase("Zlib", false)]
    [TestCase("Zlib", true)]
    [TestCase("Lzo", false)]
    [TestCase("Lzo", true)]
    [TestCase("Snappy", false)]
    [TestCase("Snappy", true)]
    public void ReaderFindsWhatWasThere(string format, bool isFlat)
    {
        KdumpCompression compression = Available(format);
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(25), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            TestMemory memory = TestMemory.Random(random);
            bool isLong = random.Next(2) == 0;
            KdumpReader file = new(Dumps.ToFile(
                memory.Map, compression, isFlat, threads: random.Next(1, 5), cpus: isLong ? Dumps.LongMode : Dumps.RealMode));
            Assert.That(file.IsFlat, Is.EqualTo(isFlat));
            Assert.That(file.IsWide, Is.EqualTo(isLong || memory.Map.End > uint.MaxValue));
            Assert.That(file.Status, Is.EqualTo((uint)compression));
            Assert.That(file.Cpus, Is.EqualTo(1));
            Assert.That(file.Notes.Select(static n => n.Name), Is.EqualTo(new[] { "CORE", "QEMU" }));
            Assert.That(file.Pages, Is.EquivalentTo(Pages(memory)));
            foreach (ulong page in file.Pages)
            {
                byte[] contents = file.Read(page);
                for (int i = 0; i < contents.Length; i++)
                {
                    if (contents[i] != (memory.ByteAt((page * 4096) + (ulong)i) ?? 0))
                    {
                        Assert.Fail($"page {page:x} differs at {i}");
                    }
                }
            }
        }));
    }

    [TestCase("Zlib")]
    [TestCase("Lzo")]
    [TestCase("Snappy")]
    public void FlattenedFileIsTheOtherOneInPieces(string format)
    {
        KdumpCompression compression = Available(format);
        TestMemory memory = TestMemory.Random(new Random(5));
        memory.Add(0x2_0000_0000, Enumerable.Range(0, 3 << 20).Select(static i => (byte)(i * i / 77)).ToArray());
        byte[] raw = Dumps.ToFile(memory.Map, compression);
        byte[] flat = new KdumpReader(Dumps.ToFile(memory.Map, compression, true)).Raw;
        Assert.That(flat, Is.EqualTo(raw), "however many threads have written them");
        Assert.That(Dumps.ToFile(memory.Map, compression, threads: 1), Is.EqualTo(raw));
    }

    [Test]
    public void PagesOfZeroesAreOne()
    {
        TestMemory memory = new();
        byte[] contents = new byte[1000 * 4096];
        contents[500 * 4096] = 1;
        memory.Add(0x10_0000, contents);
        byte[] bytes = Dumps.ToFile(memory.Map, Available("Zlib"));
        KdumpReader file = new(bytes);
        Assert.That(file.Pages.Select(file.OffsetOf).Distinct().Count(), Is.EqualTo(2));
        Assert.That(bytes, Has.Length.LessThan(64 << 10));
    }

    private static IEnumerable<ulong> Pages(TestMemory memory) =>
        memory.Model.SelectMany(static m => Span(m.Start / 4096, (m.Start + (ulong)m.Contents.Length - 1) / 4096)).Distinct();

    private static IEnumerable<ulong> Span(ulong first, ulong last)
    {
        for (ulong page = first; page <= last; page++)
        {
            yield return page;
        }
    }

    private static KdumpCompression Available(string format)
    {
        KdumpCompression compression = Enum.Parse<KdumpCompression>(format);
        if (!PageCompressor.IsAvailable(compression))
        {
            Assert.Ignore($"the system has no library for {format}");
        }

        return compression;
    }
}
