using System.Buffers.Binary;
using Vmm.Block.Drivers;
using Vmm.Block.Drivers.Qcow2;
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
/// An arbitrary image and arbitrary requests. The input is the image; its last bytes, eight for each request, are the requests as well.
/// Memory is bounded whatever the header asks for, a guest's data never lands in the header, and nothing is read into memory beside the request's.
/// </summary>
internal sealed class Qcow2Target : FuzzTarget
{
    private const int MaxRequests = 12;
    private const int GuardBytes = 4096;
    private const int MaxRequestBytes = 256 << 10;
    private const byte GuardByte = 0x5c;
    private const byte GuestByte = 0xd7;

    // Two slices of L2 and four refcount blocks of two megabytes, copies of tables, codecs, and the requests' own memory.
    private const long MaxNativeBytes = 64 << 20;

    // Tables take memory for what the file has of them.
    private const long MaxManagedBytes = 8 << 20;
    private const BlockdevDriver Memory = BlockdevDriver.NullAio;

    private readonly LoopWorkers _workers = new(1);
    private readonly NativeBuffer _buffer = new(MaxRequestBytes + (2 * GuardBytes));
    private readonly MemoryWatch _watch = new();
    private SparseMemoryDriver _file;

    public Qcow2Target() => _file = new SparseMemoryDriver { OnRequest = _watch.Sample };

    public override string Name => "qcow2";

    public override int Iterations => 400;

    public override int MaxLength => 16 << 10;

    public override IReadOnlyList<byte[]> Dictionary { get; } =
    [
        .. new[]
        {
            "514649fb00000003", "514649fb00000002", "00000009", "00000015", "0000000000000200", "0000000000000400", "0000000000000600",
            "8000000000000800", "8000000000000a00", "4000000000000c00", "0000000000000001", "e2792aca", "6803f857", "23852875", "44415441", "0537be77",
            "00000068", "00000070", "0000000000000010", "0000000000000008", "ffffffffffffffff", "7fffffffffffffff", "00400000", "00100000",
        }.Select(Convert.FromHexString),
    ];

    // What is held at a time is bounded instead.
    public override long AllocationLimit(int inputLength) => long.MaxValue;

    public override string Execute(ReadOnlySpan<byte> input)
    {
        using EventLoop.EventLoop loop = new("fuzz", new Clocks());
        loop.Bind();
        BlockGraph graph = new(loop, new BlockDriverRegistry(new FdSets(), _workers, new ThrottleGroups(loop.Clocks)));
        long before = NativeBuffer.LiveBytes;
        _file = _file.Restart(input);
        _watch.Begin();
        graph.DriverRegistry.Add(Memory, new BlockDriverInfo { Create = _ => _file });
        loop.RunUntil(graph.OpenAsync(new BlockdevOptions { Driver = Memory, NullAio = new BlockdevOptionsNull(), NodeName = "m", Discard = DiscardMode.Unmap }));
        bool isReadOnly = input.Length > 0 && (input[^1] & 7) == 7;
        string outcome;
        try
        {
            BlockNode node = loop.RunUntil(graph.OpenAsync(new BlockdevOptions
            {
                Driver = BlockdevDriver.Qcow2,
                Discard = DiscardMode.Unmap,
                ReadOnly = isReadOnly,
                Qcow2 = new BlockdevOptionsQcow2
                {
                    File = new BlockdevRef { Reference = "m" },
                    Backing = new BlockdevRefOrNull { Null = QNull.Instance },
                    CacheCleanInterval = 0,
                },
            }));
            outcome = Requests(loop, node, input, isReadOnly);
            loop.RunUntil(graph.CloseIfUnusedAsync(node));
            Require(graph.Nodes.Count == 0, "a node is left over");
            Require(NativeBuffer.LiveBytes <= before, "native memory is not given back");
        }
        catch (QapiException e)
        {
            outcome = Shape(e.Desc);
        }

        Require(_watch.PeakNative <= MaxNativeBytes, $"{_watch.PeakNative} bytes of native memory");
        Require(_watch.PeakManaged <= MaxManagedBytes, $"{_watch.PeakManaged} bytes of managed memory");
        return outcome;
    }

