using System.Buffers.Binary;
using FsCheck;
using FsCheck.Fluent;
using Vmm.Dump.Guest;
using Vmm.Dump.Tests.Readers;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;

namespace Vmm.Dump.Tests;

public sealed class CoreFileTests
{
    [Test]
    public void ReaderFindsWhatWasThere()
    {
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(60), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            TestMemory memory = TestMemory.Random(random);
            bool isLong = random.Next(2) == 0;
            CoreFile file = new(Dumps.ToFile(memory.Map, threads: random.Next(1, 5), cpus: isLong ? Dumps.LongMode : Dumps.RealMode));
            Assert.That(file.Is64, Is.EqualTo(isLong || memory.Map.End > uint.MaxValue));
            Assert.That(file.Machine, Is.EqualTo(isLong ? 62 : 3));
            Assert.That(file.Loads, Has.Count.EqualTo(memory.Model.Count));
            for (int i = 0; i < file.Loads.Count; i++)
            {
                Assert.That(file.Loads[i].Physical, Is.EqualTo(memory.Model[i].Start));
                Assert.That(file.Loads[i].Linear, Is.EqualTo(memory.Model[i].Start));
                Assert.That(file.Loads[i].Length, Is.EqualTo((ulong)memory.Model[i].Contents.Length));
                Assert.That(file.Contents(file.Loads[i]).SequenceEqual(memory.Model[i].Contents), Is.True);
            }
        }));
    }

    [Test]
    public void ReaderFindsWhatTheWindowShows()
    {
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(60), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            TestMemory memory = TestMemory.Random(random);
            (ulong start, byte[] contents) = memory.Model[random.Next(memory.Model.Count)];
            ulong begin = (ulong)Math.Max(0, (long)start + random.Next(-5000, contents.Length));
            ulong length = (ulong)random.NextInt64(1, random.Next(3) == 0 ? long.MaxValue : 100_000);
            (ulong Start, byte[] Contents)[] expected = Clip(memory.Model, begin, length);
            if (expected.Length == 0)
            {
                QapiException error = Assert.Throws<QapiException>(() => Dumps.ToFile(memory.Map, window: ((long)begin, (long)length)))!;
                Assert.That(error.Desc, Is.EqualTo("dump: no guest memory to dump"));
                return;
            }

            CoreFile file = new(Dumps.ToFile(memory.Map, window: ((long)begin, (long)length)));
            Assert.That(file.Loads.Select(static l => (l.Physical, l.Length)), Is.EqualTo(expected.Select(static e => (e.Start, (ulong)e.Contents.Length))));
            for (int i = 0; i < expected.Length; i++)
            {
                Assert.That(file.Contents(file.Loads[i]).SequenceEqual(expected[i].Contents), Is.True);
            }
        }));
    }

    [Test]
    public void PartOfRangeBeforeItsFirstPageIsThere()
    {
        TestMemory memory = new();
        memory.Add(0x1000, [1, 2, 3, 4]);
        memory.Add(0x1004, [5, 6]);
        CoreFile file = new(Dumps.ToFile(memory.Map, window: (0x1003, 2)));
        Assert.That(file.Loads.Select(l => Convert.ToHexString(file.Contents(l))), Is.EqualTo(new[] { "04", "05" }));
    }

    [Test]
    public void MoreSegmentsThanTheHeaderCanCount([Values(65533, 65534, 70000)] int ranges)
    {
        Vmm.Memory.RamBlock block = TestMemory.Block((ulong)ranges);
        var pieces = new GuestMemoryRange[ranges];
        for (int i = 0; i < ranges; i++)
        {
            block.Span((ulong)i, 1)[0] = (byte)(i * 7);
            pieces[i] = new GuestMemoryRange((ulong)i * 2, 1, block, (ulong)i);
        }

        CoreFile file = new(Dumps.ToFile(GuestMemoryMap.Of(pieces)));
        Assert.That(file.Loads, Has.Count.EqualTo(ranges));
        Assert.That(file.Notes, Has.Count.EqualTo(1));
        for (int i = 0; i < ranges; i += 999)
        {
            Assert.That(file.Loads[i].Physical, Is.EqualTo((ulong)i * 2));
            Assert.That(file.Contents(file.Loads[i])[0], Is.EqualTo((byte)(i * 7)));
        }
    }

    [Test]
    public void EachProcessorHasTwoNotes([Values] bool isLong)
    {
        TestMemory memory = new();
        memory.Add(0, new byte[100]);
        CpuArchState[] cpus = [isLong ? Dumps.LongMode : Dumps.RealMode, isLong ? Dumps.LongMode : Dumps.RealMode];
        for (int i = 0; i < cpus.Length; i++)
        {
            cpus[i].Rip = 0x1122_3344 + (ulong)i;
            for (int r = 0; r < 16; r++)
            {
                cpus[i].Gpr[r] = (ulong)((i * 16) + r + 1);
            }

            cpus[i].Segments[1] = new SegmentState { Selector = 0x33, Base = 5, Limit = 6, Type = 11, S = true, Present = true, L = isLong };
            cpus[i].KernelGsBase = 0x7777;
        }

        List<(string Name, uint Type, byte[] Descriptor)> notes = new CoreFile(Dumps.ToFile(memory.Map, cpus: cpus)).ReadNotes();
        Assert.That(
            notes.Select(static n => (n.Name, n.Type, n.Descriptor.Length)),
            Is.EqualTo(new[] { ("CORE", 1u, isLong ? 336 : 144), ("CORE", 1u, isLong ? 336 : 144), ("QEMU", 0u, 440), ("QEMU", 0u, 440) }));
        for (int i = 0; i < cpus.Length; i++)
        {
            byte[] status = notes[i].Descriptor;
            Assert.That(BinaryPrimitives.ReadInt32LittleEndian(status.AsSpan(isLong ? 32 : 24)), Is.EqualTo(i + 1), "thread");

            // struct user_regs_struct: bx is the sixth register of 64-bit programs and the first of 32-bit ones; ip the 17th and the 13th.
            ulong Register(int at) => isLong ? BinaryPrimitives.ReadUInt64LittleEndian(status.AsSpan(112 + (8 * at)))
                : BinaryPrimitives.ReadUInt32LittleEndian(status.AsSpan(72 + (4 * at)));
            Assert.That(Register(isLong ? 5 : 0), Is.EqualTo(cpus[i].Gpr[3]));
            Assert.That(Register(isLong ? 16 : 12), Is.EqualTo(cpus[i].Rip));
            Assert.That(Register(isLong ? 17 : 13), Is.EqualTo(0x33));
            byte[] state = notes[2 + i].Descriptor;
            Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(state.AsSpan(8)), Is.EqualTo(cpus[i].Gpr[0]));
            Assert.That(BinaryPrimitives.ReadUInt32LittleEndian(state.AsSpan(152)), Is.EqualTo(0x33), "selector of CS");
            Assert.That(BinaryPrimitives.ReadUInt32LittleEndian(state.AsSpan(156)), Is.EqualTo(6), "limit of CS");
            Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(state.AsSpan(168)), Is.EqualTo(5), "base of CS");
            Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(state.AsSpan(432)), Is.EqualTo(0x7777), "base that SWAPGS brings");
        }
    }

    [Test]
    public void NothingToDumpIsAnError()
    {
        QapiException error = Assert.Throws<QapiException>(() => Dumps.ToFile(GuestMemoryMap.Of(ReadOnlySpan<GuestMemoryRange>.Empty)))!;
        Assert.That(error.Desc, Is.EqualTo("dump: no guest memory to dump"));
    }

    private static (ulong Start, byte[] Contents)[] Clip(List<(ulong Start, byte[] Contents)> model, ulong begin, ulong length)
    {
        List<(ulong, byte[])> inside = [];
        foreach ((ulong start, byte[] contents) in model)
        {
            int from = start >= begin ? 0 : (int)Math.Min(begin - start, (ulong)contents.Length);
            UInt128 end = (UInt128)begin + length;
            int to = end <= start ? 0 : (int)UInt128.Min(end - start, (UInt128)contents.Length);
            if (from < to)
            {
                inside.Add((start + (ulong)from, contents[from..to]));
            }
        }

        return [.. inside];
    }
}
