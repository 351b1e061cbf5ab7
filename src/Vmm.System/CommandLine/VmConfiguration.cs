using Vmm.Block.Options;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>
/// Everything a command line asks for, checked as far as text alone allows. Immutable by convention once the parser has returned it; the
/// option sets and dictionaries in it belong to whoever consumes them.
/// </summary>
public sealed record VmConfiguration
{
    /// <summary>Name of the program without directory, for messages and thread names.</summary>
    public required string ProgramName { get; init; }

    /// <summary>Machine type and its properties.</summary>
    public required MachineConfiguration Machine { get; init; }

    /// <summary>Accelerators in the order in which they are tried.</summary>
    public required AcceleratorConfiguration Accelerators { get; init; }

    /// <summary>CPU model with its features as given ("host,+avx,-aes"), or null for the machine's default.</summary>
    public string? Cpu { get; init; }

    /// <summary>-object in order.</summary>
    public required IReadOnlyList<ObjectOption> Objects { get; init; }

    /// <summary>Block nodes (-blockdev), in order.</summary>
    public required IReadOnlyList<BlockdevOption> Blockdevs { get; init; }

    /// <summary>-drive and what is short for it, in order.</summary>
    public required IReadOnlyList<DriveOption> Drives { get; init; }

    /// <summary>-device in order.</summary>
    public required IReadOnlyList<DeviceOption> Devices { get; init; }

    /// <summary>Character devices, monitors, serial ports and debug consoles, not yet completed by the defaults of the machine type.</summary>
    public required BackendOptions Backends { get; init; }

    /// <summary>-global in order, those implied by other options included.</summary>
    public required IReadOnlyList<GlobalProperty> Globals { get; init; }

    /// <summary>Real-time clock.</summary>
    public required RtcConfiguration Rtc { get; init; }

    /// <summary>-name.</summary>
    public required NameConfiguration Name { get; init; }

    /// <summary>-uuid, or null.</summary>
    public Guid? Uuid { get; init; }

    /// <summary>-L directories in order.</summary>
    public required IReadOnlyList<string> DataDirectories { get; init; }

    /// <summary>What happens when the guest reboots, shuts down, panics or hangs.</summary>
    public required ActionConfiguration Actions { get; init; }

    /// <summary>-S: do not start the CPUs.</summary>
    public bool StartStopped { get; init; }

    /// <summary>-preconfig: wait before the machine is initialised.</summary>
    public bool Preconfig { get; init; }

    /// <summary>False with -nodefaults: create nothing that was not asked for.</summary>
    public bool Defaults { get; init; } = true;

    /// <summary>-nographic.</summary>
    public bool Nographic { get; init; }

    /// <summary>-daemonize.</summary>
    public bool Daemonize { get; init; }

    /// <summary>-pidfile, or null.</summary>
    public string? PidFile { get; init; }

    /// <summary>-add-fd in order.</summary>
    public required IReadOnlyList<AddFdOption> AddFds { get; init; }

    /// <summary>-overcommit mem-lock=on: lock guest memory and the process in RAM.</summary>
    public bool LockMemory { get; init; }

    /// <summary>-mem-path: file or directory for main memory, or null.</summary>
    public string? MemoryPath { get; init; }

    /// <summary>-mem-prealloc: touch all pages of all memory back ends.</summary>
    public bool PreallocMemory { get; init; }

    /// <summary>-overcommit cpu-pm=on: let the guest manage the power states of host CPUs.</summary>
    public bool CpuPowerManagement { get; init; }

    /// <summary>-D, -d and -trace.</summary>
    public required LogConfiguration Log { get; init; }

    /// <summary>-msg.</summary>
    public required MessageConfiguration Messages { get; init; }

    /// <summary>-qtest and -qtest-log.</summary>
    public required QtestConfiguration Qtest { get; init; }
}

/// <summary>Machine type and properties. Values in the dictionaries are strings as typed.</summary>
public sealed record MachineConfiguration
{
    /// <summary>Name of the machine type, or null for the default one.</summary>
    public string? Type { get; init; }

    /// <summary>Properties that the machine type itself must know ("dump-guest-core", "acpi", "hpet", ...).</summary>
    public required QDict Properties { get; init; }

    /// <summary>-smp: parameters by name, or null.</summary>
    public QDict? Smp { get; init; }

