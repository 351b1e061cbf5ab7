using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Files of the host, as nodes.</summary>
[TestFixture("threads", false)]
[TestFixture("io_uring", false)]
[TestFixture("threads", true)]
[TestFixture("native", true)]
[TestFixture("io_uring", true)]
public sealed class FileDriverTests(string aio, bool isDirect) : BlockFixture
{
    private const int Size = 1 << 20;

    [SetUp]
    public void FindRing()
    {
        if (aio != "threads" && IoUring.Create(1, out IoUring? ring) is var errno && errno != Errno.OK)
        {
            Assert.Ignore($"no io_uring for this process: {errno.Message()}");
        }
    }

    private BlockNode OpenFile() => Open(
        $"{{'driver':'file','filename':'{NewFile("f", Size)}','node-name':'f','discard':'unmap','aio':'{aio}','cache':{{'direct':{(isDirect ? "true" : "false")}}}}}");

    /// <summary>Many unaligned writes at a time, none of which meets another, all arrive.</summary>
    [Test]
    public void ManyWritesAtATimeAllArrive()
    {
        BlockNode node = OpenFile();
        const int Count = 300;
        const int Step = Size / Count;
        byte[] expected = new byte[Size];
        Random random = new(5);
        List<IoTask<int>> tasks = [];
        List<NativeBuffer> buffers = [];
        for (int i = 0; i < Count; i++)
        {
            int length = random.Next(1, Step);
            NativeBuffer buffer = new(length);
            buffers.Add(buffer);
            random.NextBytes(buffer.Span);
            int offset = (i * 7 % Count * Step) + random.Next(Step - length);
            buffer.Span.CopyTo(expected.AsSpan(offset));
            tasks.Add(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, length))));
        }

        foreach (IoTask<int> task in tasks)
        {
            Assert.That(Loop.RunUntil(task), Is.Zero);
        }

        buffers.ForEach(b => b.Dispose());
        Assert.That(Read(node, 0, Size), Is.EqualTo(expected));
    }

    /// <summary>More requests than the ring has room for, of many pieces, unaligned, across the end of the file, and a flush.</summary>
    [Test]
    public void ManyReadsAtATimeSeeWhatIsThere()
    {
        BlockNode node = OpenFile();
        byte[] content = Pattern(Size, 2);
        Write(node, 0, content);
        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.Zero);
        Random random = new(6);
        List<(int Offset, NativeBuffer Buffer, IoTask<int> Task)> reads = [];
        for (int i = 0; i < 400; i++)
        {
            int length = random.Next(1, 5000);
            int offset = random.Next(Size - length);
            NativeBuffer buffer = new(length);
            IoVectors data = IoVectors.Rent();
            int half = length / 2;
            data.Add(buffer.Vector(half, length - half));
            data.Add(buffer.Vector(0, half));
            reads.Add((offset, buffer, node.ReadAsync(offset, data)));
        }

        foreach ((int offset, NativeBuffer buffer, IoTask<int> task) in reads)
        {
            Assert.That(Loop.RunUntil(task), Is.Zero);
            int half = buffer.Length / 2;
            Assert.That(buffer.Span[half..].SequenceEqual(content.AsSpan(offset, buffer.Length - half)));
            Assert.That(buffer.Span[..half].SequenceEqual(content.AsSpan(offset + buffer.Length - half, half)));
            buffer.Dispose();
        }
    }

    [Test]
    public void NativeNeedsDirect()
    {
        string path = NewFile("n", Size);
        QapiException? e = Assert.Throws<QapiException>(() => Open($"{{'driver':'file','filename':'{path}','aio':'native'}}"));
        Assert.That(e!.Message, Is.EqualTo("aio=native was specified, but it requires cache.direct=on, which was not specified."));
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
