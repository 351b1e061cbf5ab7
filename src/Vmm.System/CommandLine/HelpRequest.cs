namespace Vmm.System.CommandLine;

/// <summary>What a command line asks to be told about instead of starting a machine.</summary>
public enum HelpTopic
{
    /// <summary>Text that the parser has made already.</summary>
    Text,

    /// <summary>The machine types.</summary>
    Machines,

    /// <summary>The properties of a machine type; the subject is its name, null for the default type.</summary>
    MachineProperties,

    /// <summary>The CPU models.</summary>
    Cpus,

    /// <summary>The accelerators.</summary>
    Accelerators,

    /// <summary>The device models that -device takes.</summary>
    Devices,

    /// <summary>The properties of a device model; the subject is its name.</summary>
    DeviceProperties,

    /// <summary>The character device back ends.</summary>
    Chardevs,

    /// <summary>The types that -object takes.</summary>
    Objects,

    /// <summary>The properties of an object type; the subject is its name.</summary>
    ObjectProperties,

    /// <summary>The names of all trace events.</summary>
    TraceEvents,

    /// <summary>The directories that firmware files are searched in.</summary>
    DataDirectories,
}

/// <summary>A request for help: print it to standard output and exit.</summary>
/// <param name="Topic">What about.</param>
/// <param name="Subject">The name, or the text itself for <see cref="HelpTopic.Text"/>.</param>
/// <param name="ExitStatus">Exit status of the process; some help requests of old count as failure.</param>
/// <param name="Location">The option that asked.</param>
public sealed record HelpRequest(HelpTopic Topic, string? Subject, int ExitStatus, string? Location);
