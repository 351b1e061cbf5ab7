using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>
/// Reads a command line. A pure function of the arguments and of the files they name; it never throws. Options are read in order; what can be
/// checked only with all of them is checked at the end.
/// </summary>
public sealed partial class CommandLineParser : IOptionDiagnostics
{
    private readonly CommandLineEnvironment _environment;
    private readonly string _programName;
    private readonly List<Diagnostic> _diagnostics = [];
    private readonly OptionLists _lists = new();
    private readonly QDict _machine = [];
    private readonly List<ObjectOption> _objects = [];
    private readonly List<BlockdevOption> _blockdevs = [];
    private readonly List<DeviceOption> _jsonDevices = [];
    private readonly List<string> _directories = [];
    private readonly List<TraceSwitch> _traces = [];
    private readonly BackendOptions _backends;

    private string? _location;
    private HelpRequest? _help;
    private bool _timestamp;
    private bool _showGuestName;
    private bool _defaultMonitor = true;
    private bool _defaultSerial = true;
    private string? _cpu;
    private string? _vga;
    private Guid? _uuid;
    private string? _logFile;
    private string? _logItems;
    private string? _pidFile;
    private string? _qtest;
    private string? _qtestLog;
    private string? _memoryPath;
    private bool _preallocMemory;
    private bool _stopped;
    private bool _preconfig;
    private bool _nodefaults;
    private bool _nographic;
    private bool _snapshot;
    private bool _daemonize;
    private bool _listDirectories;
    private bool _finished;

    private CommandLineParser(CommandLineEnvironment environment)
    {
        _environment = environment;
        _programName = environment.ProgramPath[(environment.ProgramPath.LastIndexOf('/') + 1)..];
        _backends = new BackendOptions(_lists.Get("chardev"), _lists.Get("mon"), Report);
    }

    /// <summary>Reads the arguments after the program's name.</summary>
    public static CommandLineResult Parse(ReadOnlySpan<string> arguments, CommandLineEnvironment environment)
    {
        var parser = new CommandLineParser(environment);
        VmConfiguration? configuration = null;
        try
        {
            if (parser.CheckNames(arguments))
            {
                parser.ReadOptions(arguments);
                if (parser._help == null)
                {
                    configuration = parser.Finish();
                }
            }
        }
        catch (QapiException exception)
        {
            parser.Error(exception);
        }

        return new CommandLineResult(parser._help == null ? configuration : null, parser._help, parser._diagnostics);
    }

    /// <inheritdoc/>
    void IOptionDiagnostics.Warning(string text, string? hint) => Add(DiagnosticKind.Warning, text, hint);

    private static bool TryFind(string argument, out OptionInfo info)
    {
        ReadOnlySpan<char> name = argument.AsSpan(1);
        return OptionTable.TryFind(name is ['-', ..] ? name[1..] : name, out info);
    }

    private void Add(DiagnosticKind kind, string text, string? hint = null) =>
        _diagnostics.Add(Stamp(new Diagnostic(kind, _location, text, hint)));

    private void Report(Diagnostic diagnostic)
    {
        if (_finished)
        {
            _environment.Report(Stamp(diagnostic));
        }
        else
        {
            _diagnostics.Add(Stamp(diagnostic));
        }
    }

    private void Error(QapiException exception) => Add(DiagnosticKind.Error, exception.Desc, exception.Hint);

    private Diagnostic Stamp(Diagnostic diagnostic) => diagnostic with
    {
        Timestamped = _timestamp,
        GuestName = _showGuestName ? _lists.Peek("name")?.Find(null)?.Get("guest") : null,
    };

    // Unknown options and missing arguments are found before any option takes effect.
    private bool CheckNames(ReadOnlySpan<string> arguments)
    {
        for (int i = 0; i < arguments.Length; i++)
        {
            string argument = arguments[i];
            if (argument is not ['-', ..])
            {
                continue;
            }

            _location = argument;
            if (!TryFind(argument, out OptionInfo info))
            {
                Add(DiagnosticKind.Error, "invalid option");
                return false;
            }

            if (info.HasArgument && ++i >= arguments.Length)
            {
                Add(DiagnosticKind.Error, "requires an argument");
                return false;
            }
        }

        _location = null;
        return true;
    }

    private void ReadOptions(ReadOnlySpan<string> arguments)
    {
        for (int i = 0; i < arguments.Length && _help == null; i++)
        {
            string argument = arguments[i];
            _location = argument;
            if (argument is not ['-', ..])
            {
                // A file alone is the first disk.
                AddDrive(null, 0, argument, "media=disk");
                continue;
            }

            TryFind(argument, out OptionInfo info);
            string value = "";
            if (info.HasArgument)
            {
                value = arguments[++i];
                _location = $"{argument} {value}";
            }

            ReadOption(info.Id, value);
        }

        _location = null;
    }

