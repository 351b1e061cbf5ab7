using System.Buffers.Binary;
using System.Text;
using Vmm.Interop;

namespace Vmm.Block.Nbd;

/// <summary>A request as it stands on the wire.</summary>
internal readonly record struct NbdRequestHeader(NbdCommandFlags Flags, NbdCommand Command, ulong Cookie, ulong Offset, ulong Length);

/// <summary>The head of a chunk of a structured reply.</summary>
internal readonly record struct NbdChunkHeader(ushort Flags, NbdChunk Type, ulong Cookie, ulong Length)
{
    internal bool IsDone => (Flags & NbdLimits.ChunkDone) != 0;

    internal bool IsError => ((ushort)Type & 0x8000) != 0;
}

/// <summary>The head of an answer to an option.</summary>
internal readonly record struct NbdOptionReplyHeader(NbdOption Option, NbdOptionReply Type, uint Length)
{
    internal bool IsError => ((uint)Type & 0x80000000) != 0;
}

/// <summary>
/// The NBD protocol as bytes: pure functions over spans. Readers return false for bytes that do not keep to the protocol; writers return
/// the number of bytes written. All numbers are big-endian.
/// </summary>
internal static class NbdWire
{
    private static readonly UTF8Encoding s_utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: false);

    /// <summary>The server's greeting: 18 bytes.</summary>
    internal static int WriteGreeting(Span<byte> to)
    {
        BinaryPrimitives.WriteUInt64BigEndian(to, NbdLimits.InitMagic);
        BinaryPrimitives.WriteUInt64BigEndian(to[8..], NbdLimits.OptionMagic);
        BinaryPrimitives.WriteUInt16BigEndian(to[16..], NbdLimits.FixedNewstyle | NbdLimits.NoZeroes);
        return 18;
    }

    /// <summary>The head of an option: 16 bytes.</summary>
    internal static int WriteOption(Span<byte> to, NbdOption option, int length)
    {
        BinaryPrimitives.WriteUInt64BigEndian(to, NbdLimits.OptionMagic);
        BinaryPrimitives.WriteUInt32BigEndian(to[8..], (uint)option);
        BinaryPrimitives.WriteInt32BigEndian(to[12..], length);
        return NbdLimits.OptionHeaderBytes;
    }

    /// <summary>Reads the head of an option.</summary>
    internal static bool TryReadOption(ReadOnlySpan<byte> from, out NbdOption option, out uint length)
    {
        option = (NbdOption)BinaryPrimitives.ReadUInt32BigEndian(from[8..]);
        length = BinaryPrimitives.ReadUInt32BigEndian(from[12..]);
        return BinaryPrimitives.ReadUInt64BigEndian(from) == NbdLimits.OptionMagic;
    }

    /// <summary>The head of an answer to an option: 20 bytes.</summary>
    internal static int WriteOptionReply(Span<byte> to, NbdOption option, NbdOptionReply type, int length)
    {
        BinaryPrimitives.WriteUInt64BigEndian(to, NbdLimits.OptionReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(to[8..], (uint)option);
        BinaryPrimitives.WriteUInt32BigEndian(to[12..], (uint)type);
        BinaryPrimitives.WriteInt32BigEndian(to[16..], length);
        return NbdLimits.OptionReplyBytes;
    }

    /// <summary>Reads the head of an answer to an option.</summary>
    internal static bool TryReadOptionReply(ReadOnlySpan<byte> from, out NbdOptionReplyHeader header)
    {
        header = new NbdOptionReplyHeader(
            (NbdOption)BinaryPrimitives.ReadUInt32BigEndian(from[8..]),
            (NbdOptionReply)BinaryPrimitives.ReadUInt32BigEndian(from[12..]),
            BinaryPrimitives.ReadUInt32BigEndian(from[16..]));
        return BinaryPrimitives.ReadUInt64BigEndian(from) == NbdLimits.OptionReplyMagic;
    }

    /// <summary>Bytes of a request without its payload.</summary>
    internal static int RequestBytes(NbdHeaders headers) =>
        headers == NbdHeaders.Extended ? NbdLimits.ExtendedRequestBytes : NbdLimits.RequestBytes;

    /// <summary>Bytes of a chunk without its payload.</summary>
    internal static int ChunkBytes(NbdHeaders headers) => headers == NbdHeaders.Extended ? NbdLimits.ExtendedChunkBytes : NbdLimits.ChunkBytes;

    /// <summary>A request; lengths from 4 GiB on need extended headers.</summary>
    internal static int WriteRequest(Span<byte> to, in NbdRequestHeader request, NbdHeaders headers)
    {
        bool isExtended = headers == NbdHeaders.Extended;
        BinaryPrimitives.WriteUInt32BigEndian(to, isExtended ? NbdLimits.ExtendedRequestMagic : NbdLimits.RequestMagic);
        BinaryPrimitives.WriteUInt16BigEndian(to[4..], (ushort)request.Flags);
        BinaryPrimitives.WriteUInt16BigEndian(to[6..], (ushort)request.Command);
        BinaryPrimitives.WriteUInt64BigEndian(to[8..], request.Cookie);
        BinaryPrimitives.WriteUInt64BigEndian(to[16..], request.Offset);
        if (isExtended)
        {
            BinaryPrimitives.WriteUInt64BigEndian(to[24..], request.Length);
            return NbdLimits.ExtendedRequestBytes;
        }

        BinaryPrimitives.WriteUInt32BigEndian(to[24..], (uint)request.Length);
        return NbdLimits.RequestBytes;
    }

    /// <summary>Reads a request.</summary>
    internal static bool TryReadRequest(ReadOnlySpan<byte> from, NbdHeaders headers, out NbdRequestHeader request)
    {
        bool isExtended = headers == NbdHeaders.Extended;
        request = new NbdRequestHeader(
            (NbdCommandFlags)BinaryPrimitives.ReadUInt16BigEndian(from[4..]),
            (NbdCommand)BinaryPrimitives.ReadUInt16BigEndian(from[6..]),
            BinaryPrimitives.ReadUInt64BigEndian(from[8..]),
            BinaryPrimitives.ReadUInt64BigEndian(from[16..]),
            isExtended ? BinaryPrimitives.ReadUInt64BigEndian(from[24..]) : BinaryPrimitives.ReadUInt32BigEndian(from[24..]));
        return BinaryPrimitives.ReadUInt32BigEndian(from) == (isExtended ? NbdLimits.ExtendedRequestMagic : NbdLimits.RequestMagic);
    }

    /// <summary>A simple reply: 16 bytes.</summary>
    internal static int WriteSimpleReply(Span<byte> to, uint error, ulong cookie)
    {
        BinaryPrimitives.WriteUInt32BigEndian(to, NbdLimits.SimpleReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(to[4..], error);
        BinaryPrimitives.WriteUInt64BigEndian(to[8..], cookie);
        return NbdLimits.SimpleReplyBytes;
    }

    /// <summary>The head of a chunk of the reply to a request.</summary>
    internal static int WriteChunk(Span<byte> to, NbdChunk type, bool isDone, in NbdRequestHeader request, uint length, NbdHeaders headers)
    {
        bool isExtended = headers == NbdHeaders.Extended;
        BinaryPrimitives.WriteUInt32BigEndian(to, isExtended ? NbdLimits.ExtendedReplyMagic : NbdLimits.StructuredReplyMagic);
        BinaryPrimitives.WriteUInt16BigEndian(to[4..], isDone ? NbdLimits.ChunkDone : (ushort)0);
        BinaryPrimitives.WriteUInt16BigEndian(to[6..], (ushort)type);
        BinaryPrimitives.WriteUInt64BigEndian(to[8..], request.Cookie);
        if (isExtended)
        {
            BinaryPrimitives.WriteUInt64BigEndian(to[16..], request.Offset);
            BinaryPrimitives.WriteUInt64BigEndian(to[24..], length);
            return NbdLimits.ExtendedChunkBytes;
        }

        BinaryPrimitives.WriteUInt32BigEndian(to[16..], length);
        return NbdLimits.ChunkBytes;
    }

    /// <summary>Reads the head of a chunk whose magic number is known.</summary>
    internal static NbdChunkHeader ReadChunk(ReadOnlySpan<byte> from, NbdHeaders headers) => new(
        BinaryPrimitives.ReadUInt16BigEndian(from[4..]),
        (NbdChunk)BinaryPrimitives.ReadUInt16BigEndian(from[6..]),
        BinaryPrimitives.ReadUInt64BigEndian(from[8..]),
        headers == NbdHeaders.Extended ? BinaryPrimitives.ReadUInt64BigEndian(from[24..]) : BinaryPrimitives.ReadUInt32BigEndian(from[16..]));

    /// <summary>Takes a string with its length before it off the front.</summary>
    internal static bool TryTakeString(ref ReadOnlySpan<byte> from, out string text)
    {
        text = "";
        if (from.Length < 4)
        {
            return false;
        }

        uint length = BinaryPrimitives.ReadUInt32BigEndian(from);
        if (length > NbdLimits.MaxString || length > from.Length - 4)
        {
            return false;
        }

        text = s_utf8.GetString(from.Slice(4, (int)length));
        from = from[(4 + (int)length)..];
        return true;
    }

    /// <summary>A string with its length before it.</summary>
    internal static int WriteString(Span<byte> to, string text)
    {
        int length = s_utf8.GetBytes(text, to[4..]);
        BinaryPrimitives.WriteInt32BigEndian(to, length);
        return 4 + length;
    }

    /// <summary>Bytes of a text.</summary>
    internal static int ByteCount(string text) => s_utf8.GetByteCount(text);

    /// <summary>A text from the wire, for messages.</summary>
    internal static string ReadText(ReadOnlySpan<byte> from) => s_utf8.GetString(from);

    /// <summary>A text as it is.</summary>
    internal static int WriteText(Span<byte> to, string text) => s_utf8.GetBytes(text, to);

    /// <summary>The error number of the wire for a negative result (NBD protocol, "Error values").</summary>
    internal static uint ToWireError(int result) => (Errno)(-result) switch
    {
        Errno.OK => 0,
        Errno.EPERM or Errno.EROFS => 1,
        Errno.EIO => 5,
        Errno.ENOMEM => 12,
        Errno.ENOSPC or Errno.EFBIG or Errno.EDQUOT => 28,
        Errno.EOVERFLOW => 75,
        Errno.EOPNOTSUPP => 95,
        Errno.ESHUTDOWN => 108,
        _ => 22,
    };

    /// <summary>The negative result for an error number of the wire; EINVAL for one that the protocol does not know.</summary>
    internal static int FromWireError(uint error) => error switch
    {
        0 => 0,
        1 => -(int)Errno.EPERM,
        5 => -(int)Errno.EIO,
        12 => -(int)Errno.ENOMEM,
        28 => -(int)Errno.ENOSPC,
        75 => -(int)Errno.EOVERFLOW,
        95 => -(int)Errno.EOPNOTSUPP,
        108 => -(int)Errno.ESHUTDOWN,
        _ => -(int)Errno.EINVAL,
    };
}
