using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>Requests whose tables are in memory allocate nothing.</summary>
public sealed class Qcow2AllocationTests : Qcow2Fixture
{
    [TestCase("")]
    [TestCase("extended_l2=on")]
    public void RequestsAllocateNothing(string options)
    {
        string path = Create("a.qcow2", "16M", options);
        BlockNode node = OpenImage(path);
        Write(node, 0, Pattern(16 << 20, 1));
        using NativeBuffer buffer = new(4096);
        IoVectors data = IoVectors.Rent(buffer.Vector(0, 4096));
        long allocated = 0;
        for (int round = 0; round < 4; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 500; i++)
            {
                long offset = (i * 7919L) % 4096 * 4096;
                int read = Loop.RunUntil(node.ReadAsync(offset, data));
                int written = Loop.RunUntil(node.WriteAsync(offset, data));
                if (read != 0 || written != 0)
                {
                    Assert.Fail($"{read} {written}");
                }
            }

            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        CloseNode(node);
#if DEBUG
        Assert.Ignore($"state machines are classes in debug builds: {allocated} bytes");
#else
        Assert.That(allocated, Is.Zero);
#endif
    }
}
