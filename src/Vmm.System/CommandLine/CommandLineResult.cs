namespace Vmm.System.CommandLine;

/// <summary>Outcome of reading a command line: a configuration, a request for help, or an error.</summary>
/// <param name="Configuration">What to run, or null.</param>
/// <param name="Help">What to print instead, or null.</param>
/// <param name="Diagnostics">Messages for standard error in order; when the other two are null the last one is the error.</param>
public sealed record CommandLineResult(VmConfiguration? Configuration, HelpRequest? Help, IReadOnlyList<Diagnostic> Diagnostics)
{
    /// <summary>Exit status when there is no configuration.</summary>
    public int ExitStatus => Help?.ExitStatus ?? 1;
}

/// <summary>What reading a command line needs from outside.</summary>
public sealed record CommandLineEnvironment
{
    /// <summary>Name of the program as started; messages show what follows its last slash.</summary>
    public string ProgramPath { get; init; } = "vmm-system-x86_64";

    /// <summary>
    /// Reads a text file: its content, or null and the reason ("No such file or directory").
    /// </summary>
    public required ReadTextFile ReadFile { get; init; }

    /// <summary>Whether -object takes a type; null when that is not to be checked.</summary>
    public Func<string, bool>? IsObjectType { get; init; }

    /// <summary>Takes messages that arise after parsing, when back ends are resolved.</summary>
    public Action<Diagnostic> Report { get; init; } = static _ => { };
}

/// <summary>Reads a text file: its content, or null and the reason.</summary>
public delegate string? ReadTextFile(string path, out string reason);
