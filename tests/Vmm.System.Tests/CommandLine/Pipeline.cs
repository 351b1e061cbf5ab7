using System.Text;
using Vmm.Machines;
using Vmm.Qapi;
using Vmm.Qapi.Options;
using Vmm.System.CommandLine;

namespace Vmm.System.Tests.CommandLine;

/// <summary>Takes a command line as far as the program itself does before it creates anything, in the same order.</summary>
internal sealed class Pipeline : IOptionDiagnostics
{
    private readonly StringBuilder _errors = new();
    private readonly string _directory;
    private string _program = "PROGRAM";

    private Pipeline(string directory) => _directory = directory;

    /// <summary>The text on standard error and the exit status; null when nothing was wrong.</summary>
    public static (string Errors, int? Status) Run(string[] arguments, string directory)
    {
        var pipeline = new Pipeline(directory);
        int? status = pipeline.Run(arguments);
        return (pipeline._errors.ToString(), status);
    }

    /// <inheritdoc/>
    public void Warning(string text, string? hint = null) => Report(new Diagnostic(DiagnosticKind.Warning, null, text, hint));

    /// <summary>A command line split as a shell does: blanks separate, single quotes keep.</summary>
    public static string[] Split(string line)
    {
        var arguments = new List<string>();
        var current = new StringBuilder();
        bool quoted = false;
        bool any = false;
        foreach (char c in line)
        {
            if (c == '\'')
            {
                quoted = !quoted;
                any = true;
            }
            else if (c == ' ' && !quoted)
            {
                if (any)
                {
                    arguments.Add(current.ToString());
                    current.Clear();
                    any = false;
                }
            }
            else
            {
                current.Append(c);
                any = true;
            }
        }

        if (any)
        {
            arguments.Add(current.ToString());
        }

        return [.. arguments];
    }

    public static CommandLineEnvironment Environment(string directory, Action<Diagnostic>? report = null) => new()
    {
        ProgramPath = "/usr/bin/PROGRAM",
        ReadFile = (path, out reason) =>
        {
            string full = Path.Combine(directory, path);
            reason = "No such file or directory";
            return File.Exists(full) ? File.ReadAllText(full) : null;
        },
        IsObjectType = type => type is "iothread" or "memory-backend-ram",
        Report = report ?? (static _ => { }),
    };

    private void Report(Diagnostic diagnostic) => _errors.Append(diagnostic.Format(_program));

    private int? Run(string[] arguments)
    {
        CommandLineResult result = CommandLineParser.Parse(arguments, Environment(_directory, Report));
        foreach (Diagnostic diagnostic in result.Diagnostics)
        {
            Report(diagnostic);
        }

        if (result.Configuration is not { } configuration)
        {
            return result.ExitStatus;
        }

        _program = configuration.ProgramName;
        try
        {
            return Configure(configuration);
        }
        catch (QapiException exception)
        {
            Report(new Diagnostic(DiagnosticKind.Error, null, exception.Desc, exception.Hint));
            return 1;
        }
    }

    private int? Configure(VmConfiguration configuration)
    {
        string? type = configuration.Machine.Type ?? "pc";
        SmpRules? rules = type switch
        {
            "pc" => new SmpRules("pc-i440fx-7.2", 255, HasDies: true, PreferSockets: false),
            "none" => new SmpRules("none", 1, 0),
            _ => null,
        };
        if (rules == null)
        {
            Report(new Diagnostic(
                DiagnosticKind.Error, null, "unsupported machine type", "Use -machine help to list supported machines"));
            return 1;
        }

        configuration.Backends.AddDefaults(type != "none", configuration.Nographic, configuration.Daemonize);
        BootConfiguration boot = BootConfiguration.Resolve(configuration.Machine.Boot);
        MemoryConfiguration.Resolve(configuration.Machine.Memory, 128 << 20, SilentOptionDiagnostics.Instance);
        SmpConfiguration.Resolve(configuration.Machine.Smp, rules, this);
        if (configuration.Accelerators.Choose(name => name is "kvm" or "tcg", static _ => true, Report) == null)
        {
            return 1;
        }

        boot.CheckMachine(MachineType.Find(type)!);
        bool valid = configuration.Backends.ResolveMonitors() != null
            && configuration.Backends.ResolveSerials() != null
            && configuration.Backends.ResolveDebugConsoles() != null;
        return valid ? null : 1;
    }
}
