using Vmm.Block.Graph;
using Vmm.Block.Throttling;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>
/// Requests in steady state allocate nothing, on no thread. Counts for optimized code: debug builds make every state machine an object.
/// </summary>
[Category("Allocation")]
public sealed class AllocationTests : BlockFixture
{
    private const int Depth = 16;
    private const int RequestBytes = 4096;
    private const int FileBytes = 4 << 20;

    private readonly IoTask<int>[] _running = new IoTask<int>[Depth];
    private readonly IoVectors[] _data = new IoVectors[Depth];

    [TestCase("{'driver': 'file', 'filename': 'F'}", false)]
    [TestCase("{'driver': 'file', 'filename': 'F', 'aio': 'io_uring'}", false)]
    [TestCase("{'driver': 'raw', 'file': {'driver': 'file', 'filename': 'F'} }", false)]
    [TestCase("{'driver': 'raw', 'offset': 512, 'size': 4194304, 'file': {'driver': 'file', 'filename': 'F'} }", false)]
    [TestCase("{'driver': 'throttle', 'throttle-group': 'g', 'file': {'driver': 'file', 'filename': 'F'} }", false)]
    [TestCase("{'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'F'} }", true)]
    [TestCase("{'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'F', 'aio': 'io_uring'} }", true)]
    [TestCase("{'driver': 'throttle', 'throttle-group': 'g', 'file': {'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'F'} } }", true)]
    public void ReadsAndWritesAllocateNothing(string json, bool isQcow2)
    {
        Groups.Add("g").Configure(new ThrottleConfig().With(ThrottleBucket.IopsTotal, new ThrottleRate(1_000_000_000, 0, 1)));
        BlockNode node;
        try
        {
            node = Open(json.Replace("'F'", $"'{(isQcow2 ? MakeQcow2() : NewFile("f", FileBytes + 512))}'", StringComparison.Ordinal));
        }
        catch (QapiException e) when (json.Contains("io_uring", StringComparison.Ordinal))
        {
            Assert.Ignore("the host has no io_uring: " + e.Desc);
            return;
        }

        using NativeBuffer buffer = new(Depth * RequestBytes, zeroed: true);
        for (int i = 0; i < Depth; i++)
        {
            _data[i] = IoVectors.Rent(buffer.Vector(i * RequestBytes, RequestBytes));
        }

        // Other threads of the test's host may allocate now and then, but not in each round.
        long least = long.MaxValue;
        for (int round = 0; round < 8; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < 16; i++)
            {
                Batch(node, i, isWrite: (i & 1) != 0);
            }

            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
#if DEBUG
        Assert.Ignore($"state machines are objects in debug builds: {least} bytes for {16 * Depth} requests");
#else
        Assert.That(least, Is.Zero, $"bytes for {16 * Depth} requests");
#endif
    }

    private void Batch(BlockNode node, int batch, bool isWrite)
    {
        for (int i = 0; i < Depth; i++)
        {
            long offset = ((batch * 7919L) + (i * 61L)) % (FileBytes / RequestBytes) * RequestBytes;
            _running[i] = isWrite ? node.WriteAsync(offset, _data[i]) : node.ReadAsync(offset, _data[i]);
        }

        for (int i = 0; i < Depth; i++)
        {
            if (Loop.RunUntil(_running[i]) is not 0 and int result)
            {
                Assert.Fail($"result {result}");
            }
        }
    }

    private string MakeQcow2()
    {
        string path = NewFile("q", 0);
        BlockNode file = Open($$"""{'driver': 'file', 'node-name': 'made', 'filename': '{{path}}'}""");
        Loop.RunUntil(Drivers.Qcow2.Qcow2Creator.CreateAsync(
            Graph, file, new Drivers.Qcow2.Qcow2CreateOptions { Size = FileBytes, Preallocation = PreallocMode.Metadata }));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(file));
        return path;
    }
}
