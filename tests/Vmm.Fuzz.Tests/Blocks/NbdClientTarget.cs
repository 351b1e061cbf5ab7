using System.Text;
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

namespace Vmm.Fuzz.Tests.Blocks;

/// <summary>
/// An NBD server that sends anything: opening ends with an error in words or with a node, and each request of that node ends. The server's bytes
/// come after the client's first ones, whatever the client has asked.
/// </summary>
internal sealed class NbdClientTarget : FuzzTarget
{
    private static readonly string s_path = Path.Combine(Path.GetTempPath(), $"vmm-fuzz-nbd-{Environment.ProcessId}");

    public override string Name => "nbd-client";

    public override int Iterations => 1000;

    public override int MaxLength => 2048;

    public override IReadOnlyList<byte[]> Dictionary { get; } =
    [
        Greeting,
        Answer(11, 1),
        Answer(11, 0x80000001),
        Answer(8, 1),
        Answer(8, 0x80000001),
        Answer(10, 1),
        Answer(10, 4, [0, 0, 0, 5, .. "base:allocation"u8]),
        Answer(7, 1),
        Answer(7, 3, [0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 5, 0xFF]),
        Answer(7, 3, [0, 3, 0, 0, 0, 1, 0, 0, 16, 0, 2, 0, 0, 0]),
        Answer(7, 0x80000001),
        Answer(7, 0x80000006),
        Simple(16, 0),
        Simple(17, 0),
        Chunk(16, 1, 8 + 64, 0, 64),
        Chunk(16, 2, 12, 0, 0),
        Chunk(17, 5, 12, 0, 4),
        Chunk(16, 0, 0, 0, 0),
        Chunk(16, 0x8001, 6, 0, 0),
        LongChunk(16, 1, 8 + 64),
        LongChunk(16, 2, 12),
        LongChunk(17, 6, 24, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3),
        LongChunk(17, 5, 12, 0, 0, 0, 5, 0, 0, 16, 0, 0, 0, 0, 3),
        LongChunk(18, 0, 0),
        LongChunk(18, 0x8001, 6, 0, 0, 0, 5, 0, 0),
        [0, 0, 0, 0, 0, 16, 0, 0, 5, 0xFF],
    ];

    private static byte[] Greeting => [.. "NBDMAGICIHAVEOPT"u8, 0, 3];

    public override long AllocationLimit(int inputLength) => (2 << 20) + (4096L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        EventLoop.EventLoop loop = new("fuzz", new Clocks());
        loop.Bind();
        BlockGraph graph = new(loop, new BlockDriverRegistry(new FdSets(), new LoopWorkers(), new ThrottleGroups(loop.Clocks)));
        Libc.Unlink(s_path);
        SockAddr address = SockAddr.Unix(s_path)!;
        Libc.Socket(Libc.AF_UNIX, Libc.SOCK_STREAM | Libc.SOCK_NONBLOCK, 0, out SafeFd listening);
        Libc.Bind(listening.Fd, address);
        Libc.Listen(listening.Fd, 1);
        string outcome;
        try
        {
            IoTask<BlockNode> open = graph.OpenAsync(BlockdevOptions.QapiRead(
                QValue.Parse($$"""{"driver": "nbd", "node-name": "n", "auto-read-only": true, "export": "e", "server": {"type": "unix", "path": "{{s_path}}"} }"""),
                new QapiReader(),
                null));
            Libc.Accept(listening.Fd, Libc.SOCK_NONBLOCK, out SafeFd server);
            using (server)
            {
                int sent = Math.Max(Libc.Send(server.Fd, input, Libc.MSG_DONTWAIT), 0);
                Require(sent == input.Length, "the socket takes what is short");
                Libc.Shutdown(server.Fd, 1);
                BlockNode node = Turn(loop, server, open);
                outcome = "open " + Use(loop, server, node);
                loop.RunUntil(graph.CloseIfUnusedAsync(node));
            }
        }
        catch (QapiException e)
        {
            outcome = Shape(e.Desc);
        }

        listening.Dispose();
        Require(graph.Nodes.Count == 0, "a node is left");
        loop.Dispose();
        return outcome;
    }

    private static string Use(EventLoop.EventLoop loop, SafeFd server, BlockNode node)
    {
        int bytes = (int)Math.Min(node.Length, 64) & ~(node.Limits.RequestAlignment - 1);
        if (bytes == 0)
        {
            return "empty";
        }

        using NativeBuffer memory = new(64);
        int read = Turn(loop, server, node.ReadAsync(0, IoVectors.Rent(memory.Vector(0, bytes))));
        BlockStatus status = Turn(loop, server, node.StatusAsync(0, node.Length));
        Require(status.Result < 0 || (status.Bytes > 0 && status.Bytes <= node.Length), "a range that is none");
        int written = node.IsReadOnly ? 0 : Turn(loop, server, node.WriteAsync(0, IoVectors.Rent(memory.Vector(0, bytes))));
        return $"{read} {status.Result} {status.Flags} {written}";
    }

    private static T Turn<T>(EventLoop.EventLoop loop, SafeFd server, IoTask<T> task)
    {
        Span<byte> sink = stackalloc byte[4096];
        for (int i = 0; !task.IsCompleted; i++)
        {
            Require(i < 100_000, "a request does not come to an end");
            loop.RunOnce(block: false);
            _ = Libc.Recv(server.Fd, sink, Libc.MSG_DONTWAIT);
        }

        return task.GetAwaiter().GetResult();
    }

    private static byte[] Answer(byte option, uint type, params byte[] data) =>
    [
        0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, 0, 0, 0, option,
        (byte)(type >> 24), (byte)(type >> 16), (byte)(type >> 8), (byte)type, 0, 0, 0, (byte)data.Length, .. data,
    ];

    private static byte[] Simple(byte cookie, byte error) => [0x67, 0x44, 0x66, 0x98, 0, 0, 0, error, 0, 0, 0, 0, 0, 0, 0, cookie];

    private static byte[] Chunk(byte cookie, ushort type, byte length, byte offset, byte more) =>
    [
        0x66, 0x8e, 0x33, 0xef, 0, 1, (byte)(type >> 8), (byte)type, 0, 0, 0, 0, 0, 0, 0, cookie, 0, 0, 0, length,
        0, 0, 0, 0, 0, 0, 0, offset, 0, 0, 0, more, .. new byte[64],
    ];

    private static byte[] LongChunk(byte cookie, ushort type, byte length, params byte[] data) =>
    [
        0x6e, 0x8a, 0x27, 0x8c, 0, 1, (byte)(type >> 8), (byte)type, 0, 0, 0, 0, 0, 0, 0, cookie, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, length, .. data, .. new byte[Math.Max(0, length - data.Length)],
    ];
}