    private void ReadOption(OptionId id, string value)
    {
        switch (id)
        {
            case OptionId.Unserved:
                throw new QapiException("Option not supported by this build");
            case OptionId.OtherTarget:
                throw new QapiException("Option not supported for this target");
            case OptionId.Accel:
                ReadAccel(value);
                break;
            case OptionId.Action:
                ReadOpts("action", value);
                break;
            case OptionId.AddFd:
                ReadOpts("add-fd", value);
                break;
            case OptionId.Global:
                ReadGlobal(value);
                break;
            case OptionId.Overcommit:
                ReadOpts("overcommit", value);
                break;
            case OptionId.Rtc:
                ReadOpts("rtc", value);
                break;
            case OptionId.Append:
                _machine["append"] = value;
                break;
            case OptionId.Bios:
                _machine["firmware"] = value;
                break;
            case OptionId.Boot:
                MergeMachineProperty("boot-opts", "boot", value);
                break;
            case OptionId.Chardev:
                ReadOpts("chardev", value);
                break;
            case OptionId.Cpu:
                _cpu = value;
                break;
            case OptionId.D:
                _logItems = value;
                break;
            case OptionId.Daemonize:
                _daemonize = true;
                break;
            case OptionId.Debugcon:
                _backends.DebugConsoles.Add(new LegacyBackendText(value, _location));
                break;
            case OptionId.Device:
                ReadDevice(value);
                break;
            case OptionId.Display:
                ReadDisplay(value);
                break;
            case OptionId.EnableKvm:
                _machine["accel"] = "kvm";
                break;
            case OptionId.Help:
                _help = new HelpRequest(HelpTopic.Text, UsageText.Usage(_programName), 0, _location);
                break;
            case OptionId.Initrd:
                _machine["initrd"] = value;
                break;
            case OptionId.Kernel:
                _machine["kernel"] = value;
                break;
            case OptionId.LogFile:
                _logFile = value;
                break;
            case OptionId.DataDirectory:
                _listDirectories |= OptionErrors.IsHelp(value);
                _directories.Add(value);
                break;
            case OptionId.Machine:
                ReadMachine(value);
                break;
            case OptionId.Memory:
                ReadOpts("memory", value);
                break;
            case OptionId.MemoryPath:
                _memoryPath = value;
                break;
            case OptionId.MemoryPrealloc:
                _preallocMemory = true;
                break;
            case OptionId.Mon:
                ReadOpts("mon", value);
                _defaultMonitor = false;
                break;
            case OptionId.Monitor:
                _defaultMonitor = false;
                if (!value.StartsWith("none", StringComparison.Ordinal))
                {
                    _backends.AddMonitor(value, control: false, pretty: false, _location);
                }

                break;
            case OptionId.Msg:
                ReadMessageOptions(value);
                break;
            case OptionId.Name:
                ReadOpts("name", value);
                break;
            case OptionId.Net:
            case OptionId.Nic:
                ReadNet(value);
                break;
            case OptionId.NoAcpi:
                _machine["acpi"] = "off";
                break;
            case OptionId.NoDefaults:
                _nodefaults = true;
                break;
            case OptionId.NoHpet:
                _machine["hpet"] = "off";
                break;
            case OptionId.NoReboot:
                ReadOpts("action", "reboot=shutdown");
                break;
            case OptionId.NoShutdown:
                ReadOpts("action", "shutdown=pause");
                break;
            case OptionId.NoUserConfig:
                // There is no file that is read without being asked for.
                break;
            case OptionId.Nographic:
                _nographic = true;
                break;
            case OptionId.Blockdev:
                ReadBlockdev(value);
                break;
            case OptionId.Cdrom:
                AddDrive(null, 2, value, "media=cdrom");
                break;
            case OptionId.Drive:
                AddDrive(value);
                break;
            case OptionId.FloppyA:
            case OptionId.FloppyB:
                AddDrive("floppy", id - OptionId.FloppyA, value, "");
                break;
            case OptionId.HardDiskA:
            case OptionId.HardDiskB:
            case OptionId.HardDiskC:
            case OptionId.HardDiskD:
                AddDrive(null, id - OptionId.HardDiskA, value, "media=disk");
                break;
            case OptionId.MtdBlock:
                AddDrive("mtd", -1, value, "");
                break;
            case OptionId.Pflash:
                AddDrive("pflash", -1, value, "");
                break;
            case OptionId.Sd:
                AddDrive("sd", -1, value, "");
                break;
            case OptionId.Snapshot:
                _snapshot = true;
                break;
            case OptionId.Object:
                ReadObject(value);
                break;
            case OptionId.Parallel:
                ReadParallel(value);
                break;
            case OptionId.PidFile:
                _pidFile = value;
                break;
            case OptionId.Preconfig:
                _preconfig = true;
                break;
            case OptionId.Qmp:
            case OptionId.QmpPretty:
                _defaultMonitor = false;
                _backends.AddMonitor(value, control: true, pretty: id == OptionId.QmpPretty, _location);
                break;
            case OptionId.Qtest:
                _qtest = value;
                break;
            case OptionId.QtestLog:
                _qtestLog = value;
                break;
            case OptionId.ReadConfig:
                ReadConfigFile(value);
                break;
            case OptionId.Serial:
                _backends.Serials.Add(new LegacyBackendText(value, _location));
                _defaultSerial = false;
                _defaultMonitor &= !value.StartsWith("mon:", StringComparison.Ordinal);
                break;
            case OptionId.Set:
                SetOption(value);
                break;
            case OptionId.Smp:
                MergeMachineProperty("smp-opts", "smp", value);
                break;
            case OptionId.Stopped:
                _stopped = true;
                break;
            case OptionId.Trace:
                ReadTrace(value);
                break;
            case OptionId.Uuid:
                _uuid = ParseUuid(value);
                break;
            case OptionId.Version:
                _help = new HelpRequest(HelpTopic.Text, UsageText.Version, 0, _location);
                break;
            case OptionId.Vga:
                _vga = value;
                break;
            case OptionId.WatchdogAction:
                ReadOpts("action", "watchdog=" + value.Replace(",", ",,"));
                break;
        }
    }

    private QemuOpts? ReadOpts(string group, string value)
    {
        OptsList list = _lists.Get(group);
        QemuOpts? opts = OptsParser.Parse(list, value, true, _location, this);
        if (opts == null)
        {
            _help = new HelpRequest(HelpTopic.Text, list.Group.FormatHelp(), 1, _location);
        }

        return opts;
    }
}
