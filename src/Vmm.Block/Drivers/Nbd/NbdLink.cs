using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.Block.Nbd;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Nbd;

/// <summary>What a server says of its export.</summary>
internal sealed record NbdExportInfo
{
    internal ulong Size { get; set; }

    internal NbdExportFlags Flags { get; set; }

    internal uint MinBlock { get; set; } = 1;

    internal uint OptBlock { get; set; }

    internal uint MaxBlock { get; set; } = NbdLimits.MaxPayload;

    /// <summary>What requests and replies look like.</summary>
    internal NbdHeaders Headers { get; set; }

    /// <summary>The number of the context that answers for block status; null when the server does not have it.</summary>
    internal uint? ContextId { get; set; }

    internal bool Has(NbdExportFlags flag) => (Flags & flag) != 0;
}

/// <summary>
/// A connection to a server after its negotiation. Up to sixteen requests are under way; their replies come in any order. What the server
/// sends is checked: anything that does not fit a request ends the connection. The loop of the node; no allocation per request.
/// </summary>
internal sealed class NbdLink
{
    private const int MaxInFlight = 16;
    private const int MaxBatchPieces = 512;

    private readonly NbdSocket _socket;
    private readonly NativeBuffer _headers = new(MaxInFlight * NbdLimits.ExtendedRequestBytes);
    private readonly Slot[] _slots = new Slot[MaxInFlight];
    private readonly Stack<Slot> _free = new();
    private readonly Queue<Slot> _toSend = new();
    private readonly Queue<Slot> _sending = new();
    private readonly IoVectors _batch = new();
    private readonly LoopWaitQueue _slotFree = new();
    private readonly Action _startSending;
    private readonly Action _afterSending;
    private readonly Action<NbdLink> _onLost;
    private readonly int _requestBytes;
    private readonly int _replyBytes;
    private IoTask<bool>.Awaiter _sender;
    private bool _isSending;

    internal NbdLink(NbdSocket socket, NbdExportInfo info, Action<NbdLink> onLost)
    {
        _socket = socket;
        Info = info;
        _requestBytes = NbdWire.RequestBytes(info.Headers);
        _replyBytes = info.Headers == NbdHeaders.Extended ? NbdLimits.ExtendedChunkBytes : NbdLimits.SimpleReplyBytes;
        _onLost = onLost;
        _startSending = StartSending;
        _afterSending = () => _sender.GetResult();
        for (int i = MaxInFlight - 1; i >= 0; i--)
        {
            _slots[i] = new Slot(i);
            _free.Push(_slots[i]);
        }
    }

    internal NbdExportInfo Info { get; }

    /// <summary>Most bytes of a request; reads and writes have the server's limit besides.</summary>
    internal long MaxLength => Info.Headers == NbdHeaders.Extended ? long.MaxValue : BlockResult.MaxRequestBytes / Info.MinBlock * Info.MinBlock;

    /// <summary>No request gets an answer any more.</summary>
    internal bool IsLost { get; private set; }

    /// <summary>Serves replies until the connection ends.</summary>
    internal async IoTask ReceiveAsync()
    {
        while (await ReceiveOneAsync())
        {
        }

        Lose();
    }

    /// <summary>Another loop serves the node; nothing is under way.</summary>
    internal void MoveTo(EventLoop.EventLoop loop) => _socket.MoveTo(loop);

    /// <summary>Ends the connection, as politely as is possible without waiting.</summary>
    internal void Close()
    {
        if (!IsLost)
        {
            IoVectors goodbye = IoVectors.Rent(_headers.Vector(0, _requestBytes));
            NbdWire.WriteRequest(_headers.Span, new NbdRequestHeader(0, NbdCommand.Disconnect, 0, 0, 0), Info.Headers);
            _socket.WriteAsync(goodbye).Forget();
            Lose();
        }
    }

