using System.Buffers.Binary;
using System.Text;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.ObjectModel.Virtio;

/// <summary>What requests to a virtio disk are checked against.</summary>
public readonly record struct VirtioBlkTraits
{
    /// <summary>Bytes of the medium; negative without one.</summary>
    public required long Length { get; init; }

    /// <summary>Smallest unit that is addressed, in bytes: a power of two, at least 512.</summary>
    public required uint BlockSize { get; init; }

    /// <summary>Most sectors of a discard; null when there is no such request.</summary>
    public uint? MaxDiscard { get; init; }

    /// <summary>Most sectors of a write of zeroes; null when there is no such request.</summary>
    public uint? MaxZeroes { get; init; }

    /// <summary>Requests that change the medium are carried out.</summary>
    public required bool IsWritable { get; init; }

    /// <summary>The serial number; 20 characters of it are seen.</summary>
    public required string Serial { get; init; }
}

/// <summary>
/// A request to a virtio disk (virtio 1.2, 5.2.6), from the buffer in a queue to the status that the driver sees. Objects are reused. Home: the loop
/// of the back end.
/// </summary>
public sealed class VirtioBlkRequest
{
    /// <summary>Bits of a sector's length.</summary>
    public const int SectorBits = 9;

    private const uint TypeOut = 1;
    private const uint TypeBarrier = 0x80000000;
    private const uint TypeFlush = 4;
    private const uint TypeGetId = 8;
    private const uint TypeDiscard = 11;
    private const uint TypeWriteZeroes = 13;
    private const uint UnmapFlag = 1;

    private const byte StatusOk = 0;
    private const byte StatusIoError = 1;
    private const byte StatusUnsupported = 2;

    private const int HeaderBytes = 16;
    private const int RangeBytes = 16;
    private const int SerialBytes = 20;
    private const long MaxRequestBytes = 0x7fffffff & ~511;

    private readonly IoVectors _data = new();
    private Operation _operation;
    private long _offset;
    private long _bytes;
    private bool _mayUnmap;
    private byte _status;

    private enum Operation
    {
        Complete,
        Read,
        Write,
        Flush,
        Discard,
        WriteZeroes,
    }

    /// <summary>The buffer.</summary>
    public VirtQueueElement Element { get; } = new();

    /// <summary>Where the buffer came from.</summary>
    public VirtQueue? Queue { get; set; }

    /// <summary>For the queue's owner: which life of the queue the buffer belongs to.</summary>
    public int Epoch { get; set; }

    /// <summary>A read.</summary>
    public bool IsRead { get; private set; }

    /// <summary>It was refused because it is not inside of the medium, as accounting counts such.</summary>
    public bool IsOutOfRange { get; private set; }

    /// <summary>Reads what <see cref="Element"/> asks for. Null, or why no driver would send this.</summary>
    public string? Parse(in VirtioBlkTraits traits)
    {
        IoVectors output = Element.Out;
        IoVectors input = Element.In;
        if (output.Count == 0 || input.Count == 0)
        {
            return "virtio-blk missing headers";
        }

        if (output.Size < HeaderBytes)
        {
            return "virtio-blk request outhdr too short";
        }

        Span<byte> header = stackalloc byte[HeaderBytes];
        output.CopyTo(0, header);
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(header);
        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
        _data.Clear();
        _operation = Operation.Complete;
        _status = StatusUnsupported;
        IsRead = false;
        IsOutOfRange = false;
        switch (type & ~(TypeOut | TypeBarrier))
        {
            case 0:
                ParseTransfer(traits, (type & TypeOut) != 0, sector);
                return null;
            case TypeFlush:
                _operation = Operation.Flush;
                return null;
            case TypeGetId:
                WriteSerial(traits.Serial);
                return null;
            case TypeDiscard & ~TypeOut when traits.MaxDiscard is { } most:
                return ParseRange(traits, Operation.Discard, (type & TypeOut) != 0, most);
            case TypeWriteZeroes & ~TypeOut when traits.MaxZeroes is { } most:
                return ParseRange(traits, Operation.WriteZeroes, (type & TypeOut) != 0, most);
            default:
                return null;
        }
    }

