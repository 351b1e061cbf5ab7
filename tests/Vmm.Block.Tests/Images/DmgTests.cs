using Vmm.Block.Graph;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Images;

/// <summary>Disk images of macOS, which nothing here but the test makes, read and refused as qemu-img does.</summary>
public sealed class DmgTests : Qcow2Fixture
{
    [TestCase(true)]
    [TestCase(false)]
    public void ContentsAreThoseThatQemuImgReads(bool inResources)
    {
        DmgSample sample = new DmgSample().Add(DmgSample.Raw, 8, 1).Add(DmgSample.Zlib, 300, 2).Add(DmgSample.Zero, 10)
            .Add(DmgSample.Unused, 5).Add(DmgSample.Raw, 3, 3).Add(DmgSample.Zlib, 1, 4);
        string path = PathOf("image.dmg");
        File.WriteAllBytes(path, sample.Build(inResources));
        Img("convert", "-f", "dmg", "-O", "raw", path, PathOf("theirs"));
        Assert.That(File.ReadAllBytes(PathOf("theirs")).AsSpan().SequenceEqual(sample.Disk), "qemu-img sees the sample as it was meant");
        BlockNode node = OpenDmg(path);
        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(sample.Disk));
        BlockStatus zeroes = Loop.RunUntil(node.StatusAsync(308 * 512, 100 * 512));
        Assert.That((zeroes.Flags & BlockStatusFlags.Zero, zeroes.Bytes), Is.EqualTo((BlockStatusFlags.Zero, 10L * 512)));
        CloseNode(node);
        BlockNode probed = Loop.RunUntil(Graph.OpenImageAsync(path, [], new Options.NodeOptions { IsReadOnly = true }));
        Assert.That(probed.Driver.FormatName, Is.EqualTo("dmg"), "its name tells");
        CloseNode(probed);
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void WhatCannotBeDecompressedIsAnError()
    {
        List<string> warnings = [];
        Graph.Warn = warnings.Add;
        DmgSample sample = new DmgSample().Add(DmgSample.Raw, 1, 1).Add(DmgSample.Adc, 1).Add(DmgSample.Bzip2, 1).Add(DmgSample.Adc, 1).Add(DmgSample.Raw, 1, 2);
        string path = PathOf("image");
        File.WriteAllBytes(path, sample.Build(inResources: true));
        BlockNode node = OpenDmg(path);
        Assert.That(warnings, Is.EqualTo(new[]
        {
            "Image contains chunks of unknown type 80000004, accessing them will result in I/O errors",
            "dmg-bzip2 module is missing, accessing bzip2 compressed blocks will result in I/O errors",
        }));
        Assert.That(Read(node, 2048, 512), Is.All.EqualTo(2));
        for (int sector = 1; sector < 4; sector++)
        {
            using Interop.NativeBuffer buffer = new(512);
            Assert.That(Loop.RunUntil(node.ReadAsync(sector * 512, ObjectModel.Block.IoVectors.Rent(buffer.Vector(0, 512)))), Is.EqualTo(-5));
        }

        CloseNode(node);
    }

    // From the beginning of the trailer or, from 10000 on, of the resource fork; bytes of the number; number.
    [TestCase(0, 1, 0UL)]
    [TestCase(0x18, 8, 1UL << 63)]
    [TestCase(0x18, 8, 100_000UL)]
    [TestCase(0x28, 8, 1UL << 62)]
    [TestCase(0x28, 8, 100_000UL)]
    [TestCase(0x30, 8, 0UL)]
    [TestCase(0x30, 8, 1UL << 63)]
    [TestCase(0x30, 8, 100_000UL)]
    [TestCase(0x1ec, 8, 1UL << 63)]
    [TestCase(0x1ec, 8, 1000UL)]
    [TestCase(10000, 4, 0x10000UL)]
    [TestCase(10008, 4, 0UL)]
    [TestCase(10008, 4, 0x10000UL)]
    [TestCase(10256, 4, 0UL)]
    [TestCase(10256, 4, 0xffffffffUL)]
    [TestCase(10260, 4, 0UL)]
    [TestCase(10260 + 204 + 16, 8, 131073UL)]
    [TestCase(10260 + 204 + 32, 8, (64UL << 20) + 1)]
    [TestCase(10260 + 204 + 24, 8, 1UL << 63)]
    [TestCase(10260 + 204 + 8, 8, 1UL << 60)]
    public void ABrokenImageIsRefusedInQemusWords(int offset, int length, ulong value)
    {
        byte[] bytes = new DmgSample().Add(DmgSample.Raw, 1, 1).Add(DmgSample.Zero, 4).Build(inResources: true);
        int at = offset < 10000 ? bytes.Length - 512 + offset : offset - 10000 + 512;
        for (int i = length - 1; i >= 0; i--)
        {
            bytes[at + i] = (byte)value;
            value >>= 8;
        }

        string path = PathOf("image");
        File.WriteAllBytes(path, bytes);
        string said = "";
        Graph.Announce = text => said += text;
        List<string> errors = [.. Run("qemu-io", "-r", "-f", "dmg", "-c", "quit", path).Text.Split('\n').Where(static l => l.StartsWith("qemu-io: ", StringComparison.Ordinal))];
        if (errors.Count == 0)
        {
            CloseNode(OpenDmg(path));
            return;
        }

        string expected = errors[^1][(errors[^1].IndexOf(path, StringComparison.Ordinal) + path.Length + 2)..];
        Assert.That(() => OpenDmg(path), Throws.TypeOf<QapiException>().With.Message.EqualTo(expected));
        Assert.That(said.Trim(), Is.EqualTo(errors.Count > 1 ? errors[0]["qemu-io: ".Length..] : ""));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    private BlockNode OpenDmg(string path) => Open($"{{'driver': 'dmg', 'read-only': true, 'file': {{'driver': 'file', 'filename': '{path}'}} }}");
}
