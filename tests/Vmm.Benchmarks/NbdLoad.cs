using System.Buffers.Binary;
using System.Net.Security;
using System.Net.Sockets;

namespace Vmm.Benchmarks;

/// <summary>What a client asks of an export.</summary>
/// <param name="Name">For the table.</param>
/// <param name="IsWrite">Writes; else reads.</param>
/// <param name="Bytes">Of each request.</param>
/// <param name="Depth">Requests under way at a time.</param>
/// <param name="Count">Requests of a sample.</param>
/// <param name="IsRandom">At random places; else one behind the other.</param>
internal sealed record NbdWorkload(string Name, bool IsWrite, int Bytes, int Depth, int Count, bool IsRandom);

/// <summary>
/// A client of an NBD server that costs as little as it can: requests that became possible together are one system call, and so are replies
/// that arrived together (NBD protocol, "Transmission"; simple replies).
/// </summary>
internal sealed class NbdLoad : IDisposable
{
    private const int RequestBytes = 28;
    private const int ReplyBytes = 16;
    private const int StartTls = 5;
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Stream _stream;
    private readonly byte[] _in = new byte[4 << 20];
    private readonly byte[] _out = new byte[4 << 20];
    private readonly long _size;
    private readonly Random _random = new(1);
    private long _next;

    public NbdLoad(string path, string export, bool isSecure)
    {
        // What is written must be as good as the images' own data for the copies that are measured later: nothing that looks like a hole.
        _random.NextBytes(_out);
        _socket.Connect(new UnixDomainSocketEndPoint(path));
        _stream = new NetworkStream(_socket);
        Receive(18);
        Span<byte> flags = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(flags, 3);
        _stream.Write(flags);
        if (isSecure)
        {
            WriteOption(StartTls, "");
            Receive(20);
            SslStream tls = new(_stream, false, static (_, _, _, _) => true);
            tls.AuthenticateAsClient("localhost");
            _stream = tls;
        }

        WriteOption(1, export);
        Receive(10);
        _size = BinaryPrimitives.ReadInt64BigEndian(_in);
    }

    /// <summary>Makes all requests of a workload; throws when one fails.</summary>
    public void Run(NbdWorkload w)
    {
        int sent = 0;
        int answered = 0;
        int have = 0;
        int reply = ReplyBytes + (w.IsWrite ? 0 : w.Bytes);
        while (answered < w.Count)
        {
            int fill = 0;
            while (sent < w.Count && sent - answered < w.Depth)
            {
                if (fill + RequestBytes + w.Bytes > _out.Length)
                {
                    SendAll(fill);
                    fill = 0;
                }

                fill += Encode(_out.AsSpan(fill), w, (ulong)sent);
                sent++;
            }

            SendAll(fill);
            int n = _stream.Read(_in, have, _in.Length - have);
            have += n > 0 ? n : throw new IOException("the server hung up");
            int at = 0;
            for (; have - at >= reply; at += reply, answered++)
            {
                if (BinaryPrimitives.ReadUInt32BigEndian(_in.AsSpan(at)) != 0x67446698 || BinaryPrimitives.ReadUInt32BigEndian(_in.AsSpan(at + 4)) != 0)
                {
                    throw new IOException("a request failed");
                }
            }

            _in.AsSpan(at, have - at).CopyTo(_in);
            have -= at;
        }
    }

    public void Dispose()
    {
        _stream.Dispose();
        _socket.Dispose();
    }

    private void WriteOption(int option, string data)
    {
        Span<byte> header = stackalloc byte[16];
        "IHAVEOPT"u8.CopyTo(header);
        BinaryPrimitives.WriteInt32BigEndian(header[8..], option);
        BinaryPrimitives.WriteInt32BigEndian(header[12..], data.Length);
        _stream.Write([.. header, .. System.Text.Encoding.ASCII.GetBytes(data)]);
    }

    private int Encode(Span<byte> to, NbdWorkload w, ulong cookie)
    {
        if (w.IsRandom)
        {
            _next = _random.NextInt64(_size / w.Bytes) * w.Bytes;
        }
        else if (_next + w.Bytes > _size)
        {
            _next = 0;
        }

        BinaryPrimitives.WriteUInt32BigEndian(to, 0x25609513);
        BinaryPrimitives.WriteUInt16BigEndian(to[4..], 0);
        BinaryPrimitives.WriteUInt16BigEndian(to[6..], w.IsWrite ? (ushort)1 : (ushort)0);
        BinaryPrimitives.WriteUInt64BigEndian(to[8..], cookie);
        BinaryPrimitives.WriteInt64BigEndian(to[16..], _next);
        BinaryPrimitives.WriteInt32BigEndian(to[24..], w.Bytes);
        _next += w.Bytes;
        return RequestBytes + (w.IsWrite ? w.Bytes : 0);
    }

    private void SendAll(int count)
    {
        if (count > 0)
        {
            _stream.Write(_out, 0, count);
        }
    }

    private void Receive(int count)
    {
        for (int have = 0; have < count;)
        {
            int n = _stream.Read(_in, have, count - have);
            have += n > 0 ? n : throw new IOException("the server hung up");
        }
    }
}
