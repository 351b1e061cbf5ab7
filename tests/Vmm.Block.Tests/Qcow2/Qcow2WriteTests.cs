using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>What is written here is read by qemu-img, and accepted by its check.</summary>
public sealed class Qcow2WriteTests : Qcow2Fixture
{
    private const string Unmap = "'discard': 'unmap', ";

    [TestCase("compat=0.10", false)]
    [TestCase("compat=1.1", false)]
    [TestCase("compat=1.1", true)]
    [TestCase("cluster_size=512,refcount_bits=1", false)]
    [TestCase("cluster_size=512,refcount_bits=64", true)]
    [TestCase("cluster_size=4k,refcount_bits=8", true)]
    [TestCase("cluster_size=2M,refcount_bits=2", false)]
    [TestCase("extended_l2=on", false)]
    [TestCase("extended_l2=on,cluster_size=16k", true)]
    [TestCase("lazy_refcounts=on", false)]
    [TestCase("data_file=d.raw", false)]
    [TestCase("data_file=d.raw,data_file_raw=on", false)]
    [TestCase("preallocation=metadata", false)]
    public void ARandomSequenceIsWhatAnArrayWouldBe(string options, bool hasBacking)
    {
        Random random = new(options.Length + (hasBacking ? 1000 : 0));
        int size = 3 << 20;
        byte[] model = new byte[size];
        options = options.Replace("d.raw", PathOf("d.raw"), StringComparison.Ordinal);
        if (hasBacking)
        {
            Create("base.qcow2", "2M");
            Io(PathOf("base.qcow2"), "write -P 119 0 2M");
            model.AsSpan(0, 2 << 20).Fill(119);
            options += ",backing_fmt=qcow2,backing_file=base.qcow2";
        }

        string path = Create("a.qcow2", "3M", options);
        Walk walk = new(this, OpenImage(path, Unmap), model, random);
        for (int round = 0; round < 4; round++)
        {
            for (int i = 0; i < 60; i++)
            {
                walk.Step();
            }

            Assert.That(ReadAll(walk.Node, round).AsSpan().SequenceEqual(walk.Model), "before it is closed");
            CloseNode(walk.Node);
            AssertClean(path);
            Assert.That(Convert(path).AsSpan().SequenceEqual(walk.Model), "as qemu-img reads it");
            walk.Node = OpenImage(path, round == 1 ? Unmap + "'l2-cache-size': 1024, 'l2-cache-entry-size': 512, " : Unmap);
        }

        CloseNode(walk.Node);
        AssertClean(path);
    }

    [TestCase("compat=1.1", BlockRequestFlags.None)]
    [TestCase("compat=1.1", BlockRequestFlags.MayUnmap)]
    [TestCase("compat=0.10", BlockRequestFlags.MayUnmap)]
    [TestCase("extended_l2=on", BlockRequestFlags.MayUnmap)]
    public void ZeroesStayZeroesWhenAnImageComesAboveAnother(string options, BlockRequestFlags flags)
    {
        Create("base.qcow2", "1M");
        Io(PathOf("base.qcow2"), "write -P 119 0 1M");
        string path = Create("a.qcow2", "1M", options);
        BlockNode node = OpenImage(path, Unmap);
        Assert.That(Loop.RunUntil(node.WriteZeroesAsync(65536, 131072, flags)), Is.Zero);
        if (!options.Contains("0.10", StringComparison.Ordinal))
        {
            // Zeroes are nothing that a discard could forget.
            Assert.That(Loop.RunUntil(node.DiscardAsync(65536, 65536)), Is.Zero);
        }

        CloseNode(node);
        Img("rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", path);
        byte[] model = new byte[1 << 20];
        model.AsSpan().Fill(119);
        model.AsSpan(65536, 131072).Clear();
        Assert.That(Convert(path).AsSpan().SequenceEqual(model));
        AssertClean(path);
    }

