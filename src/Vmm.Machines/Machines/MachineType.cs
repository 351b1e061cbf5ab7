namespace Vmm.Machines;

/// <summary>What is known of a machine type without building it: the source of query-machines and of <c>-machine help</c>.</summary>
public sealed class MachineType
{
    private static readonly MachineType[] s_all =
    [
        new()
        {
            Name = "microvm",
            Description = "microvm (i386)",
            MaxCpus = 288,
            DefaultCpuType = "qemu64-x86_64-cpu",
            DefaultRamId = "microvm.ram",
            UnitsPerDefaultBus = 1,
            Create = static () => new MicrovmMachine(),
        },
        new()
        {
            Name = "pc-i440fx-7.2",
            Alias = "pc",
            Description = "Standard PC (i440FX + PIIX, 1996)",
            IsDefault = true,
            MaxCpus = 255,
            HotpluggableCpus = true,
            DefaultBootOrder = "cad",
            HasPci = true,
            DriveInterface = "ide",
            HasDeviceMemory = true,
            HasDies = true,
            HasBootOrder = true,
            DefaultCpuType = "qemu64-x86_64-cpu",
            DefaultRamId = "pc.ram",
            Create = static () => new PcMachine(),
        },
        new()
        {
            Name = "none",
            Description = "empty machine",
            MaxCpus = 1,
            DefaultRamSize = 0,
            DefaultRamId = "ram",
            HasFirmware = false,
            HasSerial = false,
            Create = static () => new NoneMachine(),
        },
    ];

    /// <summary>All types, in the order in which they are listed.</summary>
    public static IReadOnlyList<MachineType> All => s_all;

    /// <summary>Wire name.</summary>
    public required string Name { get; init; }

    /// <summary>Second name; null for none.</summary>
    public string? Alias { get; init; }

    /// <summary>One line for <c>-machine help</c>.</summary>
    public required string Description { get; init; }

    /// <summary>The type used when none is given.</summary>
    public bool IsDefault { get; init; }

    /// <summary>Most vCPUs that <c>-smp</c> accepts.</summary>
    public required int MaxCpus { get; init; }

    /// <summary>vCPUs can be added at run time.</summary>
    public bool HotpluggableCpus { get; init; }

    /// <summary>QOM type of vCPUs when <c>-cpu</c> is not given; null for a machine without any.</summary>
    public string? DefaultCpuType { get; init; }

    /// <summary>RAM in bytes when <c>-m</c> is not given.</summary>
    public ulong DefaultRamSize { get; init; } = 128UL << 20;

    /// <summary>Boot devices when <c>-boot</c> names none.</summary>
    public string DefaultBootOrder { get; init; } = "";

    /// <summary>Devices can be put on a PCI bus.</summary>
    public bool HasPci { get; init; }

    /// <summary>What a <c>-drive</c> that does not say it is connected to.</summary>
    public string DriveInterface { get; init; } = "none";

    /// <summary>How many drives are on a bus of that kind; null for the usual number.</summary>
    public int? UnitsPerDefaultBus { get; init; }

    /// <summary>Whether <c>slots</c> and <c>maxmem</c> give the guest a window for pluggable memory, and with it a NUMA node.</summary>
    public bool HasDeviceMemory { get; init; }

    /// <summary>Sockets consist of dies.</summary>
    public bool HasDies { get; init; }

    /// <summary>There is firmware that starts before the guest and is told how, through fw_cfg.</summary>
    public bool HasFirmware { get; init; } = true;

    /// <summary>The firmware is told another boot order for the first boot than for those after it.</summary>
    public bool HasBootOrder { get; init; }

    /// <summary>Id of the memory back end made when <c>memory-backend=</c> is not given.</summary>
    public required string DefaultRamId { get; init; }

    /// <summary>The machine has serial ports, so that one gets a back end by default.</summary>
    public bool HasSerial { get; init; } = true;

    /// <summary>Makes an unbuilt machine.</summary>
    public required Func<Machine> Create { get; init; }

    /// <summary>QOM type name.</summary>
    public string QomTypeName => Name + "-machine";

    /// <summary>The default type.</summary>
    public static MachineType Default => Array.Find(s_all, static t => t.IsDefault)!;

    /// <summary>Type by name or alias; null for none.</summary>
    public static MachineType? Find(string name)
    {
        foreach (MachineType type in s_all)
        {
            if (type.Name == name || type.Alias == name)
            {
                return type;
            }
        }

        return null;
    }
}
