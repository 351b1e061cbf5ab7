using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Throttling;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Fds;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>A graph on a loop of its own, a directory for images, and short spellings of what tests do with nodes.</summary>
public abstract class BlockFixture
{
    private readonly LoopWorkers _workers = new(4);

    protected EventLoop.EventLoop Loop { get; private set; } = null!;

    protected BlockGraph Graph { get; private set; } = null!;

    protected ThrottleGroups Groups { get; private set; } = null!;

    protected string Folder { get; private set; } = null!;

    [SetUp]
    public void MakeGraph()
    {
        Loop = new EventLoop.EventLoop("main", new Clocks());
        Loop.Bind();
        Groups = new ThrottleGroups(Loop.Clocks);
        Graph = new BlockGraph(Loop, new BlockDriverRegistry(new FdSets(), _workers, Groups));
        Folder = Directory.CreateTempSubdirectory("vmm-block-").FullName;
    }

    [TearDown]
    public void Close()
    {
        Loop.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    protected string NewFile(string name, long bytes)
    {
        string path = Path.Combine(Folder, name);
        using FileStream file = File.Create(path);
        file.SetLength(bytes);
        return path;
    }

    /// <summary>Options from JSON in which ' stands for ".</summary>
    protected static BlockdevOptions Options(string json) =>
        BlockdevOptions.QapiRead(QValue.Parse(json), new QapiReader(), null);

    protected BlockNode Open(string json) => Loop.RunUntil(Graph.OpenAsync(Options(json)));

    protected void Write(BlockNode node, long offset, ReadOnlySpan<byte> data)
    {
        using NativeBuffer buffer = new(data.Length);
        data.CopyTo(buffer.Span);
        int result = Loop.RunUntil(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, data.Length))));
        Assert.That(result, Is.Zero);
    }

    protected byte[] Read(BlockNode node, long offset, int length)
    {
        using NativeBuffer buffer = new(length);
        buffer.Span.Fill(0xEE);
        int result = Loop.RunUntil(node.ReadAsync(offset, IoVectors.Rent(buffer.Vector(0, length))));
        Assert.That(result, Is.Zero);
        return buffer.Span.ToArray();
    }

    protected static byte[] Pattern(int length, int seed)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}
