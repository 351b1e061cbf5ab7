using Vmm.ObjectModel.Accel;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Qmp;

/// <summary>What the user called the machine.</summary>
[QapiStruct]
public sealed partial record NameInfo
{
    /// <summary>The name; absent when there is none.</summary>
    public string? Name { get; init; }
}

/// <summary>What the program emulates.</summary>
[QapiStruct]
public sealed partial record TargetInfo
{
    /// <summary>Architecture of the guest.</summary>
    public required SysEmuTarget Arch { get; init; }
}

/// <summary>Identity of the machine.</summary>
[QapiStruct]
public sealed partial record UuidInfo
{
    /// <summary>The UUID; all zero when none was given.</summary>
    [QapiName("UUID")]
    public required string Uuid { get; init; }
}

/// <summary>An I/O thread.</summary>
[QapiStruct]
[QapiName("IOThreadInfo")]
public sealed partial record IOThreadInfo
{
    /// <summary>Its id.</summary>
    public required string Id { get; init; }

    /// <summary>Kernel id of the thread.</summary>
    public required long ThreadId { get; init; }

    /// <summary>Longest polling time in nanoseconds.</summary>
    public required long PollMaxNs { get; init; }

    /// <summary>Factor by which polling time grows; 0 for the default.</summary>
    public required long PollGrow { get; init; }

    /// <summary>Divisor by which polling time shrinks; 0 for none.</summary>
    public required long PollShrink { get; init; }

    /// <summary>Most requests submitted together; 0 for the default.</summary>
    public required long AioMaxBatch { get; init; }
}

/// <summary>A memory back end.</summary>
[QapiStruct]
public sealed partial record Memdev
{
    /// <summary>Its id.</summary>
    public string? Id { get; init; }

    /// <summary>Bytes.</summary>
    public required ulong Size { get; init; }

    /// <summary>The host may merge equal pages.</summary>
    public required bool Merge { get; init; }

    /// <summary>Core dumps contain the memory.</summary>
    public required bool Dump { get; init; }

    /// <summary>All pages were touched at the start.</summary>
    public required bool Prealloc { get; init; }

    /// <summary>Mapped shared.</summary>
    public required bool Share { get; init; }

    /// <summary>Swap space or huge pages are reserved.</summary>
    public bool? Reserve { get; init; }

    /// <summary>Host NUMA nodes.</summary>
    public required IReadOnlyList<ushort> HostNodes { get; init; }

    /// <summary>How the nodes are used.</summary>
    public required HostMemPolicy Policy { get; init; }
}

/// <summary>How much memory the guest has, in bytes.</summary>
[QapiStruct]
public sealed partial record MemoryInfo
{
    /// <summary>What it started with.</summary>
    public required ulong BaseMemory { get; init; }

    /// <summary>What was plugged in later; absent when the machine cannot have any.</summary>
    public ulong? PluggedMemory { get; init; }
}

/// <summary>What the machine is called and how large it is; filled in by the composition root. Home: main loop.</summary>
public sealed class MachineSummary
{
    /// <summary>-name; null for none.</summary>
    public string? Name { get; set; }

    /// <summary>-uuid in lower case; all zero by default.</summary>
    public string Uuid { get; set; } = "00000000-0000-0000-0000-000000000000";

    /// <summary>RAM of the machine in bytes.</summary>
    public ulong BaseMemory { get; set; }

    /// <summary>Firmware and kernel images.</summary>
    public RomList Roms { get; } = new();

    /// <summary>NUMA nodes of the guest, each with its CPUs and bytes of RAM; none by default.</summary>
    public List<(IReadOnlyList<int> Cpus, ulong Size)> NumaNodes { get; } = [];
}
