using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Tests;

/// <summary>Files of the host, as nodes.</summary>
[TestFixture]
public sealed class FileDriverTests : BlockFixture
{
    private const int Size = 1 << 20;

    private BlockNode OpenFile() => Open($"{{'driver':'file','filename':'{NewFile("f", Size)}','node-name':'f','discard':'unmap'}}");

    /// <summary>Many writes at a time all arrive, each reports its own result, and later ones win where two meet.</summary>
    [Test]
    public void WritesAtATimeArriveInTheOrderTheyWereMade()
    {
        BlockNode node = OpenFile();
        const int Count = 300;
        const int Length = 8 << 10;
        byte[] expected = new byte[Size];
        Random random = new(5);
        List<IoTask<int>> tasks = [];
        List<NativeBuffer> buffers = [];
        for (int i = 0; i < Count; i++)
        {
            NativeBuffer buffer = new(Length);
            buffers.Add(buffer);
            random.NextBytes(buffer.Span);
            int offset = random.Next(Size - Length);
            buffer.Span.CopyTo(expected.AsSpan(offset));
            tasks.Add(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, Length))));
        }

        foreach (IoTask<int> task in tasks)
        {
            Assert.That(Loop.RunUntil(task), Is.Zero);
        }

        buffers.ForEach(b => b.Dispose());
        Assert.That(Read(node, 0, Size), Is.EqualTo(expected));
    }

    /// <summary>What is known of the file's data is forgotten when some of it is punched out.</summary>
    [Test]
    public void AHoleThatWasPunchedIsSeen([Values] bool isDiscard)
    {
        BlockNode node = OpenFile();
        Write(node, 0, Pattern(Size, 1));
        Assert.That(IsZero(node, 0), Is.False);
        Assert.That(IsZero(node, 512 << 10), Is.False);
        int result = Loop.RunUntil(isDiscard
            ? node.DiscardAsync(512 << 10, 64 << 10)
            : node.WriteZeroesAsync(512 << 10, 64 << 10, BlockRequestFlags.MayUnmap));
        Assert.That(result, Is.Zero);
        Assert.That(IsZero(node, 0), Is.False);
        Assert.That(IsZero(node, 512 << 10), Is.True);
        Assert.That(IsZero(node, 576 << 10), Is.False);
    }

    private bool IsZero(BlockNode node, long offset)
    {
        BlockStatus status = Loop.RunUntil(node.StatusAsync(offset, 4096));
        Assert.That(status.Result, Is.Zero);
        return (status.Flags & BlockStatusFlags.Zero) != 0;
    }
}
