using System.Buffers.Binary;

namespace Vmm.Interop;

/// <summary>A socket address in the kernel's own form (sockaddr_un, sockaddr_in, sockaddr_in6), immutable.</summary>
public sealed class SockAddr
{
    /// <summary>Bytes of sun_path.</summary>
    public const int UnixPathMax = 108;

    private readonly byte[] _bytes;

    private SockAddr(byte[] bytes)
    {
        _bytes = bytes;
    }

    /// <summary>The raw sockaddr.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>AF_UNIX, AF_INET, AF_INET6, or AF_UNSPEC when the address is empty.</summary>
    public int Family => _bytes.Length < 2 ? Libc.AF_UNSPEC : _bytes[0] | (_bytes[1] << 8);

    /// <summary>True for a unix address whose name starts with a NUL.</summary>
    public bool IsAbstract => Family == Libc.AF_UNIX && _bytes.Length > 2 && _bytes[2] == 0;

    /// <summary>Port in host order of an AF_INET or AF_INET6 address, else 0.</summary>
    public int Port => Family is Libc.AF_INET or Libc.AF_INET6 ? BinaryPrimitives.ReadUInt16BigEndian(_bytes.AsSpan(2)) : 0;

    /// <summary>The path of a unix address (without the leading NUL of an abstract one), else the numeric host.</summary>
    public string Host
    {
        get
        {
            switch (Family)
            {
                case Libc.AF_UNIX:
                    ReadOnlySpan<byte> name = _bytes.AsSpan(2);
                    if (IsAbstract)
                    {
                        return System.Text.Encoding.UTF8.GetString(name[1..]);
                    }

                    int end = name.IndexOf((byte)0);
                    return System.Text.Encoding.UTF8.GetString(end < 0 ? name : name[..end]);
                case Libc.AF_INET:
                    return FormatV4(_bytes.AsSpan(4, 4));
                case Libc.AF_INET6:
                    return FormatV6(_bytes.AsSpan(8, 16));
                default:
                    return "";
            }
        }
    }

    /// <summary>From the kernel's bytes.</summary>
    public static SockAddr FromBytes(ReadOnlySpan<byte> bytes) => new(bytes.ToArray());

    /// <summary>A path in the file system; null when its UTF-8 is longer than sun_path (<see cref="UnixPathMax"/> bytes).</summary>
    public static SockAddr? Unix(string path)
    {
        int length = System.Text.Encoding.UTF8.GetByteCount(path);
        if (length > UnixPathMax)
        {
            return null;
        }

        byte[] bytes = new byte[2 + Math.Min(length + 1, UnixPathMax)];
        bytes[0] = Libc.AF_UNIX;
        System.Text.Encoding.UTF8.GetBytes(path, bytes.AsSpan(2));
        return new SockAddr(bytes);
    }

    /// <summary>
    /// A name in the abstract namespace, without its leading NUL; null when too long. With <paramref name="tight"/> the address ends with
    /// the name, otherwise the rest of sun_path is NULs that belong to it.
    /// </summary>
    public static SockAddr? UnixAbstract(string name, bool tight = true)
    {
        int length = System.Text.Encoding.UTF8.GetByteCount(name);
        if (length > UnixPathMax - 1)
        {
            return null;
        }

        byte[] bytes = new byte[2 + (tight ? length + 1 : UnixPathMax)];
        bytes[0] = Libc.AF_UNIX;
        System.Text.Encoding.UTF8.GetBytes(name, bytes.AsSpan(3));
        return new SockAddr(bytes);
    }

    /// <summary>IPv4: four address bytes in network order.</summary>
    public static SockAddr InetV4(ReadOnlySpan<byte> address, int port)
    {
        byte[] bytes = new byte[16];
        bytes[0] = Libc.AF_INET;
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(2), checked((ushort)port));
        address[..4].CopyTo(bytes.AsSpan(4));
        return new SockAddr(bytes);
    }

    /// <summary>IPv6: sixteen address bytes in network order.</summary>
    public static SockAddr InetV6(ReadOnlySpan<byte> address, int port, uint scopeId = 0)
    {
        byte[] bytes = new byte[28];
        bytes[0] = Libc.AF_INET6;
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(2), checked((ushort)port));
        address[..16].CopyTo(bytes.AsSpan(8));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(24), scopeId);
        return new SockAddr(bytes);
    }

    /// <summary>The same IPv4 or IPv6 address with another port.</summary>
    public SockAddr WithPort(int port)
    {
        byte[] bytes = (byte[])_bytes.Clone();
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(2), checked((ushort)port));
        return new SockAddr(bytes);
    }

    private static string FormatV4(ReadOnlySpan<byte> b) => FormattableString.Invariant($"{b[0]}.{b[1]}.{b[2]}.{b[3]}");

    // RFC 5952: the longest run of two or more zero groups becomes "::", the first one of equals; mapped IPv4 in dotted form.
    private static string FormatV6(ReadOnlySpan<byte> b)
    {
        if (b[..10].IndexOfAnyExcept((byte)0) < 0 && b[10] == 0xFF && b[11] == 0xFF)
        {
            return "::ffff:" + FormatV4(b[12..]);
        }

        int bestStart = -1;
        int bestLength = 1;
        for (int i = 0; i < 8;)
        {
            int j = i;
            while (j < 8 && b[2 * j] == 0 && b[2 * j + 1] == 0)
            {
                j++;
            }

            if (j - i > bestLength)
            {
                bestStart = i;
                bestLength = j - i;
            }

            i = Math.Max(j, i + 1);
        }

        System.Text.StringBuilder text = new();
        for (int i = 0; i < 8; i++)
        {
            if (i == bestStart)
            {
                text.Append("::");
                i += bestLength - 1;
                continue;
            }

            if (text.Length > 0 && text[^1] != ':')
            {
                text.Append(':');
            }

            text.Append(BinaryPrimitives.ReadUInt16BigEndian(b[(2 * i)..]).ToString("x", System.Globalization.CultureInfo.InvariantCulture));
        }

        return text.ToString();
    }
}
