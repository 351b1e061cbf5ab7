using System.Buffers.Binary;
using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Exports;
using Vmm.Block.Exports.VhostUser;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Qmp;
using Vmm.Block.Throttling;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Fds;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Fuzz.Tests.Blocks;

/// <summary>
/// A front end of vhost-user-blk that sends anything and has anything in its rings. The input is a list of steps: messages with descriptors, the messages
/// of a front end that means well, writes to its memory, requests, signals. The connection comes to an end when the front end has gone, and nothing is
/// written outside of the node.
/// </summary>
internal sealed class VhostUserTarget : FuzzTarget
{
    private const int NodeBytes = 1 << 20;
    private const int RamBytes = 1 << 18;
    private const ulong User = 0x7f0000000000;
    private const int Ring = 0x1000;
    private const int Available = 0x1800;
    private const int Used = 0x2000;
    private const int Header = 0x8000;
    private const int MaxSteps = 256;

    public override string Name => "vhost-user-blk";

    public override int Iterations => 400;

    public override int MaxLength => 2048;

    public override IReadOnlyList<byte[]> Dictionary { get; } =
    [
        .. Enumerable.Range(1, 38).Select(static r => new byte[] { 0, (byte)r, 9, 8, 0 }),
        [1], [3], [4, 0, 0, 1, 0], [4, 1, 1, 2, 0], [4, 13, 1, 1, 0], [2, 0x10, 8, 0xff, 0xff, 0xff, 0xff],
    ];

    // Making the graph takes most of it.
    public override long AllocationLimit(int inputLength) => (4 << 20) + (16384L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        EventLoop.EventLoop loop = new("fuzz", new Clocks());
        loop.Bind();
        BlockGraph graph = new(loop, new BlockDriverRegistry(new FdSets(), new LoopWorkers(), new ThrottleGroups(loop.Clocks)));
        BlockNode node = loop.RunUntil(graph.OpenAsync(BlockdevOptions.QapiRead(
            QValue.Parse($$"""{"driver": "null-co", "node-name": "n", "size": {{NodeBytes}}, "read-zeroes": true}"""), new QapiReader(), null)));
        BlockBackend backend = new(graph, "");
        backend.SetPermissions(BlockPermissions.ConsistentRead | BlockPermissions.Write, BlockPermissions.All);
        backend.Insert(node);
        Libc.SocketPair(Libc.SOCK_STREAM | Libc.SOCK_NONBLOCK, out SafeFd listener, out SafeFd otherEnd);
        BlockExports exports = new(graph);
        VhostUserExport export = new(
            new BlockExportOptions
            {
                Type = BlockExportType.VhostUserBlk,
                Id = "e",
                NodeName = "n",
                Writable = true,
                VhostUserBlk = new BlockExportOptionsVhostUserBlk { Addr = new SocketAddress { Type = SocketAddressType.Fd }, NumQueues = 2 },
            },
            backend,
            loop,
            listener);
        exports.Add(export);
        string outcome;
        using (FrontEnd frontEnd = new())
        {
            export.Serve(frontEnd.Served);
            for (int i = 0; i < MaxSteps && input.Length > 0; i++)
            {
                frontEnd.Step(ref input);
                for (int turn = 0; turn < 8 && loop.RunOnce(block: false); turn++)
                {
                }
            }

            outcome = $"{export.IsUsed} {frontEnd.Answers(loop)} {node.WriteHighestOffset != 0}";
        }

        export.ShutDown();
        for (int idle = 0; exports.All.Count > 0; idle++)
        {
            loop.RunOnce(block: false);
            Require(idle < 100_000, "the connection does not come to an end");
        }

        Require(node.WriteHighestOffset <= NodeBytes, "a write outside of the node");
        Require(node.InFlight == 0, "a request is still under way");
        otherEnd.Dispose();
        loop.Dispose();
        return outcome;
    }

    private sealed class FrontEnd : IDisposable
    {
        private readonly SafeFd _socket;
        private readonly SafeFd _ram;
        private readonly MappedMemory _memory;
        private readonly EventFd _kick = EventFd.Create();
        private readonly EventFd _call = EventFd.Create();
        private ushort _available;

        public FrontEnd()
        {
            Libc.SocketPair(Libc.SOCK_STREAM | Libc.SOCK_NONBLOCK, out _socket, out SafeFd served);
            Served = served;
            Libc.MemFdCreate("ram", 2, out _ram);
            Libc.FTruncate(_ram.Fd, RamBytes);
            MappedMemory.Map(RamBytes, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_SHARED, _ram.Fd, 0, out MappedMemory? memory);
            _memory = memory!;
        }

        public SafeFd Served { get; }

        private Span<byte> Ram => _memory.AsSpan();

        public void Step(ref ReadOnlySpan<byte> input)
        {
            switch (Take(ref input) % 5)
            {
                case 0:
                    Message(ref input);
                    break;
                case 1:
                    SetUp();
                    break;
                case 2:
                    int at = Take(ref input) << 8;
                    int length = Math.Min(Take(ref input), input.Length);
                    input[..length].CopyTo(Ram[at..]);
                    input = input[length..];
                    break;
                case 3:
                    _kick.Signal();
                    break;
                default:
                    Request(Take(ref input), Take(ref input), Take(ref input), Take(ref input));
                    break;
            }
        }

