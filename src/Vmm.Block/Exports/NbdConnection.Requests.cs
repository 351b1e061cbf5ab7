using System.Buffers.Binary;
using Vmm.Block.Backend;
using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;
using Vmm.Block.Nbd;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Exports;

/// <content>Transmission (NBD protocol, "Transmission"). The loop of the export.</content>
internal sealed partial class NbdConnection
{
    /// <summary>Requests of a client that are carried out at a time; it waits with others.</summary>
    private const int MaxInFlight = 16;

    // Of payloads under way; one request may always go on.
    private const long MaxInFlightBytes = 64 << 20;

    // Shorter reads are answered as data: asking for holes would take longer than reading.
    private const int MinSparseBytes = 64 << 10;

    private const int CacheStepBytes = 1 << 20;
    private const int MaxExtents = 8000;

    // Questions for an answer: neighbours of the same state count as one range, of which there may be very many.
    private const int MaxLooks = 64 << 10;
    private const int MaxBatchPieces = 512;
    private const int AllocationId = 0;
    private const int DepthId = 1;
    private const int FirstBitmapId = 2;

    private readonly Stack<NbdRequest> _free = new(MaxInFlight);
    private readonly Queue<NbdRequest> _replies = new(MaxInFlight);
    private readonly Queue<NbdRequest> _sending = new(MaxInFlight);
    private readonly IoVectors _batch = new();
    private readonly LoopWaitQueue _slotFree = new();
    private readonly Action _startSending;
    private readonly Action _afterSending;
    private IoTask<bool>.Awaiter _sender;
    private NativeBuffer? _headers;
    private bool _isSending;
    private int _inFlight;
    private long _inFlightBytes;

    private async IoTask ServeAsync(NbdExport export)
    {
        _headers = new NativeBuffer(MaxInFlight * NbdRequest.HeaderBytes);
        int requestBytes = NbdWire.RequestBytes(_format);
        while (true)
        {
            while (_inFlight == MaxInFlight || _inFlightBytes > MaxInFlightBytes)
            {
                await _slotFree.WaitAsync();
            }

            if (await _socket.FillAsync(requestBytes) < 0
                || !NbdWire.TryReadRequest(_socket.Peek(requestBytes), _format, out NbdRequestHeader header))
            {
                return;
            }

            _socket.Skip(requestBytes);
            if (header.Command == NbdCommand.Disconnect)
            {
                break;
            }

            NbdRequest request = _free.Pop();
            _inFlight++;
            request.Header = header;
            request.Refusal = Check(export, header);
            if (request.Refusal is null && header.Command is NbdCommand.Read or NbdCommand.Write && header.Length > 0)
            {
                AddMemory(request, (int)header.Length);
            }

            if (HasPayload(header))
            {
                if (header.Length > NbdLimits.MaxPayload)
                {
                    // What follows is no request: the client learns why, and the connection ends.
                    request.Observe(ProcessAsync(export, request));
                    break;
                }

                int result = request.Refusal is null
                    ? await _socket.ReadAsync(request.Payload, 0, (long)header.Length)
                    : await _socket.DiscardAsync((long)header.Length);
                if (result < 0)
                {
                    Release(request);
                    return;
                }
            }

            request.Observe(ProcessAsync(export, request));
        }

        while (_inFlight > 0)
        {
            await _slotFree.WaitAsync();
        }
    }

    // With extended headers other requests may have one as well, which is taken off the wire before they are refused.
    private bool HasPayload(in NbdRequestHeader header) => header.Command == NbdCommand.Write
        || (_format == NbdHeaders.Extended && (header.Flags & NbdCommandFlags.PayloadLength) != 0);

    private void AddMemory(NbdRequest request, int length)
    {
        request.Data = _buffers.Rent(length);
        _inFlightBytes += request.Data.Length;
        request.Payload.Add(request.Data, 0, length);
    }

