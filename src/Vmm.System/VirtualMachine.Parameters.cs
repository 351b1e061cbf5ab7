using Vmm.Devices.Rtc;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Kvm;
using Vmm.Kvm.CpuModels;
using Vmm.Machines;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Types;
using Vmm.System.CommandLine;

namespace Vmm.System;

/// <summary>What the machine is told of the configuration.</summary>
internal sealed partial class VirtualMachine
{
    private MachineParameters Parameters(MachineType type, SmpConfiguration smp, MemoryConfiguration memory, BootConfiguration boot) => new()
    {
        RamSize = memory.SizeBytes,
        MaxRamSize = memory.MaxSizeBytes,
        RamSlots = memory.Slots,
        Smp = new SmpTopology((int)smp.Cpus, (int)smp.MaxCpus, (int)smp.Sockets, (int)smp.Dies, (int)(smp.Cores * smp.Clusters), (int)smp.Threads),
        CreateCpu = type.DefaultCpuType is null ? null : CpuFactory(type, smp),
        CpuType = type.DefaultCpuType is null && _configuration.Cpu is null ? null : CpuModel(type) + X86Cpu.TypeSuffix,
        Kernel = _configuration.Machine.Kernel,
        Initrd = _configuration.Machine.Initrd,
        Append = _configuration.Machine.Append ?? "",
        Bios = _configuration.Machine.Firmware,
        DataDirectories = _configuration.DataDirectories,
        DefaultDevices = _configuration.Defaults,
        Uuid = _configuration.Uuid ?? Guid.Empty,
        RtcTimeBase = TimeBase(),
        Boot = new BootParameters(boot.Order, boot.Once, boot.Menu, boot.Strict, boot.Splash, boot.SplashTimeMs, boot.RebootTimeoutMs),
        SerialChardevs = [.. _serials.Select(static s => s.ChardevId)],
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

    /// <summary>The back end of main memory: the one named, else one that the machine makes for itself; null for a machine without memory.</summary>
    private MemoryBackend? TakeRamBackend(Machine machine)
    {
        ulong size = machine.Parameters.RamSize;
        MemoryBackend backend;
        if (_configuration.Machine.MemoryBackend is { } id)
        {
            if (_configuration.MemoryPath is not null)
            {
                throw new QapiException("'-mem-path' can't be used together with'-machine memory-backend'");
            }

            backend = _tree.Objects.FindChild(id) as MemoryBackend ?? throw new QapiException($"Memory backend '{id}' not found");
            if (backend.IsMapped)
            {
                throw new QapiException($"memory backend '{id}' can't be used multiple times.");
            }

            if (_configuration.Machine.Memory is null)
            {
                machine.Parameters = machine.Parameters with { RamSize = backend.Size };
            }
            else if (backend.Size != size)
            {
                throw new QapiException("Machine memory size does not match the size of the memory backend");
            }
        }
        else if (size == 0)
        {
            return null;
        }
        else
        {
            QDict options = new()
            {
                ["qom-type"] = _configuration.MemoryPath is null ? "memory-backend-ram" : "memory-backend-file",
                ["id"] = machine.MachineType.DefaultRamId,
                ["size"] = size,
            };
            if (_configuration.MemoryPath is { } path)
            {
                options["mem-path"] = path;
            }

            backend = (MemoryBackend)_objects.Add(options);
        }

        backend.IsMapped = true;
        return backend;
    }

    private string CpuModel(MachineType type)
    {
        string text = _configuration.Cpu ?? type.DefaultCpuType?[..^X86Cpu.TypeSuffix.Length] ?? "qemu64";
        int comma = text.IndexOf(',');
        string model = comma < 0 ? text : text[..comma];
        return CpuTypes.IsModel(model) ? model : throw new QapiException($"unable to find CPU model '{model}'");
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
            cpu.NodeId = _summary.NumaNodes.Count > 0 ? 0 : cpu.NodeId;
            cpu.Warn = text => Reporter.Warning(text);
            _devices.ApplyGlobals(cpu);
            _devices.Realize(cpu);
            return cpu;
        };
    }

    private void CheckCpuCount(string what, int count, string? location)
    {
        if (_accelerator is not KvmAccelerator kvm)
        {
            return;
        }

        int recommended = kvm.System.CheckExtension(KvmUapi.KVM_CAP_NR_VCPUS);
        recommended = recommended == 0 ? 4 : recommended;
        int most = kvm.System.CheckExtension(KvmUapi.KVM_CAP_MAX_VCPUS);
        most = most == 0 ? recommended : most;
        if (count > recommended)
        {
            Reporter.Report(
                DiagnosticKind.Warning,
                location,
                $"Number of {what} cpus requested ({count}) exceeds the recommended cpus supported by KVM ({recommended})");
        }

        if (count > most)
        {
            StdIo.Error.WriteLine($"Number of {what} cpus requested ({count}) exceeds the maximum cpus supported by KVM ({most})");
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
}
