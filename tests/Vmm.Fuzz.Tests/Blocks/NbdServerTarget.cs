using System.Text;
using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Exports;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Qmp;
using Vmm.Block.Throttling;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Fds;
using Vmm.Qapi;

namespace Vmm.Fuzz.Tests.Blocks;

/// <summary>
/// A client of the NBD server that sends anything, in negotiation and transmission: the server sends what a reader of the protocol can follow,
/// comes to an end when the client has gone, and writes nothing outside of the node.
/// </summary>
internal sealed class NbdServerTarget : FuzzTarget
{
    private const int NodeBytes = 1 << 20;

    public override string Name => "nbd-server";

    public override int Iterations => 1500;

    public override int MaxLength => 2048;

    public override IReadOnlyList<byte[]> Dictionary { get; } =
    [
        [0, 0, 0, 3],
        Encoding.ASCII.GetBytes("IHAVEOPT"),
        .. Options(),
        .. Requests(),
        Encoding.ASCII.GetBytes("\0\0\0\u000fbase:allocation"),
        Encoding.ASCII.GetBytes("\0\0\0\u0001n"),
    ];

    // Requests of up to 32 MiB get native memory, which is not counted; names and answers are.
    public override long AllocationLimit(int inputLength) => (2 << 20) + (4096L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        EventLoop.EventLoop loop = new("fuzz", new Clocks());
        loop.Bind();
        BlockGraph graph = new(loop, new BlockDriverRegistry(new FdSets(), new LoopWorkers(), new ThrottleGroups(loop.Clocks)));
        BlockNode node = loop.RunUntil(graph.OpenAsync(Read($$"""{"driver": "null-co", "node-name": "n", "size": {{NodeBytes}}, "read-zeroes": true}""")));
        BlockExportFactory factory = new(graph, static _ => null);
        factory.StartServer([], 0);
        loop.RunUntil(factory.AddAsync(new BlockExportOptions
        {
            Type = BlockExportType.Nbd,
            Id = "n",
            NodeName = "n",
            Writable = true,
            Nbd = new BlockExportOptionsNbd { AllocationDepth = true },
        }));
        string outcome = Converse(loop, factory.Server!, input);
        loop.RunUntil(factory.StopServerAsync());
        Require(node.WriteHighestOffset <= NodeBytes, "a write outside of the node");
        Require(node.InFlight == 0, "a request is still under way");
        loop.Dispose();
        return outcome;
    }

    private static BlockdevOptions Read(string json) => BlockdevOptions.QapiRead(QValue.Parse(json), new QapiReader(), null);

    private static string Converse(EventLoop.EventLoop loop, NbdServer server, ReadOnlySpan<byte> input)
    {
        Libc.SocketPair(Libc.SOCK_STREAM | Libc.SOCK_NONBLOCK, out SafeFd client, out SafeFd served);
        server.Serve(served);
        byte[] buffer = new byte[1 << 16];
        long received = 0;
        string first = "";
        int sent = 0;
        bool isShut = false;
        int idle = 0;
        while (server.Connections > 0)
        {
            if (sent < input.Length)
            {
                int n = Libc.Send(client.Fd, input[sent..], Libc.MSG_DONTWAIT);
                sent = n > 0 ? sent + n : n == -(int)Errno.EAGAIN ? sent : input.Length;
            }
            else if (!isShut)
            {
                isShut = true;
                Libc.Shutdown(client.Fd, 1);
            }

            bool progress = loop.RunOnce(block: false);
            int got = Libc.Recv(client.Fd, buffer, Libc.MSG_DONTWAIT);
            if (got > 0)
            {
                received += got;
                if (first.Length < 64)
                {
                    first += Kinds(buffer.AsSpan(0, got));
                }
            }

            idle = progress || got > 0 ? 0 : idle + 1;
            Require(idle < 100_000, "the server does not come to an end");
        }

        client.Dispose();
        return $"{first} {(received < 1024 ? received : 1024 * (received / 1024))}";
    }

    // Which kinds of messages the server has sent, by their magic numbers.
    private static string Kinds(ReadOnlySpan<byte> bytes)
    {
        StringBuilder kinds = new();
        for (int i = 0; i + 20 <= bytes.Length && kinds.Length < 32; i++)
        {
            if (bytes[i..].StartsWith((ReadOnlySpan<byte>)[0x66, 0x8e, 0x33, 0xef]))
            {
                kinds.Append('c').Append(bytes[i + 7]);
            }
            else if (bytes[i..].StartsWith((ReadOnlySpan<byte>)[0x6e, 0x8a, 0x27, 0x8c]))
            {
                kinds.Append('e').Append(bytes[i + 7]);
            }
            else if (bytes[i..].StartsWith((ReadOnlySpan<byte>)[0x67, 0x44, 0x66, 0x98]))
            {
                kinds.Append('s').Append(bytes[i + 7]);
            }
            else if (bytes[i..].StartsWith((ReadOnlySpan<byte>)[0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9]))
            {
                kinds.Append('o').Append(bytes[i + 11]).Append(bytes[i + 15]);
            }
        }

        return kinds.ToString();
    }

    private static IEnumerable<byte[]> Options()
    {
        for (byte option = 1; option <= 11; option++)
        {
            yield return [.. "IHAVEOPT"u8, 0, 0, 0, option, 0, 0, 0, 0];
        }

        yield return [.. "IHAVEOPT"u8, 0, 0, 0, 1, 0, 0, 0, 1, (byte)'n'];
        yield return [.. "IHAVEOPT"u8, 0, 0, 0, 7, 0, 0, 0, 7, 0, 0, 0, 1, (byte)'n', 0, 0];
        yield return [.. "IHAVEOPT"u8, 0, 0, 0, 10, 0, 0, 0, 28, 0, 0, 0, 1, (byte)'n', 0, 0, 0, 1, 0, 0, 0, 15, .. "base:allocation"u8];
    }

    private static IEnumerable<byte[]> Requests()
    {
        for (byte command = 0; command <= 8; command++)
        {
            yield return [0x25, 0x60, 0x95, 0x13, 0, 0, 0, command, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 64];
        }

        for (byte command = 0; command <= 8; command++)
        {
            byte flags = command == 1 ? (byte)32 : (byte)0;
            yield return
            [
                0x21, 0xe4, 0x1c, 0x71, 0, flags, 0, command, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 64,
            ];
        }

        yield return [0x25, 0x60, 0x95, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
        yield return [0x25, 0x60, 0x95, 0x13, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
    }
}
