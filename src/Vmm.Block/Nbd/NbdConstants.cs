namespace Vmm.Block.Nbd;

/// <summary>Options of the negotiation (NBD protocol, "Option types").</summary>
internal enum NbdOption : uint
{
    ExportName = 1,
    Abort = 2,
    List = 3,
    PeekExport = 4,
    StartTls = 5,
    Info = 6,
    Go = 7,
    StructuredReply = 8,
    ListMetaContext = 9,
    SetMetaContext = 10,
    ExtendedHeaders = 11,
}

/// <summary>Replies to options (NBD protocol, "Option reply types").</summary>
internal enum NbdOptionReply : uint
{
    Ack = 1,
    Server = 2,
    Info = 3,
    MetaContext = 4,
    ErrorUnsupported = 0x80000001,
    ErrorPolicy = 0x80000002,
    ErrorInvalid = 0x80000003,
    ErrorPlatform = 0x80000004,
    ErrorTlsRequired = 0x80000005,
    ErrorUnknown = 0x80000006,
    ErrorShutdown = 0x80000007,
    ErrorBlockSizeRequired = 0x80000008,
    ErrorTooBig = 0x80000009,
    ErrorExtendedHeadersRequired = 0x8000000a,
}

/// <summary>What an INFO reply tells (NBD protocol, "NBD_INFO types").</summary>
internal enum NbdInfo : ushort
{
    Export = 0,
    Name = 1,
    Description = 2,
    BlockSize = 3,
}

/// <summary>Flags of an export (NBD protocol, "Transmission flags").</summary>
[Flags]
internal enum NbdExportFlags : ushort
{
    None = 0,
    HasFlags = 1,
    ReadOnly = 2,
    SendFlush = 4,
    SendFua = 8,
    Rotational = 16,
    SendTrim = 32,
    SendWriteZeroes = 64,
    SendDontFragment = 128,
    CanMultiConnection = 256,
    SendResize = 512,
    SendCache = 1024,
    SendFastZero = 2048,
}

/// <summary>Requests (NBD protocol, "Request types").</summary>
internal enum NbdCommand : ushort
{
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    Cache = 5,
    WriteZeroes = 6,
    BlockStatus = 7,
}

/// <summary>Flags of requests (NBD protocol, "Command flags").</summary>
[Flags]
internal enum NbdCommandFlags : ushort
{
    None = 0,
    Fua = 1,
    NoHole = 2,
    DontFragment = 4,
    RequestOne = 8,
    FastZero = 16,

    /// <summary>The request's length is that of a payload behind it; with extended headers only.</summary>
    PayloadLength = 32,
}

/// <summary>Chunks of structured replies (NBD protocol, "Structured reply types").</summary>
internal enum NbdChunk : ushort
{
    None = 0,
    OffsetData = 1,
    OffsetHole = 2,
    BlockStatus = 5,
    BlockStatusExtended = 6,
    Error = 0x8001,
    ErrorOffset = 0x8002,
}

/// <summary>What requests and replies look like; each kind has all that those before it have.</summary>
internal enum NbdHeaders
{
    /// <summary>A reply is a number and perhaps data.</summary>
    Simple,

    /// <summary>Replies may come in chunks (NBD protocol, "Structured replies").</summary>
    Structured,

    /// <summary>Requests and chunks have lengths of 64 bits (NBD protocol, extension "EXTENDED_HEADERS"); there are no simple replies.</summary>
    Extended,
}

/// <summary>Numbers of the protocol.</summary>
internal static class NbdLimits
{
    /// <summary>The port that is registered for the protocol.</summary>
    internal const string DefaultPort = "10809";

    /// <summary>Longest name of an export or a context (NBD protocol, "String values").</summary>
    internal const int MaxString = 4096;

    /// <summary>Longest payload of a request or a reply; the value that most implementations have.</summary>
    internal const int MaxPayload = 32 << 20;

    /// <summary>Longest data of an option that is looked at.</summary>
    internal const int MaxOptionData = 64 << 10;

    internal const ulong InitMagic = 0x4e42444d41474943;
    internal const ulong OptionMagic = 0x49484156454F5054;
    internal const ulong OptionReplyMagic = 0x0003e889045565a9;
    internal const uint RequestMagic = 0x25609513;
    internal const uint SimpleReplyMagic = 0x67446698;
    internal const uint StructuredReplyMagic = 0x668e33ef;
    internal const uint ExtendedRequestMagic = 0x21e41c71;
    internal const uint ExtendedReplyMagic = 0x6e8a278c;

    internal const int RequestBytes = 28;
    internal const int SimpleReplyBytes = 16;
    internal const int ChunkBytes = 20;
    internal const int ExtendedRequestBytes = 32;
    internal const int ExtendedChunkBytes = 32;
    internal const int OptionHeaderBytes = 16;
    internal const int OptionReplyBytes = 20;

    /// <summary>Handshake flag of both sides: fixed newstyle.</summary>
    internal const int FixedNewstyle = 1;

    /// <summary>Handshake flag of both sides: no zeroes after the answer to EXPORT_NAME.</summary>
    internal const int NoZeroes = 2;

    /// <summary>Flag of a structured reply's last chunk.</summary>
    internal const ushort ChunkDone = 1;

    /// <summary>A range of base:allocation has no space of its own.</summary>
    internal const uint StateHole = 1;

    /// <summary>A range of base:allocation reads as zeroes.</summary>
    internal const uint StateZero = 2;

    internal const string BaseAllocation = "base:allocation";
    internal const string DirtyBitmapPrefix = "qemu:dirty-bitmap:";
    internal const string AllocationDepth = "qemu:allocation-depth";
}
