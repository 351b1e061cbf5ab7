using System.Buffers.Binary;
using Vmm.Block.Nbd;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Exports;

/// <summary>
/// A client of the NBD server. The negotiation (NBD protocol, "Fixed newstyle negotiation") runs on the main loop and must be over within
/// ten seconds; then the connection moves to the loop of its export. Whatever a client sends ends nothing but its own connection.
/// </summary>
internal sealed partial class NbdConnection
{
    private const long HandshakeNs = 10_000_000_000;

    private readonly NbdServer _server;
    private readonly NbdSocket _socket;
    private readonly NbdBuffers _buffers = new();
    private readonly NbdOptionWriter _answer = new();
    private NbdExport? _export;
    private NbdExport? _contextExport;
    private NbdHeaders _format;
    private bool _hasNoZeroes;
    private bool _isSecure;
    private bool[] _contexts = [];

    internal NbdConnection(NbdServer server, SafeFd socket)
    {
        _server = server;
        _socket = new NbdSocket(socket, server.MainLoop);
        _startSending = StartSending;
        _afterSending = AfterSending;
        for (int i = 0; i < MaxInFlight; i++)
        {
            _free.Push(new NbdRequest(i));
        }
    }

    private bool IsStructured => _format != NbdHeaders.Simple;

    private enum Step
    {
        Continue,
        Transmit,
        StartTls,
        Close,
    }

    /// <summary>Ends the connection soon. Main loop.</summary>
    internal void Abort() => _socket.Loop.RunOrPost(_socket.Close);

    /// <summary>Serves the client to the end of the connection. Main loop.</summary>
    internal async IoTask RunAsync()
    {
        LoopTimer timer = _server.MainLoop.CreateTimer(ClockType.Realtime, _socket.Close);
        timer.ArmAfter(HandshakeNs);
        bool isOpen = await NegotiateAsync();
        timer.Dispose();
        _answer.Dispose();
        if (isOpen && !_socket.IsClosed && !_export!.IsShuttingDown)
        {
            NbdExport export = _export;
            export.Add(this);
            EventLoop.EventLoop loop = export.Backend.Loop;
            _socket.MoveTo(loop);
            await loop.SwitchTo();
            await ServeAsync(export);
            _socket.Close();
            while (_inFlight > 0)
            {
                await _slotFree.WaitAsync();
            }

            FreeTransmission();
            await _server.MainLoop.SwitchTo();
            _server.OnEnded(this);
            export.Remove(this);
            return;
        }

        _socket.Close();
        _server.OnEnded(this);
    }

    private async IoTask<bool> NegotiateAsync()
    {
        _answer.Begin();
        _answer.Advance(NbdWire.WriteGreeting(_answer.Reserve(18)));
        if (await SendAnswerAsync() < 0 || await _socket.FillAsync(4) < 0)
        {
            return false;
        }

        uint flags = BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(4));
        _socket.Skip(4);
        if ((flags & NbdLimits.FixedNewstyle) == 0 || (flags & ~(uint)(NbdLimits.FixedNewstyle | NbdLimits.NoZeroes)) != 0)
        {
            return false;
        }

