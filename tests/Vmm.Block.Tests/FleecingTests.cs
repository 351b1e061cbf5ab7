using Vmm.Block.Graph;
using Vmm.Block.Tests.Nbd;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Tests;

/// <summary>Image fleecing: a reader sees a disk as it was while others write to it.</summary>
public sealed class FleecingTests : NbdFixture
{
    private const int Size = 8 << 20;

    private byte[] _before = [];

    [TestCase("")]
    [TestCase(", 'on-cbw-error': 'break-snapshot', 'cbw-timeout': 3600")]
    public void ReadersSeeTheMomentWhileAClientWrites(string more)
    {
        Need("qemu-img", "qemu-io");
        Fleece(more);
        StartServer();
        Export("""{"type": "nbd", "id": "w", "node-name": "cbw", "name": "w", "writable": true}""");
        Export("""{"type": "nbd", "id": "r", "node-name": "sa", "name": "r"}""");
        List<string> writes = ["-f", "raw"];
        Random random = new(1);
        for (int i = 0; i < 60; i++)
        {
            int offset = random.Next(Size - 300_000);
            int length = random.Next(1, 300_000);
            writes.AddRange("-c", random.Next(5) switch
            {
                0 => $"write -z {offset} {length}",
                1 => $"discard {offset} {length}",
                _ => $"aio_write -P {1 + i} {offset} {length}",
            });
        }

        writes.Add(Uri("w"));
        string copy = Path.Combine(Folder, "copy");
        Task<(int, string)> reader = Task.Run(() => Wait("qemu-img", "convert", "-f", "raw", "-O", "raw", Uri("r"), copy));
        Good("qemu-io", [.. writes]);
        while (!reader.IsCompleted)
        {
            Loop.RunOnce(block: false);
        }

        Assert.That(reader.Result.Item1, Is.Zero, reader.Result.Item2);
        Assert.That(File.ReadAllBytes(copy), Is.EqualTo(_before));
        Assert.That(Read(Graph.Find("sa")!, 0, Size), Is.EqualTo(_before), "after all writes");
        Assert.That(Read(Graph.Find("n")!, 0, Size), Is.Not.EqualTo(_before));
    }

    [Test]
    public void AFlushOfTheFilterIsNoneOfTheCopy()
    {
        Graph.AddMonitorOwned(Open($$"""{'driver': 'file', 'node-name': 'n', 'filename': '{{NewFile("n", Size)}}'}"""));
        Graph.AddMonitorOwned(Open($$"""
            {'driver': 'raw', 'node-name': 't', 'file': {'driver': 'blkdebug', 'inject-error': [{'event': 'flush_to_disk'}],
             'image': {'driver': 'file', 'filename': '{{NewFile("t", Size)}}'} } }
            """));
        BlockNode filter = Open("{'driver': 'copy-before-write', 'node-name': 'cbw', 'file': 'n', 'target': 't'}");
        Graph.AddMonitorOwned(filter);
        Write(filter, 0, Pattern(65536, 2));
        Assert.That(Loop.RunUntil(filter.FlushAsync()), Is.Zero);
        Assert.That(Loop.RunUntil(Graph.Find("t")!.FlushAsync()), Is.EqualTo(-(int)Errno.EIO));
    }

    [Test]
    public void OnlyWhatABitmapHasCanBeRead()
    {
        BlockNode source = MakeSource();
        Vmm.Block.Bitmaps.DirtyBitmap bitmap = new(source, "b", 65536);
        source.AddBitmap(bitmap);
        bitmap.IsEnabled = false;
        bitmap.Bits.Set(1 << 20, 1 << 20);
        AddFilter(", 'bitmap': {'node': 'n', 'name': 'b'}");
        BlockNode access = Graph.Find("sa")!;
        Write(Graph.Find("cbw")!, 0, Pattern(Size, 9));
        Assert.That(Read(access, 1 << 20, 1 << 20), Is.EqualTo(_before[(1 << 20)..(2 << 20)]));
        Assert.That(ReadResult(access, (1 << 20) - 512, 1024), Is.EqualTo(-(int)Errno.EACCES));
        Assert.That(ReadResult(access, 4 << 20, 512), Is.EqualTo(-(int)Errno.EACCES));
    }

    [Test]
    public void WhatIsDiscardedIsGone()
    {
        Fleece("");
        BlockNode access = Graph.Find("sa")!;
        Assert.That(Loop.RunUntil(access.DiscardAsync(65000, 200_000)), Is.Zero);
        Assert.That(ReadResult(access, 65536, 65536), Is.EqualTo(-(int)Errno.EACCES));
        Assert.That(Read(access, 0, 65536), Is.EqualTo(_before[..65536]), "a cluster that was partly discarded");
        Write(Graph.Find("cbw")!, 65536, Pattern(65536, 5));
        Assert.That(Read(Graph.Find("target")!, 65536, 512), Is.EqualTo(new byte[512]), "nothing is saved of it");
    }

