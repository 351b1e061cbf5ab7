using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.Block.Nbd;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Tls;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Nbd;

/// <summary>
/// The client's side of the negotiation (NBD protocol, "Fixed newstyle negotiation"): extended headers or structured replies, and a metadata
/// context, where the server has them, GO, or EXPORT_NAME where the server is too old for that. Failures are QapiExceptions.
/// </summary>
internal sealed class NbdHandshake : IDisposable
{
    private const int MaxSkipped = 64;

    private readonly NbdSocket _socket;
    private readonly string _export;
    private readonly string _context;
    private readonly TlsSetup? _tls;
    private readonly NbdExportInfo _info = new();
    private readonly NativeBuffer _out = new(NbdLimits.OptionHeaderBytes + (2 * NbdLimits.MaxString) + 128);

    /// <summary>A negotiation that has not begun.</summary>
    /// <param name="socket">The connection.</param>
    /// <param name="export">Name of the export.</param>
    /// <param name="context">Name of the context that answers for block status.</param>
    /// <param name="tls">TLS; null for none.</param>
    internal NbdHandshake(NbdSocket socket, string export, string context, TlsSetup? tls)
    {
        _context = context;
        _tls = tls;
        _socket = socket;
        _export = export;
    }

    /// <summary>Negotiates; afterwards the connection is in transmission.</summary>
    internal async IoTask<NbdExportInfo> RunAsync()
    {
        await FillAsync(8, "Failed to read initial magic");
        ulong magic = BinaryPrimitives.ReadUInt64BigEndian(_socket.Peek(8));
        if (magic != NbdLimits.InitMagic)
        {
            throw new QapiException($"Bad initial magic received: 0x{magic:x16}");
        }

        await FillAsync(16, "Failed to read server magic");
        magic = BinaryPrimitives.ReadUInt64BigEndian(_socket.Peek(16)[8..]);
        if (magic != NbdLimits.OptionMagic)
        {
            throw new QapiException($"Bad server magic received: 0x{magic:x16}");
        }

        await FillAsync(18, "Failed to read server flags");
        int flags = BinaryPrimitives.ReadUInt16BigEndian(_socket.Peek(18)[16..]);
        _socket.Skip(18);
        bool isFixed = (flags & NbdLimits.FixedNewstyle) != 0;
        bool hasNoZeroes = (flags & NbdLimits.NoZeroes) != 0;
        BinaryPrimitives.WriteInt32BigEndian(_out.Span, flags & (NbdLimits.FixedNewstyle | NbdLimits.NoZeroes));
        await SendAsync(4, "Failed to send clientflags field");
        if (_tls is not null)
        {
            await StartTlsAsync(isFixed);
        }

        if (isFixed)
        {
            _info.Headers = await AskAsync(NbdOption.ExtendedHeaders) ? NbdHeaders.Extended
                : await AskAsync(NbdOption.StructuredReply) ? NbdHeaders.Structured
                : NbdHeaders.Simple;
            if (_info.Headers != NbdHeaders.Simple)
            {
                await AskContextAsync();
            }

            if (await GoAsync())
            {
                return Check();
            }

            if (_info.Headers == NbdHeaders.Extended)
            {
                // EXPORT_NAME is not for clients that have asked for extended headers.
                throw new QapiException($"Server does not support option {(uint)NbdOption.Go} ({Name(NbdOption.Go)}) with extended headers");
            }
        }

        await ExportNameAsync(hasNoZeroes);
        return Check();
    }

    /// <inheritdoc/>
    public void Dispose() => _out.Dispose();

    private NbdExportInfo Check()
    {
        if (_info.Size > long.MaxValue)
        {
            throw new QapiException("export length is too large");
        }

        if (!uint.IsPow2(_info.MinBlock) || _info.MinBlock > 65536 || _info.MaxBlock < _info.MinBlock)
        {
            throw new QapiException($"server block size is not valid: minimum {_info.MinBlock}, maximum {_info.MaxBlock}");
        }

        return _info;
    }

    // "NBD_OPT_STARTTLS": what was said before in the clear counts for nothing but the way here.
    private async IoTask StartTlsAsync(bool isFixed)
    {
        if (!isFixed)
        {
            throw new QapiException("Server does not support STARTTLS");
        }

        await SendAsync(NbdWire.WriteOption(_out.Span, NbdOption.StartTls, 0), "Failed to send option request header");
        NbdOptionReplyHeader reply = await ReplyAsync(NbdOption.StartTls);
        if (reply.Type != NbdOptionReply.Ack)
        {
            await RefuseAsync(reply, isOptional: reply.Type == NbdOptionReply.ErrorUnsupported);
            throw new QapiException("Server don't support STARTTLS option");
        }

        if (reply.Length != 0)
        {
            throw new QapiException($"Option {(uint)NbdOption.StartTls} ('{Name(NbdOption.StartTls)}') response length is {reply.Length} (it should be zero)");
        }

        Require(await _socket.StartTlsAsync(_tls!.CreateSession(_socket.Loop.Clocks, _socket.Fd)), "TLS handshake failed");
    }