    /// <summary>Carries it out: 0 or a negative errno. Can be tried again.</summary>
    public async IoTask<int> RunAsync(IBlockBackend backend)
    {
        int result = _operation switch
        {
            Operation.Read => await backend.ReadAsync(_offset, _data),
            Operation.Write => await backend.WriteAsync(_offset, _data),
            Operation.Flush => await backend.FlushAsync(),
            Operation.Discard => await backend.DiscardAsync(_offset, _bytes),
            Operation.WriteZeroes => await backend.WriteZeroesAsync(_offset, _bytes, _mayUnmap),
            _ => 0,
        };
        if (_operation != Operation.Complete)
        {
            _status = StatusOk;
        }

        return result;
    }

    /// <summary>The driver will see an error.</summary>
    public void Fail() => _status = StatusIoError;

    /// <summary>Gives the buffer back with the status in it.</summary>
    public void Complete()
    {
        IoVectors input = Element.In;
        Span<byte> status = [_status];
        input.CopyFrom(input.Size - 1, status);
        Queue!.Push(Element, (uint)input.Size);
    }

    private void ParseTransfer(in VirtioBlkTraits traits, bool isWrite, ulong sector)
    {
        IsRead = !isWrite;
        if (isWrite)
        {
            _data.AddSlice(Element.Out, HeaderBytes, Element.Out.Size - HeaderBytes);
        }
        else
        {
            _data.AddSlice(Element.In, 0, Element.In.Size - 1);
        }

        if (!IsRangeValid(traits, sector, _data.Size))
        {
            _status = StatusIoError;
            IsOutOfRange = true;
            return;
        }

        if (isWrite && !traits.IsWritable)
        {
            _status = StatusIoError;
            return;
        }

        _offset = (long)sector << SectorBits;
        _operation = isWrite ? Operation.Write : Operation.Read;
    }

    private string? ParseRange(in VirtioBlkTraits traits, Operation operation, bool isOut, uint maxSectors)
    {
        IoVectors output = Element.Out;
        if (!isOut || output.Size > HeaderBytes + RangeBytes)
        {
            return null;
        }

        if (output.Size < HeaderBytes + RangeBytes)
        {
            return "virtio-blk discard/write_zeroes header too short";
        }

        Span<byte> range = stackalloc byte[RangeBytes];
        output.CopyTo(HeaderBytes, range);
        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(range);
        uint sectors = BinaryPrimitives.ReadUInt32LittleEndian(range[8..]);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(range[12..]);
        long bytes = (long)sectors << SectorBits;
        if (!traits.IsWritable)
        {
            _status = StatusIoError;
        }
        else if (sectors > maxSectors || !IsRangeValid(traits, sector, bytes))
        {
            _status = StatusIoError;
            IsOutOfRange = operation == Operation.WriteZeroes;
        }
        else if ((flags & ~(operation == Operation.Discard ? 0 : UnmapFlag)) == 0)
        {
            _operation = operation;
            _offset = (long)sector << SectorBits;
            _bytes = bytes;
            _mayUnmap = (flags & UnmapFlag) != 0;
        }

        return null;
    }

    private void WriteSerial(string text)
    {
        Span<byte> serial = stackalloc byte[SerialBytes];
        serial.Clear();
        int length = Math.Min(Encoding.Latin1.GetByteCount(text), SerialBytes);
        Encoding.Latin1.GetBytes(text.AsSpan(0, length), serial);
        int room = (int)Math.Min(Element.In.Size - 1, Math.Min(length + 1, SerialBytes));
        Element.In.CopyFrom(0, serial[..room]);
        _status = StatusOk;
    }

    private static bool IsRangeValid(in VirtioBlkTraits traits, ulong sector, long bytes)
    {
        ulong mask = (traits.BlockSize >> SectorBits) - 1;
        ulong total = (ulong)Math.Max(traits.Length, 0) >> SectorBits;
        ulong sectors = (ulong)bytes >> SectorBits;
        return (sector & mask) == 0 && bytes % traits.BlockSize == 0 && bytes <= MaxRequestBytes
            && sector <= total && sectors <= total - sector;
    }
}
