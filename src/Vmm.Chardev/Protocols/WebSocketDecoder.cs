using System.Buffers.Binary;

namespace Vmm.Chardevs;

/// <summary>What became of received websocket bytes.</summary>
public enum WebSocketStatus
{
    /// <summary>All bytes were consumed.</summary>
    Ok,

    /// <summary>A control frame is complete: see <see cref="WebSocketDecoder.Control"/>; call again with the rest.</summary>
    Control,

    /// <summary>The client broke the protocol: close the connection with <see cref="WebSocketDecoder.CloseCode"/>.</summary>
    Error,
}

/// <summary>
/// Reads the frames that a client sends (RFC 6455 section 5): masked, binary or control. Holds no payload but that of a control frame
/// (at most 125 bytes), and accepts any split of the stream.
/// </summary>
public sealed class WebSocketDecoder
{
    /// <summary>Opcode of a close frame.</summary>
    public const byte OpClose = 8;

    /// <summary>Opcode of a ping frame.</summary>
    public const byte OpPing = 9;

    /// <summary>Opcode of a pong frame.</summary>
    public const byte OpPong = 10;

    private const byte OpContinuation = 0;
    private const byte OpBinary = 2;
    private const int MaxControl = 125;
    private const int MaxHeader = 14;

    private readonly byte[] _header = new byte[MaxHeader];
    private readonly byte[] _control = new byte[MaxControl];
    private int _headerLength;
    private int _headerNeeded = 2;
    private int _controlLength;
    private ulong _remaining;
    private uint _maskPosition;
    private bool _inPayload;
    private bool _fragmented;

    /// <summary>Close code (RFC 6455 section 7.4.1) that says what was wrong.</summary>
    public ushort CloseCode { get; private set; }

    /// <summary>Opcode of the frame in progress or just completed.</summary>
    public byte Opcode => (byte)(_header[0] & 0xF);

    /// <summary>Payload of the control frame just completed.</summary>
    public ReadOnlySpan<byte> Control => _control.AsSpan(0, _controlLength);

    /// <summary>
    /// Consumes bytes; the payload of data frames is unmasked and compacted to the front of <paramref name="buffer"/>.
    /// </summary>
    /// <param name="buffer">Received bytes, overwritten.</param>
    /// <param name="consumed">How many were used; all unless a control frame ended or the protocol was broken.</param>
    /// <param name="payload">How many bytes of data are now at the front of the buffer.</param>
    public WebSocketStatus Decode(Span<byte> buffer, out int consumed, out int payload)
    {
        consumed = 0;
        payload = 0;
        while (consumed < buffer.Length)
        {
            if (!_inPayload)
            {
                _header[_headerLength++] = buffer[consumed++];
                if (_headerLength == 2 && !AcceptHeader())
                {
                    return WebSocketStatus.Error;
                }

                if (_headerLength < _headerNeeded)
                {
                    continue;
                }

                if (!BeginPayload())
                {
                    return WebSocketStatus.Error;
                }
            }
            else
            {
                int part = (int)Math.Min((ulong)(buffer.Length - consumed), _remaining);
                Span<byte> data = buffer.Slice(consumed, part);
                Unmask(data);
                consumed += part;
                _remaining -= (ulong)part;
                if (Opcode >= OpClose)
                {
                    data.CopyTo(_control.AsSpan(_controlLength));
                    _controlLength += part;
                }
                else
                {
                    data.CopyTo(buffer[payload..]);
                    payload += part;
                }
            }

            if (_remaining == 0)
            {
                _inPayload = false;
                _headerLength = 0;
                _headerNeeded = 2;
                if (Opcode >= OpClose)
                {
                    return WebSocketStatus.Control;
                }
            }
        }

        return WebSocketStatus.Ok;
    }

    // The first two bytes: flags, opcode, mask bit and short length.
    private bool AcceptHeader()
    {
        const ushort ProtocolError = 1002;
        const ushort InvalidData = 1003;
        bool final = (_header[0] & 0x80) != 0;
        int length = _header[1] & 0x7F;
        CloseCode = ProtocolError;
        if ((_header[0] & 0x70) != 0 || (_header[1] & 0x80) == 0)
        {
            return false;
        }

        switch (Opcode)
        {
            case OpContinuation:
                if (!_fragmented)
                {
                    return false;
                }

                _fragmented = !final;
                break;
            case OpBinary:
                if (_fragmented)
                {
                    return false;
                }

                _fragmented = !final;
                break;
            case OpClose or OpPing or OpPong:
                if (!final || length > MaxControl)
                {
                    return false;
                }

                break;
            default:
                CloseCode = InvalidData;
                return false;
        }

        _headerNeeded = 2 + 4 + (length == 126 ? 2 : length == 127 ? 8 : 0);
        return true;
    }

    private bool BeginPayload()
    {
        int length = _header[1] & 0x7F;
        _remaining = length switch
        {
            126 => BinaryPrimitives.ReadUInt16BigEndian(_header.AsSpan(2)),
            127 => BinaryPrimitives.ReadUInt64BigEndian(_header.AsSpan(2)),
            _ => (ulong)length,
        };
        _inPayload = true;
        _maskPosition = 0;
        _controlLength = 0;
        return _remaining <= long.MaxValue;
    }

    private void Unmask(Span<byte> data)
    {
        ReadOnlySpan<byte> mask = _header.AsSpan(_headerNeeded - 4, 4);
        for (int i = 0; i < data.Length; i++)
        {
            data[i] ^= mask[(int)(_maskPosition++ & 3)];
        }
    }
}