    [TestCase("break-guest-write")]
    [TestCase("break-snapshot")]
    public void ATargetThatFailsBreaksOneOfBoth(string policy)
    {
        MakeSource();
        Graph.AddMonitorOwned(Open($$"""
            {'driver': 'raw', 'node-name': 'target', 'file': {'driver': 'blkdebug', 'inject-error': [{'event': 'pwritev', 'errno': 28}],
             'image': {'driver': 'file', 'filename': '{{NewFile("target", Size)}}'} } }
            """.Replace('\'', '"')));
        AddFilter($", 'on-cbw-error': '{policy}'");
        CheckBroken(policy, (int)Errno.ENOSPC);
    }

    [TestCase("break-guest-write")]
    [TestCase("break-snapshot")]
    public void ATargetThatIsTooSlowBreaksOneOfBoth(string policy)
    {
        MakeSource();
        HeldDriver held = new();
        Graph.AddMonitorOwned(Open($$"""{"driver": "raw", "node-name": "target", "file": {"driver": "file", "filename": "{{NewFile("target", Size)}}"} }"""));
        BlockNode gate = Loop.RunUntil(Insert(held, Graph.Find("target")!));
        AddFilter($", 'on-cbw-error': '{policy}', 'cbw-timeout': 1", gate.Name);
        CheckBroken(policy, (int)Errno.ETIMEDOUT);
        held.Release();
        while (Graph.Find("cbw")!.InFlight > 0)
        {
            Loop.RunOnce(block: true);
        }
    }

    private void CheckBroken(string policy, int errno)
    {
        BlockNode filter = Graph.Find("cbw")!;
        int result = WriteResult(filter, 0, 65536);
        if (policy == "break-guest-write")
        {
            Assert.That(result, Is.EqualTo(-errno));
            Assert.That(Read(Graph.Find("sa")!, 0, 65536), Is.EqualTo(_before[..65536]));
        }
        else
        {
            Assert.That(result, Is.Zero);
            Assert.That(Read(Graph.Find("n")!, 0, 1), Is.EqualTo(new byte[] { 0x5a }));
            Assert.That(ReadResult(Graph.Find("sa")!, 0, 512), Is.EqualTo(-(int)Errno.EACCES));
            Assert.That(WriteResult(filter, 1 << 20, 512), Is.Zero, "nothing is saved any more");
        }
    }

    private BlockNode MakeSource()
    {
        string path = NewFile("source", 0);
        _before = Pattern(Size, 3);
        Array.Clear(_before, Size / 2, Size / 4);
        File.WriteAllBytes(path, _before);
        BlockNode node = Open($$"""{"driver": "file", "node-name": "n", "filename": "{{path}}", "discard": "unmap"}""");
        Graph.AddMonitorOwned(node);
        return node;
    }

    private void Fleece(string more)
    {
        MakeSource();
        AddFilter(more);
    }

    private void AddFilter(string more, string target = "target")
    {
        if (Graph.Find("target") is null)
        {
            Graph.AddMonitorOwned(Open($$"""{"driver": "file", "node-name": "target", "filename": "{{NewFile("target", Size)}}", "discard": "unmap"}"""));
        }

        Graph.AddMonitorOwned(Open($$"""
            {'driver': 'copy-before-write', 'node-name': 'cbw', 'file': 'n', 'target': '{{target}}', 'discard': 'unmap'{{more}} }
            """.Replace('\'', '"')));
        Graph.AddMonitorOwned(Open("""{"driver": "snapshot-access", "node-name": "sa", "file": "cbw", "discard": "unmap"}"""));
    }

    private async IoTask<BlockNode> Insert(HeldDriver driver, BlockNode below) => await Graph.InsertFilterAsync(driver, "gate", below);

    private int ReadResult(BlockNode node, long offset, int length)
    {
        using NativeBuffer buffer = new(length);
        return Loop.RunUntil(node.ReadAsync(offset, IoVectors.Rent(buffer.Vector(0, length))));
    }

    private int WriteResult(BlockNode node, long offset, int length)
    {
        using NativeBuffer buffer = new(length);
        buffer.Span.Fill(0x5a);
        return Loop.RunUntil(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, length))));
    }

    private static (int Code, string Text) Wait(string program, params string[] arguments) =>
        TestKit.Processes.Emulator.Run("/usr/bin/" + program, arguments) is var (status, output, errors) ? (status, output + errors) : default;

    /// <summary>A filter whose writes wait.</summary>
    private sealed class HeldDriver : Drivers.FilterDriver
    {
        private readonly LoopWaitQueue _waiting = new();
        private bool _isReleased;

        public override string FormatName => "held";

        public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
        {
            while (!_isReleased)
            {
                await _waiting.WaitAsync();
            }

            return await base.WriteAsync(offset, data, flags);
        }

        public void Release()
        {
            _isReleased = true;
            _waiting.WakeAll();
        }
    }
}