    // Whatever is wrong with a request, its error is EINVAL, as that of QEMU's server is.
    private string? Check(NbdExport export, in NbdRequestHeader header)
    {
        NbdCommandFlags valid = NbdCommandFlags.Fua;
        bool isWrite = false;
        switch (header.Command)
        {
            case NbdCommand.Read:
                valid |= IsStructured ? NbdCommandFlags.DontFragment : 0;
                break;
            case NbdCommand.Write:
                isWrite = true;
                valid |= _format == NbdHeaders.Extended ? NbdCommandFlags.PayloadLength : 0;
                break;
            case NbdCommand.Trim:
                isWrite = true;
                break;
            case NbdCommand.WriteZeroes:
                isWrite = true;
                valid |= NbdCommandFlags.NoHole | NbdCommandFlags.FastZero;
                break;
            case NbdCommand.BlockStatus:
                valid |= NbdCommandFlags.RequestOne;
                break;
            case NbdCommand.Flush or NbdCommand.Cache:
                break;
            default:
                return $"invalid request type ({(ushort)header.Command}) received";
        }

        if (header.Command is NbdCommand.Read or NbdCommand.Write or NbdCommand.Cache && header.Length > NbdLimits.MaxPayload)
        {
            return $"len ({header.Length}) is larger than max len ({NbdLimits.MaxPayload})";
        }

        if (isWrite && !export.IsWritable)
        {
            return "Export is read-only";
        }

        ulong size = (ulong)export.Size;
        if (header.Command != NbdCommand.Flush && (header.Offset > size || header.Length > size - header.Offset))
        {
            return $"operation past EOF; From: {header.Offset}, Len: {header.Length}, Size: {size}";
        }

        if ((header.Flags & ~valid) != 0)
        {
            return $"unsupported flags for command {(ushort)header.Command} (got 0x{(ushort)header.Flags:x})";
        }

        if (header.Command == NbdCommand.BlockStatus && header.Length == 0)
        {
            return "need non-zero length";
        }

        if (header.Command == NbdCommand.BlockStatus && !_contexts.AsSpan().Contains(true))
        {
            return "CMD_BLOCK_STATUS not negotiated";
        }

        return null;
    }

    private async IoTask<bool> ProcessAsync(NbdExport export, NbdRequest request)
    {
        if (request.Refusal is { } refusal)
        {
            Fail(request, BlockResult.Invalid, refusal);
        }
        else if (request.Header.Command == NbdCommand.Read)
        {
            await ReadAsync(export.Backend, request);
        }
        else if (request.Header.Command == NbdCommand.BlockStatus)
        {
            await StatusAsync(export, request);
        }
        else
        {
            int result = await ChangeAsync(export.Backend, request);
            if (result < 0)
            {
                Fail(request, result, Failure(request.Header.Command));
            }
            else
            {
                Succeed(request);
            }
        }

        Finish(request);
        return true;
    }

    private static string Failure(NbdCommand command) => command switch
    {
        NbdCommand.Read => "reading from file failed",
        NbdCommand.Flush => "flush failed",
        NbdCommand.Trim => "discard failed",
        NbdCommand.Cache => "caching data failed",
        _ => "writing to file failed",
    };

    private async IoTask<int> ChangeAsync(BlockBackend backend, NbdRequest request)
    {
        NbdRequestHeader header = request.Header;
        long offset = (long)header.Offset;
        BlockRequestFlags fua = (header.Flags & NbdCommandFlags.Fua) != 0 ? BlockRequestFlags.Fua : 0;
        switch (header.Command)
        {
            case NbdCommand.Write:
                return await backend.WriteAsync(offset, request.Payload, fua);
            case NbdCommand.WriteZeroes:
                return await backend.WriteZeroesAsync(
                    offset,
                    (long)header.Length,
                    fua
                    | ((header.Flags & NbdCommandFlags.NoHole) == 0 ? BlockRequestFlags.MayUnmap : 0)
                    | ((header.Flags & NbdCommandFlags.FastZero) != 0 ? BlockRequestFlags.NoFallback : 0));
            case NbdCommand.Trim:
                int result = await backend.DiscardAsync(offset, (long)header.Length);
                return result >= 0 && fua != 0 ? await backend.FlushAsync() : result;
            case NbdCommand.Cache:
                return await CacheAsync(backend, offset, (long)header.Length);
            default:
                return await backend.FlushAsync();
        }
    }

