using System.Globalization;
using System.Runtime.InteropServices;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>HMP about the monitor itself, and HMP over QMP.</summary>
public sealed class MonitorHmpCommands(MonitorCore core)
{
    /// <summary>Runs an HMP command line and returns what it prints.</summary>
    [QmpCommand("human-monitor-command", ArgsType = "command-line:s,cpu-index:i?", Since = "0.14")]
    public async ValueTask<string> HumanMonitorCommand(string commandLine, int? cpuIndex)
    {
        if (cpuIndex is { } index && !core.CpuExists(index))
        {
            throw QapiException.InvalidParameterValue("cpu-index", "a CPU number");
        }

        var context = new CapturedHmpContext(new LineSession { CpuIndex = cpuIndex ?? -1 });
        await core.Dispatcher.Execute(context, commandLine).ConfigureAwait(true);
        return context.ToString();
    }

    /// <summary>Shows the commands.</summary>
    [HmpCommand("help|?", ArgsType = "name:S?", Params = "[cmd]", Help = "show the help", AllowPreconfig = true)]
    public void Help(HmpContext context, string? name) => core.Dispatcher.Help(context, name);

    /// <summary>Shows the sub-commands of info.</summary>
    [HmpCommand("info", ArgsType = "item:s?", Params = "[subcommand]", Help = "show various information about the system state",
        AllowPreconfig = true)]
    public void Info(HmpContext context, string? item) => core.Dispatcher.Help(context, "info");

    /// <summary>Shows the version.</summary>
    [HmpCommand("info version", Help = "show the version of QEMU", AllowPreconfig = true)]
    public void InfoVersion(HmpContext context) => context.PrintLine(core.Version.Number + core.Version.Package);

    /// <summary>Shows the lines entered in this terminal.</summary>
    [HmpCommand("info history", Help = "show the command line history", AllowPreconfig = true)]
    public static void InfoHistory(HmpContext context)
    {
        if (context.Session is not HmpSession terminal)
        {
            return;
        }

        int number = 0;
        foreach (string line in terminal.History)
        {
            context.PrintLine(string.Create(CultureInfo.InvariantCulture, $"{number++}: '{line}'"));
        }
    }

    /// <summary>The monitor of one command line: it has no descriptors and ends with the line.</summary>
    private sealed class LineSession : IMonitorSession
    {
        public string? Name => null;

        public bool IsHmp => true;

        public int CpuIndex { get; set; }

        public SafeHandle? TakeReceivedFd() => null;

        public void AddNamedFd(string name, SafeHandle fd) => fd.Dispose();

        public bool CloseNamedFd(string name) => false;

        public SafeHandle? TakeNamedFd(string name) => null;
    }
}
