using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>Images of qemu-img read as qemu-img reads them.</summary>
public sealed class Qcow2ReadTests : Qcow2Fixture
{
    private static readonly string[] s_writes =
    [
        "write -P 1 0 1000k", "write -P 2 1500k 3k", "write -P 3 2222k 77k", "write -z 300k 256k", "discard 512k 128k", "write -P 4 3071k 1025k",
        "write -P 5 5000k 1k", "write -z 5001k 1k",
    ];

    [TestCase("compat=0.10")]
    [TestCase("compat=1.1")]
    [TestCase("cluster_size=512")]
    [TestCase("cluster_size=4k,refcount_bits=1")]
    [TestCase("cluster_size=2M,refcount_bits=64")]
    [TestCase("extended_l2=on")]
    [TestCase("extended_l2=on,cluster_size=16k")]
    [TestCase("data_file=d.raw")]
    [TestCase("data_file=d.raw,data_file_raw=on")]
    public void ContentsAreWhatQemuImgReads(string options)
    {
        string path = Create("a.qcow2", "6M", options.Replace("d.raw", PathOf("d.raw"), StringComparison.Ordinal));
        Io(path, s_writes);
        BlockNode node = OpenReadOnly(path);
        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(Convert(path)));
        CloseNode(node);
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [TestCase("zlib")]
    [TestCase("zstd")]
    public void CompressedClustersAreRead(string method)
    {
        string raw = NewFile("raw", 0);
        byte[] contents = Pattern(3_000_064, 1);
        for (int i = 0; i < contents.Length; i++)
        {
            contents[i] = i / 65536 % 3 == 0 ? contents[i] : (byte)(contents[i] & 7);
        }

        File.WriteAllBytes(raw, contents);
        string path = PathOf("c.qcow2");
        Img("convert", "-c", "-O", "qcow2", "-o", "compression_type=" + method, raw, path);
        BlockNode node = OpenReadOnly(path);
        byte[] read = ReadAll(node, 2);
        Assert.That(read.AsSpan(0, contents.Length).SequenceEqual(contents));
        Assert.That(read.AsSpan(contents.Length).ContainsAnyExcept((byte)0), Is.False);
    }

