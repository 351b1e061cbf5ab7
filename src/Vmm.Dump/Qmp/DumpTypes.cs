using Vmm.Qapi;

namespace Vmm.Dump.Qmp;

/// <summary>Formats of a dump.</summary>
[QapiEnum]
public enum DumpGuestMemoryFormat
{
    /// <summary>Core file.</summary>
    Elf,

    /// <summary>Pages compressed by zlib, flattened.</summary>
    KdumpZlib,

    /// <summary>Pages compressed by LZO, flattened.</summary>
    KdumpLzo,

    /// <summary>Pages compressed by Snappy, flattened.</summary>
    KdumpSnappy,

    /// <summary>Pages compressed by zlib.</summary>
    KdumpRawZlib,

    /// <summary>Pages compressed by LZO.</summary>
    KdumpRawLzo,

    /// <summary>Pages compressed by Snappy.</summary>
    KdumpRawSnappy,

    /// <summary>Full crash dump of 64-bit Windows, whose driver has told where its header is.</summary>
    WinDmp,
}

/// <summary>What became of a dump.</summary>
[QapiEnum]
public enum DumpStatus
{
    /// <summary>There was none.</summary>
    None,

    /// <summary>It runs.</summary>
    Active,

    /// <summary>It is complete.</summary>
    Completed,

    /// <summary>It failed.</summary>
    Failed,
}

/// <summary>The dump that runs, or the last one.</summary>
[QapiStruct]
public sealed partial record DumpQueryResult
{
    /// <summary>What became of it.</summary>
    public required DumpStatus Status { get; init; }

    /// <summary>Bytes of memory that are dumped.</summary>
    public required long Completed { get; init; }

    /// <summary>Bytes of memory to dump.</summary>
    public required long Total { get; init; }
}

/// <summary>What dumps can be.</summary>
[QapiStruct]
public sealed partial record DumpGuestMemoryCapability
{
    /// <summary>Formats.</summary>
    public required IReadOnlyList<DumpGuestMemoryFormat> Formats { get; init; }
}

/// <summary>A dump has ended.</summary>
/// <param name="Result">What became of it.</param>
/// <param name="Error">Why it failed.</param>
[QmpEvent("DUMP_COMPLETED")]
public sealed partial record DumpCompletedEvent(DumpQueryResult Result, string? Error);