        _hasNoZeroes = (flags & NbdLimits.NoZeroes) != 0;
        while (true)
        {
            if (await _socket.FillAsync(NbdLimits.OptionHeaderBytes) < 0
                || !NbdWire.TryReadOption(_socket.Peek(NbdLimits.OptionHeaderBytes), out NbdOption option, out uint length)
                || length > NbdLimits.MaxPayload)
            {
                return false;
            }

            _socket.Skip(NbdLimits.OptionHeaderBytes);
            _answer.Begin();
            Step step;
            if (length > NbdLimits.MaxOptionData)
            {
                if (await _socket.DiscardAsync(length) < 0 || option == NbdOption.ExportName)
                {
                    return false;
                }

                _answer.Reply(option, NbdOptionReply.ErrorTooBig, "option payload is too long");
                step = Step.Continue;
            }
            else
            {
                NativeBuffer data = _buffers.Rent((int)length);
                IoVectors into = IoVectors.Rent(data.Vector(0, (int)length));
                int result = await _socket.ReadAsync(into, 0, length);
                into.Return();
                step = result < 0 ? Step.Close : Handle(option, data.Span[..(int)length]);
                _buffers.Return(data);
            }

            if (await SendAnswerAsync() < 0 || step == Step.Close)
            {
                return false;
            }

            if (step == Step.Transmit)
            {
                return true;
            }

            if (step == Step.StartTls && !await StartTlsAsync())
            {
                return false;
            }
        }
    }

    // Whoever fails is not told more than that the connection ends.
    private async IoTask<bool> StartTlsAsync()
    {
        try
        {
            _isSecure = await _socket.StartTlsAsync(_server.Tls!.CreateSession(_socket.Loop.Clocks, _socket.Fd)) == 0;
        }
        catch (QapiException)
        {
            _isSecure = false;
        }

        return _isSecure;
    }

    private async IoTask<int> SendAnswerAsync()
    {
        IoVectors data = IoVectors.Rent(_answer.Written);
        int result = await _socket.WriteAsync(data);
        data.Return();
        return result;
    }

    private Step Handle(NbdOption option, ReadOnlySpan<byte> data)
    {
        if (_server.Tls is not null && !_isSecure && option != NbdOption.StartTls)
        {
            // "NBD_OPT_EXPORT_NAME" has no error replies.
            if (option != NbdOption.ExportName)
            {
                _answer.Reply(option, NbdOptionReply.ErrorTlsRequired, $"Option 0x{(uint)option:x} not permitted before TLS");
            }

            return option is NbdOption.ExportName or NbdOption.Abort ? Step.Close : Step.Continue;
        }

        switch (option)
        {
            case NbdOption.ExportName:
                return OnExportName(data);
            case NbdOption.Abort:
                _answer.Reply(option, NbdOptionReply.Ack);
                return Step.Close;
            case NbdOption.List:
                OnList(data);
                return Step.Continue;
            case NbdOption.StartTls:
                return OnStartTls(data);
            case NbdOption.Info or NbdOption.Go:
                return OnInfo(option, data);
            case NbdOption.StructuredReply:
                OnStructuredReply(data);
                return Step.Continue;
            case NbdOption.ExtendedHeaders:
                OnExtendedHeaders(data);
                return Step.Continue;
            case NbdOption.ListMetaContext or NbdOption.SetMetaContext:
                OnMetaContext(option, data);
                return Step.Continue;
            default:
                _answer.Reply(option, NbdOptionReply.ErrorUnsupported, $"Unsupported option {(uint)option} (<unknown>)");
                return Step.Continue;
        }
    }

    private static string HasLength(NbdOption option) => $"option {(uint)option} should have zero length";

    // "NBD_OPT_STARTTLS". A client that gets it wrong where it is needed has no other way in.
    private Step OnStartTls(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty)
        {
            _answer.Reply(NbdOption.StartTls, NbdOptionReply.ErrorInvalid, HasLength(NbdOption.StartTls));
            return _server.Tls is null || _isSecure ? Step.Continue : Step.Close;
        }

        if (_server.Tls is null || _isSecure)
        {
            _answer.Reply(
                NbdOption.StartTls,
                _isSecure ? NbdOptionReply.ErrorInvalid : NbdOptionReply.ErrorPolicy,
                _isSecure ? "TLS already enabled" : "TLS not configured");
            return Step.Continue;
        }

        _answer.Reply(NbdOption.StartTls, NbdOptionReply.Ack);
        return Step.StartTls;
    }

    private void OnStructuredReply(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty)
        {
            _answer.Reply(NbdOption.StructuredReply, NbdOptionReply.ErrorInvalid, HasLength(NbdOption.StructuredReply));
        }
        else if (_format == NbdHeaders.Extended)
        {
            _answer.Reply(NbdOption.StructuredReply, NbdOptionReply.ErrorExtendedHeadersRequired, "extended headers already negotiated");
        }
        else if (IsStructured)
        {
            _answer.Reply(NbdOption.StructuredReply, NbdOptionReply.ErrorInvalid, "structured reply already negotiated");
        }
        else
        {
            _format = NbdHeaders.Structured;
            _answer.Reply(NbdOption.StructuredReply, NbdOptionReply.Ack);
        }
    }

    private void OnExtendedHeaders(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty)
        {
            _answer.Reply(NbdOption.ExtendedHeaders, NbdOptionReply.ErrorInvalid, "option 'extended headers' has unexpected length");
        }
        else if (_format == NbdHeaders.Extended)
        {
            _answer.Reply(NbdOption.ExtendedHeaders, NbdOptionReply.ErrorInvalid, "extended headers already negotiated");
        }
        else
        {
            _format = NbdHeaders.Extended;
            _answer.Reply(NbdOption.ExtendedHeaders, NbdOptionReply.Ack);
        }
    }

    // "NBD_OPT_EXPORT_NAME": there is no way to refuse but to hang up.
    private Step OnExportName(ReadOnlySpan<byte> data)
    {
        if (_format == NbdHeaders.Extended || data.Length > NbdLimits.MaxString || _server.Find(NbdWire.ReadText(data)) is not { } export)
        {
            return Step.Close;
        }

        Span<byte> to = _answer.Reserve(134);
        to.Clear();
        BinaryPrimitives.WriteInt64BigEndian(to, export.Size);
        BinaryPrimitives.WriteUInt16BigEndian(to[8..], (ushort)FlagsOf(export));
        _answer.Advance(_hasNoZeroes ? 10 : 134);
        Choose(export);
        return Step.Transmit;
    }

    private void OnList(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty)
        {
            _answer.Reply(NbdOption.List, NbdOptionReply.ErrorInvalid, HasLength(NbdOption.List));
            return;
        }

        foreach (NbdExport export in _server.Listed)
        {
            string description = export.Description ?? "";
            int length = 4 + NbdWire.ByteCount(export.Name) + NbdWire.ByteCount(description);
            Span<byte> to = _answer.Reserve(NbdLimits.OptionReplyBytes + length);
            int at = NbdWire.WriteOptionReply(to, NbdOption.List, NbdOptionReply.Server, length);
            at += NbdWire.WriteString(to[at..], export.Name);
            at += NbdWire.WriteText(to[at..], description);
            _answer.Advance(at);
        }

        _answer.Reply(NbdOption.List, NbdOptionReply.Ack);
    }

    // "NBD_OPT_INFO and NBD_OPT_GO".
    private Step OnInfo(NbdOption option, ReadOnlySpan<byte> data)
    {
        if (!NbdWire.TryTakeString(ref data, out string name) || data.Length < 2
            || BinaryPrimitives.ReadUInt16BigEndian(data) * 2 != data.Length - 2)
        {
            _answer.Reply(option, NbdOptionReply.ErrorInvalid, "invalid length of the option's data");
            return Step.Continue;
        }

        if (_server.Find(name) is not { } export)
        {
            _answer.Reply(option, NbdOptionReply.ErrorUnknown, $"export '{name}' not present");
            return Step.Continue;
        }

        bool wantsName = false;
        bool wantsSizes = false;
        for (data = data[2..]; !data.IsEmpty; data = data[2..])
        {
            NbdInfo info = (NbdInfo)BinaryPrimitives.ReadUInt16BigEndian(data);
            wantsName |= info == NbdInfo.Name;
            wantsSizes |= info == NbdInfo.BlockSize;
        }

        if (wantsName)
        {
            _answer.Info(option, NbdInfo.Name, name);
        }

        if (export.Description is { } description)
        {
            _answer.Info(option, NbdInfo.Description, description);
        }

        int alignment = option == NbdOption.Info || wantsSizes ? Math.Max(1, export.Backend.RequestAlignment) : 1;
        int most = export.Backend.MaxTransfer == 0 ? NbdLimits.MaxPayload : Math.Min(export.Backend.MaxTransfer, NbdLimits.MaxPayload);
        Span<byte> to = _answer.Reserve(NbdLimits.OptionReplyBytes + 14);
        int at = NbdWire.WriteOptionReply(to, option, NbdOptionReply.Info, 14);
        BinaryPrimitives.WriteUInt16BigEndian(to[at..], (ushort)NbdInfo.BlockSize);
        BinaryPrimitives.WriteInt32BigEndian(to[(at + 2)..], alignment);
        BinaryPrimitives.WriteInt32BigEndian(to[(at + 6)..], Math.Max(4096, export.Backend.OptTransfer));
        BinaryPrimitives.WriteInt32BigEndian(to[(at + 10)..], most);
        _answer.Advance(at + 14);

        to = _answer.Reserve(NbdLimits.OptionReplyBytes + 12);
        at = NbdWire.WriteOptionReply(to, option, NbdOptionReply.Info, 12);
        BinaryPrimitives.WriteUInt16BigEndian(to[at..], (ushort)NbdInfo.Export);
        BinaryPrimitives.WriteInt64BigEndian(to[(at + 2)..], export.Size);
        BinaryPrimitives.WriteUInt16BigEndian(to[(at + 10)..], (ushort)FlagsOf(export));
        _answer.Advance(at + 12);
        if (option == NbdOption.Info && !wantsSizes && alignment > 1)
        {
            _answer.Reply(option, NbdOptionReply.ErrorBlockSizeRequired, "request NBD_INFO_BLOCK_SIZE to use this export");
            return Step.Continue;
        }

        _answer.Reply(option, NbdOptionReply.Ack);
        if (option == NbdOption.Info)
        {
            return Step.Continue;
        }

        Choose(export);
        return Step.Transmit;
    }

    // "NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT".
    private void OnMetaContext(NbdOption option, ReadOnlySpan<byte> data)
    {
        if (!IsStructured)
        {
            _answer.Reply(option, NbdOptionReply.ErrorInvalid, $"request option {(uint)option} when structured reply is not negotiated");
            return;
        }

        bool isSet = option == NbdOption.SetMetaContext;
        if (isSet)
        {
            (_contextExport, _contexts) = (null, []);
        }

        if (!NbdWire.TryTakeString(ref data, out string name) || data.Length < 4)
        {
            _answer.Reply(option, NbdOptionReply.ErrorInvalid, "invalid length of the option's data");
            return;
        }

        if (_server.Find(name) is not { } export)
        {
            _answer.Reply(option, NbdOptionReply.ErrorUnknown, $"export '{name}' not present");
            return;
        }

        uint queries = BinaryPrimitives.ReadUInt32BigEndian(data);
        data = data[4..];
        bool[] wanted = new bool[FirstBitmapId + export.Bitmaps.Count];
        wanted.AsSpan().Fill(!isSet && queries == 0);
        for (; queries > 0; queries--)
        {
            if (!NbdWire.TryTakeString(ref data, out string query))
            {
                _answer.Reply(option, NbdOptionReply.ErrorInvalid, "invalid length of a query");
                return;
            }

            for (int i = 0; i < wanted.Length; i++)
            {
                string context = ContextName(export, i);

                // A list may be asked for by the beginning of names, up to a colon.
                wanted[i] |= query == context
                    || (!isSet && query.EndsWith(':') && context.StartsWith(query, StringComparison.Ordinal));
            }
        }

        if (!data.IsEmpty)
        {
            _answer.Reply(option, NbdOptionReply.ErrorInvalid, "bytes behind the last query");
            return;
        }

        wanted[DepthId] &= export.TellsDepth;
        for (int i = 0; i < wanted.Length; i++)
        {
            if (wanted[i])
            {
                _answer.Context(option, isSet ? (uint)i : 0, ContextName(export, i));
            }
        }

        if (isSet)
        {
            (_contextExport, _contexts) = (export, wanted);
        }

        _answer.Reply(option, NbdOptionReply.Ack);
    }

    private static string ContextName(NbdExport export, int id) => id switch
    {
        AllocationId => NbdLimits.BaseAllocation,
        DepthId => NbdLimits.AllocationDepth,
        _ => NbdLimits.DirtyBitmapPrefix + export.Bitmaps[id - FirstBitmapId].Name,
    };

    private NbdExportFlags FlagsOf(NbdExport export) =>
        export.Flags(_server.IsMultiConnection) | (IsStructured ? NbdExportFlags.SendDontFragment : 0);

    private void Choose(NbdExport export)
    {
        _export = export;
        if (_contextExport != export)
        {
            _contexts = [];
        }
    }
}
