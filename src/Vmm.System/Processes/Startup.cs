using System.Text;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Qapi;
using Vmm.System.CommandLine;
using Vmm.System.Logging;

namespace Vmm.System.Processes;

/// <summary>
/// The way from the arguments to a configuration: messages printed, help that needs no machine printed, and the program in the background where that was
/// asked for.
/// </summary>
public sealed class Startup
{
    private const int MaxConfigFileBytes = 16 << 20;

    private Startup(VmConfiguration? configuration, HelpRequest? help, ErrorReporter reporter, Daemon? daemon)
    {
        Configuration = configuration;
        Help = help;
        Reporter = reporter;
        Daemon = daemon;
    }

    /// <summary>What to run; null when help is asked for.</summary>
    public VmConfiguration? Configuration { get; }

    /// <summary>Help that the composition root has to print; null when there is something to run.</summary>
    public HelpRequest? Help { get; }

    /// <summary>Messages on standard error.</summary>
    public ErrorReporter Reporter { get; }

    /// <summary>The daemon that this process is, or null. To be detached when everything is set up.</summary>
    public Daemon? Daemon { get; }

    /// <summary>Reads the command line.</summary>
    /// <param name="arguments">Arguments after the program's name.</param>
    /// <param name="programPath">Name of the program as started.</param>
    /// <param name="clocks">Source of the time in messages.</param>
    /// <param name="isObjectType">Whether -object takes a type.</param>
    /// <param name="startup">The outcome; null when the process is to end.</param>
    /// <returns>Exit status when the process is to end.</returns>
    public static int Begin(
        ReadOnlySpan<string> arguments, string programPath, Clocks clocks, Func<string, bool> isObjectType, out Startup? startup)
    {
        Daemon? daemon = Daemon.Current();
        string name = programPath[(programPath.LastIndexOf('/') + 1)..];
        var reporter = new ErrorReporter(name, () => clocks.NowNs(ClockType.Host));
        var environment = new CommandLineEnvironment
        {
            ProgramPath = programPath,
            ReadFile = ReadTextFile,
            IsObjectType = isObjectType,
            Report = reporter.Write,
        };
        CommandLineResult result = CommandLineParser.Parse(arguments, environment);
        startup = null;
        bool launching = daemon == null && result.Configuration is { Daemonize: true };
        if (!launching)
        {
            // Otherwise the daemon says it.
            foreach (Diagnostic diagnostic in result.Diagnostics)
            {
                reporter.Write(diagnostic);
            }
        }

        if (result.Help is { Topic: HelpTopic.Text } help)
        {
            StdIo.Out.Write(help.Subject);
            return help.ExitStatus;
        }

        if (result.Configuration == null && result.Help == null)
        {
            return result.ExitStatus;
        }

        if (launching)
        {
            try
            {
                return Daemon.Launch();
            }
            catch (QapiException exception)
            {
                reporter.Error(exception.Desc);
                return 1;
            }
        }

        if (result.Configuration is { } configuration)
        {
            reporter.Configure(configuration);
        }

        startup = new Startup(result.Configuration, result.Help, reporter, daemon);
        return 0;
    }

    /// <summary>Reads a text file of the user: its content, or null and the reason in the words of the C library.</summary>
    public static string? ReadTextFile(string path, out string reason)
    {
        Errno errno = Libc.ReadFile(path, MaxConfigFileBytes, out byte[] content);
        reason = errno.Message();
        return errno == Errno.OK ? Encoding.UTF8.GetString(content) : null;
    }
}
