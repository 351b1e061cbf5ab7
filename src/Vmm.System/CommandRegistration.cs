using Vmm.Block;
using Vmm.Block.Backend;
using Vmm.Block.Drives;
using Vmm.Block.Exports;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Qmp;
using Vmm.Block.Throttling;
using Vmm.Chardevs;
using Vmm.Devices;
using Vmm.Devices.Qmp;
using Vmm.Dump;
using Vmm.Dump.Qmp;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Kvm;
using Vmm.Kvm.CpuModels;
using Vmm.Kvm.Qmp;
using Vmm.Machines;
using Vmm.Memory;
using Vmm.Monitor;
using Vmm.ObjectModel;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Fds;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Qmp;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.System.Logging;
using Vmm.System.Qmp;

namespace Vmm.System;

/// <summary>What commands act on.</summary>
internal sealed record CommandTargets(
    ChardevRegistry Chardevs,
    FdSets FdSets,
    BlockGraph Blocks,
    BlockBackends Drives,
    DriveTable DriveTable,
    JobManager Jobs,
    BlockExportFactory Exports,
    ThrottleGroups ThrottleGroups,
    QomTree Tree,
    DeviceFactory Devices,
    ObjectFactory Objects,
    RunControl Run,
    MachineSummary Summary,
    RamList Ram,
    TraceEventRegistry Traces,
    WorkerPool Workers,
    YankRegistry Yank,
    CpuHost CpuHost,
    LogControl Log,
    Action ExitPreconfig,
    Func<Machine?> Machine);

/// <summary>Fills the command tables from the catalogues of the features. A feature that is absent is not registered.</summary>
internal static class CommandRegistration
{
    /// <summary>Registers all commands and events; returns what fills the table of the human monitor when it is first used.</summary>
    public static Action<HmpTable> Register(CommandTable table, MonitorCore monitors, CommandTargets t)
    {
        ChardevCommands chardevs = new(t.Chardevs);
        FdCommands fds = new(t.FdSets);
        DeviceCommands devices = new(t.Tree, t.Devices);
        MachineCommands machine = new(t.Summary, t.Tree, t.Ram);
        MemorySaveCommands save = new(() => t.Machine(), t.Workers);
        DumpCommands dumps = new(new GuestDumper(t.Run, monitors, () => t.Machine()), t.Run, t.Workers);
        YankCommands yank = new(t.Yank);
        ObjectCommands objects = new(t.Objects);
        QomCommands qom = new(t.Tree);
        RunCommands run = new(t.Run);
        TraceCommands trace = new(t.Traces, () => t.Machine()?.Accelerator);
        CpuCommands cpus = new(t.Tree.Types, t.CpuHost, () => t.Machine(), () => t.Machine() as ICpuTopology);
        CpuHmpCommands cpusHuman = new(cpus);
        MemoryHmpCommands memoryHuman = new(
            cpus, cpusHuman, () => t.Machine() is { } m ? [m.Memory, m.Ports] : [], static owner => owner is QomObject o ? $" owner:{{{(o is Device { Id: { } id } ? "dev id=" + id : "obj path=" + o.CanonicalPath)}}}" : "");
        StatsCommands stats = new(cpus);
        ChipsetCommands chipset = new(t.Tree, () => t.Machine()?.Ports);
        MonitorHmpCommands human = new(monitors);
        MonitorCatalog.Register(table, new MonitorCommands(monitors), human);
        ChardevsCatalog.Register(table, chardevs, fds);
        ObjectModelCatalog.Register(table, devices, machine, save, objects, qom, run, trace, yank);
        ExportCommands exports = new(t.Blocks, t.Exports, monitors);
        TransactionRunner transactions = new(t.Jobs);
        BlockNodeCommands nodes = new(t.Blocks, t.Drives, t.Jobs);
        BlockQueryCommands queries = new(t.Blocks, t.Drives);
        BlockdevCommands blockdevs = new(t.Blocks, t.Drives);
        JobCommands jobs = new(t.Jobs);
        MediumCommands media = new(t.Blocks, t.Drives);
        ThrottleCommands throttling = new(t.Blocks, t.Drives, t.ThrottleGroups);
        BlockHmpTargets disks = new(t.Blocks, t.Drives, t.DriveTable, queries, nodes, blockdevs, media, throttling, jobs);
        BackupCommands backups = new(transactions);
        ChainCommands chains = new(t.Jobs);
        MirrorCommands mirrors = new(t.Jobs);
        SnapshotCommands snapshots = new(transactions);
        BlockCatalog.Register(
            table,
            backups,
            new BitmapCommands(transactions),
            nodes,
            queries,
            blockdevs,
            chains,
            exports,
            new ImageCommands(t.Jobs),
            jobs,
            media,
            mirrors,
            snapshots,
            throttling);
        DevicesCatalog.Register(table, chipset);
        DumpCatalog.Register(table, dumps);
        KvmCatalog.Register(table, cpus, stats);
        MachinesCatalog.Register(table);
        PreconfigCommands preconfig = new(t.ExitPreconfig);
        LogHmpCommands logging = new(t.Log);
        SystemCatalog.Register(table, preconfig);
        return terminal =>
        {
            MonitorCatalog.RegisterHmp(terminal, human);
            BlockCatalog.RegisterHmp(terminal, new BlockHmpCommands(disks), new ExportHmpCommands(t.Exports, t.Drives, exports), new ImageHmpCommands(snapshots, mirrors, backups, chains), new QemuIoHmpCommands(t.Blocks, t.Drives, static text => StdIo.Out.Write(text), static text => StdIo.Error.Write(text)));
            ChardevsCatalog.RegisterHmp(terminal, new ChardevHmpCommands(t.Chardevs, chardevs));
            DevicesCatalog.RegisterHmp(terminal, chipset);
            DumpCatalog.RegisterHmp(terminal, new DumpHmpCommands(dumps));
            KvmCatalog.RegisterHmp(terminal, cpusHuman, memoryHuman, new StatsHmpCommands(stats, cpusHuman));
            MachinesCatalog.RegisterHmp(terminal, new BootCommands(t.Machine));
            SystemCatalog.RegisterHmp(terminal, logging, preconfig);
            ObjectModelCatalog.RegisterHmp(terminal, devices, machine, save, objects, qom, run, trace);
        };
    }
}
