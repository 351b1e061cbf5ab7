using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>Internal snapshots, checks, repairs.</summary>
public sealed class Qcow2SnapshotTests : Qcow2Fixture
{
    private static Qcow2Driver Driver(BlockNode node) => (Qcow2Driver)node.Driver;

    [TestCase("")]
    [TestCase("cluster_size=512,refcount_bits=4")]
    [TestCase("extended_l2=on")]
    public void SnapshotsKeepWhatTheDiskWas(string options)
    {
        string path = Create("a.qcow2", "2M", options);
        Io(path, "write -P 1 0 1M");
        BlockNode node = OpenImage(path);
        byte[] first = ReadAll(node, 1);
        Qcow2Snapshot one = Loop.RunUntil(Driver(node).CreateSnapshotAsync(new Qcow2Snapshot { Id = "", Name = "one", Seconds = 1_700_000_000 }));
        Assert.That(one.Id, Is.EqualTo("1"));
        Write(node, 100_000, Pattern(300_000, 1));
        byte[] second = ReadAll(node, 2);
        Loop.RunUntil(Driver(node).CreateSnapshotAsync(new Qcow2Snapshot { Id = "", Name = "two" }));
        Write(node, 1_000_000, Pattern(500_000, 2));
        byte[] third = ReadAll(node, 3);
        CloseNode(node);
        AssertClean(path);
        Assert.That(Img("snapshot", "-l", path), Does.Contain("one").And.Contain("two"));
        Assert.That(ConvertSnapshot(path, "one").AsSpan().SequenceEqual(first));
        Assert.That(ConvertSnapshot(path, "two").AsSpan().SequenceEqual(second));
        Assert.That(Convert(path).AsSpan().SequenceEqual(third));

        node = OpenImage(path);
        Assert.That(Driver(node).Snapshots.Select(s => s.Name), Is.EqualTo(new[] { "one", "two" }));
        Loop.RunUntil(Driver(node).ApplySnapshotAsync("one"));
        Assert.That(ReadAll(node, 4).AsSpan().SequenceEqual(first));
        Write(node, 5, Pattern(100, 3));
        CloseNode(node);
        AssertClean(path);
        node = OpenImage(path);
        Loop.RunUntil(Driver(node).DeleteSnapshotAsync("one"));
        Assert.That(() => Loop.RunUntil(Driver(node).DeleteSnapshotAsync("one")), Throws.TypeOf<QapiException>());
        CloseNode(node);
        AssertClean(path);
        Assert.That(ConvertSnapshot(path, "two").AsSpan().SequenceEqual(second));
    }

    [TestCase("refcount_bits=1")]
    [TestCase("refcount_bits=2,cluster_size=4k")]
    [TestCase("refcount_bits=2,cluster_size=16k,extended_l2=on")]
    public void ASnapshotForWhichCountsAreTooSmallLeavesNothingBehind(string options)
    {
        string path = Create("a.qcow2", "2M", options);
        Io(path, "write -P 1 0 1M");
        BlockNode node = OpenImage(path);
        int made = 0;
        Assert.That(
            () =>
            {
                while (made < 4)
                {
                    // Clusters of the snapshots before are shared more often than those that were written since.
                    Write(node, made * 100_000, Pattern(50_000, made));
                    Loop.RunUntil(Driver(node).CreateSnapshotAsync(new Qcow2Snapshot { Id = "", Name = "s" + made }));
                    made++;
                }
            },
            Throws.TypeOf<QapiException>());
        byte[] now = ReadAll(node, 1);
        Loop.RunUntil(node.FlushAsync());
        Write(node, 5, Pattern(100, 3));
        Pattern(100, 3).CopyTo(now, 5);
        CloseNode(node);
        AssertClean(path);
        Assert.That(Convert(path).AsSpan().SequenceEqual(now));
    }

    [Test]
    public void SnapshotsOfQemuImgAreApplied()
    {
        string path = Create("a.qcow2", "2M");
        Io(path, "write -P 1 0 1M");
        byte[] before = Convert(path);
        Img("snapshot", "-c", "s", path);
        Io(path, "write -P 2 0 1M");
        BlockNode node = OpenImage(path);
        Loop.RunUntil(Driver(node).ApplySnapshotAsync("s"));
        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(before));
        Loop.RunUntil(Driver(node).DeleteSnapshotAsync("s"));
        CloseNode(node);
        AssertClean(path);
        Assert.That(Convert(path).AsSpan().SequenceEqual(before));
    }

    [Test]
    public void WhatACheckFindsItRepairs()
    {
        string path = Create("a.qcow2", "2M", "cluster_size=4k");
        Io(path, "write -P 1 0 1M");
        byte[] before = Convert(path);
        byte[] bytes = File.ReadAllBytes(path);

        // The refcount block is the third cluster. One leak, one cluster counted too seldom.
        bytes[(2 * 4096) + (20 * 2) + 1] = 0;
        bytes[(2 * 4096) + (900 * 2) + 1] = 3;
        Array.Resize(ref bytes, 1000 * 4096);
        File.WriteAllBytes(path, bytes);
        BlockNode node = OpenImage(path);
        Qcow2CheckResult found = Loop.RunUntil(Driver(node).CheckAsync(Qcow2Repair.None));
        Assert.That((found.Corruptions, found.Leaks, found.CheckErrors), Is.EqualTo((1L, 1L, 0L)));
        Qcow2CheckResult repaired = Loop.RunUntil(Driver(node).CheckAsync(Qcow2Repair.Leaks | Qcow2Repair.Errors));
        Assert.That(repaired.Corruptions + repaired.Leaks, Is.Zero);
        Assert.That(repaired.LeaksFixed, Is.EqualTo(1));
        CloseNode(node);
        AssertClean(path);
        Assert.That(Convert(path).AsSpan().SequenceEqual(before));
    }

    [Test]
    public void AnImageThatWasNotClosedIsRepairedWhenItIsOpened()
    {
        string path = Create("a.qcow2", "2M", "lazy_refcounts=on");
        BlockNode node = OpenImage(path);
        Write(node, 0, Pattern(500_000, 1));
        Loop.RunUntil(node.FlushAsync());
        string copy = PathOf("copy.qcow2");
        File.Copy(path, copy);
        CloseNode(node);
        AssertClean(path);
        Assert.That(File.ReadAllBytes(copy)[79] & 1, Is.EqualTo(1), "the mark of stale refcounts");
        node = OpenImage(copy);
        Assert.That(Read(node, 0, 500_000).AsSpan().SequenceEqual(Pattern(500_000, 1)));
        CloseNode(node);
        AssertClean(copy);
    }

    private byte[] ConvertSnapshot(string path, string name)
    {
        string raw = PathOf("snapshot.raw");
        File.Delete(raw);
        Img("convert", "-l", name, "-O", "raw", path, raw);
        return File.ReadAllBytes(raw);
    }
}