    /// <summary>-m: parameters by name, or null.</summary>
    public QDict? Memory { get; init; }

    /// <summary>-boot: parameters by name, or null.</summary>
    public QDict? Boot { get; init; }

    /// <summary>Id of the memory backend for main memory, or null.</summary>
    public string? MemoryBackend { get; init; }

    /// <summary>-kernel path, or null.</summary>
    public string? Kernel { get; init; }

    /// <summary>-initrd path, or null.</summary>
    public string? Initrd { get; init; }

    /// <summary>-append, or null.</summary>
    public string? Append { get; init; }

    /// <summary>-bios file name, or null.</summary>
    public string? Firmware { get; init; }
}

/// <summary>-object.</summary>
/// <param name="Properties">qom-type, id and properties, checked by the schema: values have their JSON types.</param>
public sealed record ObjectOption(QDict Properties);

/// <summary>-device.</summary>
/// <param name="Properties">driver, id, bus and properties. From text: strings.</param>
/// <param name="IsJson">Whether the option was JSON, so that values have their JSON types.</param>
/// <param name="Location">Where it was given.</param>
public sealed record DeviceOption(QDict Properties, bool IsJson, string? Location);

/// <summary>A default for a property of all devices of a type.</summary>
/// <param name="Driver">Type name.</param>
/// <param name="Property">Property name.</param>
/// <param name="Value">Text of the value.</param>
/// <param name="UserProvided">Whether the user gave it as such, so that one that matches nothing deserves a warning.</param>
public sealed record GlobalProperty(string Driver, string Property, string Value, bool UserProvided = true);

/// <summary>-name.</summary>
/// <param name="Guest">Name of the guest, or null.</param>
/// <param name="Process">Name of the process, or null.</param>
/// <param name="DebugThreads">Whether threads are named.</param>
public sealed record NameConfiguration(string? Guest, string? Process, bool DebugThreads);

/// <summary>-add-fd: a duplicate of an inherited descriptor goes into an fd set.</summary>
/// <param name="Fd">Descriptor number, above 2.</param>
/// <param name="Set">Id of the set; negative when it was not given.</param>
/// <param name="Opaque">Free text, or null.</param>
/// <param name="Location">Where it was given.</param>
public sealed record AddFdOption(int Fd, long Set, string? Opaque, string? Location)
{
    /// <summary>The rest of the checks, once it is known whether the descriptor was inherited (open and not close-on-exec).</summary>
    /// <exception cref="QapiException">The descriptor was not inherited, or no set was given.</exception>
    public void Check(bool inherited)
    {
        if (!inherited)
        {
            throw new QapiException("fd is not valid or already in use");
        }

        if (Set < 0)
        {
            throw new QapiException("set option is required and must be non-negative");
        }
    }
}

/// <summary>What happens when the guest reboots, shuts down, panics or its watchdog fires. Values are the names on the wire.</summary>
/// <param name="Reboot">"reset" or "shutdown".</param>
/// <param name="Shutdown">"poweroff" or "pause".</param>
/// <param name="Panic">"pause", "shutdown", "exit-failure" or "none".</param>
/// <param name="Watchdog">"reset", "shutdown", "poweroff", "pause", "debug", "none" or "inject-nmi".</param>
public sealed record ActionConfiguration(string Reboot, string Shutdown, string Panic, string Watchdog);

/// <summary>-msg.</summary>
/// <param name="Timestamp">Messages on standard error start with the time.</param>
/// <param name="GuestName">Messages on standard error start with the guest's name.</param>
public sealed record MessageConfiguration(bool Timestamp, bool GuestName);

/// <summary>-qtest.</summary>
/// <param name="Chardev">Character device in the legacy syntax of -serial, or null.</param>
/// <param name="LogPath">-qtest-log, or null.</param>
public sealed record QtestConfiguration(string? Chardev, string? LogPath);

/// <summary>A block node of the command line.</summary>
/// <param name="Options">The node.</param>
/// <param name="Location">Where it was given, for messages.</param>
public sealed record BlockdevOption(BlockdevOptions Options, string? Location);

/// <summary>-drive.</summary>
/// <param name="Options">The options as text, names with dots, the id among them.</param>
/// <param name="Location">Where it was given, for messages.</param>
public sealed record DriveOption(QDict Options, string? Location);