    // Reading brings it into all caches that there are, whichever driver it is.
    private async IoTask<int> CacheAsync(BlockBackend backend, long offset, long bytes)
    {
        NativeBuffer memory = _buffers.Rent(CacheStepBytes);
        int result = 0;
        while (bytes > 0 && result >= 0)
        {
            int part = (int)Math.Min(bytes, CacheStepBytes);
            IoVectors data = IoVectors.Rent(memory.Vector(0, part));
            result = await backend.ReadAsync(offset, data);
            data.Return();
            offset += part;
            bytes -= part;
        }

        _buffers.Return(memory);
        return result;
    }

    private async IoTask<bool> ReadAsync(BlockBackend backend, NbdRequest request)
    {
        NbdRequestHeader header = request.Header;
        long offset = (long)header.Offset;
        int result = (header.Flags & NbdCommandFlags.Fua) != 0 ? await backend.FlushAsync() : 0;
        if (result < 0)
        {
            Fail(request, result, "flush failed");
        }
        else if (IsStructured && header.Length >= MinSparseBytes && (header.Flags & NbdCommandFlags.DontFragment) == 0)
        {
            await ReadSparseAsync(backend, request);
        }
        else if (header.Length == 0)
        {
            Succeed(request);
        }
        else
        {
            result = await backend.ReadAsync(offset, request.Payload);
            if (result < 0)
            {
                Fail(request, result, "reading from file failed");
            }
            else if (IsStructured)
            {
                Chunk(request, NbdChunk.OffsetData, isDone: true, (uint)header.Length + 8, 8, out Span<byte> rest);
                BinaryPrimitives.WriteInt64BigEndian(rest, offset);
                request.Reply.AddSlice(request.Payload, 0, (long)header.Length);
            }
            else
            {
                Head(request, NbdLimits.SimpleReplyBytes, out Span<byte> to);
                NbdWire.WriteSimpleReply(to, 0, header.Cookie);
                request.Reply.AddSlice(request.Payload, 0, (long)header.Length);
            }
        }

        return true;
    }

    // One chunk for each range; when there are too many, the last one is read as data whatever it is.
    private async IoTask<bool> ReadSparseAsync(BlockBackend backend, NbdRequest request)
    {
        const int LastHeader = NbdRequest.HeaderBytes - 96;
        long offset = (long)request.Header.Offset;
        long length = (long)request.Header.Length;
        long done = 0;
        while (done < length)
        {
            long part = length - done;
            bool isZero = false;
            if (request.HeaderUsed < LastHeader)
            {
                BlockStatus status = await backend.StatusAsync(offset + done, part);
                if (status.Result < 0)
                {
                    Fail(request, status.Result, "unable to check for holes");
                    return false;
                }

                part = Math.Min(part, status.Bytes);
                isZero = (status.Flags & BlockStatusFlags.Zero) != 0;
            }

            bool isDone = done + part == length;
            if (isZero)
            {
                Chunk(request, NbdChunk.OffsetHole, isDone, 12, 12, out Span<byte> rest);
                BinaryPrimitives.WriteInt64BigEndian(rest, offset + done);
                BinaryPrimitives.WriteUInt32BigEndian(rest[8..], (uint)part);
            }
            else
            {
                IoVectors data = IoVectors.RentSlice(request.Payload, done, part);
                int result = await backend.ReadAsync(offset + done, data);
                data.Return();
                if (result < 0)
                {
                    Fail(request, result, "reading from file failed");
                    return false;
                }

                Chunk(request, NbdChunk.OffsetData, isDone, (uint)part + 8, 8, out Span<byte> rest);
                BinaryPrimitives.WriteInt64BigEndian(rest, offset + done);
                request.Reply.AddSlice(request.Payload, done, part);
            }

            done += part;
        }

        return true;
    }