    private string Requests(EventLoop.EventLoop loop, BlockNode node, ReadOnlySpan<byte> input, bool isReadOnly)
    {
        string outcome = isReadOnly ? "r" : "w";
        for (int i = 1; i <= MaxRequests && input.Length >= 8 * i; i++)
        {
            ReadOnlySpan<byte> request = input[^(8 * i)..];
            long offset = (long)(BinaryPrimitives.ReadUInt32BigEndian(request) % (ulong)Math.Max(node.Length, 1));
            offset = (request[7] & 0x80) != 0 ? Math.Max(node.Length - 1 - offset, 0) : offset;
            int bytes = (int)Math.Clamp(node.Length - offset, 0, BinaryPrimitives.ReadUInt16BigEndian(request[4..]) * 3L);
            outcome += Request(loop, node, request[6] % 13, offset, bytes, isReadOnly);
        }

        return outcome;
    }

    private char Request(EventLoop.EventLoop loop, BlockNode node, int kind, long offset, int bytes, bool isReadOnly)
    {
        Qcow2Driver driver = (Qcow2Driver)node.Driver;
        try
        {
            int result = 0;
            switch (kind)
            {
                case 0 or 1:
                    result = Read(loop, node, offset, bytes);
                    break;
                case 2 or 3:
                    result = Write(loop, node, offset, bytes);
                    break;
                case 4:
                    result = loop.RunUntil(node.WriteZeroesAsync(offset, bytes, (BlockRequestFlags)(bytes & 2)));
                    break;
                case 5:
                    result = loop.RunUntil(node.DiscardAsync(offset, bytes));
                    break;
                case 6:
                    result = loop.RunUntil(node.FlushAsync());
                    break;
                case 7:
                    result = loop.RunUntil(node.StatusAsync(offset, bytes)).Result;
                    break;
                case 8 when !isReadOnly:
                    loop.RunUntil(node.TruncateAsync(offset & ~511L));
                    break;
                case 9 when !isReadOnly:
                    loop.RunUntil(driver.CreateSnapshotAsync(new Qcow2Snapshot { Id = "", Name = "s" }));
                    break;
                case 10 when !isReadOnly && driver.Snapshots.Count > 0:
                    loop.RunUntil((bytes & 1) == 0 ? driver.ApplySnapshotAsync(driver.Snapshots[0].Id) : driver.DeleteSnapshotAsync(driver.Snapshots[0].Id));
                    break;
                case 11:
                    loop.RunUntil(driver.CheckAsync(isReadOnly ? 0 : (Qcow2Repair)(bytes & 3)));
                    break;
                case 12 when !isReadOnly:
                    loop.RunUntil(node.TruncateAsync(Math.Min(node.Length & ~511L, long.MaxValue >> 2) + (512L << (bytes % 40))));
                    break;
            }

            Require(result is <= 0 and > -4096, "a result that is neither success nor an errno");
            return result == 0 ? (char)('a' + kind) : (char)('A' + kind);
        }
        catch (QapiException)
        {
            return '!';
        }
    }

    private int Read(EventLoop.EventLoop loop, BlockNode node, long offset, int bytes)
    {
        _buffer.Span.Fill(GuardByte);
        int result = loop.RunUntil(node.ReadAsync(offset, Vectors(bytes)));
        bool isIntact = !_buffer.Span[..GuardBytes].ContainsAnyExcept(GuardByte) && !_buffer.Span[(GuardBytes + bytes)..].ContainsAnyExcept(GuardByte);
        Require(isIntact, "a read wrote beside the request's memory");
        return result;
    }

    private int Write(EventLoop.EventLoop loop, BlockNode node, long offset, int bytes)
    {
        _buffer.Span.Fill(GuestByte);
        Span<byte> header = stackalloc byte[512];
        _file.Get(0, header);
        bool hadGuestData = HasGuestData(header);
        int result = loop.RunUntil(node.WriteAsync(offset, Vectors(bytes)));
        _file.Get(0, header);
        Require(hadGuestData || !HasGuestData(header), "a guest's write has hit the header");
        return result;
    }

    private static bool HasGuestData(ReadOnlySpan<byte> header) =>
        header.IndexOf((ReadOnlySpan<byte>)[GuestByte, GuestByte, GuestByte, GuestByte, GuestByte, GuestByte, GuestByte, GuestByte]) >= 0;

    private IoVectors Vectors(int bytes) => IoVectors.Rent(_buffer.Vector(GuardBytes, bytes));
}
