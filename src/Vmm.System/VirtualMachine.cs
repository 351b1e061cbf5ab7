using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Qmp;
using Vmm.Block.Throttling;
using Vmm.Chardevs;
using Vmm.Devices.Rtc;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Kvm;
using Vmm.Kvm.CpuModels;
using Vmm.Machines;
using Vmm.Machines.Qtest;
using Vmm.Memory;
using Vmm.Monitor;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Fds;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qmp;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Options;
using Vmm.Qapi.Types;
using Vmm.System.CommandLine;
using Vmm.System.Logging;
using Vmm.System.Processes;
using Vmm.System.Wiring;

namespace Vmm.System;

/// <summary>
/// The composition root: builds what a configuration asks for, in QEMU's order (so that errors come in its order too), runs the main
/// loop, and returns the exit status. One per process; the calling thread becomes the main loop.
/// </summary>
internal sealed class VirtualMachine
{
    private readonly Startup _startup;
    private readonly VmConfiguration _configuration;
    private readonly Clocks _clocks;
    private readonly MachineLock _lock = new();
    private readonly EventLoop.EventLoop _loop;
    private readonly CommandTable _table = new();
    private readonly MonitorCore _monitors;
    private readonly QomTree _tree;
    private readonly DeviceFactory _devices;
    private readonly FdSets _fdSets = new();
    private readonly WorkerPool _workers = new();
    private readonly YankRegistry _yank = new();
    private readonly ChardevRegistry _chardevs;
    private readonly TraceEventRegistry _traces = new();
    private readonly KvmRunEvents _kvmEvents;
    private readonly ObjectFactory _objects;
    private readonly RamList _ram = new();
    private readonly MachineSummary _summary = new();
    private readonly CpuHost _cpuHost;
    private readonly ThrottleGroups _throttleGroups;
    private readonly BlockGraph _blocks;
    private readonly BlockBackends _drives;
    private readonly MachineIoLock _ioLock;
    private Action<HmpTable>? _fillHuman;
    private IAccelerator? _accelerator;
    private RunControl? _run;
    private Machine? _machine;
    private KernelIrqchipMode? _irqchip;

    private VirtualMachine(Startup startup, Clocks clocks)
    {
        _startup = startup;
        _configuration = startup.Configuration!;
        _clocks = clocks;
        _ioLock = new MachineIoLock(_lock);
        _loop = new EventLoop.EventLoop("main", clocks, _lock);
        _monitors = new MonitorCore(_loop, ProductVersion.Value, _table, fillHumanTable: human => _fillHuman?.Invoke(human));
        _kvmEvents = new KvmRunEvents(text => Reporter.Warning(text));
        _cpuHost = new CpuHost(() => (_accelerator as KvmAccelerator)?.System, () => _irqchip != KernelIrqchipMode.Off);
        _throttleGroups = new ThrottleGroups(clocks);
        _tree = new QomTree(TypeCatalog.CreateRegistry(_cpuHost, _throttleGroups));
        _objects = new ObjectFactory(new ObjectContext(_tree, _loop, clocks) { Ram = _ram });
        _devices = new DeviceFactory(_tree, _monitors);
        ChardevHost host = new(_loop, _fdSets)
        {
            Report = text => _startup.Reporter.Report(DiagnosticKind.Information, null, text),
            Announce = static text => StdIo.Error.Write(text),
            Quit = () => _run?.RequestShutdown(ShutdownCause.HostUi),
            IsDaemon = _configuration.Daemonize,
            Workers = _workers,
            Yank = _yank,
        };
        _blocks = new BlockGraph(_loop, new BlockDriverRegistry(_fdSets, new LoopWorkers(), _throttleGroups));
        _blocks.ThresholdExceeded = (node, threshold, above) => _loop.Post(() => _monitors.Emit(new BlockWriteThresholdEvent(node.Name, (ulong)above, (ulong)threshold)));
        _drives = new BlockBackends(_blocks);
        _chardevs = new ChardevRegistry(host, _tree.Chardevs);
    }

    private ErrorReporter Reporter => _startup.Reporter;

    /// <summary>Builds and runs; returns the exit status of the process.</summary>
    public static int Run(Startup startup, Clocks clocks)
    {
        VirtualMachine vm = new(startup, clocks);
        vm._lock.Enter();
        vm._loop.Bind();
        string? location = null;
        try
        {
            return vm.Run(ref location);
        }
        catch (ProcessExitException e)
        {
            return e.Status;
        }
        catch (QapiException e)
        {
            startup.Reporter.Report(DiagnosticKind.Error, location, e.Desc, e.Hint);
            return 1;
        }
        finally
        {
            vm._chardevs.Close();
        }
    }

