using System.Buffers.Text;
using System.Text;

namespace Vmm.Chardevs;

/// <summary>What to do with the bytes of a websocket handshake received so far.</summary>
public enum HandshakeResult
{
    /// <summary>More bytes are needed.</summary>
    Incomplete,

    /// <summary>Accepted: send the answer; frames follow.</summary>
    Accepted,

    /// <summary>Refused: send the answer, if any, and close.</summary>
    Refused,
}

/// <summary>The opening handshake of a websocket server (RFC 6455 section 4.2): path <c>/</c>, subprotocol <c>binary</c> or none.</summary>
public static class WebSocketHandshake
{
    /// <summary>Longest request that is read, in bytes.</summary>
    public const int MaxRequest = 4096;

    private const int KeyLength = 24;

    /// <summary>
    /// Judges a request.
    /// </summary>
    /// <param name="request">Everything received so far.</param>
    /// <param name="date">Value of the Date header of the answer.</param>
    /// <param name="consumed">Length of the complete request; frames may follow behind it.</param>
    /// <param name="response">What to send; empty when the peer does not even speak HTTP.</param>
    public static HandshakeResult Process(ReadOnlySpan<byte> request, string date, out int consumed, out byte[] response)
    {
        response = [];
        consumed = 0;
        int end = request.IndexOf("\r\n\r\n"u8);
        if (end < 0)
        {
            return request.Length < MaxRequest ? HandshakeResult.Incomplete : HandshakeResult.Refused;
        }

        consumed = end + 4;
        ReadOnlySpan<byte> head = request[..end];
        int lineEnd = head.IndexOf("\r\n"u8);
        ReadOnlySpan<byte> line = lineEnd < 0 ? head : head[..lineEnd];
        ReadOnlySpan<byte> fields = lineEnd < 0 ? default : head[(lineEnd + 2)..];
        int space = line.IndexOf((byte)' ');
        int version = space < 0 ? -1 : line[(space + 1)..].IndexOf((byte)' ');
        if (version < 0)
        {
            return HandshakeResult.Refused;
        }

        ReadOnlySpan<byte> path = line.Slice(space + 1, version);
        bool speaks = line[..space].SequenceEqual("GET"u8) && line[(space + version + 2)..].SequenceEqual("HTTP/1.1"u8);
        if (speaks && !path.SequenceEqual("/"u8))
        {
            response = Encoding.ASCII.GetBytes($"HTTP/1.1 404 Not Found\r\nServer: QEMU VNC\r\nDate: {date}\r\nConnection: close\r\n\r\n");
            return HandshakeResult.Refused;
        }

        ReadOnlySpan<byte> key = Field(fields, "Sec-WebSocket-Key"u8, out bool hasKey);
        ReadOnlySpan<byte> protocols = Field(fields, "Sec-WebSocket-Protocol"u8, out bool hasProtocols);
        _ = Field(fields, "Host"u8, out bool hasHost);
        if (!speaks || !hasHost || !hasKey || key.Length != KeyLength
            || !Field(fields, "Sec-WebSocket-Version"u8, out _).SequenceEqual("13"u8)
            || !Contains(Field(fields, "Upgrade"u8, out _), "websocket"u8)
            || !Contains(Field(fields, "Connection"u8, out _), "upgrade"u8)
            || (hasProtocols && !Contains(protocols, "binary"u8)))
        {
            response = Encoding.ASCII.GetBytes(
                $"HTTP/1.1 400 Bad Request\r\nServer: QEMU VNC\r\nDate: {date}\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n\r\n");
            return HandshakeResult.Refused;
        }

        string protocol = hasProtocols ? "Sec-WebSocket-Protocol: binary\r\n" : "";
        response = Encoding.ASCII.GetBytes(
            $"HTTP/1.1 101 Switching Protocols\r\nServer: QEMU VNC\r\nDate: {date}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + $"Sec-WebSocket-Accept: {AcceptValue(key)}\r\n{protocol}\r\n");
        return HandshakeResult.Accepted;
    }

    private static string AcceptValue(ReadOnlySpan<byte> key)
    {
        ReadOnlySpan<byte> guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"u8;
        Span<byte> message = stackalloc byte[KeyLength + guid.Length];
        key.CopyTo(message);
        guid.CopyTo(message[KeyLength..]);
        Span<byte> digest = stackalloc byte[Sha1.DigestSize];
        Sha1.Hash(message, digest);
        Span<byte> text = stackalloc byte[28];
        Base64.EncodeToUtf8(digest, text, out _, out int written);
        return Encoding.ASCII.GetString(text[..written]);
    }

    // The value of the first header of that name without surrounding blanks.
    private static ReadOnlySpan<byte> Field(ReadOnlySpan<byte> fields, ReadOnlySpan<byte> name, out bool found)
    {
        while (!fields.IsEmpty)
        {
            int end = fields.IndexOf("\r\n"u8);
            ReadOnlySpan<byte> line = end < 0 ? fields : fields[..end];
            fields = end < 0 ? default : fields[(end + 2)..];
            int colon = line.IndexOf((byte)':');
            if (colon >= 0 && Ascii.EqualsIgnoreCase(line[..colon], name))
            {
                found = true;
                return line[(colon + 1)..].Trim(" \t"u8);
            }
        }

        found = false;
        return default;
    }

    // Whether a comma separated list has the token, whatever its case.
    private static bool Contains(ReadOnlySpan<byte> list, ReadOnlySpan<byte> token)
    {
        while (true)
        {
            int comma = list.IndexOf((byte)',');
            ReadOnlySpan<byte> item = (comma < 0 ? list : list[..comma]).Trim(" \t"u8);
            if (Ascii.EqualsIgnoreCase(item, token))
            {
                return true;
            }

            if (comma < 0)
            {
                return false;
            }

            list = list[(comma + 1)..];
        }
    }
}
