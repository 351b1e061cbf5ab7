using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Kvm.Qmp;

/// <summary>Whether KVM is used and could be.</summary>
[QapiStruct]
public sealed partial record KvmInfo
{
    /// <summary>The machine runs on KVM.</summary>
    public required bool Enabled { get; init; }

    /// <summary>The program is able to use KVM.</summary>
    public required bool Present { get; init; }
}

/// <summary>Where a CPU sits.</summary>
[QapiStruct]
public sealed partial record CpuInstanceProperties
{
    /// <summary>NUMA node.</summary>
    public long? NodeId { get; init; }

    /// <summary>Socket in the machine.</summary>
    public long? SocketId { get; init; }

    /// <summary>Die in the socket.</summary>
    public long? DieId { get; init; }

    /// <summary>Cluster in the die; not on this target.</summary>
    public long? ClusterId { get; init; }

    /// <summary>Core in the die.</summary>
    public long? CoreId { get; init; }

    /// <summary>Thread in the core.</summary>
    public long? ThreadId { get; init; }
}

/// <summary>A vCPU, without disturbing it. No target adds members of its own that could run here.</summary>
[QapiUnion(Discriminator = "target")]
public sealed partial record CpuInfoFast
{
    /// <summary>0-based index.</summary>
    public required long CpuIndex { get; init; }

    /// <summary>Path in the object tree.</summary>
    public required string QomPath { get; init; }

    /// <summary>Host thread.</summary>
    public required long ThreadId { get; init; }

    /// <summary>Where it sits.</summary>
    public CpuInstanceProperties? Props { get; init; }

    /// <summary>Target.</summary>
    public required SysEmuTarget Target { get; init; }
}

/// <summary>Architectures of query-cpus.</summary>
[QapiEnum]
public enum CpuInfoArch
{
    /// <summary>x86.</summary>
    [QapiName("x86")] X86,
}

/// <summary>A vCPU as query-cpus tells it; that stops each vCPU for a moment.</summary>
[QapiStruct]
public sealed partial record CpuInfo
{
    /// <summary>0-based index.</summary>
    [QapiName("CPU")]
    public required long Cpu { get; init; }

    /// <summary>The vCPU that commands without an index mean.</summary>
    public required bool Current { get; init; }

    /// <summary>Waits in HLT.</summary>
    public required bool Halted { get; init; }

    /// <summary>Path in the object tree.</summary>
    [QapiName("qom_path")]
    public required string QomPath { get; init; }

    /// <summary>Host thread.</summary>
    [QapiName("thread_id")]
    public required long ThreadId { get; init; }

    /// <summary>Architecture.</summary>
    public required CpuInfoArch Arch { get; init; }

    /// <summary>Instruction pointer with the code segment's base added.</summary>
    public required long Pc { get; init; }
}

/// <summary>A slot for CPUs.</summary>
[QapiStruct]
public sealed partial record HotpluggableCpu
{
    /// <summary>Type of device to plug in.</summary>
    public required string Type { get; init; }

    /// <summary>vCPUs that it adds.</summary>
    public required long VcpusCount { get; init; }

    /// <summary>Properties that choose the slot.</summary>
    public required CpuInstanceProperties Props { get; init; }

    /// <summary>Path of the CPU that is plugged in.</summary>
    public string? QomPath { get; init; }
}

/// <summary>A CPU model.</summary>
[QapiStruct]
public sealed partial record CpuDefinitionInfo
{
    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>Means the same on all hosts that can run it.</summary>
    public bool? MigrationSafe { get; init; }

    /// <summary>Never changes, in any version of any machine.</summary>
    public required bool Static { get; init; }

    /// <summary>What keeps the host from running it; empty when nothing does.</summary>
    public List<string>? UnavailableFeatures { get; init; }

    /// <summary>QOM type.</summary>
    public required string Typename { get; init; }

    /// <summary>Versioned model that the name stands for.</summary>
    public string? AliasOf { get; init; }

    /// <summary>To be removed.</summary>
    public required bool Deprecated { get; init; }
}

/// <summary>Kinds of expansion.</summary>
[QapiEnum]
public enum CpuModelExpansionType
{
    /// <summary>A static model and the difference to it.</summary>
    Static,

    /// <summary>All properties.</summary>
    Full,
}

/// <summary>A CPU model with changed properties.</summary>
[QapiStruct]
public sealed partial record CpuModelInfo
{
    /// <summary>Name of the model.</summary>
    public required string Name { get; init; }

    /// <summary>Properties by name.</summary>
    public QValue? Props { get; init; }
}

/// <summary>Result of query-cpu-model-expansion.</summary>
[QapiStruct]
public sealed partial record CpuModelExpansionInfo
{
    /// <summary>The expanded model.</summary>
    public required CpuModelInfo Model { get; init; }
}