    private int Run(ref string? location)
    {
        Signals.Ignore(Libc.SIGPIPE);
        if (SignalPipe.Create([Libc.SIGTERM, Libc.SIGINT, Libc.SIGHUP], out SignalPipe? signals) != Errno.OK)
        {
            throw new QapiException("failed to install signal handlers");
        }

        if (_configuration.Name.Process is { } process)
        {
            Threads.SetName(process);
        }

        RefuseWhatIsNotServed();
        using IDisposable? log = LogSetup.Open(_configuration, _traces, Reporter);
        AddFds(ref location);
        MachineType type = FindMachineType();
        SmpConfiguration smp = SmpConfiguration.Resolve(
            _configuration.Machine.Smp,
            new SmpRules(type.Name, (uint)type.MaxCpus, HasDies: type.Name != "microvm"),
            new OptionWarnings(Reporter));
        MemoryConfiguration memory = MemoryConfiguration.Resolve(_configuration.Machine.Memory, type.DefaultRamSize);
        BootConfiguration boot = BootConfiguration.Resolve(_configuration.Machine.Boot);
        BackendOptions backends = _configuration.Backends;
        backends.AddDefaults(type.HasSerial, _configuration.Nographic, _configuration.Daemonize);
        foreach (QemuOpts opts in backends.Chardevs)
        {
            location = opts.Location;
            _chardevs.Add(opts, null);
        }

        IReadOnlyList<MonitorOption> monitors = backends.ResolveMonitors() ?? throw new ProcessExitException(1);
        IReadOnlyList<LegacyBackend> serials = backends.ResolveSerials() ?? throw new ProcessExitException(1);
        IReadOnlyList<LegacyBackend> consoles = backends.ResolveDebugConsoles() ?? throw new ProcessExitException(1);
        LegacyBackend? qtest = _configuration.Qtest.Chardev is { } text ? backends.ResolveQtest(text) ?? throw new ProcessExitException(1) : null;
        AddObjects(ref location);
        AddBlockdevs(ref location);

        location = null;
        ChooseAccelerator();
        RunControl run = new(_loop, _accelerator!, _monitors)
        {
            Exit = _loop.Stop,
            Report = text => Reporter.Error(text),
        };
        _run = run;
        _kvmEvents.Run = run;
        ApplyActions(run.Actions);
        _machine = type.Create();
        ApplyMachineProperties(_machine);
        _tree.SetMachine(_machine);
        foreach (CommandLine.GlobalProperty global in _configuration.Globals)
        {
            _devices.Globals.Add(new ObjectModel.Devices.GlobalProperty(global.Driver, global.Property, global.Value));
        }

        RegisterCommands(run);
        using PidFile? pidFile = _configuration.PidFile is { } path ? PidFile.Create(path) : null;
        CreateSerialChardevs(serials, ref location);
        _machine.Build(Environment(run), Parameters(type, smp, memory, boot, serials));
        foreach (LegacyBackend console in consoles)
        {
            location = console.Location;
            Connect(console);
            _devices.Add(new QDict { ["driver"] = "isa-debugcon", ["iobase"] = "0xe9", ["chardev"] = console.ChardevId }, isKeyval: true);
        }

        foreach (DeviceOption device in _configuration.Devices)
        {
            location = device.Location;
            _devices.Add(device.Properties, isKeyval: !device.IsJson);
        }

        location = null;
        _machine.Complete();
        CreateMonitors(monitors, ref location);
        CreateQtest(qtest, ref location);
        AddLateObjects();
        foreach (LegacyBackend serial in serials)
        {
            if (serial.WithMonitor)
            {
                _monitors.AddHmp(new CharMonitorChannel(_chardevs.Find(serial.ChardevId)!, _fdSets, isTerminal: true));
            }
        }

        _chardevs.MachineReady();
        if (!_configuration.StartStopped)
        {
            run.Start();
        }

        _startup.Daemon?.Detach(keepStandardError: log is not null && _configuration.Log.File is null);
        using (signals)
        using (_loop.Watch(signals!.Fd, FdEvents.Readable, _ => TakeSignals(signals, run)))
        {
            _loop.Run();
        }

        _accelerator!.PauseAll();
        _monitors.FlushAll();
        return run.ExitStatus;
    }