    private async IoTask<bool> StatusAsync(NbdExport export, NbdRequest request)
    {
        int most = (request.Header.Flags & NbdCommandFlags.RequestOne) != 0 ? 1 : MaxExtents;
        int chosen = _contexts.AsSpan().Count(true);
        most = Math.Min(most, Math.Max(1, MaxExtents / chosen));
        AddMemory(request, ExtentBytes * most * chosen);
        int used = 0;
        for (int id = 0; id < _contexts.Length; id++)
        {
            if (!_contexts[id])
            {
                continue;
            }

            int count = await ExtentsAsync(export, request, id, used, most);
            if (count < 0)
            {
                Fail(request, count, "can't get block status");
                return false;
            }

            bool isLast = !_contexts.AsSpan(id + 1).Contains(true);
            if (request.HeaderUsed + NbdWire.ChunkBytes(_format) + 8 > NbdRequest.HeaderBytes)
            {
                Fail(request, BlockResult.Invalid, "too many contexts");
                return false;
            }

            int bytes = ExtentBytes * count;
            bool isLong = _format == NbdHeaders.Extended;
            int own = isLong ? 8 : 4;
            Chunk(request, isLong ? NbdChunk.BlockStatusExtended : NbdChunk.BlockStatus, isLast, (uint)(own + bytes), own, out Span<byte> rest);
            BinaryPrimitives.WriteInt32BigEndian(rest, id);
            if (isLong)
            {
                BinaryPrimitives.WriteInt32BigEndian(rest[4..], count);
            }

            request.Reply.Add(request.Data!, used, bytes);
            used += bytes;
        }

        return true;
    }

    private async IoTask<int> ExtentsAsync(NbdExport export, NbdRequest request, int id, int at, int most)
    {
        long offset = (long)request.Header.Offset;
        long left = (long)request.Header.Length;
        int count = 0;
        uint last = 0;
        long length = 0;
        for (int looks = 0; left > 0 && looks < MaxLooks; looks++)
        {
            (int flags, long bytes) = await ExtentAsync(export, id, offset, left);
            if (flags < 0 || _socket.IsClosed)
            {
                return flags < 0 ? flags : -(int)Errno.ESHUTDOWN;
            }

            bytes = Math.Min(bytes, left);
            if (count == 0 || flags != last)
            {
                if (count == most)
                {
                    break;
                }

                count++;
                last = (uint)flags;
                length = 0;
            }

            length += bytes;
            WriteExtent(request.Data!.Span.Slice(at + (ExtentBytes * (count - 1)), ExtentBytes), length, flags);
            offset += bytes;
            left -= bytes;
        }

        return count;
    }

    private int ExtentBytes => _format == NbdHeaders.Extended ? 16 : 8;

    private void WriteExtent(Span<byte> to, long length, int flags)
    {
        if (_format == NbdHeaders.Extended)
        {
            BinaryPrimitives.WriteInt64BigEndian(to, length);
            BinaryPrimitives.WriteInt64BigEndian(to[8..], flags);
        }
        else
        {
            BinaryPrimitives.WriteUInt32BigEndian(to, (uint)length);
            BinaryPrimitives.WriteInt32BigEndian(to[4..], flags);
        }
    }

    private static async IoTask<(int Flags, long Bytes)> ExtentAsync(NbdExport export, int id, long offset, long bytes)
    {
        if (id == DepthId)
        {
            return await export.Backend.DepthAsync(offset, bytes);
        }

        if (id == AllocationId)
        {
            BlockStatus status = await export.Backend.StatusAsync(offset, bytes);
            uint state = ((status.Flags & BlockStatusFlags.Data) != 0 ? 0 : NbdLimits.StateHole)
                | ((status.Flags & BlockStatusFlags.Zero) != 0 ? NbdLimits.StateZero : 0);
            return status.Result < 0 ? (status.Result, 0) : ((int)state, status.Bytes);
        }

        BitSet bits = export.Bitmaps[id - FirstBitmapId].Bits;
        long end = offset + bytes;
        bool isDirty = bits[offset];
        long next = isDirty ? bits.NextClean(offset, end) : bits.NextDirty(offset, end);
        return (isDirty ? 1 : 0, (next < 0 ? end : Math.Min(next, end)) - offset);
    }

