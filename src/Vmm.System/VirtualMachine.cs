using System.Runtime.CompilerServices;
using Vmm.Block;
using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Drives;
using Vmm.Block.Exports;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
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
using Vmm.Machines.Loading;
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
internal sealed partial class VirtualMachine
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
    private readonly ObjectContext _objectContext;
    private readonly ObjectFactory _objects;
    private readonly RamList _ram = new();
    private readonly MachineSummary _summary = new();
    private readonly CpuHost _cpuHost;
    private readonly ThrottleGroups _throttleGroups;
    private readonly BlockGraph _blocks;
    private readonly BlockBackends _drives;
    private readonly JobManager _jobs;
    private readonly BlockExportFactory _exports;
    private readonly TaskCompletionSource _ended = new();
    private readonly DriveTable _driveTable;
    private readonly MachineIoLock _ioLock;
    private Action<HmpTable>? _fillHuman;
    private IAccelerator? _accelerator;
    private RunControl? _run;
    private Machine? _machine;
    private KernelIrqchipMode? _irqchip;
    private IReadOnlyList<LegacyBackend> _serials = [];
    private IReadOnlyList<LegacyBackend> _debugConsoles = [];
    private LegacyBackend? _qtest;
    private BootConfiguration? _boot;
    private string? _location;
    private bool _failed;

    private VirtualMachine(Startup startup, Clocks clocks)
    {
        _startup = startup;
        _configuration = startup.Configuration!;
        _clocks = clocks;
        _ioLock = new MachineIoLock(_lock);
        _loop = new EventLoop.EventLoop("main", clocks, _lock);
        _monitors = new MonitorCore(_loop, ProductVersion.Value, _table, fillHumanTable: human => _fillHuman?.Invoke(human));
        _kvmEvents = new KvmRunEvents(text => Reporter.Warning(text));
        _cpuHost = new CpuHost(() => (_accelerator as KvmAccelerator)?.System, () => _irqchip != KernelIrqchipMode.Off)
        {
            GuestPowerManagement = _configuration.CpuPowerManagement,
        };
        _throttleGroups = new ThrottleGroups(clocks);
        _tree = new QomTree(TypeCatalog.CreateRegistry(_cpuHost, _throttleGroups));
        _objectContext = new ObjectContext(_tree, _loop, clocks) { Ram = _ram, Warn = text => Reporter.Warning(text) };
        _objects = new ObjectFactory(_objectContext);
        _devices = new DeviceFactory(_tree, _monitors);
        ChardevHost host = new(_loop, _fdSets)
        {
            Report = text => _startup.Reporter.Report(DiagnosticKind.Information, null, text),
            Announce = static text => StdIo.Error.Write(text),
            Quit = () => _run?.RequestShutdown(ShutdownCause.HostUi),
            IsDaemon = _configuration.Daemonize,
            Workers = _workers,
            Yank = _yank, Objects = FindObject,
        };
        _blocks = new BlockGraph(_loop, new BlockDriverRegistry(_fdSets, new LoopWorkers(), _throttleGroups));
        LendObjects(_blocks.DriverRegistry);
        _blocks.ThresholdExceeded = (node, threshold, above) => _loop.Post(() => _monitors.Emit(new BlockWriteThresholdEvent(node.Name, (ulong)above, (ulong)threshold)));
        _blocks.OnCorruption = c => _loop.Post(() => _monitors.Emit(BlockQueryCommands.CorruptionEvent(c)));
        _blocks.Announce = static text => StdIo.Error.Write(text);
        _blocks.Warn = text => Reporter.Report(DiagnosticKind.Warning, _location, text);
        _drives = new BlockBackends(_blocks);
        _jobs = new JobManager(_blocks, _monitors);
        _exports = new BlockExportFactory(_blocks, id => _tree.Resolve("/objects/" + id));
        _driveTable = new DriveTable(_blocks, _drives, _throttleGroups);
        _chardevs = new ChardevRegistry(host, _tree.Chardevs);
    }

    private ErrorReporter Reporter => _startup.Reporter;

    /// <summary>Builds and runs; returns the exit status of the process.</summary>
    public static int Run(Startup startup, Clocks clocks)
    {
        VirtualMachine vm = new(startup, clocks);
        vm._lock.Enter();
        vm._loop.Bind();
        try
        {
            return vm.Run();
        }
        catch (ProcessExitException e)
        {
            return e.Status;
        }
        catch (QapiException e)
        {
            startup.Reporter.Report(DiagnosticKind.Error, vm._location, e.Desc, e.Hint);
            return 1;
        }
        catch (BootLoadException e)
        {
            vm.ReportBootFailure(e);
            return 1;
        }
        finally
        {
            vm._chardevs.Close();
        }
    }

    private int Run()
    {
        Signals.Ignore(Libc.SIGPIPE);
        if (SignalPipe.Create([Libc.SIGTERM, Libc.SIGINT, Libc.SIGHUP, Libc.SIGCONT], out SignalPipe? signals) != Errno.OK)
        {
            throw new QapiException("failed to install signal handlers");
        }

        if (_configuration.Name.Process is { } process)
        {
            Threads.SetName(process);
        }

        Threads.DebugNames = _configuration.Name.DebugThreads;
        LockMemory();
        AddFds();
        _traces.AddCatalog(static () => RunControl.TraceEvents);
        using LogControl log = new(_configuration, _traces, Reporter);
        log.Open();
        if (log.Path is { } logPath)
        {
            _startup.Daemon?.SendErrorsTo(logPath);
        }

        using PidFile? pidFile = _configuration.PidFile is { } path ? PidFile.Create(path) : null;
        MachineType type = FindMachineType();
        BackendOptions backends = _configuration.Backends;
        backends.AddDefaults(type.HasSerial, _configuration.Nographic, _configuration.Daemonize);
        AddObjects(ObjectStage.Early);
        foreach (QemuOpts opts in backends.Chardevs)
        {
            _location = opts.Location;
            _chardevs.Add(opts, null);
        }

        _location = null;
        AddBlockdevs();
        AddDrives(type);
        _machine = type.Create();
        _machine.Graphics = !_configuration.Nographic;
        _boot = BootConfiguration.Resolve(_configuration.Machine.Boot);
        SmpConfiguration smp = SmpConfiguration.Resolve(
            _configuration.Machine.Smp,
            new SmpRules(type.Name, (uint)type.MaxCpus, HasDies: type.HasDies),
            new OptionWarnings(Reporter));
        MemoryConfiguration memory = MemoryConfiguration.Resolve(
            _configuration.Machine.Memory, type.DefaultRamSize, new OptionWarnings(Reporter));
        ApplyMachineProperties(_machine);
        _objectContext.MergeMemory = _machine.MemoryMerge;
        _objectContext.DumpMemory = _machine.DumpGuestCore;
        _objectContext.PreallocThreads = _configuration.PreallocMemory ? (int)smp.Cpus : 0;
        ChooseAccelerator(smp);
        RunControl run = new(_loop, _accelerator!, _monitors)
        {
            Exit = _loop.Stop,
            Report = text => Reporter.Error(text),
            Ended = _ended.Task,
            Settle = () => _blocks.FlushAllAsync().AsTask(),
        };
        _run = run;
        _drives.ErrorSink = new BlockErrorReports(_loop, run, _monitors).Report;
        run.AddVmStateChangeHandler((running, _) => ResetIoStatus(running));
        _kvmEvents.Run = run;
        ApplyActions(run.Actions);
        _tree.SetMachine(_machine);
        foreach (CommandLine.GlobalProperty global in _configuration.Globals)
        {
            _devices.Globals.Add(new ObjectModel.Devices.GlobalProperty(global.Driver, global.Property, global.Value));
        }

        RegisterCommands(run, log);
        _qtest = _configuration.Qtest.Chardev is { } text ? backends.ResolveQtest(text) ?? throw new ProcessExitException(1) : null;
        AddObjects(ObjectStage.Machine);
        CreateMonitors(backends.ResolveMonitors() ?? throw new ProcessExitException(1));
        _serials = backends.ResolveSerials(Connect) ?? throw new ProcessExitException(1);
        _debugConsoles = backends.ResolveDebugConsoles(Connect) ?? throw new ProcessExitException(1);
        _location = null;
        _machine.Parameters = Parameters(type, smp, memory, _boot);
        if (_configuration.Preconfig)
        {
            _monitors.IsPreconfig = true;
        }
        else
        {
            Initialise(run);
        }

        _startup.Daemon?.Detach();
        if (!RuntimeFeature.IsDynamicCodeSupported)
        {
            // A just-in-time compiler changes its own code now and then.
            ProgramImage.ReleasePages();
        }

        using (signals)
        using (_loop.Watch(signals!.Fd, FdEvents.Readable, _ => TakeSignals(signals, run)))
        {
            _loop.Run();
        }

        _accelerator!.PauseAll();
        _monitors.IsEnding = true;
        _loop.RunUntil(BlockTeardown.RunAsync(_blocks, _drives, _exports.Exports, _jobs));
        _ended.SetResult();
        _monitors.FlushAll();
        return _failed ? 1 : run.ExitStatus;
    }

    /// <summary>Builds the machine and everything in it, and starts it if it is to start.</summary>
    private void Initialise(RunControl run)
    {
        Machine machine = _machine!;
        MemoryBackend? memory = TakeRamBackend(machine);
        machine.Parameters = machine.Parameters with { RamBackend = memory };
        MachineParameters parameters = machine.Parameters;
        _summary.BaseMemory = parameters.RamSize;
        if (machine.MachineType.HasDeviceMemory && (parameters.RamSlots > 0 || parameters.MaxRamSize > parameters.RamSize))
        {
            // What can be plugged in belongs to a node, so there is one.
            _summary.NumaNodes.Add(([.. Enumerable.Range(0, parameters.Smp.Cpus)], parameters.RamSize));
        }

        machine.Build(Environment(run));
        _boot!.CheckMachine(machine.MachineType);
        CheckOrphanedDrives();
        AddDevices(isJson: false);
        foreach (LegacyBackend console in _debugConsoles)
        {
            _location = console.Location;
            _devices.Add(new QDict { ["driver"] = "isa-debugcon", ["iobase"] = "0xe9", ["chardev"] = console.ChardevId }, isKeyval: true);
        }

        AddVirtioDrives(machine.MachineType);
        AddDevices(isJson: true);
        machine.Complete();
        WarnOfUnusedGlobals();
        CreateQtest(_qtest);
        AddObjects(ObjectStage.Late);
        foreach (LegacyBackend serial in _serials)
        {
            if (serial.WithMonitor)
            {
                _monitors.AddHmp(new CharMonitorChannel(_chardevs.Find(serial.ChardevId)!, _fdSets, isTerminal: true));
            }
        }

        _chardevs.MachineReady();
        _monitors.IsPreconfig = false;
        if (!_configuration.StartStopped)
        {
            run.Start();
        }
    }

    /// <summary>x-exit-preconfig: what fails now ends the process, as it would have at start.</summary>
    private void ExitPreconfig()
    {
        if (!_monitors.IsPreconfig)
        {
            throw new QapiException("The command is permitted only before machine initialization");
        }

        try
        {
            Initialise(_run!);
            return;
        }
        catch (ProcessExitException)
        {
            // Everything has been said.
        }
        catch (QapiException e)
        {
            Reporter.Report(DiagnosticKind.Error, _location, e.Desc, e.Hint);
        }
        catch (BootLoadException e)
        {
            ReportBootFailure(e);
        }

        _failed = true;
        _loop.Stop();
    }

    private void ReportBootFailure(BootLoadException failure)
    {
        if (failure.IsComplete)
        {
            StdIo.Error.WriteLine(failure.Message);
        }
        else
        {
            Reporter.Error(failure.Message);
        }
    }

    private void WarnOfUnusedGlobals()
    {
        for (int i = 0; i < _configuration.Globals.Count; i++)
        {
            CommandLine.GlobalProperty global = _configuration.Globals[i];
            if (!global.UserProvided)
            {
                continue;
            }

            if (!_tree.Types.TryGet(global.Driver, out QomTypeInfo? type) || !_tree.Types.IsA(type, "device"))
            {
                Reporter.Warning($"global {global.Driver}.{global.Property} has invalid class name");
            }
            else if (!type.Hotpluggable && !_devices.Globals[i].IsUsed)
            {
                Reporter.Warning($"global {global.Driver}.{global.Property}={global.Value} not used");
            }
        }
    }

    private void LockMemory()
    {
        if (_configuration.LockMemory && Libc.MLockAll(Libc.MCL_CURRENT | Libc.MCL_FUTURE) is var locked && locked != Errno.OK)
        {
            throw new QapiException($"locking memory failed: {locked.Message()}");
        }
    }

    private static void TakeSignals(SignalPipe signals, RunControl run)
    {
        while (signals.TryRead(out SignalInfo info))
        {
            if (info.Signal == Libc.SIGCONT)
            {
                ChardevRegistry.ProcessContinued();
            }
            else
            {
                run.RequestKilled(info.Signal, info.Pid);
            }
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

    private void ChooseAccelerator(SmpConfiguration smp)
    {
        AcceleratorOption? chosen = _configuration.Accelerators.Choose(
            static name => name is "kvm" or "qtest",
            option =>
            {
                if (option.Name == "qtest")
                {
                    foreach (KeyValuePair<string, QValue> property in option.Properties)
                    {
                        _location = option.Location;
                        throw new QapiException($"Property 'qtest-accel.{property.Key}' not found");
                    }

                    _accelerator = new QtestAccelerator(_clocks);
                    return true;
                }

                _location = option.Location;
                KvmOptions options = KvmOptionParser.Parse(option.Properties, _configuration.Accelerators.MachineProperties) with
                {
                    GuestPowerManagement = _configuration.CpuPowerManagement,
                };
                _location = null;
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

        CheckCpuCount("SMP", (int)smp.Cpus, chosen.Location);
        CheckCpuCount("hotpluggable", (int)smp.MaxCpus, chosen.Location);
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
        Blocks = _drives,
        Accelerator = _accelerator!,
        Irqchip = _irqchip,
        Ram = _ram,
        Roms = _summary.Roms,
        Warn = text => Reporter.Warning(text),
        Report = text => Reporter.Error(text),
    };

    // The operator lets the guest go on: what went wrong before is taken to be mended. A back end that a device has for itself keeps its status, as
    // in QEMU.
    private void ResetIoStatus(bool running)
    {
        foreach (BlockBackend drive in _drives.All)
        {
            if (running && drive.Name.Length > 0)
            {
                drive.ResetIoStatus();
            }
        }
    }

    private void RegisterCommands(RunControl run, LogControl log)
    {
        _summary.Name = _configuration.Name.Guest;
        _monitors.CpuExists = index => index >= 0 && FindCpu(index) is not null;
        _monitors.ReadRegister = (index, name) => FindCpu(index)?.Vcpu is { } vcpu ? CpuRegisters.Read(vcpu.GetState(), name) : null;
        _monitors.ParseOptions = ParseDeviceOptions;
        _summary.Uuid = (_configuration.Uuid ?? Guid.Empty).ToString();
        _fdSets.IsRunning = () => run.IsRunning;
        _fillHuman = CommandRegistration.Register(_table, _monitors, new CommandTargets(_chardevs, _fdSets, _blocks, _drives, _driveTable, _jobs, _exports, _throttleGroups, _tree, _devices, _objects, run, _summary, _ram, _traces, _workers, _yank, _cpuHost, log, ExitPreconfig, () => _machine));
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