    /// <summary>Options that the parser knows and this build cannot carry out are errors, never ignored.</summary>
    private void RefuseWhatIsNotServed()
    {
        if (_configuration.Preconfig)
        {
            throw new QapiException("-preconfig: Option not supported by this build");
        }

        if (_configuration.CpuPowerManagement)
        {
            throw new QapiException("-overcommit cpu-pm=on: Option not supported by this build");
        }

        if (_configuration.LockMemory && Libc.MLockAll(Libc.MCL_CURRENT | Libc.MCL_FUTURE) is var locked && locked != Errno.OK)
        {
            throw new QapiException($"locking memory failed: {locked.Message()}");
        }
    }

    private static void TakeSignals(SignalPipe signals, RunControl run)
    {
        while (signals.TryRead(out SignalInfo info))
        {
            run.RequestKilled(info.Signal, info.Pid);
        }
    }

    private MachineType FindMachineType()
    {
        if (_configuration.Machine.Type is not { } name)
        {
            return MachineType.Default;
        }

        return MachineType.Find(name) ?? throw new QapiException(QapiErrorClass.GenericError, "unsupported machine type", "Use -machine help to list supported machines");
    }

    private void AddFds(ref string? location)
    {
        foreach (AddFdOption option in _configuration.AddFds)
        {
            location = option.Location;
            int flags = Libc.Fcntl(option.Fd, Libc.F_GETFD, 0);
            option.Check(inherited: flags >= 0 && (flags & Libc.FD_CLOEXEC) == 0);
            int copy = Libc.Fcntl(option.Fd, Libc.F_DUPFD_CLOEXEC, 0);
            if (copy < 0)
            {
                throw new QapiException($"error duplicating fd: {((Errno)(-copy)).Message()}");
            }

            _fdSets.Add(new SafeFd(copy), option.Set, option.Opaque);
        }

        location = null;
    }

    private void ChooseAccelerator()
    {
        AcceleratorOption? chosen = _configuration.Accelerators.Choose(
            static name => name is "kvm" or "qtest",
            option =>
            {
                if (option.Name == "qtest")
                {
                    _accelerator = new QtestAccelerator(_clocks);
                    return true;
                }

                KvmOptions options = KvmOptionParser.Parse(option.Properties, _configuration.Accelerators.MachineProperties);
                _irqchip = options.KernelIrqchip;
                _accelerator = KvmAccelerator.TryCreate(options, _ioLock, _kvmEvents, out KvmInitError? error);
                if (error is not null)
                {
                    foreach (string line in error.Lines)
                    {
                        StdIo.Error.WriteLine(line);
                    }

                    Reporter.Report(DiagnosticKind.Error, option.Location, $"failed to initialize {option.Name}: {error.Error.Message()}");
                }

                return _accelerator is not null;
            },
            Reporter.Write);
        if (chosen is null)
        {
            throw new ProcessExitException(1);
        }
    }

    private void ApplyActions(ActionPolicy policy)
    {
        ActionConfiguration actions = _configuration.Actions;
        policy.Reboot = actions.Reboot == "shutdown" ? RebootAction.Shutdown : RebootAction.Reset;
        policy.Shutdown = actions.Shutdown == "pause" ? ShutdownAction.Pause : ShutdownAction.Poweroff;
        policy.Panic = actions.Panic switch
        {
            "pause" => PanicAction.Pause,
            "exit-failure" => PanicAction.ExitFailure,
            "none" => PanicAction.None,
            _ => PanicAction.Shutdown,
        };
        policy.Watchdog = actions.Watchdog switch
        {
            "shutdown" => WatchdogAction.Shutdown,
            "poweroff" => WatchdogAction.Poweroff,
            "pause" => WatchdogAction.Pause,
            "debug" => WatchdogAction.Debug,
            "none" => WatchdogAction.None,
            "inject-nmi" => WatchdogAction.InjectNmi,
            _ => WatchdogAction.Reset,
        };
    }

    private void ApplyMachineProperties(Machine machine)
    {
        foreach (KeyValuePair<string, QValue> property in _configuration.Machine.Properties)
        {
            _tree.SetProperty(machine, property.Key, property.Value, QapiInputMode.Keyval);
        }
    }

