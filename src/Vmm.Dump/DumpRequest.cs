using Vmm.Dump.Kdump;
using Vmm.Interop;

namespace Vmm.Dump;

/// <summary>A dump to make.</summary>
internal sealed record DumpRequest
{
    /// <summary>Target; owned by the dump from now on.</summary>
    internal required SafeFd File { get; init; }

    /// <summary>Whether segments are what the guest's page tables map.</summary>
    internal bool IsPaging { get; init; }

    /// <summary>Guest-physical addresses to dump; all when null.</summary>
    internal (long Begin, long Length)? Window { get; init; }

    /// <summary>A crash dump of Windows, neither a core file nor compressed.</summary>
    internal bool IsWindows { get; init; }

    /// <summary>Compression of the pages; null for a core file.</summary>
    internal KdumpCompression? Compression { get; init; }

    /// <summary>Compressed dumps: in pieces that can be written one after the other.</summary>
    internal bool IsFlat { get; init; }
}
