using Vmm.Block.Drivers.Debug;
using Vmm.Block.Graph;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Filters for tests, and those that change how a file grows and how clusters are written.</summary>
public sealed class DebugFilterTests : Qcow2Fixture
{
    private const string Zeroes = "{'driver': 'null-co', 'size': 1048576, 'read-zeroes': true}";

    [Test]
    public void AnErrorHitsTheRequestsForWhichItIsMeant()
    {
        BlockNode node = Open($"{{'driver': 'blkdebug', 'image': {Zeroes}, 'inject-error': [{{'event': 'none', 'sector': 3, 'iotype': 'read', 'errno': 28, 'once': true}}]}}");
        Assert.That(Result(node, 0, 1536, isWrite: false), Is.Zero);
        Assert.That(Result(node, 1024, 1024, isWrite: true), Is.Zero);
        Assert.That(Result(node, 1024, 1024, isWrite: false), Is.EqualTo(-28));
        Assert.That(Result(node, 1024, 1024, isWrite: false), Is.Zero, "once");
    }

    [Test]
    public void StatesFollowEachOther()
    {
        BlockNode node = Open(
            $"{{'driver': 'blkdebug', 'image': {Zeroes}, 'set-state': [{{'event': 'pwritev', 'state': 1, 'new_state': 2}}, "
            + "{'event': 'pwritev', 'state': 2, 'new_state': 3}], 'inject-error': [{'event': 'pwritev_done', 'state': 3, 'immediately': true}]}");
        Assert.That(Result(node, 0, 512, isWrite: true), Is.Zero);
        Assert.That(Result(node, 0, 512, isWrite: true), Is.Zero);
        Assert.That(Result(node, 0, 512, isWrite: true), Is.EqualTo(-5));
        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.EqualTo(-5));
    }

    [Test]
    public void ARequestStopsAtABreakpointUntilItIsResumed()
    {
        string path = Create("a.qcow2", "1M");
        BlockNode node = Open($"{{'driver': 'qcow2', 'file': {{'driver': 'blkdebug', 'image': {{'driver': 'file', 'filename': '{path}'}} }} }}");
        BlkdebugDriver debug = BlkdebugDriver.Below(node)!;
        Assert.That(debug.Break("nothing", "A"), Is.False);
        Write(node, 0, new byte[65536]);
        Assert.That(debug.Break("write_aio", "A"), Is.True);
        Assert.That(debug.IsStopped("A"), Is.False);
        using NativeBuffer buffer = new(512);
        IoTask<int> write = node.WriteAsync(0, IoVectors.Rent(buffer.Vector(0, 512)));
        while (!debug.IsStopped("A"))
        {
            Loop.RunOnce(block: true);
        }

        Assert.That(write.IsCompleted, Is.False);
        Assert.That(debug.Resume("B"), Is.False);
        Assert.That(debug.Resume("A"), Is.True);
        Assert.That(Loop.RunUntil(write), Is.Zero);
        Assert.That(debug.RemoveBreak("A"), Is.False);
        CloseNode(node);
        AssertClean(path);
    }

    [TestCase("l2_load", false)]
    [TestCase("read_aio", false)]
    [TestCase("l2_update", true)]
    [TestCase("refblock_update_part", true)]
    [TestCase("write_aio", true)]
    [TestCase("flush_to_os", true)]
    [TestCase("cluster_alloc", true)]
    public void TheEventsOfAnImageFailItsRequests(string point, bool isWrite)
    {
        string path = Create("a.qcow2", "1M");
        Io(path, "write -P 1 0 64k");
        BlockNode node = Open(
            $"{{'driver': 'qcow2', 'file': {{'driver': 'blkdebug', 'inject-error': [{{'event': '{point}'}}], 'image': {{'driver': 'file', 'filename': '{path}'}} }} }}");
        int result = Result(node, isWrite ? 70000 : 0, 512, isWrite);
        Assert.That(result < 0 ? result : Loop.RunUntil(node.FlushAsync()), Is.EqualTo(-5));
    }

    [TestCase("'align': 3", "Cannot meet constraints with align 3")]
    [TestCase("'align': 4096, 'max-transfer': 1000", "Cannot meet constraints with max-transfer 1000")]
    [TestCase("'align': 4096, 'opt-write-zero': 8192, 'max-write-zero': 4096", "Cannot meet constraints with max-write-zero 4096")]
    [TestCase("'config': '/none'", "Could not read blkdebug config file: No such file or directory")]
    public void ImpossibleOptionsAreRefused(string options, string message)
    {
        Assert.That(
            () => Open($"{{'driver': 'blkdebug', {options}, 'image': {Zeroes}}}"), Throws.TypeOf<QapiException>().With.Message.EqualTo(message));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [TestCase("[inject-error]\nevent = \"zz\"\n", "invalid parameter value: zz")]
    [TestCase("[inject-error]\nerrno = \"5\"\n", "Missing event name for rule")]
    [TestCase("[inject]\nevent = \"read_aio\"\n", "There is no option group 'inject'")]
    [TestCase("[inject-error]\nxevent = \"read_aio\"\n", "Invalid parameter 'xevent'")]
    [TestCase("[inject-error]\nevent = read_aio\n", "invalid parameter value: ")]
    [TestCase("event = \"read_aio\"\n", "no group defined")]
    [TestCase("[inject-error]\nevent = \"read_aio\"\nerrno = \"x\"\n", "Parameter 'errno' expects a number")]
    [TestCase("[inject-error]\nevent = \"read_aio\"\nonce = \"maybe\"\n", "Parameter 'once' expects 'on' or 'off'")]
    public void AConfigFileIsRefusedInQemusWords(string text, string message)
    {
        File.WriteAllText(PathOf("c"), text);
        Assert.That(
            () => Open($"{{'driver': 'blkdebug', 'config': '{PathOf("c")}', 'image': {Zeroes}}}"),
            Throws.TypeOf<QapiException>().With.Message.EqualTo(message));
    }

    [Test]
    public void AConfigFileHasRules()
    {
        File.WriteAllText(PathOf("c"), "# rules\n[inject-error]\nevent = \"pwritev\"\niotype = \"write\"\nerrno = \"28\"\n");
        BlockNode node = Open($"{{'driver': 'blkdebug', 'config': '{PathOf("c")}', 'image': {Zeroes}}}");
        Assert.That(Result(node, 0, 512, isWrite: true), Is.EqualTo(-28));
    }

    [Test]
    public void PermissionsAreTakenAndNotShared()
    {
        Open("{'driver': 'null-co', 'node-name': 'n'}");
        Open("{'driver': 'blkdebug', 'node-name': 'd', 'image': 'n', 'take-child-perms': ['write'], 'unshare-child-perms': ['write']}");
        Assert.That(
            () => Open("{'driver': 'blkdebug', 'node-name': 'e', 'image': 'n', 'take-child-perms': ['write']}"),
            Throws.TypeOf<QapiException>().With.Message.StartsWith("Permission conflict on node 'n': permissions 'write' are both required by"));
    }

    [Test]
    public void ADifferenceBetweenTheChildrenEndsTheProcess()
    {
        string path = NewFile("a", 65536);
        string other = NewFile("b", 65536);
        List<string> found = [];
        Graph.OnMismatch = found.Add;
        BlockNode node = Open($"{{'driver': 'blkverify', 'test': {{'driver': 'file', 'filename': '{path}'}}, 'raw': {{'driver': 'file', 'filename': '{other}'}} }}");
        Write(node, 1000, Pattern(5000, 1));
        Assert.That(Read(node, 1000, 5000), Is.EqualTo(Pattern(5000, 1)));
        Assert.That(found, Is.Empty);
        using (FileStream file = File.OpenWrite(other))
        {
            file.Position = 3000;
            file.WriteByte(1);
        }

        Read(node, 512, 8192);
        Assert.That(found[0], Does.EndWith("contents mismatch at offset 3000\n").Or.Contain("mismatch"));
    }

    [Test]
    public void WritesThroughTheCompressFilterAreCompressed()
    {
        string path = Create("a.qcow2", "1000k");
        BlockNode node = Open($"{{'driver': 'compress', 'file': {{'driver': 'qcow2', 'file': {{'driver': 'file', 'filename': '{path}'}} }} }}");
        byte[] data = new byte[1000 << 10];
        data.AsSpan().Fill(7);
        Write(node, 0, data);
        Write(node, 70000, new byte[] { 1, 2, 3 });
        new byte[] { 1, 2, 3 }.CopyTo(data, 70000);
        Assert.That(Read(node, 0, data.Length).AsSpan().SequenceEqual(data));
        CloseNode(node);
        AssertClean(path);
        Assert.That(Convert(path).AsSpan().SequenceEqual(data));
        Assert.That(Img("check", path), Does.Contain("100.00% compressed clusters"));
        Assert.That(
            () => Open($"{{'driver': 'compress', 'file': {Zeroes}}}"),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("Compression is not supported for underlying format: null-co"));
    }

    [Test]
    public void AFileIsMadeLongerThanWritesNeedUntilItIsClosed()
    {
        string path = NewFile("a", 0);
        BlockNode node = Open(
            $"{{'driver': 'preallocate', 'prealloc-align': 65536, 'prealloc-size': 1048576, 'file': {{'driver': 'file', 'filename': '{path}'}} }}");
        Backend.BlockBackend user = new(Graph, "") { AllowsWritesBeyondEnd = true };
        user.SetPermissions(BlockPermissions.Write | BlockPermissions.Resize, BlockPermissions.All);
        user.Insert(node);
        Write(node, 0, Pattern(1000, 1));
        Assert.That(node.Length, Is.EqualTo(1000));
        Assert.That(new FileInfo(path).Length, Is.EqualTo(1048576 + 65536));
        Write(node, 500_000, Pattern(1000, 2));
        Assert.That(node.Length, Is.EqualTo(501_000));
        Assert.That(new FileInfo(path).Length, Is.EqualTo(1048576 + 65536));
        user.Remove();
        CloseNode(node);
        Assert.That(new FileInfo(path).Length, Is.EqualTo(501_000));
        Assert.That(File.ReadAllBytes(path).AsSpan(0, 1000).SequenceEqual(Pattern(1000, 1)));
        Assert.That(
            () => Open($"{{'driver': 'preallocate', 'prealloc-align': 1000, 'file': {Zeroes}}}"),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("prealloc-align parameter of preallocate filter is not aligned to 512"));
    }

    private int Result(BlockNode node, long offset, int length, bool isWrite)
    {
        using NativeBuffer buffer = new(length);
        IoVectors data = IoVectors.Rent(buffer.Vector(0, length));
        return Loop.RunUntil(isWrite ? node.WriteAsync(offset, data) : node.ReadAsync(offset, data));
    }
}