    private MachineEnvironment Environment(RunControl run) => new()
    {
        MainLoop = _loop,
        Clocks = _clocks,
        Lock = _lock,
        IoLock = _ioLock,
        Run = run,
        Events = _monitors,
        Objects = _tree,
        Devices = _devices,
        Accelerator = _accelerator!,
        Irqchip = _irqchip,
        Warn = text => Reporter.Warning(text),
    };

    private MachineParameters Parameters(MachineType type, SmpConfiguration smp, MemoryConfiguration memory, BootConfiguration boot, IReadOnlyList<LegacyBackend> serials) => new()
    {
        RamSize = memory.SizeBytes,
        RamBackend = FindRamBackend(memory.SizeBytes),
        MaxRamSize = memory.MaxSizeBytes,
        RamSlots = memory.Slots,
        Smp = new SmpTopology((int)smp.Cpus, (int)smp.MaxCpus, (int)smp.Sockets, (int)smp.Dies, (int)(smp.Cores * smp.Clusters), (int)smp.Threads),
        CreateCpu = CpuFactory(type, smp),
        Kernel = _configuration.Machine.Kernel,
        Initrd = _configuration.Machine.Initrd,
        Append = _configuration.Machine.Append ?? "",
        Bios = _configuration.Machine.Firmware,
        DataDirectories = _configuration.DataDirectories,
        DefaultDevices = _configuration.Defaults,
        Graphics = !_configuration.Nographic,
        Uuid = _configuration.Uuid ?? Guid.Empty,
        RtcTimeBase = TimeBase(),
        Boot = new BootParameters(boot.Order, boot.Once, boot.Menu, boot.Strict == true),
        SerialChardevs = [.. serials.Select(static s => s.ChardevId)],
    };

    private RtcTimeBase TimeBase() => new(
        _clocks,
        _configuration.Rtc.Clock switch
        {
            RtcClock.RealTime => ClockType.Realtime,
            RtcClock.Virtual => ClockType.Virtual,
            _ => ClockType.Host,
        },
        _configuration.Rtc.Base switch
        {
            RtcBase.LocalTime => RtcBaseKind.LocalTime,
            RtcBase.DateTime => RtcBaseKind.DateTime,
            _ => RtcBaseKind.Utc,
        },
        _configuration.Rtc.StartSeconds);

    private void CreateSerialChardevs(IReadOnlyList<LegacyBackend> serials, ref string? location)
    {
        foreach (LegacyBackend serial in serials)
        {
            location = serial.Location;
            Connect(serial);
        }

        location = null;
    }

    private void Connect(LegacyBackend backend)
    {
        if (backend.Chardev is { } opts)
        {
            _chardevs.Add(opts, null);
        }
    }

    /// <summary>-qtest is short for an object, which comes to stand below the machine.</summary>
    private void CreateQtest(LegacyBackend? backend, ref string? location)
    {
        if (backend is null)
        {
            return;
        }

        location = backend.Location;
        Connect(backend);
        QtestObject server = new() { Chardev = backend.ChardevId, Log = _configuration.Qtest.LogPath };
        _machine!.AddChild("qtest", server);
        location = null;
        server.Complete(new ObjectContext(_tree, _loop, _clocks));
    }

    /// <summary>Objects that work on the machine come after it; what they refuse then belongs to no option.</summary>
    private void AddLateObjects()
    {
        foreach (ObjectOption option in _configuration.Objects)
        {
            if (IsLate(option))
            {
                _objects.Add(option.Properties, option.IsJson ? QapiInputMode.Json : QapiInputMode.Options);
            }
        }
    }

    private static bool IsLate(ObjectOption option) => option.Properties.TryGetValue("qom-type", out QValue? type) && type is QString { Value: "qtest" };

    private void CreateMonitors(IReadOnlyList<MonitorOption> monitors, ref string? location)
    {
        foreach (MonitorOption option in monitors)
        {
            location = option.Location;
            ObjectModel.Chardevs.Chardev backend = _chardevs.Find(option.Chardev)
                ?? throw new QapiException($"chardev \"{option.Chardev}\" not found");
            CharMonitorChannel channel = new(backend, _fdSets, isTerminal: !option.Control);
            if (option.Control)
            {
                _monitors.AddQmp(channel, option.Id, option.Pretty, oob: backend is not MuxChardev);
            }
            else
            {
                _monitors.AddHmp(channel, option.Id);
            }
        }

        location = null;
    }

