using Vmm.Block.Backend;
using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Drives;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Images by name, drives, and nodes that get other options.</summary>
public sealed class DriveTests : BlockFixture
{
    private const int Cluster = 65536;

    [Test]
    public void ARawImageThatOnlyItsContentsSayIsRawCannotBecomeAnother()
    {
        string path = NewFile("a.img", 1 << 20);
        string said = "";
        Graph.Announce = text => said += text;
        BlockNode node = OpenImage(path);
        Assert.That(node.Driver.FormatName, Is.EqualTo("raw"));
        Assert.That(said, Does.StartWith($"WARNING: Image format was not specified for '{path}' and probing guessed raw.\n"));
        byte[] head = new byte[4096];
        "QFI"u8.CopyTo(head);
        head[3] = 0xfb;
        head[7] = 3;
        Assert.That(TryWrite(node, 0, head), Is.EqualTo(-(int)Errno.EPERM));
        Assert.That(TryWrite(node, 512, head), Is.Zero);
        Assert.That(TryWrite(node, 0, Pattern(512, 1)), Is.Zero);
        Assert.That(Read(node, 0, 512), Is.EqualTo(Pattern(512, 1)));
    }

    [Test]
    public void WhatIsReadIsCopied()
    {
        string below = NewFile("a.img", 4 * Cluster);
        byte[] data = Pattern(4 * Cluster, 3);
        File.WriteAllBytes(below, data);
        BlockNode node = OpenImage(MakeOverlay("b.qcow2", below));
        node.CopiesOnRead = true;
        Assert.That(Read(node, Cluster + 100, 300), Is.EqualTo(data[(Cluster + 100)..(Cluster + 400)]));
        Assert.That(Depth(node, Cluster), Is.EqualTo(1), "it has come into the image");
        Assert.That(Depth(node, 0), Is.EqualTo(2));
        Assert.That(Depth(node, 2 * Cluster), Is.EqualTo(2));
        File.WriteAllBytes(below, new byte[4 * Cluster]);
        Assert.That(Read(node, Cluster, Cluster), Is.EqualTo(data[Cluster..(2 * Cluster)]));
    }