    private void Succeed(NbdRequest request)
    {
        if (IsStructured)
        {
            Chunk(request, NbdChunk.None, isDone: true, 0, 0, out _);
        }
        else
        {
            Head(request, NbdLimits.SimpleReplyBytes, out Span<byte> to);
            NbdWire.WriteSimpleReply(to, 0, request.Header.Cookie);
        }
    }

    // Nothing of the reply has been sent yet: the failure is all of it.
    private void Fail(NbdRequest request, int result, string text)
    {
        request.Reply.Clear();
        request.HeaderUsed = 0;
        uint error = NbdWire.ToWireError(result);
        if (!IsStructured)
        {
            Head(request, NbdLimits.SimpleReplyBytes, out Span<byte> to);
            NbdWire.WriteSimpleReply(to, error, request.Header.Cookie);
            return;
        }

        int length = NbdWire.ByteCount(text);
        Chunk(request, NbdChunk.Error, isDone: true, (uint)(6 + length), 6 + length, out Span<byte> rest);
        BinaryPrimitives.WriteUInt32BigEndian(rest, error);
        BinaryPrimitives.WriteUInt16BigEndian(rest[4..], (ushort)length);
        NbdWire.WriteText(rest[6..], text);
    }

    private void Chunk(NbdRequest request, NbdChunk type, bool isDone, uint length, int own, out Span<byte> rest)
    {
        int head = NbdWire.ChunkBytes(_format);
        Head(request, head + own, out Span<byte> to);
        rest = to[NbdWire.WriteChunk(to, type, isDone, request.Header, length, _format)..];
    }

    private void Head(NbdRequest request, int bytes, out Span<byte> to)
    {
        int at = (request.Slot * NbdRequest.HeaderBytes) + request.HeaderUsed;
        request.HeaderUsed += bytes;
        request.Reply.Add(_headers!, at, bytes);
        to = _headers!.Span.Slice(at, bytes);
    }

    // Replies that are ready at the same time go out together.
    private void Finish(NbdRequest request)
    {
        _replies.Enqueue(request);
        if (_isSending)
        {
            return;
        }

        _isSending = true;
        if (_replies.Count == _inFlight && _socket.Buffered < NbdWire.RequestBytes(_format))
        {
            StartSending();
        }
        else
        {
            _socket.Loop.Post(_startSending);
        }
    }

    private void StartSending()
    {
        _sender = SendAsync().GetAwaiter();
        if (_sender.IsCompleted)
        {
            _sender.GetResult();
        }
        else
        {
            _sender.UnsafeOnCompleted(_afterSending);
        }
    }

    private void AfterSending() => _sender.GetResult();

    private async IoTask<bool> SendAsync()
    {
        while (_replies.Count > 0)
        {
            while (_replies.TryPeek(out NbdRequest? next) && (_sending.Count == 0 || _batch.Count + next.Reply.Count <= MaxBatchPieces))
            {
                _replies.Dequeue();
                _sending.Enqueue(next);
                _batch.AddSlice(next.Reply, 0, next.Reply.Size);
            }

            if (await _socket.WriteAsync(_batch) < 0)
            {
                _socket.Close();
            }

            _socket.Loop.ExpectSoon();
            _batch.Clear();
            while (_sending.TryDequeue(out NbdRequest? sent))
            {
                Release(sent);
            }
        }

        _isSending = false;
        return true;
    }

    private void Release(NbdRequest request)
    {
        request.Reply.Clear();
        request.Payload.Clear();
        request.HeaderUsed = 0;
        if (request.Data is { } data)
        {
            request.Data = null;
            _inFlightBytes -= data.Length;
            _buffers.Return(data);
        }

        _inFlight--;
        _free.Push(request);
        _slotFree.WakeAll();
    }

    private void FreeTransmission()
    {
        _headers?.Dispose();
        _buffers.Clear();
    }
}