    private async IoTask<bool> AskAsync(NbdOption option)
    {
        await SendAsync(NbdWire.WriteOption(_out.Span, option, 0), "Failed to send option request header");
        NbdOptionReplyHeader reply = await ReplyAsync(option);
        if (reply.Type == NbdOptionReply.Ack)
        {
            await DiscardAsync(reply.Length);
            return true;
        }

        await RefuseAsync(reply, isOptional: true);
        return false;
    }

    // One context, and the answer to it, is all that is wanted.
    private async IoTask AskContextAsync()
    {
        int at = NbdLimits.OptionHeaderBytes;
        at += NbdWire.WriteString(_out.Span[at..], _export);
        BinaryPrimitives.WriteInt32BigEndian(_out.Span[at..], 1);
        at += 4;
        at += NbdWire.WriteString(_out.Span[at..], _context);
        NbdWire.WriteOption(_out.Span, NbdOption.SetMetaContext, at - NbdLimits.OptionHeaderBytes);
        await SendAsync(at, "Failed to send option request");
        for (int i = 0; i < MaxSkipped; i++)
        {
            NbdOptionReplyHeader reply = await ReplyAsync(NbdOption.SetMetaContext);
            if (reply.Type == NbdOptionReply.Ack)
            {
                await DiscardAsync(reply.Length);
                return;
            }

            if (reply.Type != NbdOptionReply.MetaContext)
            {
                await RefuseAsync(reply, isOptional: true);
                return;
            }

            if (reply.Length < 5 || reply.Length > 4 + NbdLimits.MaxString)
            {
                throw new QapiException("Failed to negotiate context: unexpected length of the reply");
            }

            await FillAsync((int)reply.Length, "Failed to read a context");
            uint id = BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(4));
            bool isIt = NbdWire.ReadText(_socket.Peek((int)reply.Length)[4..]) == _context;
            _socket.Skip((int)reply.Length);
            if (!isIt || _info.ContextId is not null)
            {
                throw new QapiException($"Failed to negotiate query '{_context}': the server answers with other contexts");
            }

            _info.ContextId = id;
        }

