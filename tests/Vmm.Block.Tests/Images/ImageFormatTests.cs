using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Images;

/// <summary>Images of other programs, made by qemu-img and read as qemu-img reads them.</summary>
public sealed class ImageFormatTests : Qcow2Fixture
{
    [TestCase("vdi", "")]
    [TestCase("vdi", "static=on")]
    [TestCase("vpc", "subformat=dynamic")]
    [TestCase("vpc", "subformat=fixed")]
    [TestCase("vpc", "subformat=dynamic,force_size=on")]
    [TestCase("vhdx", "subformat=dynamic,block_size=1M")]
    [TestCase("vhdx", "subformat=fixed")]
    [TestCase("vhdx", "block_state_zero=off")]
    [TestCase("qed", "")]
    [TestCase("qed", "cluster_size=128k,table_size=2")]
    [TestCase("parallels", "cluster_size=64k")]
    [TestCase("vmdk", "subformat=monolithicSparse")]
    [TestCase("vmdk", "subformat=monolithicFlat")]
    [TestCase("vmdk", "subformat=twoGbMaxExtentSparse")]
    [TestCase("vmdk", "subformat=twoGbMaxExtentFlat")]
    [TestCase("vmdk", "subformat=streamOptimized")]
    [TestCase("vmdk", "subformat=monolithicSparse,zeroed_grain=on")]
    [TestCase("vmdk", "subformat=monolithicSparse,compat6=on")]
    public void ContentsAreThoseOfTheSource(string format, string options)
    {
        string raw = RandomFile("raw", 5 << 20, 1);
        string path = PathOf("image");
        List<string> arguments = ["convert", "-O", format];
        if (options.Length > 0)
        {
            arguments.AddRange(["-o", options]);
        }

        Img([.. arguments, raw, path]);
        BlockNode node = OpenAs(format, path);
        byte[] expected = File.ReadAllBytes(raw);
        byte[] read = ReadAll(node, 3);
        Assert.That(read.AsSpan(0, expected.Length).SequenceEqual(expected));
        Assert.That(read.AsSpan(expected.Length).ContainsAnyExcept((byte)0), Is.False);
        Assert.That(node.Length, Is.EqualTo(VirtualSize(format, path)));
        AssertStatus(node, read);
        CloseNode(node);
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [TestCase("vmdk")]
    [TestCase("qed")]
    public void ABackingFileShowsThrough(string format)
    {
        string raw = RandomFile("raw", 3 << 20, 2);
        Img("convert", "-O", format, raw, PathOf("base.img"));
        Img("create", "-q", "-f", format, "-b", "base.img", "-F", format, "top.img");
        Run("qemu-io", "-f", format, "-c", "write -P 7 100k 200k", "-c", "write -P 9 2M 1k", PathOf("top.img"));
        BlockNode node = OpenAs(format, PathOf("top.img"));
        Assert.That(node.Backing!.Node.Driver.FormatName, Is.EqualTo(format));
        byte[] read = ReadAll(node, 4);
        string converted = PathOf("converted.raw");
        Img("convert", "-f", format, "-O", "raw", PathOf("top.img"), converted);
        Assert.That(read.AsSpan().SequenceEqual(File.ReadAllBytes(converted)));
        Assert.That(read[100 << 10], Is.EqualTo(7));
        CloseNode(node);
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void AVmdkWhoseParentHasChangedIsNotRead()
    {
        Img("create", "-q", "-f", "vmdk", "base.img", "1M");
        Img("create", "-q", "-f", "vmdk", "-b", "base.img", "-F", "vmdk", "top.img");
        Run("qemu-io", "-f", "vmdk", "-c", "write 0 512", PathOf("base.img"));
        BlockNode node = OpenAs("vmdk", PathOf("top.img"));
        using Interop.NativeBuffer buffer = new(512);
        Assert.That(Loop.RunUntil(node.ReadAsync(0, ObjectModel.Block.IoVectors.Rent(buffer.Vector(0, 512)))), Is.EqualTo(-22));
    }

    [TestCase("vdi")]
    [TestCase("vpc")]
    [TestCase("vhdx")]
    [TestCase("qed")]
    [TestCase("parallels")]
    [TestCase("vmdk")]
    public void AnImageIsProbedAndOnlyRead(string format)
    {
        string path = PathOf("image");
        Img("create", "-q", "-f", format, path, "1M");
        BlockNode node = Loop.RunUntil(Graph.OpenImageAsync(path, [], new NodeOptions { IsReadOnly = true }));
        Assert.That(node.Driver.FormatName, Is.EqualTo(format));
        Assert.That(node.Filename, Is.EqualTo(path));
        CloseNode(node);
        Assert.That(
            () => OpenAs(format, path, isReadOnly: false),
            Throws.TypeOf<QapiException>().With.Message.EqualTo($"Driver '{format}' can only be used for read-only devices"));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    // Format, file or descriptor, offset, bytes of the number, number.
    [TestCase("vdi", 0x40, 4, 1UL)]
    [TestCase("vdi", 0x44, 4, 5UL)]
    [TestCase("vdi", 0x154, 4, 5UL)]
    [TestCase("vdi", 0x158, 4, 5UL)]
    [TestCase("vdi", 0x168, 4, 1024UL)]
    [TestCase("vdi", 0x178, 4, 4096UL)]
    [TestCase("vdi", 0x170, 8, 1UL << 40)]
    [TestCase("vdi", 0x170, 8, 1UL << 62)]
    [TestCase("vdi", 0x1a8, 4, 1UL)]
    [TestCase("vdi", 0x1b8, 4, 1UL)]
    [TestCase("vdi", 0x180, 4, 0x20000000UL)]
    [TestCase("vpc", 0, 1, 1UL)]
    [TestCase("vpc", 40, 1, 1UL)]
    [TestCase("vpc", 512, 1, 1UL)]
    [TestCase("vpc", 512 + 32, 4, 0x12345678UL)]
    [TestCase("vpc", 512 + 28, 4, 0UL)]
    [TestCase("qed", 0, 1, 1UL)]
    [TestCase("qed", 4, 4, 100UL)]
    [TestCase("qed", 8, 4, 3UL)]
    [TestCase("qed", 16, 8, 128UL)]
    [TestCase("qed", 40, 8, 100UL)]
    [TestCase("qed", 40, 8, 1UL << 40)]
    [TestCase("qed", 48, 8, 1UL << 63)]
    [TestCase("qed", 48, 8, 5UL)]
    [TestCase("parallels", 0, 1, 1UL)]
    [TestCase("parallels", 16, 4, 5UL)]
    [TestCase("parallels", 28, 4, 0UL)]
    [TestCase("parallels", 28, 4, 0xffffffUL)]
    [TestCase("parallels", 32, 4, 0x7fffffffUL)]
    [TestCase("vmdk", 4, 4, 9UL)]
    [TestCase("vmdk", 20, 8, 0x300000UL)]
    [TestCase("vmdk", 44, 4, 1024UL)]
    [TestCase("vmdk", 64, 8, 0x100000UL)]
    public void ABrokenHeaderIsRefusedInQemusWords(string format, int offset, int length, ulong value)
    {
        string path = PathOf("image");
        Img("create", "-q", "-f", format, path, "1M");
        byte[] bytes = File.ReadAllBytes(path);
        for (int i = 0; i < length; i++)
        {
            bytes[offset + i] = (byte)value;
            value >>= 8;
        }

        File.WriteAllBytes(path, bytes);
        string text = Run("qemu-io", "-r", "-f", format, "-c", "quit", path).Text.Trim();
        string expected = text[(text.IndexOf(path + ": ", StringComparison.Ordinal) + path.Length + 2)..];
        Assert.That(() => OpenAs(format, path), Throws.TypeOf<QapiException>().With.Message.EqualTo(expected));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void AVhdxWithALogThatIsNotWrittenYetIsNotRead()
    {
        string path = PathOf("image");
        Img("create", "-q", "-f", "vhdx", path, "4M");
        byte[] bytes = File.ReadAllBytes(path);
        byte[] log = VhdxSamples.LogEntry(new Guid("11111111-2222-3333-4444-555555555555"));
        VhdxSamples.NameLog(bytes, new Guid("11111111-2222-3333-4444-555555555555"), out long offset);
        log.CopyTo(bytes, offset);
        File.WriteAllBytes(path, bytes);
        Assert.That(
            () => OpenAs("vhdx", path),
            Throws.TypeOf<QapiException>().With.Message.EqualTo($"VHDX image file '{path}' opened read-only, but contains a log that needs to be replayed"));
        bytes[offset + 100] ^= 1;
        File.WriteAllBytes(path, bytes);
        CloseNode(OpenAs("vhdx", path));
    }

    [Test]
    public void CompressedAndGrowingImagesOfOtherProgramsAreRead()
    {
        byte[] contents = Pattern(300_032, 5);
        contents.AsSpan(100_000, 100_000).Clear();
        File.WriteAllBytes(PathOf("c.cloop"), SampleImages.Cloop(contents, 4096));
        BlockNode cloop = OpenAs("cloop", PathOf("c.cloop"));
        Assert.That(ReadAll(cloop, 1).AsSpan(0, contents.Length).SequenceEqual(contents));
        CloseNode(cloop);
        File.WriteAllBytes(PathOf("b.bochs"), SampleImages.Bochs(contents));
        BlockNode bochs = OpenAs("bochs", PathOf("b.bochs"));
        Assert.That(ReadAll(bochs, 2).AsSpan(0, contents.Length).SequenceEqual(contents));
        CloseNode(bochs);
        foreach (string name in new[] { "c.cloop", "b.bochs" })
        {
            Img("convert", "-f", name[2..], "-O", "raw", PathOf(name), PathOf("theirs"));
            Assert.That(File.ReadAllBytes(PathOf("theirs")).AsSpan(0, contents.Length).SequenceEqual(contents), "qemu-img sees the sample as we do");
        }
    }

    private BlockNode OpenAs(string format, string path, bool isReadOnly = true) => Open(
        $"{{'driver': '{format}', 'read-only': {(isReadOnly ? "true" : "false")}, 'file': {{'driver': 'file', 'filename': '{path}'}} }}");

    private long VirtualSize(string format, string path) =>
        long.Parse(((QDict)QValue.Parse(Img("info", "-f", format, "--output=json", path)))["virtual-size"]!.ToJson(), System.Globalization.CultureInfo.InvariantCulture);

    private string RandomFile(string name, int bytes, int seed)
    {
        string path = NewFile(name, bytes);
        Random random = new(seed);
        using FileStream file = File.OpenWrite(path);
        for (int i = 0; i < 12; i++)
        {
            byte[] part = new byte[random.Next(1, bytes / 20)];
            random.NextBytes(part);
            file.Position = random.Next(bytes - part.Length);
            file.Write(part);
        }

        return path;
    }

    // What is said to be zero is zero.
    private void AssertStatus(BlockNode node, byte[] contents)
    {
        for (long offset = 0; offset < node.Length;)
        {
            BlockStatus status = Loop.RunUntil(node.StatusAsync(offset, node.Length - offset));
            Assert.That(status.Bytes, Is.GreaterThan(0));
            if ((status.Flags & BlockStatusFlags.Zero) != 0)
            {
                Assert.That(contents.AsSpan((int)offset, (int)status.Bytes).ContainsAnyExcept((byte)0), Is.False);
            }

            offset += status.Bytes;
        }
    }
}
