using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>A machine type as query-machines lists it.</summary>
[QapiStruct]
public sealed partial record MachineInfo
{
    /// <summary>Wire name.</summary>
    public required string Name { get; init; }

    /// <summary>Second name.</summary>
    public string? Alias { get; init; }

    /// <summary>True for the type used when none is given.</summary>
    public bool? IsDefault { get; init; }

    /// <summary>Most vCPUs.</summary>
    public required long CpuMax { get; init; }

    /// <summary>vCPUs can be added at run time.</summary>
    public required bool HotpluggableCpus { get; init; }

    /// <summary>NUMA nodes can be given RAM by size.</summary>
    public required bool NumaMemSupported { get; init; }

    /// <summary>The type will go away.</summary>
    public required bool Deprecated { get; init; }

    /// <summary>QOM type of vCPUs by default.</summary>
    public string? DefaultCpuType { get; init; }

    /// <summary>Id of the memory back end by default.</summary>
    public string? DefaultRamId { get; init; }
}

/// <summary>Commands about machine types.</summary>
public sealed class MachineListCommands
{
    /// <summary>Lists the machine types.</summary>
    [QmpCommand("query-machines", Since = "1.2")]
    public static List<MachineInfo> QueryMachines()
    {
        List<MachineInfo> all = [];
        foreach (MachineType type in MachineType.All)
        {
            all.Add(new MachineInfo
            {
                Name = type.Name,
                Alias = type.Alias,
                IsDefault = type.IsDefault ? true : null,
                CpuMax = type.MaxCpus,
                HotpluggableCpus = type.HotpluggableCpus,
                NumaMemSupported = false,
                Deprecated = false,
                DefaultCpuType = type.DefaultCpuType,
                DefaultRamId = type.DefaultRamId,
            });
        }

        return all;
    }
}
