using System.Globalization;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// The process is killed again and again while an NBD client writes to a qcow2 export: the image then opens, has leaks at most, and has each
/// write that was flushed. VMM_KILL_ROUNDS sets how often for each image; 4 by default.
/// </summary>
public sealed class KillTests
{
    private const int BlockBytes = 4096;
    private const int Blocks = 1024;
    private const int Depth = 8;

    private static readonly int s_rounds =
        int.TryParse(Environment.GetEnvironmentVariable("VMM_KILL_ROUNDS"), CultureInfo.InvariantCulture, out int n) ? n : 4;

    private string _folder = "";

    [SetUp]
    public void MakeFolder()
    {
        if (!QemuImg.IsInstalled)
        {
            Assert.Ignore(QemuImg.Missing);
        }

        _folder = Emulator.NewDirectory();
    }

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase("cluster_size=64k,lazy_refcounts=off", 1)]
    [TestCase("cluster_size=4k,lazy_refcounts=on", 2)]
    [TestCase("cluster_size=16k,extended_l2=on,lazy_refcounts=off", 3)]
    public void WhatWasFlushedSurvives(string options, int seed)
    {
        Random random = new(seed);
        string image = Path.Combine(_folder, "a.qcow2");
        QemuImg.Run(0, "create", "-q", "-f", "qcow2", "-o", options, image, (Blocks * BlockBytes).ToString(CultureInfo.InvariantCulture));

        // What each block may hold, oldest first; the first one is what it holds at least.
        List<byte>[] values = new List<byte>[Blocks];
        Array.ForEach(Enumerable.Range(0, Blocks).ToArray(), i => values[i] = [0]);
        for (int round = 0; round < s_rounds; round++)
        {
            WriteAndKill(image, values, random);
            bool isStale = (File.ReadAllBytes(image)[79] & 1) != 0;
            if (isStale)
            {
                // Refcounts are counted anew by whoever opens the image next; half of the time that is qemu-img.
                if (random.Next(2) == 0)
                {
                    QemuImg.Run(0, "check", "-q", "-r", "all", image);
                }
            }
            else
            {
                QemuImg.Run(3, "check", "-q", image);
            }

            AssertHolds(image, values, $"round {round}, {options}");
        }

        using (Emulator last = Start(image))
        {
            QmpClient client = last.Qmp();
            Add(client, image);
            client.Execute("blockdev-del", """{"node-name": "n"}""");
            client.Execute("quit");
            last.WaitExit();
        }

        QemuImg.Run(3, "check", "-q", image);
        AssertHolds(image, values, "at the end, " + options);
    }

    private void WriteAndKill(string image, List<byte>[] values, Random random)
    {
        using Emulator emulator = Start(image);
        QmpClient client = emulator.Qmp();
        string socket = Path.Combine(_folder, "nbd");
        File.Delete(socket);
        Add(client, image);
        client.Execute("nbd-server-start", $$"""{"addr": {"type": "unix", "data": {"path": "{{socket}}"} } }""");
        client.Execute("block-export-add", """{"type": "nbd", "id": "e", "node-name": "n", "name": "e", "writable": true}""");
        using NbdWriter writer = new(socket, "e");
        HashSet<int> written = [];
        int batches = random.Next(3, 20);
        for (int batch = 0; batch < batches; batch++)
        {
            int[] blocks = new int[Depth];
            for (int i = 0; i < Depth; i++)
            {
                do
                {
                    blocks[i] = random.Next(Blocks);
                }
                while (Array.IndexOf(blocks, blocks[i]) < i);
                written.Add(blocks[i]);
                Send(writer, blocks[i], values[blocks[i]], random);
            }

            if (batch == batches - 1)
            {
                // With some of them under way, and perhaps a flush.
                for (int answers = random.Next(Depth); answers > 0; answers--)
                {
                    writer.Answer();
                }

                if (random.Next(2) == 0)
                {
                    writer.Send(NbdWriter.Kind.Flush, 0, 0);
                }

                break;
            }

            for (int i = 0; i < Depth; i++)
            {
                writer.Answer();
            }

            if (random.Next(3) == 0)
            {
                ulong flush = writer.Send(NbdWriter.Kind.Flush, 0, 0);
                Assert.That(writer.Answer(), Is.EqualTo(flush));
                foreach (int block in written)
                {
                    values[block].RemoveRange(0, values[block].Count - 1);
                }

                written.Clear();
            }
        }

        emulator.Process.Kill();
        emulator.Process.WaitForExit();
    }

    private static void Send(NbdWriter writer, int block, List<byte> values, Random random)
    {
        long offset = (long)block * BlockBytes;
        byte stamp = (byte)random.Next(1, 256);
        switch (random.Next(8))
        {
            case 0:
                values.Add(0);
                writer.Send(NbdWriter.Kind.WriteZeroes, offset, BlockBytes);
                break;
            default:
                values.Add(stamp);
                writer.Send(NbdWriter.Kind.Write, offset, BlockBytes, stamp);
                break;
        }
    }

    private static Emulator Start(string image)
    {
        Assert.That(image, Does.Exist);
        return Monitored.Start();
    }

    private static void Add(QmpClient client, string image) => client.Execute(
        "blockdev-add",
        $$"""{"driver": "qcow2", "node-name": "n", "discard": "unmap", "file": {"driver": "file", "filename": "{{image}}", "discard": "unmap"} }""");

    private void AssertHolds(string image, List<byte>[] values, string when)
    {
        string raw = Path.Combine(_folder, "raw");
        QemuImg.Run(0, "convert", "-O", "raw", image, raw);
        byte[] contents = File.ReadAllBytes(raw);
        for (int block = 0; block < Blocks; block++)
        {
            // A block that was being written may be so in part, by sectors.
            ReadOnlySpan<byte> all = contents.AsSpan(block * BlockBytes, BlockBytes);
            for (int sector = 0; sector < BlockBytes; sector += 512)
            {
                bool isOne = !all.Slice(sector, 512).ContainsAnyExcept(all[sector]) && values[block].Contains(all[sector]);
                Assert.That(isOne, $"{when}: block {block} has {all[sector]}, may have {string.Join(' ', values[block])}");
            }

            byte[] now = all.ToArray();
            values[block].RemoveAll(v => !now.Contains(v));
            foreach (byte value in now.Distinct().Where(v => !values[block].Contains(v)).ToArray())
            {
                values[block].Add(value);
            }
        }
    }
}