        throw new QapiException("Failed to negotiate a context: the server does not come to an end");
    }

    private async IoTask<bool> GoAsync()
    {
        int at = NbdLimits.OptionHeaderBytes;
        at += NbdWire.WriteString(_out.Span[at..], _export);
        BinaryPrimitives.WriteUInt16BigEndian(_out.Span[at..], 1);
        BinaryPrimitives.WriteUInt16BigEndian(_out.Span[(at + 2)..], (ushort)NbdInfo.BlockSize);
        at += 4;
        NbdWire.WriteOption(_out.Span, NbdOption.Go, at - NbdLimits.OptionHeaderBytes);
        await SendAsync(at, "Failed to send option request");
        bool hasExport = false;
        for (int i = 0; i < MaxSkipped; i++)
        {
            NbdOptionReplyHeader reply = await ReplyAsync(NbdOption.Go);
            if (reply.Type == NbdOptionReply.Ack)
            {
                await DiscardAsync(reply.Length);
                return hasExport ? true : throw new QapiException("broken server omitted NBD_INFO_EXPORT");
            }

            if (reply.Type != NbdOptionReply.Info)
            {
                await RefuseAsync(reply, isOptional: reply.Type == NbdOptionReply.ErrorUnsupported);
                return false;
            }

            hasExport |= await InfoAsync(reply.Length);
        }

        throw new QapiException("Failed to negotiate an export: the server does not come to an end");
    }

    private async IoTask<bool> InfoAsync(uint length)
    {
        if (length < 2)
        {
            throw new QapiException("information of the server is too short");
        }

        await FillAsync(2, "Failed to read info type");
        NbdInfo type = (NbdInfo)BinaryPrimitives.ReadUInt16BigEndian(_socket.Peek(2));
        _socket.Skip(2);
        length -= 2;
        switch (type)
        {
            case NbdInfo.Export when length == 10:
                await FillAsync(10, "Failed to read info export");
                ReadExport();
                return true;
            case NbdInfo.BlockSize when length == 12:
                await FillAsync(12, "Failed to read info block size");
                _info.MinBlock = BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(12));
                _info.OptBlock = BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(12)[4..]);
                _info.MaxBlock = BinaryPrimitives.ReadUInt32BigEndian(_socket.Peek(12)[8..]);
                _socket.Skip(12);
                return false;
            case NbdInfo.Export or NbdInfo.BlockSize:
                throw new QapiException("information of the server has another length");
            default:
                await DiscardAsync(length);
                return false;
        }
    }

    private async IoTask ExportNameAsync(bool hasNoZeroes)
    {
        int length = NbdWire.WriteText(_out.Span[NbdLimits.OptionHeaderBytes..], _export);
        NbdWire.WriteOption(_out.Span, NbdOption.ExportName, length);
        await SendAsync(NbdLimits.OptionHeaderBytes + length, "Failed to send export name");
        await FillAsync(10, "Failed to read export length");
        ReadExport();
        if (!hasNoZeroes)
        {
            await DiscardAsync(124);
        }
    }

    private void ReadExport()
    {
        _info.Size = BinaryPrimitives.ReadUInt64BigEndian(_socket.Peek(10));
        _info.Flags = (NbdExportFlags)BinaryPrimitives.ReadUInt16BigEndian(_socket.Peek(10)[8..]);
        _socket.Skip(10);
    }

    private async IoTask<NbdOptionReplyHeader> ReplyAsync(NbdOption option)
    {
        await FillAsync(NbdLimits.OptionReplyBytes, "Failed to read option reply");
        bool isReply = NbdWire.TryReadOptionReply(_socket.Peek(NbdLimits.OptionReplyBytes), out NbdOptionReplyHeader reply);
        _socket.Skip(NbdLimits.OptionReplyBytes);
        if (!isReply)
        {
            throw new QapiException("Unexpected option reply magic");
        }

        if (reply.Option != option)
        {
            throw new QapiException($"Unexpected option type {(uint)reply.Option} ({Name(reply.Option)}), expected {(uint)option} ({Name(option)})");
        }

        return reply.Length <= NbdLimits.MaxPayload ? reply : throw new QapiException("option reply is too long");
    }

    private async IoTask RefuseAsync(NbdOptionReplyHeader reply, bool isOptional)
    {
        string said = "";
        if (reply.Length is > 0 and <= NbdLimits.MaxString)
        {
            await FillAsync((int)reply.Length, "Failed to read option error");
            said = NbdWire.ReadText(_socket.Peek((int)reply.Length));
            _socket.Skip((int)reply.Length);
        }
        else
        {
            await DiscardAsync(reply.Length);
        }

        if (isOptional && reply.IsError)
        {
            return;
        }

        string option = $"option {(uint)reply.Option} ({Name(reply.Option)})";
        string text = reply.Type switch
        {
            NbdOptionReply.ErrorPolicy => $"Denied by server for {option}",
            NbdOptionReply.ErrorInvalid => $"Invalid parameters for {option}",
            NbdOptionReply.ErrorPlatform => $"Server lacks support for {option}",
            NbdOptionReply.ErrorTlsRequired => $"TLS negotiation required before {option}",
            NbdOptionReply.ErrorUnknown => "Requested export not available",
            NbdOptionReply.ErrorShutdown => $"Server shutting down before {option}",
            NbdOptionReply.ErrorBlockSizeRequired => $"Server requires INFO_BLOCK_SIZE for {option}",
            _ => $"Unknown error code when asking for {option}",
        };
        string? hint = said.Length > 0 ? "server reported: " + said : null;
        throw new QapiException(
            QapiErrorClass.GenericError,
            text,
            reply.Type == NbdOptionReply.ErrorTlsRequired ? "Did you forget a valid tls-creds?\n" + hint : hint);
    }

    private static string Name(NbdOption option) => option switch
    {
        NbdOption.ExportName => "export name",
        NbdOption.StartTls => "starttls",
        NbdOption.StructuredReply => "structured reply",
        NbdOption.SetMetaContext => "set meta context",
        NbdOption.Go => "go",
        NbdOption.ExtendedHeaders => "extended headers",
        _ => "<unknown>",
    };

    private async IoTask FillAsync(int bytes, string what) => Require(await _socket.FillAsync(bytes), what);

    private async IoTask DiscardAsync(long bytes) => Require(await _socket.DiscardAsync(bytes), "Failed to read option reply");

    private async IoTask SendAsync(int bytes, string what)
    {
        IoVectors data = IoVectors.Rent(_out.Vector(0, bytes));
        int result = await _socket.WriteAsync(data);
        data.Return();
        Require(result, what, isWrite: true);
    }

    private void Require(int result, string what, bool isWrite = false)
    {
        if (result < 0 && _socket.IsSecure)
        {
            what += isWrite ? ": Cannot write to TLS channel" : ": Cannot read from TLS channel";
        }

        if (result == -(int)Errno.ECONNRESET && !_socket.IsSecure)
        {
            throw new QapiException(what + ": Unexpected end-of-file before all data were read");
        }

        if (result < 0)
        {
            throw new QapiException($"{what}: {BlockResult.Text(result)}");
        }
    }
}
