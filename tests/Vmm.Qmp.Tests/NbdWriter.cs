using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;

namespace Vmm.Qmp.Tests;

/// <summary>A client of an NBD server on a Unix socket, with requests of its own making under way. One thread.</summary>
internal sealed class NbdWriter : IDisposable
{
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private ulong _next = 1;

    /// <summary>Connects and negotiates.</summary>
    public NbdWriter(string path, string export)
    {
        _socket.ReceiveTimeout = 60_000;
        _socket.Connect(new UnixDomainSocketEndPoint(path));
        Receive(new byte[18]);
        byte[] name = Encoding.UTF8.GetBytes(export);
        byte[] hello = new byte[4 + 16 + name.Length];
        BinaryPrimitives.WriteUInt32BigEndian(hello, 3);
        "IHAVEOPT"u8.CopyTo(hello.AsSpan(4));
        BinaryPrimitives.WriteUInt32BigEndian(hello.AsSpan(12), 1);
        BinaryPrimitives.WriteInt32BigEndian(hello.AsSpan(16), name.Length);
        name.CopyTo(hello, 20);
        _socket.Send(hello);
        Receive(new byte[10]);
    }

    /// <summary>Kinds of requests.</summary>
    public enum Kind : ushort
    {
        Read = 0,
        Write = 1,
        Flush = 3,
        WriteZeroes = 6,
    }

    /// <summary>Sends a request and does not wait; returns its number.</summary>
    public ulong Send(Kind kind, long offset, int length, byte fill = 0)
    {
        byte[] request = new byte[28 + (kind == Kind.Write ? length : 0)];
        BinaryPrimitives.WriteUInt32BigEndian(request, 0x25609513);
        BinaryPrimitives.WriteUInt16BigEndian(request.AsSpan(6), (ushort)kind);
        BinaryPrimitives.WriteUInt64BigEndian(request.AsSpan(8), _next);
        BinaryPrimitives.WriteInt64BigEndian(request.AsSpan(16), offset);
        BinaryPrimitives.WriteInt32BigEndian(request.AsSpan(24), length);
        request.AsSpan(28).Fill(fill);
        _socket.Send(request);
        return _next++;
    }

    /// <summary>Waits for any answer; the request's number.</summary>
    public ulong Answer()
    {
        byte[] answer = new byte[16];
        Receive(answer);
        Assert.That(BinaryPrimitives.ReadUInt32BigEndian(answer), Is.EqualTo(0x67446698u));
        Assert.That(BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(4)), Is.Zero, "the request failed");
        return BinaryPrimitives.ReadUInt64BigEndian(answer.AsSpan(8));
    }

    /// <summary>Makes a request with nothing else under way; false when it fails.</summary>
    public bool Request(Kind kind, long offset, int length, byte fill = 0)
    {
        Send(kind, offset, length, fill);
        return TakeResult();
    }

    /// <summary>Reads with nothing else under way; false when that fails.</summary>
    public bool TryRead(long offset, Span<byte> data)
    {
        Send(Kind.Read, offset, data.Length);
        if (!TakeResult())
        {
            return false;
        }

        byte[] bytes = new byte[data.Length];
        Receive(bytes);
        bytes.CopyTo(data);
        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private bool TakeResult()
    {
        byte[] answer = new byte[16];
        Receive(answer);
        return BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(4)) == 0;
    }

    private void Receive(byte[] bytes)
    {
        for (int done = 0; done < bytes.Length;)
        {
            int n = _socket.Receive(bytes, done, bytes.Length - done, SocketFlags.None);
            done += n > 0 ? n : throw new EndOfStreamException("the server has gone");
        }
    }
}