    private void AddObjects(ref string? location)
    {
        foreach (ObjectOption option in _configuration.Objects)
        {
            location = option.Location;
            if (IsLate(option))
            {
                _ = option.Properties.ContainsKey("chardev") ? true : throw QapiException.MissingParameter("chardev");
                continue;
            }

            _objects.Add(option.Properties, option.IsJson ? QapiInputMode.Json : QapiInputMode.Options);
        }

        location = null;
    }

    private void AddBlockdevs(ref string? location)
    {
        foreach (BlockdevOption option in _configuration.Blockdevs)
        {
            location = option.Location;
            if (option.Options.NodeName is null)
            {
                throw new QapiException("'node-name' must be specified for the root node");
            }

            _blocks.AddMonitorOwned(_loop.RunUntil(_blocks.OpenAsync(option.Options)));
        }

        location = null;
    }

    private RamBlock? FindRamBackend(ulong size)
    {
        if (_configuration.Machine.MemoryBackend is not { } id)
        {
            return null;
        }

        MemoryBackend backend = _tree.Objects.FindChild(id) as MemoryBackend
            ?? throw new QapiException($"Memory backend '{id}' not found");
        if (backend.IsMapped)
        {
            throw new QapiException($"memory backend '{id}' can't be used multiple times.");
        }

        if (backend.Size != size)
        {
            throw new QapiException("Machine memory size does not match the size of the memory backend");
        }

        backend.IsMapped = true;
        return backend.Block;
    }

    private Machines.CpuFactory CpuFactory(MachineType type, SmpConfiguration smp)
    {
        string text = _configuration.Cpu ?? type.DefaultCpuType?[..^X86Cpu.TypeSuffix.Length] ?? "qemu64";
        CpuSpec spec = CpuSpec.Parse(text);
        foreach (string warning in spec.Warnings)
        {
            Reporter.Warning(warning);
        }

        _devices.PrepareForUser = device =>
        {
            if (device is X86Cpu cpu && cpu.ModelName == spec.Model)
            {
                spec.Apply(_tree.Types, cpu);
                cpu.Warn = text => Reporter.Warning(text);
            }
        };
        CpuTopology topology = new((int)smp.Sockets, (int)smp.Dies, (int)(smp.Cores * smp.Clusters), (int)smp.Threads);
        return (machine, index, apicId) =>
        {
            X86Cpu cpu = spec.Create(_tree.Types);
            CpuPlace place = topology.Place(index);
            cpu.Topology = topology;
            cpu.CpuIndex = index;
            cpu.ApicId = apicId;
            cpu.SocketId = place.Socket;
            cpu.DieId = place.Die;
            cpu.CoreId = place.Core;
            cpu.HwThreadId = place.Thread;
            cpu.Warn = index == 0 ? text => Reporter.Warning(text) : null;
            _devices.ApplyGlobals(cpu);
            _devices.Realize(cpu);
            return cpu;
        };
    }

    private void RegisterCommands(RunControl run)
    {
        _summary.Name = _configuration.Name.Guest;
        _monitors.CpuExists = index => index >= 0 && FindCpu(index) is not null;
        _monitors.ReadRegister = (index, name) => FindCpu(index)?.Vcpu is { } vcpu ? CpuRegisters.Read(vcpu.GetState(), name) : null;
        _monitors.ParseOptions = ParseDeviceOptions;
        _summary.Uuid = (_configuration.Uuid ?? Guid.Empty).ToString();
        _fillHuman = CommandRegistration.Register(_table, _monitors, new CommandTargets(_chardevs, _fdSets, _blocks, _drives, _throttleGroups, _tree, _devices, _objects, run, _summary, _ram, _traces, _workers, _yank, _cpuHost, () => _machine));
    }

    // The first one for -1; null where there is none.
    private X86Cpu? FindCpu(int index)
    {
        foreach (X86Cpu cpu in (_machine as ICpuTopology)?.Plugged ?? [])
        {
            if (index < 0 || cpu.CpuIndex == index)
            {
                return cpu;
            }
        }

        return null;
    }

    // A terminal's device_add takes what -device takes.
    private static QDict ParseDeviceOptions(string group, string text)
    {
        OptsList list = new OptionLists().Get(group);
        if (OptsParser.Parse(list, text, implied: true, location: null, SilentOptionDiagnostics.Instance) is { } opts)
        {
            return opts.ToDict();
        }

        return new QDict { ["driver"] = text.Split(',')[0].Replace("driver=", "", StringComparison.Ordinal), ["help"] = "on" };
    }
}
