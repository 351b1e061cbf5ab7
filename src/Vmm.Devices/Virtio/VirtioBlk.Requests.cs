using System.Buffers.Binary;
using System.Text;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Devices.Virtio;

/// <content>Requests (virtio 1.2, 5.2.6).</content>
public sealed partial class VirtioBlk
{
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

    private readonly Stack<BlkRequest> _free = new();
    private readonly Queue<BlkRequest> _stopped = new();

    private enum Operation
    {
        Complete,
        Read,
        Write,
        Flush,
        Discard,
        WriteZeroes,
    }

    /// <inheritdoc/>
    protected override bool ServeOne(VirtQueue queue)
    {
        BlkRequest request = _free.TryPop(out BlkRequest? free) ? free : new BlkRequest();
        if (!queue.TryPop(request.Element) || !Parse(request))
        {
            _free.Push(request);
            return false;
        }

        request.Queue = queue;
        request.Epoch = Epoch;
        BeginRequest();
        RunAsync(request).Forget();
        return true;
    }

    /// <inheritdoc/>
    protected override void OnResume()
    {
        for (int count = _stopped.Count; count > 0; count--)
        {
            BeginRequest();
            RunAsync(_stopped.Dequeue()).Forget();
        }
    }

    // False when the request breaks the device.
    private bool Parse(BlkRequest request)
    {
        IoVectors output = request.Element.Out;
        IoVectors input = request.Element.In;
        if (output.Count == 0 || input.Count == 0)
        {
            Break("virtio-blk missing headers");
            return false;
        }

        if (output.Size < HeaderBytes)
        {
            Break("virtio-blk request outhdr too short");
            return false;
        }

        Span<byte> header = stackalloc byte[HeaderBytes];
        output.CopyTo(0, header);
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(header);
        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
        request.Data.Clear();
        request.Operation = Operation.Complete;
        request.Status = StatusUnsupported;
        switch (type & ~(TypeOut | TypeBarrier))
        {
            case 0:
                ParseTransfer(request, (type & TypeOut) != 0, sector);
                return true;
            case TypeFlush:
                request.Operation = Operation.Flush;
                return true;
            case TypeGetId:
                WriteSerial(request);
                return true;
            case TypeDiscard & ~TypeOut when OffersDiscard:
                return ParseRange(request, Operation.Discard, (type & TypeOut) != 0, MaxDiscard);
            case TypeWriteZeroes & ~TypeOut when OffersWriteZeroes:
                return ParseRange(request, Operation.WriteZeroes, (type & TypeOut) != 0, MaxZeroes);
            default:
                return true;
        }
    }

    private void ParseTransfer(BlkRequest request, bool isWrite, ulong sector)
    {
        if (isWrite)
        {
            request.Data.AddSlice(request.Element.Out, HeaderBytes, request.Element.Out.Size - HeaderBytes);
        }
        else
        {
            request.Data.AddSlice(request.Element.In, 0, request.Element.In.Size - 1);
        }

        if (!IsRangeValid(sector, request.Data.Size))
        {
            request.Status = StatusIoError;
            Backend.CountInvalid(isRead: !isWrite);
            return;
        }

        request.Offset = (long)sector << SectorBits;
        request.Operation = isWrite ? Operation.Write : Operation.Read;
    }

    private bool ParseRange(BlkRequest request, Operation operation, bool isOut, uint maxSectors)
    {
        IoVectors output = request.Element.Out;
        if (!isOut || output.Size > HeaderBytes + RangeBytes)
        {
            return true;
        }

        if (output.Size < HeaderBytes + RangeBytes)
        {
            Break("virtio-blk discard/write_zeroes header too short");
            return false;
        }

        Span<byte> range = stackalloc byte[RangeBytes];
        output.CopyTo(HeaderBytes, range);
        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(range);
        uint sectors = BinaryPrimitives.ReadUInt32LittleEndian(range[8..]);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(range[12..]);
        long bytes = (long)sectors << SectorBits;
        if (sectors > maxSectors || !IsRangeValid(sector, bytes))
        {
            request.Status = StatusIoError;
            if (operation == Operation.WriteZeroes)
            {
                Backend.CountInvalid(isRead: false);
            }
        }
        else if ((flags & ~(operation == Operation.Discard ? 0 : UnmapFlag)) == 0)
        {
            request.Operation = operation;
            request.Offset = (long)sector << SectorBits;
            request.Bytes = bytes;
            request.MayUnmap = (flags & UnmapFlag) != 0;
        }

        return true;
    }

    private void WriteSerial(BlkRequest request)
    {
        Span<byte> serial = stackalloc byte[SerialBytes];
        serial.Clear();
        int length = Math.Min(Encoding.Latin1.GetByteCount(Serial), SerialBytes);
        Encoding.Latin1.GetBytes(Serial.AsSpan(0, length), serial);
        int room = (int)Math.Min(request.Element.In.Size - 1, Math.Min(length + 1, SerialBytes));
        request.Element.In.CopyFrom(0, serial[..room]);
        request.Status = StatusOk;
    }

    private bool IsRangeValid(ulong sector, long bytes)
    {
        ulong mask = (LogicalBlockSize >> SectorBits) - 1;
        ulong total = (ulong)Math.Max(Backend.Length, 0) >> SectorBits;
        ulong sectors = (ulong)bytes >> SectorBits;
        return (sector & mask) == 0 && bytes % (long)LogicalBlockSize == 0 && bytes <= MaxRequestBytes
            && sector <= total && sectors <= total - sector;
    }

    private async IoTask RunAsync(BlkRequest request)
    {
        bool isRead = request.Operation == Operation.Read;
        int result = request.Operation switch
        {
            Operation.Read => await Backend.ReadAsync(request.Offset, request.Data),
            Operation.Write => await Backend.WriteAsync(request.Offset, request.Data),
            Operation.Flush => await Backend.FlushAsync(),
            Operation.Discard => await Backend.DiscardAsync(request.Offset, request.Bytes),
            Operation.WriteZeroes => await Backend.WriteZeroesAsync(request.Offset, request.Bytes, request.MayUnmap),
            _ => 0,
        };
        if (request.Operation != Operation.Complete)
        {
            request.Status = StatusOk;
        }

        BlockErrorAction action = result < 0 ? Backend.HandleError(isRead, result) : BlockErrorAction.Ignore;
        lock (Gate)
        {
            if (action == BlockErrorAction.Stop && request.Epoch == Epoch)
            {
                _stopped.Enqueue(request);
            }
            else
            {
                request.Status = action == BlockErrorAction.Report ? StatusIoError : request.Status;
                Finish(request);
            }
        }

        EndRequest();
    }

    private void Finish(BlkRequest request)
    {
        if (request.Epoch == Epoch)
        {
            IoVectors input = request.Element.In;
            Span<byte> status = [request.Status];
            input.CopyFrom(input.Size - 1, status);
            request.Queue!.Push(request.Element, (uint)input.Size);
        }

        request.Queue = null;
        _free.Push(request);
    }

    private sealed class BlkRequest
    {
        public VirtQueueElement Element { get; } = new();

        public IoVectors Data { get; } = new();

        public VirtQueue? Queue { get; set; }

        public Operation Operation { get; set; }

        public long Offset { get; set; }

        public long Bytes { get; set; }

        public bool MayUnmap { get; set; }

        public byte Status { get; set; }

        public int Epoch { get; set; }
    }
}
