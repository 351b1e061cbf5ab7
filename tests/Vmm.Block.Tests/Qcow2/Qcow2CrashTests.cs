using Vmm.Block.Drivers;
using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>
/// The process or the host dies at any moment: what is in the file then opens, has leaks at most, and has every write that was flushed.
/// </summary>
public sealed class Qcow2CrashTests : Qcow2Fixture
{
    private const int BlockBytes = 4096;
    private const BlockdevDriver Memory = BlockdevDriver.NullAio;

    [TestCase("cluster_size=64k", false, 1)]
    [TestCase("cluster_size=512", false, 2)]
    [TestCase("cluster_size=4k,refcount_bits=1", false, 3)]
    [TestCase("extended_l2=on,cluster_size=16k", false, 4)]
    [TestCase("lazy_refcounts=on,cluster_size=4k", false, 5)]
    [TestCase("cluster_size=64k", true, 6)]
    [TestCase("cluster_size=4k", true, 7)]
    [TestCase("extended_l2=on,cluster_size=16k", true, 8)]
    public void ACrashLosesNothingThatWasFlushed(string options, bool isPowerLoss, int seed)
    {
        Random random = new(seed);
        string path = Create("a.qcow2", "2M", options);
        byte[] start = File.ReadAllBytes(path);
        MemoryDriver memory = new(random);
        memory.Load((byte[])start.Clone());
        Graph.DriverRegistry.Add(Memory, new BlockDriverInfo { Create = _ => memory });
        BlockNode file = Loop.RunUntil(Graph.OpenAsync(new BlockdevOptions { Driver = Memory, NullAio = new BlockdevOptionsNull(), NodeName = "m" }));
        BlockNode node = Open("{'driver': 'qcow2', 'discard': 'unmap', 'l2-cache-size': 2048, 'l2-cache-entry-size': 512, 'file': 'm'}");
        List<(int LogCount, byte[][] Candidates)> promises = Work(node, memory, random);
        for (int i = 0; i < 15; i++)
        {
            int cut = random.Next(memory.Log.Count + 1);
            AssertSurvives(start, memory.Log, cut, isPowerLoss ? random : null, promises);
        }

        CloseNode(node);
        Assert.That(file.Driver, Is.SameAs(memory));
        File.WriteAllBytes(path, MemoryDriver.Replay(start, memory.Log, memory.Log.Count, static _ => true));
        AssertClean(path);
    }

    // Rounds of writes, zeroes and discards at once, some with a flush behind them. After a flush each block has one value that counts;
    // what comes later may or may not be there. The promise holds from the moment at which the flush has ended.
    private List<(int LogCount, byte[][] Candidates)> Work(BlockNode node, MemoryDriver memory, Random random)
    {
        int blocks = (int)(node.Length / BlockBytes);
        List<byte>[] values = new List<byte>[blocks];
        for (int i = 0; i < blocks; i++)
        {
            values[i] = [0];
        }

        List<(int, byte[][])> promises = [(0, Snapshot(values))];
        List<IoTask<int>> running = [];
        List<NativeBuffer> buffers = [];
        byte stamp = 1;
        for (int round = 0; round < 40; round++)
        {
            int[] order = new int[blocks];
            for (int i = 0; i < blocks; i++)
            {
                order[i] = i;
            }

            random.Shuffle(order);
            for (int i = 0; i < 16; i++)
            {
                int block = order[i];
                long offset = (long)block * BlockBytes;
                if (i % 5 == 4)
                {
                    values[block].Add(0);
                    running.Add(node.WriteZeroesAsync(offset, BlockBytes, BlockRequestFlags.MayUnmap));
                    continue;
                }

                stamp = (byte)(stamp % 250 + 1);
                values[block].Add(stamp);
                NativeBuffer buffer = new(BlockBytes);
                buffers.Add(buffer);
                buffer.Span.Fill(stamp);
                running.Add(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, BlockBytes))));
            }

            // What the file holds from here on may be any of these.
            Merge(promises, values);
            foreach (IoTask<int> task in running)
            {
                Assert.That(Loop.RunUntil(task), Is.Zero);
            }

            running.Clear();
            buffers.ForEach(static b => b.Dispose());
            buffers.Clear();
            if (random.Next(2) == 0)
            {
                Assert.That(Loop.RunUntil(node.FlushAsync()), Is.Zero);
                foreach (List<byte> value in values)
                {
                    value.RemoveRange(0, value.Count - 1);
                }

                promises.Add((memory.Log.Count, Snapshot(values)));
            }
        }

        return promises;
    }

    private static byte[][] Snapshot(List<byte>[] values) => Array.ConvertAll(values, static v => v.ToArray());

    private static void Merge(List<(int LogCount, byte[][] Candidates)> promises, List<byte>[] values) =>
        promises[^1] = (promises[^1].LogCount, Snapshot(values));

    private void AssertSurvives(
        byte[] start, List<(long Offset, byte[]? Data)> log, int cut, Random? powerLoss, List<(int LogCount, byte[][] Candidates)> promises)
    {
        int flushed = cut;
        while (flushed > 0 && log[flushed - 1].Data is not null)
        {
            flushed--;
        }

        // A host that dies has what was flushed, and of the rest whatever it had got round to.
        bool[] kept = new bool[cut];
        for (int i = 0; i < cut; i++)
        {
            kept[i] = powerLoss is null || i < flushed || powerLoss.Next(2) == 0;
        }

        string path = PathOf("crashed.qcow2");
        File.WriteAllBytes(path, MemoryDriver.Replay(start, log, cut, i => kept[i]));
        bool isLazy = (File.ReadAllBytes(path)[79] & 1) != 0;
        if (!isLazy)
        {
            var (code, text) = Run("qemu-img", "check", path);
            Assert.That(code, Is.EqualTo(0).Or.EqualTo(3), $"cut {cut} of {log.Count}: {text}");
        }

        BlockNode node = OpenImage(path);
        byte[] contents = ReadAll(node, cut);
        CloseNode(node);
        byte[][] candidates = promises.FindLast(p => p.LogCount <= cut).Candidates;
        for (int block = 0; block < candidates.Length; block++)
        {
            // A block may lie in several clusters, some of which got their new contents.
            for (int sector = block * BlockBytes; sector < (block + 1) * BlockBytes; sector += 512)
            {
                byte value = contents[sector];
                bool isOne = !contents.AsSpan(sector, 512).ContainsAnyExcept(value) && candidates[block].Contains(value);
                Assert.That(isOne, $"sector {sector / 512} has {value}, cut {cut} of {log.Count}");
            }
        }
    }
}
