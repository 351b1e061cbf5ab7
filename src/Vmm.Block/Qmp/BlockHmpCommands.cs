using System.Globalization;
using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Drives;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Options;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Qmp;

/// <summary>What the terminal commands about disks act on.</summary>
public sealed record BlockHmpTargets(
    BlockGraph Graph,
    BlockBackends Backends,
    DriveTable Drives,
    BlockQueryCommands Queries,
    BlockNodeCommands Nodes,
    BlockdevCommands Blockdevs,
    MediumCommands Media,
    ThrottleCommands Throttling,
    JobCommands Jobs);

/// <summary>The terminal commands about disks. Home: main loop.</summary>
public sealed class BlockHmpCommands(BlockHmpTargets targets)
{
    /// <summary>Lists back ends, or nodes.</summary>
    [HmpCommand(
        "info block",
        ArgsType = "nodes:-n,verbose:-v,device:B?",
        Params = "[-n] [-v] [device]",
        Help = "show info of one block device or all block devices (-n: show named nodes; -v: show details)",
        AllowPreconfig = true)]
    public void InfoBlock(HmpContext context, bool nodes, bool verbose, string? device)
    {
        bool isFirst = true;
        int shown = 0;
        foreach (BlockInfo info in nodes ? [] : targets.Queries.QueryBlock())
        {
            if (device is null || device == info.Device)
            {
                Separate(context, isFirst);
                BlockHmpText.Print(context, info, info.Inserted, verbose);
                shown++;
            }

            isFirst = false;
        }

        if ((device is null && !nodes) || shown > 0)
        {
            return;
        }

        isFirst = true;
        foreach (BlockDeviceInfo node in targets.Queries.QueryNamedBlockNodes(false))
        {
            if (device is null || device == node.NodeName)
            {
                Separate(context, isFirst);
                BlockHmpText.Print(context, null, node, verbose);
            }

            isFirst = false;
        }
    }

    /// <summary>Shows counters.</summary>
    [HmpCommand("info blockstats", Help = "show block device statistics", AllowPreconfig = true)]
    public void InfoBlockstats(HmpContext context)
    {
        foreach (BlockStats stats in targets.Queries.QueryBlockstats(null))
        {
            if (stats.Device is not { } device)
            {
                continue;
            }

            BlockDeviceStats s = stats.Stats;
            context.PrintLine(
                $"{device}: rd_bytes={s.RdBytes} wr_bytes={s.WrBytes} rd_operations={s.RdOperations} wr_operations={s.WrOperations} flush_operations={s.FlushOperations} wr_total_time_ns={s.WrTotalTimeNs} rd_total_time_ns={s.RdTotalTimeNs} flush_total_time_ns={s.FlushTotalTimeNs} rd_merged={s.RdMerged} wr_merged={s.WrMerged} idle_time_ns={s.IdleTimeNs ?? 0}");
        }
    }

    /// <summary>Adds a drive or a node.</summary>
    [HmpCommand(
        "drive_add",
        ArgsType = "node:-n,pci_addr:s,opts:s",
        Params = "[-n] [[<domain>:]<bus>:]<slot>\n[file=file][,if=type][,bus=n]\n[,unit=m][,media=d][,index=i]\n[,snapshot=on|off][,cache=on|off]\n[,readonly=on|off][,copy-on-read=on|off]",
        Help = "add drive to PCI storage controller")]
    public async ValueTask DriveAdd(HmpContext context, bool node, [QapiName("pci_addr")] string address, string opts)
    {
        _ = address;
        try
        {
            if (node)
            {
                await AddNodeAsync(opts);
                return;
            }

            OptsList list = new(new OptionGroup("drive", null, false));
            QemuOpts options = OptsParser.Parse(list, opts, true, null, new Warnings(context))
                ?? throw new QapiException("Must specify either driver or file");
            await targets.Graph.ChangeAsync(async () =>
            {
                Drive drive = await targets.Drives.AddAsync(options.ToDict(), null);
                if (drive.Interface == DriveInterface.None)
                {
                    context.PrintLine("OK");
                    return;
                }

                context.PrintLine($"Can't hot-add drive to type {(int)drive.Interface}");
                targets.Drives.Remove(drive);
            });
        }
        catch (QapiException e)
        {
            Report(context, e);
        }
    }

    /// <summary>Takes a drive away, also from under its device, or deletes a node.</summary>
    [HmpCommand("drive_del", ArgsType = "id:B", Params = "device", Help = "remove host block device")]
    public async ValueTask DriveDel(HmpContext context, string id)
    {
        try
        {
            if (targets.Graph.Find(id) is not null)
            {
                await targets.Blockdevs.BlockdevDel(id);
                return;
            }

            BlockBackend backend = targets.Backends.Find(id) ?? throw new QapiException($"Device '{id}' not found");
            Drive drive = targets.Drives.Find(backend)
                ?? throw new QapiException("Deleting device added with blockdev-add is not supported");
            await targets.Graph.ChangeAsync(async () =>
            {
                backend.Root?.CheckNotInUse();
                await targets.Drives.DetachAsync(drive);
            });
        }
        catch (QapiException e)
        {
            Report(context, e);
        }
    }

