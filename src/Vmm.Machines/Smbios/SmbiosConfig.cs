namespace Vmm.Machines.Smbios;

/// <summary>What of a machine the SMBIOS structures describe.</summary>
public sealed record SmbiosConfig
{
    /// <summary>What the machine is, in a line.</summary>
    public required string Product { get; init; }

    /// <summary>Name of the machine type.</summary>
    public required string Version { get; init; }

    /// <summary>All zero for none.</summary>
    public Guid Uuid { get; init; }

    /// <summary>EAX of CPUID leaf 1.</summary>
    public uint CpuSignature { get; init; }

    /// <summary>EDX of CPUID leaf 1.</summary>
    public uint CpuFeatures { get; init; }

    /// <summary>Number of sockets.</summary>
    public int Sockets { get; init; } = 1;

    /// <summary>Cores in each.</summary>
    public int CoresPerSocket { get; init; } = 1;

    /// <summary>Threads in each socket.</summary>
    public int ThreadsPerSocket { get; init; } = 1;

    /// <summary>Ranges of RAM, in bytes.</summary>
    public required IReadOnlyList<(ulong Start, ulong Length)> Ram { get; init; }
}