    /// <summary>Carries out a request.</summary>
    /// <param name="command">What.</param>
    /// <param name="flags">How.</param>
    /// <param name="offset">From where on.</param>
    /// <param name="length">For how many bytes, at most <see cref="MaxLength"/>.</param>
    /// <param name="data">What is written, or where reads go; null without.</param>
    /// <returns>The result, and the first range of a block status. <see cref="IsLost"/> tells a lost connection from a failed request.</returns>
    internal async IoTask<(int Result, long Extent, ulong State)> RequestAsync(
        NbdCommand command, NbdCommandFlags flags, long offset, long length, IoVectors? data)
    {
        while (_free.Count == 0 && !IsLost)
        {
            await _slotFree.WaitAsync();
        }

        if (IsLost)
        {
            return (BlockResult.Io, 0, 0);
        }

        Slot slot = _free.Pop();
        if (Info.Headers == NbdHeaders.Extended && command == NbdCommand.Write)
        {
            flags |= NbdCommandFlags.PayloadLength;
        }

        slot.Begin(new NbdRequestHeader(flags, command, slot.NextCookie(), (ulong)offset, (ulong)length), data);
        NbdWire.WriteRequest(_headers.Span[(slot.Index * _requestBytes)..], slot.Header, Info.Headers);
        _toSend.Enqueue(slot);
        if (!_isSending)
        {
            // Requests that are made at the same time go out together.
            _isSending = true;
            _socket.Loop.Post(_startSending);
        }

        int result = await slot.Done.Task;
        (long extent, ulong state) = ((long)slot.Extent, slot.State);
        slot.End();
        _free.Push(slot);
        _slotFree.WakeOne();
        return (result, extent, state);
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

    private async IoTask<bool> SendAsync()
    {
        while (_toSend.Count > 0 && !IsLost)
        {
            while (_toSend.TryPeek(out Slot? next)
                && (_sending.Count == 0 || _batch.Count + 1 + (next.Outgoing?.Count ?? 0) <= MaxBatchPieces))
            {
                _toSend.Dequeue();
                _sending.Enqueue(next);
                _batch.Add(_headers, next.Index * _requestBytes, _requestBytes);
                if (next.Outgoing is { } data)
                {
                    _batch.AddSlice(data, 0, data.Size);
                }
            }

            int result = await _socket.WriteAsync(_batch);
            _socket.Loop.ExpectSoon();
            _batch.Clear();
            while (_sending.TryDequeue(out Slot? sent))
            {
                sent.OnSent();
            }

            if (result < 0)
            {
                // The reader finds the same and ends the requests.
                _socket.Close();
                break;
            }
        }

        _isSending = false;
        if (IsLost)
        {
            FailAll();
        }

        return true;
    }

    private void Lose()
    {
        if (IsLost)
        {
            return;
        }

        IsLost = true;
        _socket.Close();
        _onLost(this);
        if (!_isSending)
        {
            FailAll();
        }
    }

    // Not while their memory is being sent.
    private void FailAll()
    {
        _toSend.Clear();
        foreach (Slot slot in _slots)
        {
            if (slot.IsBusy)
            {
                slot.Complete(BlockResult.Io);
                slot.OnSent();
            }
        }

        _slotFree.WakeAll();
    }

    private async IoTask<bool> ReceiveOneAsync()
    {
        if (await _socket.FillAsync(_replyBytes) < 0)
        {
            return false;
        }

        uint magic = BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(4));
        bool isExtended = Info.Headers == NbdHeaders.Extended;
        if (magic == NbdLimits.SimpleReplyMagic && !isExtended)
        {
            ReadOnlySpan<byte> head = _socket.Peek(NbdLimits.SimpleReplyBytes);
            uint error = BinaryPrimitives.ReadUInt32BigEndian(head[4..]);
            Slot? slot = Find(BinaryPrimitives.ReadUInt64BigEndian(head[8..]));
            _socket.Skip(NbdLimits.SimpleReplyBytes);
            return slot is not null && await ReceiveSimpleAsync(slot, error);
        }

        int chunkBytes = NbdWire.ChunkBytes(Info.Headers);
        if (magic != (isExtended ? NbdLimits.ExtendedReplyMagic : NbdLimits.StructuredReplyMagic)
            || Info.Headers == NbdHeaders.Simple
            || await _socket.FillAsync(chunkBytes) < 0)
        {
            return false;
        }

        NbdChunkHeader chunk = NbdWire.ReadChunk(_socket.Peek(chunkBytes), Info.Headers);
        _socket.Skip(chunkBytes);
        return Find(chunk.Cookie) is { } busy && chunk.Length <= NbdLimits.MaxPayload + 8 && await ReceiveChunkAsync(busy, chunk);
    }

    private async IoTask<bool> ReceiveSimpleAsync(Slot slot, uint error)
    {
        // With structured replies, reads and block status have no other ones (NBD protocol, "Structured replies").
        if (slot.Header.Command == NbdCommand.BlockStatus && error == 0)
        {
            return false;
        }

        if (slot.Header.Command == NbdCommand.Read && error == 0)
        {
            if (Info.Headers != NbdHeaders.Simple || await _socket.ReadAsync(slot.Data!, 0, (long)slot.Header.Length) < 0)
            {
                return false;
            }
        }

        slot.Complete(NbdWire.FromWireError(error));
        return true;
    }

    private async IoTask<bool> ReceiveChunkAsync(Slot slot, NbdChunkHeader chunk)
    {
        bool isGood;
        if (chunk.IsError)
        {
            isGood = await ReceiveErrorAsync(slot, chunk);
        }
        else
        {
            switch (chunk.Type)
            {
                case NbdChunk.None:
                    isGood = chunk.Length == 0 && chunk.IsDone;
                    break;
                case NbdChunk.OffsetData or NbdChunk.OffsetHole:
                    isGood = slot.Header.Command == NbdCommand.Read && await ReceiveRangeAsync(slot, chunk);
                    break;
                case NbdChunk.BlockStatus or NbdChunk.BlockStatusExtended:
                    isGood = slot.Header.Command == NbdCommand.BlockStatus && await ReceiveExtentAsync(slot, chunk);
                    break;
                default:
                    isGood = false;
                    break;
            }
        }

        if (isGood && chunk.IsDone)
        {
            slot.Complete(slot.Outcome);
        }

        return isGood;
    }