    /// <summary>Puts what images have into their backing files, and empties the images.</summary>
    [HmpCommand(
        "commit",
        ArgsType = "device:B",
        Params = "device|all",
        Help = "commit changes to the disk images (if -snapshot is used) or backing files")]
    public async ValueTask Commit(HmpContext context, string device)
    {
        int result = 0;
        if (device == "all")
        {
            foreach (BlockBackend backend in targets.Backends.All.ToArray())
            {
                if (result >= 0 && backend.Root?.SkipImplicit is { Backing: not null } image)
                {
                    result = await CommitAsync(image);
                }
            }
        }
        else
        {
            BlockBackend? backend = targets.Backends.Find(device);
            if (backend?.Root?.SkipImplicit is not { } image)
            {
                context.PrintLine(backend is null ? $"Device '{device}' not found" : $"Device '{device}' has no medium");
                return;
            }

            result = await CommitAsync(image);
        }

        if (result < 0)
        {
            context.PrintLine($"'commit' error for '{device}': {BlockResult.Text(result)}");
        }
    }

    private async Task<int> CommitAsync(BlockNode image)
    {
        int result = 0;
        await targets.Graph.ChangeAsync(async () => result = await ImageCommit.RunAsync(targets.Graph, image));
        return result;
    }

    /// <summary>Takes a medium out.</summary>
    [HmpCommand("eject", ArgsType = "force:-f,device:B", Params = "[-f] device", Help = "eject a removable medium (use -f to force it)")]
    public ValueTask Eject(HmpContext context, bool force, string device) => new(targets.Media.Eject(force, device, null));

    /// <summary>Changes a medium.</summary>
    [HmpCommand(
        "change",
        ArgsType = "device:B,force:-f,target:F,arg:s?,read-only-mode:s?",
        Params = "device [-f] filename [format [read-only-mode]]",
        Help = "change a removable medium, optional format, use -f to force the operation")]
    public ValueTask Change(HmpContext context, string device, bool force, string target, string? arg, string? readOnlyMode)
    {
        if (device == "vnc")
        {
            throw new QapiException("The feature 'vnc' is not enabled");
        }

        BlockdevChangeReadOnlyMode? mode = null;
        if (readOnlyMode is not null)
        {
            mode = BlockdevChangeReadOnlyModeQapi.TryParse(readOnlyMode, out BlockdevChangeReadOnlyMode parsed)
                ? parsed
                : throw new QapiException($"invalid parameter value: {readOnlyMode}");
        }

        return new(targets.Media.ChangeMedium(device, target, arg, mode, null, force));
    }

    /// <summary>Changes the size of a back end's medium.</summary>
    [HmpCommand("block_resize", ArgsType = "device:B,size:o", Params = "device size", Help = "resize a block image")]
    public ValueTask BlockResize(HmpContext context, string device, long size) => new(targets.Nodes.BlockResize(device, null, size));

    /// <summary>Sets limits.</summary>
    [HmpCommand(
        "block_set_io_throttle",
        ArgsType = "device:B,bps:l,bps_rd:l,bps_wr:l,iops:l,iops_rd:l,iops_wr:l",
        Params = "device bps bps_rd bps_wr iops iops_rd iops_wr",
        Help = "change I/O throttle limits for a block drive")]
    public async ValueTask BlockSetIoThrottle(
        HmpContext context,
        string device,
        long bps,
        [QapiName("bps_rd")] long bpsRd,
        [QapiName("bps_wr")] long bpsWr,
        long iops,
        [QapiName("iops_rd")] long iopsRd,
        [QapiName("iops_wr")] long iopsWr)
    {
        // The id of a device will do as well.
        bool isBackend = targets.Backends.Find(device) is not null;
        await targets.Throttling.BlockSetIoThrottle(
            isBackend ? device : null, bps, bpsRd, bpsWr, iops, iopsRd, iopsWr, null, null, null, null, null, null, null, null, null, null, null, null, null, null, isBackend ? null : device);
    }

    /// <summary>Lists the jobs.</summary>
    [HmpCommand("info block-jobs", Help = "show progress of ongoing block device operations", AllowPreconfig = true)]
    public void InfoBlockJobs(HmpContext context)
    {
        IReadOnlyList<BlockJobInfo> jobs = targets.Jobs.QueryBlockJobs();
        if (jobs.Count == 0)
        {
            context.PrintLine("No active jobs");
        }

        foreach (BlockJobInfo job in jobs)
        {
            string what = job.Type == "stream" ? $"Streaming device {job.Device}" : $"Type {job.Type}, device {job.Device}";
            context.PrintLine($"{what}: Completed {job.Offset} of {job.Len} bytes, speed limit {job.Speed} bytes/s");
        }
    }

