using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Nodes, edges, permissions, drained sections.</summary>
public sealed class GraphTests : BlockFixture
{
    private sealed class User : IBlockParent
    {
        public int Drained { get; private set; }

        public string Description => "block device 'test'";

        public bool IsBusy => false;

        public void DrainBegin() => Drained++;

        public void DrainEnd() => Drained--;

        public void OnResized(BlockEdge edge) => LastLength = edge.Node.Length;

        public long LastLength { get; private set; }
    }

    [Test]
    public void WhatWasWrittenIsReadAgain()
    {
        string path = NewFile("a.img", 1 << 20);
        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'disk', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        byte[] data = Pattern(70_001, 1);
        Write(node, 4_097, data);
        Assert.That(Read(node, 4_097, data.Length), Is.EqualTo(data));
        Assert.That(Read(node, (1 << 20) - 10, 20), Is.EqualTo(new byte[20]), "behind the end there are zeroes");
        Assert.That(node.Length, Is.EqualTo(1 << 20));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
        Assert.That(Graph.Nodes, Is.Empty);
        Assert.That(File.ReadAllBytes(path).AsSpan(4_097, data.Length).SequenceEqual(data));
    }

    [Test]
    public void AWindowEndsWhereItEnds()
    {
        string path = NewFile("a.img", 1 << 20);
        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'disk', 'offset': 4096, 'size': 8192, 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        Assert.That(node.Length, Is.EqualTo(8192));
        Write(node, 0, Pattern(8192, 2));
        Assert.That(File.ReadAllBytes(path).AsSpan(4096, 8192).SequenceEqual(Pattern(8192, 2)));
    }

