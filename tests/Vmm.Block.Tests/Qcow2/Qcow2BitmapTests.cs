using System.Text;
using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>Bitmaps that images keep, between us and qemu-img.</summary>
public sealed class Qcow2BitmapTests : Qcow2Fixture
{
    [Test]
    public void BitmapsOfQemuImgAreReadAndStoredAgain()
    {
        string path = Create("a.qcow2", "64M");
        Img("bitmap", "--add", "-g", "4096", path, "one");
        Img("bitmap", "--add", path, "two");
        Img("bitmap", "--disable", path, "two");
        Io(path, "write -P 1 1M 64k", "write -P 2 63M 1M");
        BlockNode node = OpenImage(path);
        DirtyBitmap one = node.FindBitmap("one")!;
        Assert.That(one.Bits.Granularity, Is.EqualTo(4096));
        Assert.That(one.Bits.Count, Is.EqualTo((65536 + (1 << 20)) / 4096));
        Assert.That(one.Bits[1 << 20] && one.Bits[(64 << 20) - 1] && !one.Bits[0]);
        Assert.That(node.FindBitmap("two")!.IsEnabled, Is.False);
        Assert.That(Img("info", "-U", path), Does.Contain("in-use"));
        Write(node, 10 << 20, Pattern(4096, 1));
        Close(node);
        Img("check", "-q", path);
        Assert.That(Img("info", path), Does.Not.Contain("in-use"));
        Img("bitmap", "--merge", "one", path, "two");
        node = OpenImage(path);
        Assert.That(node.FindBitmap("one")!.Bits.Count, Is.EqualTo(((65536 + (1 << 20)) / 4096) + 1));
        Assert.That(node.FindBitmap("two")!.Bits[10 << 20]);
        node.RemoveBitmap(node.FindBitmap("one")!);
        node.RemoveBitmap(node.FindBitmap("two")!);
        Close(node);
        Img("check", "-q", path);
        Assert.That(Img("info", path), Does.Not.Contain("bitmaps"));
    }

    [Test]
    public void ASmallHeaderHasRoomForTheDirectory()
    {
        string path = Create("a.qcow2", "8M", "cluster_size=512");
        BlockNode node = OpenImage(path);
        node.AddBitmap(new DirtyBitmap(node, "b", 4096) { IsPersistent = true });
        Write(node, 65536, Pattern(4096, 1));
        Close(node);
        AssertClean(path);
        Assert.That(Img("info", path), Does.Contain("name: b").And.Not.Contain("in-use"));
        node = OpenImage(path);
        Assert.That(node.FindBitmap("b")!.Bits.Count, Is.EqualTo(1));
        Close(node);
    }

    [Test]
    public void BitmapsThatFindNoRoomLeaveNothingBehind()
    {
        // The name of the backing file fills the header.
        Img("create", "-q", "-f", "raw", "b", "8M");
        string path = Create("a.qcow2", "", "cluster_size=512", "-b", new StringBuilder().Insert(0, "./", 175).Append('b').ToString(), "-F", "raw");
        BlockNode node = OpenImage(path);
        node.AddBitmap(new DirtyBitmap(node, "b", 4096) { IsPersistent = true });
        Write(node, 65536, Pattern(4096, 1));
        Close(node);
        AssertClean(path);
    }

    [Test]
    public void ABitmapThatWasNotStoredTellsNothing()
    {
        string path = Create("a.qcow2", "8M");
        BlockNode node = OpenImage(path);
        node.AddBitmap(new DirtyBitmap(node, "b", 65536) { IsPersistent = true });
        Write(node, 0, Pattern(4096, 1));
        Close(node);
        node = OpenImage(path);
        Loop.RunUntil(node.FlushAsync());
        string copy = PathOf("copy.qcow2");
        File.Copy(path, copy);
        BlockNode crashed = OpenImage(copy);
        Assert.That(crashed.FindBitmap("b")!.IsInconsistent);
        Close(crashed);
        Img("check", "-q", copy);
        Assert.That(Img("info", copy), Does.Contain("in-use"));
        Close(node);
    }

    [Test]
    public void ReadOnlyImagesKeepTheirBitmaps()
    {
        string path = Create("a.qcow2", "8M");
        BlockNode node = OpenImage(path);
        node.AddBitmap(new DirtyBitmap(node, "b", 65536) { IsPersistent = true });
        Write(node, 65536, Pattern(4096, 1));
        Loop.RunUntil(Graph.SetReadOnlyAsync(node, true));
        Assert.That(Img("info", "-U", path), Does.Not.Contain("in-use").And.Contain("name: b"));
        Loop.RunUntil(Graph.SetReadOnlyAsync(node, false));
        Write(node, 0, Pattern(4096, 1));
        Close(node);
        Img("check", "-q", path);
        node = OpenImage(path);
        Assert.That(node.FindBitmap("b")!.Bits.Count, Is.EqualTo(2));
        Close(node);
    }

    private BlockNode OpenImage(string path) =>
        Open($$"""{'driver': 'qcow2', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");

    private void Close(BlockNode node) => Loop.RunUntil(Graph.DeleteAsync(node));
}