    /// <summary>Limits a job.</summary>
    [HmpCommand(
        "block_job_set_speed",
        ArgsType = "device:B,speed:o",
        Params = "device speed",
        Help = "set maximum speed for a background block operation")]
    public void BlockJobSetSpeed(HmpContext context, string device, long speed) => targets.Jobs.BlockSetSpeed(device, speed);

    /// <summary>Ends a job.</summary>
    [HmpCommand(
        "block_job_cancel",
        ArgsType = "force:-f,device:B",
        Params = "[-f] device",
        Help = "stop an active background block operation (use -f\n\t\t\t if you want to abort the operation immediately\n\t\t\t instead of keep running until data is in sync)")]
    public ValueTask BlockJobCancel(HmpContext context, bool force, string device) => new(targets.Jobs.BlockCancel(device, force));

    /// <summary>Completes a job.</summary>
    [HmpCommand(
        "block_job_complete", ArgsType = "device:B", Params = "device", Help = "stop an active background block operation")]
    public void BlockJobComplete(HmpContext context, string device) => targets.Jobs.BlockComplete(device);

    /// <summary>Pauses a job.</summary>
    [HmpCommand("block_job_pause", ArgsType = "device:B", Params = "device", Help = "pause an active background block operation")]
    public void BlockJobPause(HmpContext context, string device) => targets.Jobs.BlockPause(device);

    /// <summary>Lets a job go on.</summary>
    [HmpCommand("block_job_resume", ArgsType = "device:B", Params = "device", Help = "resume a paused background block operation")]
    public void BlockJobResume(HmpContext context, string device) => targets.Jobs.BlockResume(device);

    /// <summary>Lists the internal snapshots of all disks.</summary>
    [HmpCommand("info snapshots", Help = "show the currently saved VM snapshots")]
    public void InfoSnapshots(HmpContext context)
    {
        List<(string Name, BlockNode Node, IReadOnlyList<SnapshotInfo> Snapshots)> disks = [];
        foreach (BlockBackend backend in targets.Backends.All)
        {
            if (backend.Root is { IsReadOnly: false, Driver: Drivers.Qcow2.Qcow2Driver } node && (backend.Name.Length > 0 || backend.Device is not null))
            {
                disks.Add((backend.Name.Length > 0 ? backend.Name : node.Name, node, BlockQueryCommands.Describe(node, backend, flat: true).Image.Snapshots ?? []));
            }
        }

        if (disks.Count == 0)
        {
            context.PrintLine("no block device can store vmstate for snapshot");
            return;
        }

        if (disks[0].Snapshots.Count == 0)
        {
            context.PrintLine("There is no snapshot available.");
            return;
        }

        // Those from which the machine can be loaded are on all disks.
        List<SnapshotInfo> complete = [];
        foreach (SnapshotInfo snapshot in disks[0].Snapshots)
        {
            if (disks.TrueForAll(d => d.Snapshots.Any(s => s.Name == snapshot.Name)))
            {
                complete.Add(snapshot);
            }
        }

        context.PrintLine("List of snapshots present on all disks:");
        if (complete.Count == 0)
        {
            context.PrintLine("None");
        }
        else
        {
            BlockHmpText.PrintSnapshots(context, [.. complete.Select(static s => s with { Id = "--" })]);
        }

        foreach ((string name, _, IReadOnlyList<SnapshotInfo> snapshots) in disks)
        {
            SnapshotInfo[] partial = [.. snapshots.Where(s => !complete.Exists(c => c.Name == s.Name))];
            if (partial.Length > 0)
            {
                context.Print($"\nList of partial (non-loadable) snapshots on '{name}':\n");
                BlockHmpText.PrintSnapshots(context, partial);
            }
        }
    }

    private static void Separate(HmpContext context, bool isFirst)
    {
        if (!isFirst)
        {
            context.Print("\n");
        }
    }

    // These two report as the command line does.
    private static void Report(HmpContext context, QapiException error)
    {
        context.PrintLine(error.Desc);
        if (error.Hint is { } hint)
        {
            context.PrintLine(hint.TrimEnd('\n'));
        }
    }

    private async Task AddNodeAsync(string text)
    {
        QDict options = KeyvalParser.Parse(text, null);
        BlockdevOptions read = BlockdevOptions.QapiRead(options, new QapiReader(QapiInputMode.Keyval), null);
        if (read.NodeName is null)
        {
            throw new QapiException("'node-name' needs to be specified");
        }

        await targets.Graph.ChangeAsync(async () => targets.Graph.AddMonitorOwned(await targets.Graph.OpenAsync(read)));
    }

    private sealed class Warnings(HmpContext context) : IOptionDiagnostics
    {
        public void Warning(string text, string? hint = null)
        {
            context.PrintLine("warning: " + text);
            if (hint is not null)
            {
                context.PrintLine(hint.TrimEnd('\n'));
            }
        }
    }
}