    [TestCase("cluster_size=64k")]
    [TestCase("cluster_size=512")]
    [TestCase("extended_l2=on")]
    public void WritesAtOnceDoNotDisturbEachOther(string options)
    {
        string path = Create("a.qcow2", "4M", options);
        BlockNode node = OpenImage(path, Unmap);
        byte[] model = new byte[4 << 20];
        Random random = new(7);
        List<IoTask<int>> running = [];
        List<NativeBuffer> buffers = [];
        for (int round = 0; round < 12; round++)
        {
            int[] blocks = new int[1024];
            for (int i = 0; i < blocks.Length; i++)
            {
                blocks[i] = i;
            }

            random.Shuffle(blocks);
            for (int i = 0; i < 32; i++)
            {
                int offset = blocks[i] * 4096;
                if (i % 8 == 7)
                {
                    model.AsSpan(offset, 4096).Clear();
                    running.Add(node.WriteZeroesAsync(offset, 4096, BlockRequestFlags.MayUnmap));
                    continue;
                }

                NativeBuffer buffer = new(4096);
                buffers.Add(buffer);
                random.NextBytes(buffer.Span);
                buffer.Span.CopyTo(model.AsSpan(offset));
                running.Add(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, 4096))));
            }

            foreach (IoTask<int> task in running)
            {
                Assert.That(Loop.RunUntil(task), Is.Zero);
            }

            running.Clear();
        }

        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(model));
        CloseNode(node);
        buffers.ForEach(static b => b.Dispose());
        AssertClean(path);
        Assert.That(Convert(path).AsSpan().SequenceEqual(model));
    }

    [Test]
    public void RefcountTablesGrow()
    {
        string path = Create("a.qcow2", "64M", "cluster_size=512,refcount_bits=64");
        BlockNode node = OpenImage(path);
        byte[] data = Pattern(20 << 20, 3);
        Write(node, 5 << 20, data);
        Assert.That(Read(node, 5 << 20, data.Length).AsSpan().SequenceEqual(data));
        CloseNode(node);
        AssertClean(path);
        Assert.That(Convert(path).AsSpan(5 << 20, data.Length).SequenceEqual(data));
    }

    [TestCase(PreallocMode.Off)]
    [TestCase(PreallocMode.Metadata)]
    [TestCase(PreallocMode.Falloc)]
    [TestCase(PreallocMode.Full)]
    public void ANewImageIsOneForQemu(PreallocMode prealloc)
    {
        string path = NewFile("new.qcow2", 0);
        BlockNode file = Open($$"""{'driver': 'file', 'node-name': 'f', 'filename': '{{path}}'}""");
        Loop.RunUntil(Qcow2Creator.CreateAsync(Graph, file, new Qcow2CreateOptions { Size = 40 << 20, Preallocation = prealloc, ClusterBytes = 16384 }));
        CloseNode(file);
        AssertClean(path);
        string info = Img("info", path);
        Assert.That(info, Does.Contain("virtual size: 40 MiB").And.Contain("compat: 1.1").And.Contain("cluster_size: 16384"));
        Assert.That(Convert(path).AsSpan().ContainsAnyExcept((byte)0), Is.False);
    }

    [TestCase("zlib")]
    [TestCase("zstd")]
    public void CompressedClustersAreWritten(string method)
    {
        string path = Create("a.qcow2", "4M", "compression_type=" + method);
        BlockNode node = OpenImage(path);
        byte[] model = new byte[4 << 20];
        Random random = new(9);
        for (int i = 0; i < 40; i++)
        {
            int offset = random.Next(64) * 65536;
            byte[] data = Pattern(65536, i);
            if (i % 4 != 0)
            {
                for (int k = 0; k < data.Length; k++)
                {
                    data[k] &= 15;
                }
            }

            data.CopyTo(model, offset);
            using NativeBuffer buffer = new(data.Length);
            data.CopyTo(buffer.Span);
            Assert.That(Loop.RunUntil(node.WriteCompressedAsync(offset, IoVectors.Rent(buffer.Vector(0, data.Length)))), Is.Zero);
            if (i % 7 == 0)
            {
                data.AsSpan(100, 1000).CopyTo(model.AsSpan(offset + 50));
                Write(node, offset + 50, data.AsSpan(100, 1000));
            }
        }

        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(model));
        CloseNode(node);
        AssertClean(path);
        Assert.That(Convert(path).AsSpan().SequenceEqual(model));
    }

    private sealed class Walk(Qcow2WriteTests test, BlockNode node, byte[] model, Random random)
    {
        public BlockNode Node { get; set; } = node;

        public byte[] Model { get; private set; } = model;

        public void Step()
        {
            int length = Model.Length;
            int offset = random.Next(length);
            int bytes = random.Next(4) == 0 ? random.Next(1, 400_000) : random.Next(1, 20_000);
            if (random.Next(3) == 0)
            {
                offset &= ~4095;
                bytes = (bytes + 4095) & ~4095;
            }

            bytes = Math.Min(bytes, length - offset);
            switch (random.Next(20))
            {
                case < 12:
                    byte[] data = Pattern(bytes, random.Next());
                    data.CopyTo(Model, offset);
                    test.Write(Node, offset, data);
                    break;
                case < 15:
                    Model.AsSpan(offset, bytes).Clear();
                    BlockRequestFlags flags = random.Next(2) == 0 ? BlockRequestFlags.MayUnmap : 0;
                    Assert.That(test.Loop.RunUntil(Node.WriteZeroesAsync(offset, bytes, flags)), Is.Zero);
                    break;
                case 15:
                    Discard(offset, bytes);
                    break;
                case 16:
                    Assert.That(test.Loop.RunUntil(Node.FlushAsync()), Is.Zero);
                    break;
                case 17:
                    Resize(Math.Clamp((length + random.Next(-200_000, 220_000)) & ~511, 1 << 20, 5 << 20));
                    break;
                default:
                    Assert.That(test.Read(Node, offset, bytes).AsSpan().SequenceEqual(Model.AsSpan(offset, bytes)));
                    break;
            }
        }

        private void Discard(int offset, int bytes)
        {
            Assert.That(test.Loop.RunUntil(Node.DiscardAsync(offset, bytes)), Is.Zero);

            // What a discard does is not promised; but it is either nothing or zeroes.
            byte[] now = test.Read(Node, offset, bytes);
            for (int i = 0; i < bytes; i++)
            {
                if (now[i] != Model[offset + i])
                {
                    Assert.That(now[i], Is.Zero);
                    Model[offset + i] = 0;
                }
            }
        }

        private void Resize(int length)
        {
            test.Loop.RunUntil(Node.TruncateAsync(length));
            byte[] model = Model;
            Array.Resize(ref model, length);
            Model = model;
        }
    }
}
