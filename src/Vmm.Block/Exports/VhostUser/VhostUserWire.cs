using System.Buffers.Binary;

namespace Vmm.Block.Exports.VhostUser;

/// <summary>Requests of a front end (vhost-user specification, "Front-end message types").</summary>
internal enum VhostUserRequest : uint
{
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    ResetOwner = 4,
    SetMemTable = 5,
    SetLogBase = 6,
    SetLogFd = 7,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    SetBackendFd = 21,
    GetConfig = 24,
    SetConfig = 25,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
}

/// <summary>Protocol features that are offered.</summary>
[Flags]
internal enum VhostUserProtocolFeatures : ulong
{
    MultiQueue = 1ul << 0,
    LogFile = 1ul << 1,
    ReplyAck = 1ul << 3,
    BackendRequests = 1ul << 5,
    Config = 1ul << 9,
    ConfigureMemSlots = 1ul << 15,
    All = MultiQueue | LogFile | ReplyAck | BackendRequests | Config | ConfigureMemSlots,
}

/// <summary>Header of a message.</summary>
internal readonly record struct VhostUserHeader(VhostUserRequest Request, uint Flags, int Size)
{
    internal const int Bytes = 12;
    internal const uint Version = 1;
    internal const uint ReplyFlag = 4;
    internal const uint NeedReplyFlag = 8;

    internal bool NeedsReply => (Flags & NeedReplyFlag) != 0;

    /// <summary>Reads the header; false when no message can begin so.</summary>
    internal static bool TryRead(ReadOnlySpan<byte> bytes, out VhostUserHeader header)
    {
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]);
        header = new VhostUserHeader(
            (VhostUserRequest)BinaryPrimitives.ReadUInt32LittleEndian(bytes),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]),
            (int)Math.Min(size, VhostUserLimits.MaxPayload + 1));
        return size <= VhostUserLimits.MaxPayload && (header.Flags & ReplyFlag) == 0;
    }

    internal static void Write(Span<byte> bytes, uint request, uint flags, int size)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, request);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], flags);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[8..], (uint)size);
    }
}

/// <summary>How much a front end may ask for.</summary>
internal static class VhostUserLimits
{
    /// <summary>Bytes behind a header: a table of eight regions, or a configuration space.</summary>
    internal const int MaxPayload = 8 + (MaxTable * RegionBytes);

    /// <summary>Regions of one table.</summary>
    internal const int MaxTable = 8;

    /// <summary>Regions added one by one.</summary>
    internal const int MaxSlots = 32;

    /// <summary>Bytes of a region in a table.</summary>
    internal const int RegionBytes = 32;

    /// <summary>Descriptors that one message may carry.</summary>
    internal const int MaxFds = 8;
}

/// <summary>A region of a front end's memory table.</summary>
internal readonly record struct VhostUserRegion(ulong Guest, ulong Size, ulong User, ulong Offset)
{
    /// <summary>Reads a region; false for one that cannot be.</summary>
    internal static bool TryRead(ReadOnlySpan<byte> bytes, out VhostUserRegion region)
    {
        region = new VhostUserRegion(
            BinaryPrimitives.ReadUInt64LittleEndian(bytes),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]));
        return region.Size != 0 && region.Guest <= ulong.MaxValue - region.Size && region.User <= ulong.MaxValue - region.Size
            && region.Size <= long.MaxValue && region.Offset <= long.MaxValue - region.Size;
    }
}
