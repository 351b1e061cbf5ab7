using Vmm.Devices.Rtc;
using Vmm.ObjectModel.Objects;

namespace Vmm.Machines;

/// <summary>How many vCPUs and how they are arranged; computed and checked by the command line.</summary>
/// <param name="Cpus">vCPUs present at start.</param>
/// <param name="MaxCpus">vCPUs that may ever be present.</param>
/// <param name="Sockets">Sockets.</param>
/// <param name="Dies">Dies in a socket.</param>
/// <param name="Cores">Cores in a die.</param>
/// <param name="Threads">Threads in a core.</param>
public sealed record SmpTopology(int Cpus, int MaxCpus, int Sockets, int Dies, int Cores, int Threads);

/// <summary>What the command line asked of the machine besides its own properties.</summary>
public sealed record MachineParameters
{
    /// <summary>RAM at start, in bytes.</summary>
    public required ulong RamSize { get; init; }

    /// <summary>RAM that may ever be plugged, in bytes.</summary>
    public ulong MaxRamSize { get; init; }

    /// <summary>Slots for memory devices.</summary>
    public ulong RamSlots { get; init; }

    /// <summary>The memory back end of main memory; null for a machine without any.</summary>
    public MemoryBackend? RamBackend { get; init; }

    /// <summary>vCPU topology.</summary>
    public required SmpTopology Smp { get; init; }

    /// <summary>Makes the vCPUs' CPU objects; null for a machine without vCPUs.</summary>
    public CpuFactory? CreateCpu { get; init; }

    /// <summary>QOM type of the vCPUs; null for a machine without vCPUs.</summary>
    public string? CpuType { get; init; }

    /// <summary>File given by <c>-kernel</c>.</summary>
    public string? Kernel { get; init; }

    /// <summary>File (multiboot: list of modules) given by <c>-initrd</c>.</summary>
    public string? Initrd { get; init; }

    /// <summary>Text given by <c>-append</c>.</summary>
    public string Append { get; init; } = "";

    /// <summary>File given by <c>-bios</c>; null for the built-in boot ROM.</summary>
    public string? Bios { get; init; }

    /// <summary>Directories given by <c>-L</c>, in order of search.</summary>
    public IReadOnlyList<string> DataDirectories { get; init; } = [];

    /// <summary>False after <c>-nodefaults</c>.</summary>
    public bool DefaultDevices { get; init; } = true;

    /// <summary>The UUID given; all zero for none.</summary>
    public Guid Uuid { get; init; }

    /// <summary>What the real-time clock is set from, given by <c>-rtc</c>.</summary>
    public RtcTimeBase? RtcTimeBase { get; init; }

    /// <summary>Order of boot devices and menu settings, given by <c>-boot</c>.</summary>
    public BootParameters Boot { get; init; } = new();

    /// <summary>Ids of the character devices of the serial ports, by port; a null entry is a port without a back end, no entry no port.</summary>
    public IReadOnlyList<string?> SerialChardevs { get; init; } = [];
}

/// <summary>Settings of <c>-boot</c>.</summary>
/// <param name="Order">Boot order letters; null for the machine's own.</param>
/// <param name="Once">Order for the first boot only.</param>
/// <param name="Menu">Show the boot menu.</param>
/// <param name="Strict">Boot only from devices with a boot index.</param>
/// <param name="Splash">Picture for the firmware's boot menu; null for none.</param>
/// <param name="SplashTimeMs">How long the picture is shown, in ms; null for the firmware's choice.</param>
/// <param name="RebootTimeoutMs">Wait before rebooting when nothing boots, in ms; -1 for ever.</param>
public sealed record BootParameters(
    string? Order = null,
    string? Once = null,
    bool? Menu = null,
    bool? Strict = null,
    string? Splash = null,
    long? SplashTimeMs = null,
    long? RebootTimeoutMs = null);