    [TestCase("{'driver': 'file', 'filename': '/nonexistent/x'}", "Could not open '/nonexistent/x': No such file or directory")]
    [TestCase("{'driver': 'file', 'filename': '/dev/null'}", "'file' driver requires '/dev/null' to be a regular file")]
    [TestCase("{'driver': 'host_device', 'filename': '/etc/passwd', 'read-only': true}", "'host_device' driver requires '/etc/passwd' to be either a character or block device")]
    [TestCase("{'driver': 'raw', 'file': 'nothing'}", "Cannot find device='nothing' nor node-name='nothing'")]
    [TestCase("{'driver': 'null-co', 'node-name': '0a'}", "Invalid node-name: '0a'")]
    [TestCase("{'driver': 'raw', 'offset': 2000000000, 'file': {'driver': 'null-co'}}", "Offset (2000000000) cannot be greater than size of the containing file (1073741824)")]
    public void AFailedOpenLeavesNothing(string json, string message)
    {
        QapiException? error = Assert.Throws<QapiException>(() => Open(json));
        Assert.That(error!.Desc, Is.EqualTo(message));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [Test]
    public void NamesAreUnique()
    {
        Open("{'driver': 'null-co', 'node-name': 'a'}");
        Assert.That(() => Open("{'driver': 'null-co', 'node-name': 'a'}"), Throws.TypeOf<QapiException>().With.Message.EqualTo("Duplicate nodes with node-name='a'"));
    }

    [Test]
    public void AReaderThatSharesNothingRefusesAWriter()
    {
        BlockNode node = Open("{'driver': 'null-co', 'node-name': 'a'}");
        BlockEdge first = Graph.Attach(new User(), node, "root", ChildRole.None, BlockPermissions.ConsistentRead, BlockPermissions.ConsistentRead);
        QapiException? error = Assert.Throws<QapiException>(
            () => Graph.Attach(new User(), node, "root", ChildRole.None, BlockPermissions.Write, BlockPermissions.All));
        Assert.That(error!.Desc, Does.StartWith("Permission conflict on node 'a': permissions 'write' are both required by block device 'test'"));
        Assert.That(node.Parents, Is.EqualTo(new[] { first }));
        Graph.Detach(first);
        Graph.Attach(new User(), node, "root", ChildRole.None, BlockPermissions.Write, BlockPermissions.All);
    }

    [Test]
    public void TwoNodesDoNotWriteOneFile()
    {
        string path = NewFile("a.img", 1 << 20);
        BlockNode first = Open($$"""{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        Graph.Attach(new User(), first, "root", ChildRole.None, BlockPermissions.Write, BlockPermissions.ConsistentRead);
        BlockNode second = Open($$"""{'driver': 'raw', 'node-name': 'b', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        QapiException? error = Assert.Throws<QapiException>(
            () => Graph.Attach(new User(), second, "root", ChildRole.None, BlockPermissions.Write, BlockPermissions.All));
        Assert.That(error!.Desc, Is.EqualTo("Failed to get \"write\" lock"));
        Assert.That(error.Hint, Is.EqualTo($"Is another process using the image [{path}]?"));
    }

    [Test]
    public void ADrainReachesTheUsersAtTheTop()
    {
        string path = NewFile("a.img", 1 << 20);
        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'node-name': 'f', 'filename': '{{path}}'} }""");
        User user = new();
        Graph.Attach(user, node, "root", ChildRole.None, BlockPermissions.Write, BlockPermissions.All);
        BlockNode file = Graph.Find("f")!;
        Loop.RunUntil(file.DrainAsync());
        Assert.That(user.Drained, Is.EqualTo(1));
        Loop.RunUntil(node.DrainAsync());
        Assert.That(user.Drained, Is.EqualTo(1));
        file.DrainEnd();
        node.DrainEnd();
        Assert.That(user.Drained, Is.Zero);
    }

    [Test]
    public void ADrainWaitsForWhatIsUnderWay()
    {
        BlockNode node = Open("{'driver': 'null-co', 'node-name': 'a', 'latency-ns': 2000000}");
        using Interop.NativeBuffer buffer = new(512);
        IoTask<int> write = node.WriteAsync(0, ObjectModel.Block.IoVectors.Rent(buffer.Vector(0, 512)));
        Assert.That(node.InFlight, Is.EqualTo(1));
        Loop.RunUntil(node.DrainAsync());
        Assert.That(node.InFlight, Is.Zero);
        Assert.That(write.IsCompleted);
        node.DrainEnd();
    }

    [Test]
    public void AUserLearnsOfANewSize()
    {
        string path = NewFile("a.img", 1 << 20);
        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        User user = new();
        Graph.Attach(user, node, "root", ChildRole.None, BlockPermissions.Write | BlockPermissions.Resize, BlockPermissions.All);
        Loop.RunUntil(node.TruncateAsync(2 << 20));
        Assert.That(user.LastLength, Is.EqualTo(2 << 20));
        Assert.That(new FileInfo(path).Length, Is.EqualTo(2 << 20));
    }

    [Test]
    public void HolesAreReportedAsZeroes()
    {
        string path = NewFile("a.img", 1 << 20);
        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        Write(node, 1 << 19, Pattern(65536, 3));
        BlockStatus hole = Loop.RunUntil(node.StatusAsync(0, 1 << 20));
        Assert.That(hole.Flags & BlockStatusFlags.Zero, Is.Not.Zero);
        Assert.That(hole.Bytes, Is.EqualTo(1 << 19));
        BlockStatus data = Loop.RunUntil(node.StatusAsync(1 << 19, 1 << 19));
        Assert.That(data.Flags & (BlockStatusFlags.Data | BlockStatusFlags.OffsetValid), Is.EqualTo(BlockStatusFlags.Data | BlockStatusFlags.OffsetValid));
        Assert.That(data.Bytes, Is.EqualTo(65536));
    }

    [Test]
    public void NodesThatShareRequestsShareALoop()
    {
        using IOThread thread = new("io", Loop.Clocks);
        BlockNode disk = Open("{'driver': 'null-co', 'node-name': 'disk', 'read-zeroes': true}");
        BlockNode target = Open("{'driver': 'null-co', 'node-name': 'target'}");
        BlockBackend user = new(Graph, "d");
        user.SetPermissions(BlockPermissions.ConsistentRead | BlockPermissions.Write, BlockPermissions.All);
        user.Insert(disk);
        Loop.RunUntil(user.SetLoopAsync(thread.Loop));
        BlockNode above = Open("{'driver': 'raw', 'node-name': 'above', 'file': 'disk'}");
        BlockNode overlay = Open("{'driver': 'raw', 'node-name': 'top', 'file': {'driver': 'null-co', 'read-zeroes': true} }");
        Graph.AddMonitorOwned(overlay);
        Loop.RunUntil(Graph.AppendAsync(overlay, above));
        Assert.That(Graph.Nodes.Where(n => n != target).Select(static n => n.Loop), Is.All.SameAs(thread.Loop), "nodes come to those that are in use");
        Assert.That(target.Loop, Is.SameAs(Loop));

        // Who is in use on another loop can neither come nor be followed.
        BlockBackend other = new(Graph, "o");
        other.SetPermissions(BlockPermissions.ConsistentRead, BlockPermissions.All);
        other.Insert(target);
        QapiException? error = Assert.Throws<QapiException>(() => Open("{'driver': 'blkverify', 'test': 'top', 'raw': 'target'}"));
        Assert.That(error!.Desc, Is.EqualTo("Cannot change iothread of active block backend"));
        Assert.That(target.Loop, Is.SameAs(Loop));

        // What is left of the chain when its user has gone serves on the main loop again.
        user.Remove();
        Assert.That(Graph.Nodes.Select(static n => n.Loop), Is.All.SameAs(Loop));
        Assert.That(Read(above, 0, 512), Is.EqualTo(new byte[512]));
    }
}
