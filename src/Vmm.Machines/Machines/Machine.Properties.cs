using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>How many CPUs a machine has and how they are arranged, as the property smp shows it.</summary>
[QapiStruct]
[QapiName("SMPConfiguration")]
public sealed partial record SmpConfigurationInfo
{
    /// <summary>CPUs at start.</summary>
    public long? Cpus { get; init; }

    /// <summary>Sockets.</summary>
    public long? Sockets { get; init; }

    /// <summary>Dies in a socket.</summary>
    public long? Dies { get; init; }

    /// <summary>Clusters in a die.</summary>
    public long? Clusters { get; init; }

    /// <summary>Cores in a cluster.</summary>
    public long? Cores { get; init; }

    /// <summary>Threads in a core.</summary>
    public long? Threads { get; init; }

    /// <summary>CPUs that may ever be present.</summary>
    public long? Maxcpus { get; init; }
}

/// <summary>The memory of a machine, as the property memory shows it.</summary>
[QapiStruct]
public sealed partial record MemorySizeConfiguration
{
    /// <summary>Bytes at start.</summary>
    public ulong? Size { get; init; }

    /// <summary>Bytes at start and pluggable.</summary>
    public ulong? MaxSize { get; init; }

    /// <summary>Slots for pluggable memory.</summary>
    public ulong? Slots { get; init; }
}

/// <summary>What a machine boots from, as the property boot shows it.</summary>
[QapiStruct]
[QapiName("BootConfiguration")]
public sealed partial record BootConfigurationInfo
{
    /// <summary>Boot devices.</summary>
    public string? Order { get; init; }

    /// <summary>Boot devices of the first boot.</summary>
    public string? Once { get; init; }

    /// <summary>Show the boot menu.</summary>
    public bool? Menu { get; init; }

    /// <summary>Picture of the boot menu.</summary>
    public string? Splash { get; init; }

    /// <summary>How long the picture is shown, in ms.</summary>
    public long? SplashTime { get; init; }

    /// <summary>Wait before rebooting when nothing boots, in ms.</summary>
    public long? RebootTimeout { get; init; }

    /// <summary>Boot only from devices with a boot index.</summary>
    public bool? Strict { get; init; }
}

/// <summary>The properties that all machine types have. Those that the command line sets are shown and not changed.</summary>
public abstract partial class Machine
{
    /// <summary>Allow adding guest RAM to core dumps of the process.</summary>
    [QomProperty("dump-guest-core", Description = "Include guest memory in a core dump", ObjectOnly = true)]
    public bool DumpGuestCore { get; set; } = true;

    /// <summary>Let the kernel merge equal pages of guest RAM.</summary>
    [QomProperty("mem-merge", Description = "Enable/disable memory merge support", ObjectOnly = true)]
    public bool MemoryMerge { get; set; } = true;

    /// <summary>Enable/disable USB; machines without USB controllers accept only off.</summary>
    [QomProperty("usb", Description = "Set on/off to enable/disable usb", ObjectOnly = true)]
    public bool Usb
    {
        get => false;
        set
        {
            if (value)
            {
                throw new QapiException($"machine '{Type.Name[..^"-machine".Length]}' has no USB controller");
            }
        }
    }

    /// <summary>Text that a kernel gets.</summary>
    [QomProperty("append", Type = "string", Description = "Linux kernel command line", ObjectOnly = true)]
    public string Append => Parameters.Append;

    /// <summary>Kernel file.</summary>
    [QomProperty("kernel", Type = "string", Description = "Linux kernel image file", ObjectOnly = true)]
    public string? Kernel => Parameters.Kernel;

    /// <summary>Initial RAM disk, or modules.</summary>
    [QomProperty("initrd", Type = "string", Description = "Linux initial ramdisk file", ObjectOnly = true)]
    public string? Initrd => Parameters.Initrd;

    /// <summary>Firmware file.</summary>
    [QomProperty("firmware", Type = "string", Description = "Firmware image", ObjectOnly = true)]
    public string? Firmware => Parameters.Bios;

    /// <summary>Whether there is to be a display.</summary>
    [QomProperty("graphics", Description = "Set on/off to enable/disable graphics emulation", ObjectOnly = true)]
    public bool Graphics { get; set; } = true;

    /// <summary>Path of the back end of main memory.</summary>
    [QomProperty(
        "memory-backend",
        Type = "link<memory-backend>",
        Description = "Set RAM backendValid value is ID of hostmem based backend",
        ObjectOnly = true)]
    public string? MemoryBackendPath => Parameters.RamBackend?.CanonicalPath;

    /// <summary>Sizes of memory.</summary>
    [QomProperty("memory", Type = "MemorySizeConfiguration", Description = "Memory size configuration", ObjectOnly = true)]
    public QDict MemorySizes => new MemorySizeConfiguration
    {
        Size = Parameters.RamSize,
        MaxSize = Parameters.RamSlots > 0 ? Parameters.MaxRamSize : null,
        Slots = Parameters.RamSlots > 0 ? Parameters.RamSlots : null,
    }.QapiToValue();

    /// <summary>CPUs.</summary>
    [QomProperty("smp", Type = "SMPConfiguration", Description = "CPU topology", ObjectOnly = true)]
    public QDict Smp => new SmpConfigurationInfo
    {
        Cpus = Parameters.Smp.Cpus,
        Sockets = Parameters.Smp.Sockets,
        Dies = Parameters.Smp.Dies,
        Clusters = 1,
        Cores = Parameters.Smp.Cores,
        Threads = Parameters.Smp.Threads,
        Maxcpus = Parameters.Smp.MaxCpus,
    }.QapiToValue();

    /// <summary>Boot devices and menu.</summary>
    [QomProperty("boot", Type = "BootConfiguration", Description = "Boot configuration", ObjectOnly = true)]
    public QDict Boot => new BootConfigurationInfo
    {
        Order = Parameters.Boot.Order ?? MachineType.DefaultBootOrder,
        Once = Parameters.Boot.Once,
        Menu = Parameters.Boot.Menu,
        Splash = Parameters.Boot.Splash,
        SplashTime = Parameters.Boot.SplashTimeMs,
        RebootTimeout = Parameters.Boot.RebootTimeoutMs,
        Strict = Parameters.Boot.Strict,
    }.QapiToValue();
}