    [Test]
    public void BackingFilesShowThrough()
    {
        string bottom = Create("bottom.qcow2", "4M");
        Io(bottom, "write -P 1 0 4M");
        string middle = Create("middle.qcow2", "5M", "backing_file=bottom.qcow2,backing_fmt=qcow2");
        Io(middle, "write -P 2 100k 200k", "write -z 1M 64k");
        string top = Create("top.qcow2", "6M", "extended_l2=on,cluster_size=64k,backing_file=middle.qcow2,backing_fmt=qcow2");
        Io(top, "write -P 3 150k 10k", "write -P 4 3M 2k");
        BlockNode node = OpenReadOnly(top);
        Assert.That(ReadAll(node, 3).AsSpan().SequenceEqual(Convert(top)));
        Assert.That(node.Backing!.Node.Backing!.Node.Length, Is.EqualTo(4 << 20));
        CloseNode(node);
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void ABackingFileWithoutFormatIsProbed()
    {
        string bottom = Create("bottom.qcow2", "1M", "compat=0.10");
        Io(bottom, "write -P 1 0 1M");
        string top = Create("top.qcow2", "1M");
        Img("rebase", "-u", "-b", "bottom.qcow2", "-F", "qcow2", top);
        byte[] bytes = File.ReadAllBytes(top);
        int at = bytes.AsSpan().IndexOf(new byte[] { 0xE2, 0x79, 0x2A, 0xCA });
        bytes[at] = 0x11;
        File.WriteAllBytes(top, bytes);
        BlockNode node = OpenReadOnly(top);
        Assert.That(node.Backing!.Node.Driver.FormatName, Is.EqualTo("qcow2"));
        Assert.That(Read(node, 5, 1)[0], Is.EqualTo(1));
        CloseNode(node);
        node = OpenReadOnly(top, "'backing': null, ");
        Assert.That(node.Backing, Is.Null);
        Assert.That(Read(node, 5, 1)[0], Is.Zero);
        CloseNode(node);
        node = OpenReadOnly(top, "'backing': {'driver': 'null-co', 'size': 1048576, 'read-zeroes': true, 'node-name': 'b'}, ");
        Assert.That(node.Backing!.Node.Name, Is.EqualTo("b"));
    }

    // Offset, length of the number, the number.
    [TestCase(0, 4, 1UL)]
    [TestCase(4, 4, 7UL)]
    [TestCase(20, 4, 8UL)]
    [TestCase(20, 4, 31UL)]
    [TestCase(100, 4, 100UL)]
    [TestCase(100, 4, 70000UL)]
    [TestCase(8, 8, 70000UL)]
    [TestCase(72, 8, 1UL << 7)]
    [TestCase(72, 8, (1UL << 63) | 32)]
    [TestCase(72, 8, 2UL)]
    [TestCase(96, 4, 7UL)]
    [TestCase(104, 1, 2UL)]
    [TestCase(104, 1, 1UL)]
    [TestCase(72, 8, 8UL)]
    [TestCase(72, 8, 4UL)]
    [TestCase(88, 8, 2UL)]
    [TestCase(32, 4, 3UL)]
    [TestCase(32, 4, 2UL)]
    [TestCase(56, 4, 0UL)]
    [TestCase(56, 4, 1000UL)]
    [TestCase(48, 8, 0x10200UL)]
    [TestCase(60, 4, 70000UL)]
    [TestCase(64, 8, 5UL)]
    [TestCase(36, 4, 5000000UL)]
    [TestCase(40, 8, 7UL)]
    [TestCase(36, 4, 0UL)]
    [TestCase(24, 8, 1UL << 62)]
    [TestCase(24, 8, 1UL << 63)]
    [TestCase(24, 8, 1UL << 56)]
    public void ABrokenHeaderIsRefusedInQemusWords(int offset, int length, ulong value)
    {
        string path = Create("a.qcow2", "1M");
        byte[] bytes = File.ReadAllBytes(path);
        for (int i = length - 1; i >= 0; i--)
        {
            bytes[offset + i] = (byte)value;
            value >>= 8;
        }

        File.WriteAllBytes(path, bytes);
        string text = Run("qemu-io", "-f", "qcow2", "-c", "quit", path).Text.Trim();
        string expected = text[(text.IndexOf(path, StringComparison.Ordinal) + path.Length + 2)..];
        Assert.That(() => OpenImage(path), Throws.TypeOf<QapiException>().With.Message.EqualTo(expected));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void AMissingBackingFileIsNamed()
    {
        string path = Create("a.qcow2", "1M");
        Img("rebase", "-u", "-b", "nothing.raw", "-F", "raw", path);
        Assert.That(
            () => OpenImage(path),
            Throws.TypeOf<QapiException>().With.Message.EqualTo($"Could not open backing file: Could not open '{PathOf("nothing.raw")}': No such file or directory"));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void StatusTellsDataFromZeroesFromNothing()
    {
        string path = Create("a.qcow2", "1M");
        Io(path, "write -P 1 0 64k", "write -z 64k 128k");
        BlockNode node = OpenReadOnly(path);
        BlockStatus data = Loop.RunUntil(node.StatusAsync(0, 1 << 20));
        Assert.That(data.Bytes, Is.EqualTo(65536));
        Assert.That(data.Flags & (BlockStatusFlags.Data | BlockStatusFlags.Allocated), Is.EqualTo(BlockStatusFlags.Data | BlockStatusFlags.Allocated));
        BlockStatus zero = Loop.RunUntil(node.StatusAsync(65536, (1 << 20) - 65536));
        Assert.That(zero.Bytes, Is.EqualTo(131072));
        Assert.That(zero.Flags & (BlockStatusFlags.Zero | BlockStatusFlags.Allocated), Is.EqualTo(BlockStatusFlags.Zero | BlockStatusFlags.Allocated));
        BlockStatus nothing = Loop.RunUntil(node.StatusAsync(196608, (1 << 20) - 196608));
        Assert.That(nothing.Flags & BlockStatusFlags.Allocated, Is.EqualTo(BlockStatusFlags.None));
    }
}