        /// <summary>How much was answered, roughly.</summary>
        public string Answers(EventLoop.EventLoop loop)
        {
            byte[] buffer = new byte[4096];
            int total = 0;
            for (int n; (n = Libc.Recv(_socket.Fd, buffer, Libc.MSG_DONTWAIT)) > 0; total += n)
            {
                loop.RunOnce(block: false);
            }

            return $"{Math.Min(total / 12, 20)} {Math.Min((int)BinaryPrimitives.ReadUInt16LittleEndian(Ram[(Used + 2)..]), 4)} {_call.Drain() > 0}";
        }

        public void Dispose()
        {
            _socket.Dispose();
            _memory.Dispose();
            _ram.Dispose();
            _kick.Dispose();
            _call.Dispose();
        }

        private void Message(ref ReadOnlySpan<byte> input)
        {
            uint request = Take(ref input);
            uint flags = Take(ref input);
            int size = Take(ref input);
            byte kinds = Take(ref input);
            byte[] payload = new byte[size];
            int given = Math.Min(size, input.Length);
            input[..given].CopyTo(payload);
            input = input[given..];
            List<int> fds = [];
            for (int i = 0; i < (kinds & 3); i++)
            {
                fds.Add(((kinds >> (2 + (2 * i))) & 3) switch { 0 => _ram.Fd, 1 => _kick.Fd, 2 => _socket.Fd, _ => _call.Fd });
            }

            Send(request, flags, payload, fds);
        }

        private void SetUp()
        {
            Send(2, 1, U64(0x175007e46), []);
            byte[] table = new byte[40];
            table[0] = 1;
            BinaryPrimitives.WriteUInt64LittleEndian(table.AsSpan(16), RamBytes);
            BinaryPrimitives.WriteUInt64LittleEndian(table.AsSpan(24), User);
            Send(5, 1, table, [_ram.Fd]);
            Send(8, 1, U64(16ul << 32), []);
            Send(10, 1, U64((ulong)_available << 32), []);
            byte[] addresses = new byte[40];
            BinaryPrimitives.WriteUInt64LittleEndian(addresses.AsSpan(8), User + Ring);
            BinaryPrimitives.WriteUInt64LittleEndian(addresses.AsSpan(16), User + Used);
            BinaryPrimitives.WriteUInt64LittleEndian(addresses.AsSpan(24), User + Available);
            Send(9, 1, addresses, []);
            Send(12, 1, U64(0), [_kick.Fd]);
            Send(13, 1, U64(0), [_call.Fd]);
            Send(18, 1, U64(1ul << 32), []);
        }

        private void Request(byte type, byte sector, byte length, byte head)
        {
            Span<byte> ram = Ram;
            BinaryPrimitives.WriteUInt32LittleEndian(ram[Header..], type);
            BinaryPrimitives.WriteUInt64LittleEndian(ram[(Header + 8)..], sector);
            Describe(0, Header, 16, 1, 1);
            Describe(1, Header + 0x1000, Math.Max(length, (byte)1) * 16, 1 | ((type & 1) == 0 ? 2 : 0), 2);
            Describe(2, Header + 0x800, 1, 2, 0);
            BinaryPrimitives.WriteUInt16LittleEndian(ram[(Available + 4 + (2 * (_available % 16)))..], head);
            BinaryPrimitives.WriteUInt16LittleEndian(ram[(Available + 2)..], ++_available);
            _kick.Signal();
        }

        private void Describe(int index, int address, int length, int flags, int next)
        {
            Span<byte> at = Ram[(Ring + (16 * index))..];
            BinaryPrimitives.WriteUInt64LittleEndian(at, (ulong)address);
            BinaryPrimitives.WriteUInt32LittleEndian(at[8..], (uint)length);
            BinaryPrimitives.WriteUInt16LittleEndian(at[12..], (ushort)flags);
            BinaryPrimitives.WriteUInt16LittleEndian(at[14..], (ushort)next);
        }

        private void Send(uint request, uint flags, ReadOnlySpan<byte> payload, List<int> fds)
        {
            byte[] message = new byte[12 + payload.Length];
            BinaryPrimitives.WriteUInt32LittleEndian(message, request);
            BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(4), flags);
            BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(8), (uint)payload.Length);
            payload.CopyTo(message.AsSpan(12));
            Libc.SendWithFds(_socket.Fd, message, fds.ToArray(), Libc.MSG_DONTWAIT);
        }

        private static byte[] U64(ulong value)
        {
            byte[] bytes = new byte[8];
            BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
            return bytes;
        }

        private static byte Take(ref ReadOnlySpan<byte> input)
        {
            if (input.IsEmpty)
            {
                return 0;
            }

            byte value = input[0];
            input = input[1..];
            return value;
        }
    }
}
