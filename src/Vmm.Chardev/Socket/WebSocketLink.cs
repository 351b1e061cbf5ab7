using System.Buffers.Binary;
using Vmm.EventLoop;
using Vmm.Interop;

namespace Vmm.Chardevs;

/// <summary>Sends a first part without blocking: bytes, or -errno.</summary>
internal delegate int SendBytes(ReadOnlySpan<byte> data);

/// <summary>
/// One websocket connection on the server's side: handshake, frames out, control frames. Output that the socket does not take waits in a
/// buffer of bounded size, and until that is empty no more data is taken.
/// </summary>
internal sealed class WebSocketLink(SendBytes send, Clocks clocks)
{
    private const int MaxFrameData = 16 * 1024;
    private const int MaxPendingControl = 64 * 1024;
    private const byte Final = 0x80;
    private const byte OpBinary = 2;

    private readonly WebSocketDecoder _decoder = new();
    private byte[] _request = [];
    private byte[] _output = [];
    private int _outputStart;
    private int _outputEnd;

    /// <summary>True once the handshake was accepted.</summary>
    internal bool IsEstablished { get; private set; }

    /// <summary>True while output waits for room in the socket.</summary>
    internal bool HasOutput => _outputEnd > _outputStart;

    /// <summary>Takes bytes of the handshake; false when the connection is to be closed.</summary>
    /// <param name="data">The bytes that can be read.</param>
    /// <param name="used">How many of them belong to the request.</param>
    internal bool Handshake(ReadOnlySpan<byte> data, out int used)
    {
        byte[] all = [.. _request, .. data];
        string date = DateTimeOffset.UnixEpoch.AddMilliseconds(clocks.NowNs(ClockType.Host) / 1_000_000)
            .ToString("r", System.Globalization.CultureInfo.InvariantCulture);
        HandshakeResult result = WebSocketHandshake.Process(all, date, out int consumed, out byte[] response);
        used = data.Length;
        switch (result)
        {
            case HandshakeResult.Incomplete:
                _request = all;
                return true;
            case HandshakeResult.Refused:
                Append(response);
                Flush();
                return false;
            default:
                used = consumed - _request.Length;
                _request = [];
                IsEstablished = true;
                Append(response);
                Flush();
                return true;
        }
    }

    /// <summary>Decodes frames; pings are answered here, and an error (or a close frame) is answered before it is returned.</summary>
    internal WebSocketStatus Receive(Span<byte> data, out int consumed, out int payload)
    {
        WebSocketStatus status = _decoder.Decode(data, out consumed, out payload);
        if (status == WebSocketStatus.Error)
        {
            Span<byte> code = stackalloc byte[2];
            BinaryPrimitives.WriteUInt16BigEndian(code, _decoder.CloseCode);
            Frame(WebSocketDecoder.OpClose, code);
            Flush();
        }
        else if (status == WebSocketStatus.Control)
        {
            if (_decoder.Opcode == WebSocketDecoder.OpPing && _outputEnd - _outputStart < MaxPendingControl)
            {
                Frame(WebSocketDecoder.OpPong, _decoder.Control);
                Flush();
            }
            else if (_decoder.Opcode == WebSocketDecoder.OpClose)
            {
                Frame(WebSocketDecoder.OpClose, _decoder.Control);
                Flush();
                return WebSocketStatus.Error;
            }
        }

        return status;
    }

    /// <summary>Sends data as one binary frame; bytes taken, 0 while earlier output waits.</summary>
    internal int Write(ReadOnlySpan<byte> data)
    {
        Flush();
        if (HasOutput)
        {
            return 0;
        }

        int n = Math.Min(data.Length, MaxFrameData);
        Frame(OpBinary, data[..n]);
        Flush();
        return n;
    }

    /// <summary>Sends as much of the waiting output as the socket takes.</summary>
    internal void Flush()
    {
        while (HasOutput)
        {
            int n = send(_output.AsSpan(_outputStart, _outputEnd - _outputStart));
            if (n == -(int)Errno.EAGAIN)
            {
                return;
            }

            // After a failure the hang-up ends the connection; what waits is lost with it.
            _outputStart = n < 0 ? _outputEnd : _outputStart + n;
        }

        _outputStart = 0;
        _outputEnd = 0;
    }

    private void Frame(byte opcode, ReadOnlySpan<byte> payload)
    {
        Span<byte> header = stackalloc byte[4];
        header[0] = (byte)(Final | opcode);
        if (payload.Length < 126)
        {
            header[1] = (byte)payload.Length;
            header = header[..2];
        }
        else
        {
            header[1] = 126;
            BinaryPrimitives.WriteUInt16BigEndian(header[2..], (ushort)payload.Length);
        }

        Append(header);
        Append(payload);
    }

    private void Append(ReadOnlySpan<byte> data)
    {
        int needed = _outputEnd + data.Length;
        if (needed > _output.Length)
        {
            Array.Resize(ref _output, Math.Max(needed, Math.Max(1024, _output.Length * 2)));
        }

        data.CopyTo(_output.AsSpan(_outputEnd));
        _outputEnd += data.Length;
    }
}
