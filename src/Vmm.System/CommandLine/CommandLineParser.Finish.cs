using Vmm.ObjectModel.Logging;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

public sealed partial class CommandLineParser
{
    private static readonly string[] s_reboot = ["reset", "shutdown"];
    private static readonly string[] s_shutdown = ["poweroff", "pause"];
    private static readonly string[] s_panic = ["pause", "shutdown", "exit-failure", "none"];
    private static readonly string[] s_watchdog = ["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];

    private VmConfiguration? Finish()
    {
        if (!_machine.ContainsKey("kernel"))
        {
            if (_machine.ContainsKey("append"))
            {
                throw new QapiException("-append only allowed with -kernel option");
            }

            if (_machine.ContainsKey("initrd"))
            {
                throw new QapiException("-initrd only allowed with -kernel option");
            }
        }

        NameConfiguration name = ReadName();
        ActionConfiguration actions = ReadActions();
        List<AddFdOption> addFds = ReadAddFds();
        LogItems items = ReadLogItems();
        List<DeviceOption> devices = ReadDevices();
        if (_help != null || AsksForHelp(devices))
        {
            return null;
        }

        List<GlobalProperty> globals = ReadGlobals();
        RtcConfiguration rtc = RtcConfiguration.Parse(_lists.Peek("rtc")?.Find(null));
        if (rtc.SlewLostTicks)
        {
            globals.Add(new GlobalProperty("mc146818rtc", "lost_tick_policy", "slew", UserProvided: false));
        }

        MergeMemory();
        CheckVga(_vga);
        QDict accelProperties = [];
        MachineConfiguration machine = ReadMachineConfiguration(accelProperties, out string? accelerators);
        AcceleratorConfiguration accel = ReadAccelerators(accelerators, accelProperties);
        if (ChardevHelp())
        {
            return null;
        }

        _backends.DefaultMonitor = _defaultMonitor && !_nodefaults;
        _backends.DefaultSerial = _defaultSerial && !_nodefaults && !HasDriver(devices, globals, "isa-serial");
        QemuOpts? overcommit = _lists.Peek("overcommit")?.Find(null);
        var configuration = new VmConfiguration
        {
            ProgramName = _programName,
            Machine = machine,
            Accelerators = accel,
            Cpu = _cpu,
            Objects = _objects,
            Blockdevs = _blockdevs,
            Drives = ReadDrives(),
            Devices = devices,
            Backends = _backends,
            Globals = globals,
            Rtc = rtc,
            Name = name,
            Uuid = _uuid,
            DataDirectories = _directories,
            Actions = actions,
            StartStopped = _stopped,
            Preconfig = _preconfig,
            Defaults = !_nodefaults,
            Nographic = _nographic,
            Daemonize = _daemonize,
            PidFile = _pidFile,
            AddFds = addFds,
            LockMemory = overcommit?.GetBool("mem-lock", false) ?? false,
            MemoryPath = _memoryPath,
            PreallocMemory = _preallocMemory,
            CpuPowerManagement = overcommit?.GetBool("cpu-pm", false) ?? false,
            Log = new LogConfiguration(_logFile, items, _traces),
            Messages = new MessageConfiguration(_timestamp, _showGuestName),
            Qtest = new QtestConfiguration(_qtest, _qtestLog),
        };
        _finished = true;
        return configuration;
    }

    private static bool HasDriver(List<DeviceOption> devices, List<GlobalProperty> globals, string driver)
    {
        foreach (DeviceOption device in devices)
        {
            if (device.Properties.GetString("driver") == driver)
            {
                return true;
            }
        }

        foreach (GlobalProperty global in globals)
        {
            if (global.Driver == driver)
            {
                return true;
            }
        }

        return false;
    }

    private NameConfiguration ReadName()
    {
        QemuOpts? opts = _lists.Peek("name")?.Find(null);
        return opts == null
            ? new NameConfiguration(null, null, false)
            : new NameConfiguration(opts.Get("guest"), opts.Get("process"), opts.GetBool("debug-threads", false));
    }

    private ActionConfiguration ReadActions()
    {
        QemuOpts? opts = _lists.Peek("action")?.Find(null);
        if (opts == null)
        {
            return new ActionConfiguration("reset", "poweroff", "shutdown", "reset");
        }

        // The options are taken in the order given, and the first one with a value that does not exist is reported.
        _location = opts.Location;
        foreach (KeyValuePair<string, string> action in opts.Values)
        {
            string[] values = action.Key switch
            {
                "reboot" => s_reboot,
                "shutdown" => s_shutdown,
                "panic" => s_panic,
                _ => s_watchdog,
            };
            if (Array.IndexOf(values, action.Value) < 0)
            {
                throw QapiException.InvalidEnumValue(action.Key, action.Value);
            }
        }

        _location = null;
        return new ActionConfiguration(
            opts.Get("reboot") ?? "reset",
            opts.Get("shutdown") ?? "poweroff",
            opts.Get("panic") ?? "shutdown",
            opts.Get("watchdog") ?? "reset");
    }

    private List<AddFdOption> ReadAddFds()
    {
        var result = new List<AddFdOption>();
        foreach (QemuOpts opts in _lists.Peek("add-fd")?.Items ?? [])
        {
            _location = opts.Location;
            int fd = unchecked((int)opts.GetNumber("fd", ulong.MaxValue));
            long set = unchecked((int)opts.GetNumber("set", ulong.MaxValue));
            if (fd < 0)
            {
                throw new QapiException("fd option is required and must be non-negative");
            }

            if (fd <= 2)
            {
                throw new QapiException("fd cannot be a standard I/O stream");
            }

            result.Add(new AddFdOption(fd, set, opts.Get("opaque"), opts.Location));
        }

        _location = null;
        return result;
    }

    private LogItems ReadLogItems()
    {
        if (_logItems == null)
        {
            return LogItems.None;
        }

        if (!LogConfiguration.TryParseItems(_logItems, out LogItems items, _traces, out bool traceHelp))
        {
            _help = new HelpRequest(HelpTopic.Text, LogConfiguration.ItemsHelp("-d ", withNone: false), 1, null);
        }
        else if (traceHelp)
        {
            _help = new HelpRequest(HelpTopic.TraceEvents, null, 0, null);
        }

        return items;
    }

    private List<DriveOption> ReadDrives()
    {
        List<DriveOption> drives = [];
        foreach (QemuOpts opts in _lists.Peek("drive")?.Items ?? [])
        {
            QDict options = opts.ToDict();
            if (_snapshot)
            {
                options.TryAdd("snapshot", "on");
            }

            drives.Add(new DriveOption(options, opts.Location));
        }

        return drives;
    }

    private List<DeviceOption> ReadDevices()
    {
        var devices = new List<DeviceOption>();
        foreach (QemuOpts opts in _lists.Peek("device")?.Items ?? [])
        {
            devices.Add(new DeviceOption(opts.ToDict(), false, opts.Location));
        }

        devices.AddRange(_jsonDevices);
        return devices;
    }

    private bool AsksForHelp(List<DeviceOption> devices)
    {
        if (_cpu != null && OptionErrors.IsHelp(_cpu))
        {
            _help = new HelpRequest(HelpTopic.Cpus, null, 0, null);
            return true;
        }

        foreach (DeviceOption device in devices)
        {
            string? driver = device.Properties.GetString("driver");
            if (device.IsJson || driver == null)
            {
                continue;
            }

            if (OptionErrors.IsHelp(driver))
            {
                _help = new HelpRequest(HelpTopic.Devices, null, 0, device.Location);
                return true;
            }

            if (device.Properties.ContainsKey("help") || device.Properties.ContainsKey("?"))
            {
                _help = new HelpRequest(HelpTopic.DeviceProperties, driver, 0, device.Location);
                return true;
            }
        }

        if (_listDirectories)
        {
            _help = new HelpRequest(HelpTopic.DataDirectories, null, 0, null);
        }

        return _help != null;
    }

    private bool ChardevHelp()
    {
        foreach (QemuOpts chardev in _lists.Get("chardev").Items)
        {
            if (chardev.Get("backend") is { } backend && OptionErrors.IsHelp(backend))
            {
                _help = new HelpRequest(HelpTopic.Chardevs, null, 0, chardev.Location);
                return true;
            }
        }

        return false;
    }

    private List<GlobalProperty> ReadGlobals()
    {
        var globals = new List<GlobalProperty>();
        foreach (QemuOpts opts in _lists.Peek("global")?.Items ?? [])
        {
            globals.Add(new GlobalProperty(opts.Get("driver") ?? "", opts.Get("property") ?? "", opts.Get("value") ?? ""));
        }

        return globals;
    }

    // A size without suffix counts mebibytes.
    private void MergeMemory()
    {
        if (_lists.Peek("memory")?.Find(null) is not { } opts)
        {
            return;
        }

        var memory = new QDict();
        if (opts.GetSize("size", 0) != 0 && opts.Get("size") is { } size)
        {
            memory["size"] = char.IsAsciiDigit(size[^1]) ? size + "M" : size;
        }

        if (opts.Get("maxmem") is { } maximum)
        {
            memory["max-size"] = maximum;
        }

        if (opts.Get("slots") is { } slots)
        {
            memory["slots"] = slots;
        }

        KeyvalParser.Merge(_machine, new QDict { { "memory", memory } });
    }

    private MachineConfiguration ReadMachineConfiguration(QDict accelProperties, out string? accelerators)
    {
        KeyvalParser.Dashify(_machine);
        accelerators = TakeText("accel");
        foreach (string property in (ReadOnlySpan<string>)["kernel-irqchip", "kvm-shadow-mem"])
        {
            if (TakeText(property) is { } value)
            {
                accelProperties[property] = value;
            }
        }

        return new MachineConfiguration
        {
            Type = TakeText("type"),
            Smp = TakeDict("smp"),
            Memory = TakeDict("memory"),
            Boot = TakeDict("boot"),
            MemoryBackend = TakeText("memory-backend"),
            Kernel = TakeText("kernel"),
            Initrd = TakeText("initrd"),
            Append = TakeText("append"),
            Firmware = TakeText("firmware"),
            Properties = _machine,
        };
    }

    private string? TakeText(string name)
    {
        if (!_machine.Remove(name, out QValue? value))
        {
            return null;
        }

        return value is QString text ? text.Value : throw QapiException.InvalidParameterType(name, "string");
    }

    private QDict? TakeDict(string name)
    {
        if (!_machine.Remove(name, out QValue? value))
        {
            return null;
        }

        return value as QDict ?? throw QapiException.InvalidParameterType(name, "object");
    }

    private AcceleratorConfiguration ReadAccelerators(string? fromMachine, QDict accelProperties)
    {
        var candidates = new List<AcceleratorOption>();
        IReadOnlyList<QemuOpts> given = _lists.Peek("accel")?.Items ?? [];
        if (given.Count > 0)
        {
            if (fromMachine != null)
            {
                throw new QapiException("The -accel and \"-machine accel=\" options are incompatible");
            }

            foreach (QemuOpts opts in given)
            {
                QDict properties = opts.ToDict();
                properties.Remove("accel");
                candidates.Add(new AcceleratorOption(opts.Get("accel") ?? "", properties, opts.Location));
            }

            return new AcceleratorConfiguration(candidates, false, accelProperties);
        }

        foreach (string name in fromMachine is "" ? [] : (fromMachine ?? "kvm").Split(':'))
        {
            candidates.Add(new AcceleratorOption(name, [], null));
        }

        return new AcceleratorConfiguration(candidates, true, accelProperties);
    }
}
