using System.Buffers.Binary;
using System.Numerics;
using Vmm.Block.Drivers;
using Vmm.Block.Drivers.Crypto;
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
/// An arbitrary image of another program's format, opened and read. The input is a list of pieces: sector of the file and length, both 32 and
/// 16 bits, and their bytes, so that images whose parts lie far apart are short; sums of headers are
/// put right in most inputs, so that they do not hide what comes after them. Memory is bounded whatever a header says.
/// </summary>
internal sealed class ImageTarget(string format) : FuzzTarget
{
    private const BlockdevDriver Memory = BlockdevDriver.NullAio;
    private const int ReadBytes = 4096;

    // One compressed block and what it is read from, pages of tables, and the request.
    private const long MaxNativeBytes = 256 << 20;

    private readonly LoopWorkers _workers = new(1);
    private readonly NativeBuffer _buffer = new(ReadBytes);
    private readonly BlockdevDriver _driver = BlockdevDriverQapi.TryParse(format, out BlockdevDriver found) ? found : throw new ArgumentException(format);
    private readonly byte[] _contents = new byte[10 << 20];
    private SparseMemoryDriver _file = new();

    public override string Name => format;

    public override int Iterations => 300;

    public override int MaxLength => 24 << 10;

    public override long AllocationLimit(int inputLength) => (16 << 20) + (1024L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        using EventLoop.EventLoop loop = new("fuzz", new Clocks());
        loop.Bind();
        BlockGraph graph = new(loop, new BlockDriverRegistry(new FdSets(), _workers, new ThrottleGroups(loop.Clocks)));
        long before = NativeBuffer.LiveBytes;
        _file = _file.Restart(Unpack(input));
        graph.DriverRegistry.Add(Memory, new BlockDriverInfo { Create = _ => _file });
        loop.RunUntil(graph.OpenAsync(new BlockdevOptions { Driver = Memory, NullAio = new BlockdevOptionsNull(), NodeName = "m", ReadOnly = true }));
        string outcome;
        try
        {
            BlockdevRef file = new() { Reference = "m" };
            BlockNode node = loop.RunUntil(graph.OpenAsync(new BlockdevOptions
            {
                Driver = _driver,
                ReadOnly = true,
                Generic = new BlockdevOptionsGenericFormat { File = file },
                GenericCow = new BlockdevOptionsGenericCowFormat { File = file, Backing = new BlockdevRefOrNull { Null = QNull.Instance } },
            }));
            outcome = Use(loop, node);
            Require(NativeBuffer.LiveBytes - before <= MaxNativeBytes, "too much native memory");
            loop.RunUntil(graph.CloseIfUnusedAsync(node));
            Require(NativeBuffer.LiveBytes <= before, "native memory is not given back");
        }
        catch (QapiException e)
        {
            outcome = Shape(e.Desc);
        }

        return outcome;
    }

    // Names of other files are no part of this.
    private Span<byte> Unpack(ReadOnlySpan<byte> input)
    {
        _contents.AsSpan().Clear();
        int length = 0;
        while (input.Length > 6)
        {
            long offset = BinaryPrimitives.ReadUInt32LittleEndian(input) * 512L;
            int bytes = Math.Min(BinaryPrimitives.ReadUInt16LittleEndian(input[4..]), input.Length - 6);
            if (offset + bytes <= _contents.Length - 511)
            {
                input.Slice(6, bytes).CopyTo(_contents.AsSpan((int)offset));
                length = Math.Max(length, ((int)offset + bytes + 511) & ~511);
            }

            input = input[(6 + bytes)..];
        }

        Span<byte> contents = _contents.AsSpan(0, length);
        if (length % (8 * 512) != 512)
        {
            ImageSums.PutRight(format, contents);
        }

        if (format == "vmdk")
        {
            contents.Replace((byte)'/', (byte)'_');
        }

        return contents;
    }

    private string Use(EventLoop.EventLoop loop, BlockNode node)
    {
        Require(node.Length >= 0, "a negative length");
        string outcome = $"{Magnitude(node.Length)} ";
        foreach (long wanted in (ReadOnlySpan<long>)[0, node.Length / 2, node.Length - ReadBytes, 65536, 1 << 20])
        {
            long offset = Math.Clamp(wanted, 0, Math.Max(node.Length - 1, 0));
            int bytes = (int)Math.Min(ReadBytes, node.Length - offset);
            IoVectors data = IoVectors.Rent(_buffer.Vector(0, Math.Max(bytes, 0)));
            outcome += loop.RunUntil(node.ReadAsync(offset, data)) + " ";
            data.Return();
            BlockStatus status = loop.RunUntil(node.StatusAsync(offset, node.Length - offset));
            Require(status.Result < 0 || bytes == 0 || (status.Bytes > 0 && status.Bytes <= node.Length - offset), "a range that is none");
            outcome += $"{(int)status.Flags} {Magnitude(status.Bytes)} ";
        }

        return outcome;
    }

    private static int Magnitude(long bytes) => bytes <= 0 ? -1 : BitOperations.Log2((ulong)bytes);
}

/// <summary>An arbitrary LUKS header: it is refused in words, or says what can be used.</summary>
internal sealed class LuksHeaderTarget : FuzzTarget
{
    public override string Name => "luks";

    public override int Iterations => 3000;

    public override int MaxLength => 600;

    public override IReadOnlyList<byte[]> Dictionary { get; } = Words("cbc-essiv:sha256", "cbc-plain", "ecb-plain64", "xts-plain64", "sha1", "sha512", "aes");

    public override long AllocationLimit(int inputLength) => 1 << 20;

    public override string Execute(ReadOnlySpan<byte> input)
    {
        try
        {
            LuksHeader header = LuksHeader.Parse(input);
            Require(header.KeyBytes is >= 16 and <= 64, "a key that no cipher has");
            Require(header.KeySlots.Count == LuksHeader.Slots, "slots");
            return $"{header.Cipher} {header.Hash}";
        }
        catch (QapiException e)
        {
            return Shape(e.Desc);
        }
    }
}