    [Test]
    public void WritesToASnapshotGoWithIt()
    {
        string path = NewFile("a.img", 1 << 20);
        File.WriteAllBytes(path, Pattern(1 << 20, 4));
        DriveTable drives = new(Graph, new BlockBackends(Graph), Groups);
        Drive drive = Loop.RunUntil(drives.AddAsync(new QDict { ["id"] = "d", ["file"] = path, ["format"] = "raw", ["snapshot"] = "on" }, null));
        BlockNode node = drive.Backend.Root!;
        Write(node, 1000, Pattern(5000, 5));
        Assert.That(Read(node, 1000, 5000), Is.EqualTo(Pattern(5000, 5)));
        Assert.That(Read(node, 6000, 100), Is.EqualTo(Pattern(1 << 20, 4)[6000..6100]));
        Assert.That(File.ReadAllBytes(path), Is.EqualTo(Pattern(1 << 20, 4)));
        Loop.RunUntil(drives.DetachAsync(drive));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void AnImageIsReadOnlyForAWhile()
    {
        string path = NewFile("a.img", 1 << 20);
        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'd', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        Write(node, 0, Pattern(512, 6));
        Reopen($$"""{'driver': 'raw', 'node-name': 'd', 'read-only': true, 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        Assert.That(node.IsReadOnly && node.File!.Node.IsReadOnly);
        Assert.That(TryWrite(node, 0, Pattern(512, 7)), Is.EqualTo(-(int)Errno.EPERM));
        Assert.That(Read(node, 0, 512), Is.EqualTo(Pattern(512, 6)));
        Reopen($$"""{'driver': 'raw', 'node-name': 'd', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        Write(node, 0, Pattern(512, 8));
        Assert.That(File.ReadAllBytes(path).AsSpan(0, 512).SequenceEqual(Pattern(512, 8)));
    }

    [Test]
    public void AWriterKeepsAnImageWritable()
    {
        BlockNode node = Open("{'driver': 'null-co', 'node-name': 'n'}");
        BlockNode other = Open("{'driver': 'raw', 'node-name': 'r', 'file': 'n'}");
        BlockBackend user = new(Graph, "");
        user.SetPermissions(BlockPermissions.Write, BlockPermissions.All);
        user.Insert(node);
        Assert.That(
            () => Reopen("{'driver': 'raw', 'node-name': 'r', 'file': 'n', 'offset': 512}", "{'driver': 'null-co', 'node-name': 'n', 'read-only': true}"),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("Read-only block node 'n' cannot support read-write users"));
        Assert.That(node.IsReadOnly, Is.False);
        Assert.That(other.Length, Is.EqualTo(node.Length), "the other one is as it was, too");
    }

    [Test]
    public void ABackingFileIsChangedAndChangedBack()
    {
        string below = NewFile("a.img", Cluster);
        File.WriteAllBytes(below, Pattern(Cluster, 9));
        string path = MakeOverlay("b.qcow2", below);
        string file = $$"""'file': {'driver': 'file', 'filename': '{{path}}'}""";
        BlockNode node = Open($$"""{'driver': 'qcow2', 'node-name': 'd', {{file}} }""");
        BlockNode old = node.Backing!.Node;
        Open("{'driver': 'null-co', 'node-name': 'z', 'read-zeroes': true}");
        Assert.That(node.Filename, Is.EqualTo(path));
        Reopen($$"""{'driver': 'qcow2', 'node-name': 'd', 'backing': 'z', {{file}} }""");
        Assert.That(Read(node, 0, 512), Is.EqualTo(new byte[512]));
        Assert.That(node.Filename, Does.StartWith("json:"));
        Assert.That(Graph.Nodes, Does.Not.Contain(old));
        Reopen($$"""{'driver': 'qcow2', 'node-name': 'd', 'backing': null, {{file}} }""");
        Assert.That(node.Backing, Is.Null);
        Open($$"""{'driver': 'raw', 'node-name': 'a', 'read-only': true, 'file': {'driver': 'file', 'filename': '{{below}}'} }""");
        Reopen($$"""{'driver': 'qcow2', 'node-name': 'd', 'backing': 'a', {{file}} }""");
        Assert.That(Read(node, 0, 512), Is.EqualTo(Pattern(Cluster, 9)[..512]));
        Assert.That(node.Filename, Is.EqualTo(path));
    }

    [Test]
    public void LatenciesFallIntoTheirBins()
    {
        LatencyHistogram histogram = new([10, 50, 100]);
        foreach (long ns in (ReadOnlySpan<long>)[0, 9, 10, 11, 49, 50, 99, 100, 5000])
        {
            histogram.Add(ns);
        }

        Assert.That(histogram.Bins, Is.EqualTo(new long[] { 2, 3, 2, 2 }));
        Assert.That(LatencyHistogram.IsValid([5, 5]), Is.False);
        Assert.That(LatencyHistogram.IsValid([0, 5]), Is.False);
    }

    [Test]
    public void AnAverageIsOfTheLastPeriodOnly()
    {
        TimedAverage average = new(periodNs: 300, nowNs: 0);
        Assert.That(average.Values(0), Is.EqualTo((0L, 0L, 0L)));
        average.Add(10, 0);
        average.Add(30, 100);
        Assert.That(average.Values(199), Is.EqualTo((10L, 30L, 20L)));
        average.Add(50, 250);
        Assert.That(average.Values(250), Is.EqualTo((10L, 50L, 30L)), "the window that began first still has all");
        Assert.That(average.Values(400), Is.EqualTo((50L, 50L, 50L)), "the other one began at half time");
        Assert.That(average.Values(2000), Is.EqualTo((0L, 0L, 0L)));
    }

    private BlockNode OpenImage(string path) => Loop.RunUntil(Graph.OpenImageAsync(path, [], null));

    private void Reopen(params string[] options) => Loop.RunUntil(Graph.ReopenAsync([.. options.Select(Options)]));

    private int Depth(BlockNode node, long offset)
    {
        BlockBackend backend = new(Graph, "");
        backend.Insert(node);
        int depth = Loop.RunUntil(backend.DepthAsync(offset, 512)).Depth;
        backend.Remove();
        return depth;
    }

    private int TryWrite(BlockNode node, long offset, byte[] data)
    {
        using NativeBuffer buffer = new(data.Length);
        data.CopyTo(buffer.Span);
        return Loop.RunUntil(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, data.Length))));
    }

    private string MakeOverlay(string name, string below)
    {
        string path = NewFile(name, 0);
        BlockNode file = Open($$"""{'driver': 'file', 'filename': '{{path}}'}""");
        Qcow2CreateOptions options = new() { Size = new FileInfo(below).Length, BackingFile = below, BackingFormat = "raw" };
        Loop.RunUntil(Qcow2Creator.CreateAsync(Graph, file, options));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(file));
        return path;
    }
}