    private async IoTask<bool> ReceiveErrorAsync(Slot slot, NbdChunkHeader chunk)
    {
        if (chunk.Length < 6 || await _socket.FillAsync(6) < 0)
        {
            return false;
        }

        uint error = BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(4));
        _socket.Skip(6);
        if (slot.Error == 0)
        {
            slot.Error = error == 0 ? BlockResult.Io : NbdWire.FromWireError(error);
        }

        return await _socket.DiscardAsync((long)chunk.Length - 6) >= 0;
    }

    private async IoTask<bool> ReceiveRangeAsync(Slot slot, NbdChunkHeader chunk)
    {
        bool isHole = chunk.Type == NbdChunk.OffsetHole;
        if (isHole ? chunk.Length != 12 : chunk.Length <= 8)
        {
            return false;
        }

        int head = isHole ? 12 : 8;
        if (await _socket.FillAsync(head) < 0)
        {
            return false;
        }

        ulong offset = BinaryPrimitives.ReadUInt64BigEndian(_socket.Peek(head));
        ulong length = isHole ? BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(12)[8..]) : chunk.Length - 8;
        _socket.Skip(head);
        if (offset < slot.Header.Offset || length > slot.Header.Length - slot.Received || offset - slot.Header.Offset > slot.Header.Length - length)
        {
            return false;
        }

        slot.Received += length;
        long at = (long)(offset - slot.Header.Offset);
        if (isHole)
        {
            slot.Data!.Fill(at, (long)length, 0);
            return true;
        }

        return await _socket.ReadAsync(slot.Data!, at, (long)length) >= 0;
    }

    // Of several ranges only the first is wanted. A server with extended headers may send the short form as well.
    private async IoTask<bool> ReceiveExtentAsync(Slot slot, NbdChunkHeader chunk)
    {
        bool isLong = chunk.Type == NbdChunk.BlockStatusExtended;
        ulong before = isLong ? 8UL : 4;
        ulong each = isLong ? 16UL : 8;
        int first = (int)(before + each);
        if ((isLong && Info.Headers != NbdHeaders.Extended)
            || chunk.Length < before + each
            || (chunk.Length - before) % each != 0
            || await _socket.FillAsync(first) < 0)
        {
            return false;
        }

        ReadOnlySpan<byte> head = _socket.Peek(first);
        bool isOurs = BinaryPrimitives.ReadUInt32BigEndian(head) == Info.ContextId
            && (!isLong || BinaryPrimitives.ReadUInt32BigEndian(head[4..]) == (chunk.Length - before) / each);
        ulong extent = isLong ? BinaryPrimitives.ReadUInt64BigEndian(head[8..]) : BinaryPrimitives.ReadUInt32BigEndian(head[4..]);
        ulong state = isLong ? BinaryPrimitives.ReadUInt64BigEndian(head[16..]) : BinaryPrimitives.ReadUInt32BigEndian(head[8..]);
        _socket.Skip(first);
        if (!isOurs || extent == 0 || slot.Extent != 0)
        {
            return false;
        }

        slot.Extent = Math.Min(extent, slot.Header.Length);
        slot.State = state;
        return await _socket.DiscardAsync((long)chunk.Length - first) >= 0;
    }

    private Slot? Find(ulong cookie)
    {
        Slot slot = _slots[cookie % MaxInFlight];
        return slot.IsBusy && slot.Header.Cookie == cookie ? slot : null;
    }

    private sealed class Slot(int index)
    {
        private ulong _uses;
        private bool _isSent;
        private int? _result;

        internal int Index => index;

        internal NbdRequestHeader Header { get; private set; }

        internal IoVectors? Data { get; private set; }

        internal IoVectors? Outgoing => Header.Command == NbdCommand.Write ? Data : null;

        internal IoCompletion<int> Done { get; } = new();

        internal bool IsBusy { get; private set; }

        internal int Error { get; set; }

        internal ulong Received { get; set; }

        internal ulong Extent { get; set; }

        internal ulong State { get; set; }

        // A server that leaves parts of a read out has failed.
        internal int Outcome => Error != 0 ? Error
            : (Header.Command == NbdCommand.Read && Received != Header.Length) || (Header.Command == NbdCommand.BlockStatus && Extent == 0)
                ? BlockResult.Io
                : 0;

        internal ulong NextCookie() => (++_uses * MaxInFlight) + (ulong)index;

        internal void Begin(in NbdRequestHeader header, IoVectors? data)
        {
            Header = header;
            Data = data;
            IsBusy = true;
            _isSent = false;
            _result = null;
            (Error, Received, Extent, State) = (0, 0, 0, 0);
        }

        // A reply may come before its request has been sent in full: the memory is the requester's again only after that.
        internal void Complete(int result)
        {
            IsBusy = false;
            _result = result;
            Finish();
        }

        internal void OnSent()
        {
            _isSent = true;
            Finish();
        }

        internal void End() => Data = null;

        private void Finish()
        {
            if (_isSent && _result is { } result)
            {
                _result = null;
                Done.SetResult(result);
            }
        }
    }
}
