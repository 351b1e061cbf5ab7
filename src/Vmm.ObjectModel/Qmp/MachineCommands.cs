using System.Globalization;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Commands that tell what the machine consists of.</summary>
public sealed class MachineCommands(MachineSummary machine, QomTree tree, RamList ram)
{
    /// <summary>Tells the machine's name.</summary>
    [QmpCommand("query-name", AllowPreconfig = true, Since = "0.14")]
    public NameInfo QueryName() => new() { Name = machine.Name };

    /// <summary>Tells which architecture the guest has.</summary>
    [QmpCommand("query-target", Since = "1.2")]
    public static TargetInfo QueryTarget() => new() { Arch = SysEmuTarget.X8664 };

    /// <summary>Tells the machine's UUID.</summary>
    [QmpCommand("query-uuid", AllowPreconfig = true, Since = "0.14")]
    public UuidInfo QueryUuid() => new() { Uuid = machine.Uuid };

    /// <summary>Lists the I/O threads.</summary>
    [QmpCommand("query-iothreads", AllowPreconfig = true, Since = "2.0")]
    public List<IOThreadInfo> QueryIOThreads()
    {
        var result = new List<IOThreadInfo>();
        foreach (IOThreadObject thread in Listed<IOThreadObject>())
        {
            result.Add(new IOThreadInfo
            {
                Id = thread.Name!,
                ThreadId = thread.ThreadId,
                PollMaxNs = thread.PollMaxNs,
                PollGrow = thread.PollGrow,
                PollShrink = thread.PollShrink,
                AioMaxBatch = thread.AioMaxBatch,
            });
        }

        return result;
    }

    /// <summary>Lists the memory back ends.</summary>
    [QmpCommand("query-memdev", AllowPreconfig = true, Since = "2.1")]
    public List<Memdev> QueryMemdev()
    {
        var result = new List<Memdev>();
        foreach (MemoryBackend backend in Listed<MemoryBackend>())
        {
            result.Insert(0, new Memdev
            {
                Id = backend.Name,
                Size = backend.Size,
                Merge = backend.Merge,
                Dump = backend.Dump,
                Prealloc = backend.Prealloc,
                Share = backend.Share,
                Reserve = backend.Reserve,
                HostNodes = backend.HostNodes(),
                Policy = (HostMemPolicy)backend.Policy,
            });
        }

        return result;
    }

    /// <summary>Tells how much memory the guest has.</summary>
    [QmpCommand("query-memory-size-summary", Since = "2.11")]
    public MemoryInfo QueryMemorySizeSummary() => new() { BaseMemory = machine.BaseMemory, PluggedMemory = 0 };

    /// <summary>Lists the memory devices that are plugged in.</summary>
    [QmpCommand("query-memory-devices", Since = "2.1")]
    public List<MemoryDeviceInfo> QueryMemoryDevices()
    {
        var result = new List<MemoryDeviceInfo>();
        if (tree.Machine is { } root)
        {
            Collect(root, result);
        }

        return result;
    }

    /// <summary>Shows the machine's name.</summary>
    [HmpCommand("info name", Help = "show the current VM name", AllowPreconfig = true)]
    public void InfoName(HmpContext context)
    {
        if (machine.Name is { } name)
        {
            context.PrintLine(name);
        }
    }

    /// <summary>Shows the machine's UUID.</summary>
    [HmpCommand("info uuid", Help = "show the current VM UUID", AllowPreconfig = true)]
    public void InfoUuid(HmpContext context) => context.PrintLine(machine.Uuid);

    /// <summary>Shows the I/O threads.</summary>
    [HmpCommand("info iothreads", Help = "show iothreads", AllowPreconfig = true)]
    public void InfoIOThreads(HmpContext context)
    {
        foreach (IOThreadInfo info in QueryIOThreads())
        {
            context.PrintLine($"{info.Id}:");
            context.PrintLine($"  thread_id={info.ThreadId}");
            context.PrintLine($"  poll-max-ns={info.PollMaxNs}");
            context.PrintLine($"  poll-grow={info.PollGrow}");
            context.PrintLine($"  poll-shrink={info.PollShrink}");
            context.PrintLine($"  aio-max-batch={info.AioMaxBatch}");
        }
    }

    /// <summary>Shows the memory back ends.</summary>
    [HmpCommand("info memdev", Help = "show memory backends", AllowPreconfig = true)]
    public void InfoMemdev(HmpContext context)
    {
        foreach (Memdev info in QueryMemdev())
        {
            context.PrintLine($"memory backend: {info.Id}");
            context.PrintLine($"  size:  {info.Size}");
            context.PrintLine($"  merge: {Truth(info.Merge)}");
            context.PrintLine($"  dump: {Truth(info.Dump)}");
            context.PrintLine($"  prealloc: {Truth(info.Prealloc)}");
            context.PrintLine($"  share: {Truth(info.Share)}");
            context.PrintLine($"  reserve: {Truth(info.Reserve == true)}");
            context.PrintLine($"  policy: {HostMemPolicyQapi.ToWire(info.Policy)}");
            context.PrintLine($"  host nodes: {NodeRanges(info.HostNodes)}");
        }

        context.PrintLine("");
    }

    /// <summary>Shows how much memory the guest has.</summary>
    [HmpCommand(
        "info memory_size_summary",
        Help = "show the amount of initially allocated and present hotpluggable (if enabled) memory in bytes.")]
    public void InfoMemorySizeSummary(HmpContext context)
    {
        context.PrintLine($"base memory: {machine.BaseMemory}");
        context.PrintLine("plugged memory: 0");
    }

    /// <summary>Shows the memory devices.</summary>
    [HmpCommand("info memory-devices", Help = "show memory devices")]
    public void InfoMemoryDevices(HmpContext context)
    {
        foreach (MemoryDeviceInfo info in QueryMemoryDevices())
        {
            if ((info.Dimm ?? info.Nvdimm) is { } dimm)
            {
                context.PrintLine($"Memory device [{info.Type.ToWire()}]: \"{dimm.Id}\"");
                context.PrintLine($"  addr: 0x{dimm.Addr:x}");
                context.PrintLine($"  slot: {dimm.Slot}");
                context.PrintLine($"  node: {dimm.Node}");
                context.PrintLine($"  size: {dimm.Size}");
                context.PrintLine($"  memdev: {dimm.Memdev}");
                context.PrintLine($"  hotplugged: {Truth(dimm.Hotplugged)}");
                context.PrintLine($"  hotpluggable: {Truth(dimm.Hotpluggable)}");
            }
        }
    }

    /// <summary>Shows the blocks of guest RAM.</summary>
    [HmpCommand("info ramblock", Help = "Display system ramblock information", AllowPreconfig = true)]
    public void InfoRamblock(HmpContext context) => context.Print(RamText());

    /// <summary>Shows the blocks of guest RAM as text.</summary>
    [QmpCommand("x-query-ramblock", Since = "6.2")]
    [QapiFeature("unstable")]
    public HumanReadableText QueryRamblock() => new() { Text = RamText() };

    /// <summary>Shows the images of firmware and kernels.</summary>
    [HmpCommand("info roms", Help = "show roms")]
    public void InfoRoms(HmpContext context) => context.Print(machine.Roms.Describe());

    /// <summary>Shows the images of firmware and kernels as text.</summary>
    [QmpCommand("x-query-roms", Since = "6.2")]
    [QapiFeature("unstable")]
    public HumanReadableText QueryRoms() => new() { Text = machine.Roms.Describe() };

    /// <summary>Shows the NUMA nodes of the guest.</summary>
    [HmpCommand("info numa", Help = "show NUMA information")]
    public void InfoNuma(HmpContext context) => context.Print(NumaText());

    /// <summary>Shows the NUMA nodes of the guest as text.</summary>
    [QmpCommand("x-query-numa", Since = "6.2")]
    [QapiFeature("unstable")]
    public HumanReadableText QueryNuma() => new() { Text = NumaText() };

    /// <summary>Ranges such as "0-2,5".</summary>
    internal static string NodeRanges(IReadOnlyList<ushort> nodes)
    {
        var text = new System.Text.StringBuilder();
        for (int i = 0; i < nodes.Count; i++)
        {
            int first = i;
            while (i + 1 < nodes.Count && nodes[i + 1] == nodes[i] + 1)
            {
                i++;
            }

            text.Append(text.Length > 0 ? "," : "").Append(nodes[first]);
            if (i > first)
            {
                text.Append('-').Append(nodes[i]);
            }
        }

        return text.ToString();
    }

    private static void Collect(QomObject obj, List<MemoryDeviceInfo> result)
    {
        foreach (QomObject child in obj.Children)
        {
            if (child is IMemoryDevice device)
            {
                result.Add(device.Describe());
            }

            Collect(child, result);
        }
    }

    private static string Truth(bool value) => value ? "true" : "false";

    private static string PageSize(ulong bytes) =>
        bytes >= 1 << 30 ? $"{bytes >> 30} GiB" : bytes >= 1 << 20 ? $"{bytes >> 20} MiB" : $"{bytes >> 10} KiB";

    private string NumaText()
    {
        var text = new System.Text.StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"{machine.NumaNodes.Count} nodes\n");
        for (int i = 0; i < machine.NumaNodes.Count; i++)
        {
            (IReadOnlyList<int> cpus, ulong size) = machine.NumaNodes[i];
            text.Append(CultureInfo.InvariantCulture, $"node {i} cpus:");
            foreach (int cpu in cpus)
            {
                text.Append(CultureInfo.InvariantCulture, $" {cpu}");
            }

            text.Append(CultureInfo.InvariantCulture, $"\nnode {i} size: {size >> 20} MB\nnode {i} plugged: 0 MB\n");
        }

        return text.ToString();
    }

    private string RamText()
    {
        var text = new System.Text.StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"{"Block Name",24} {"PSize",8}  {"Offset",18} {"Used",18} {"Total",18}\n");
        foreach ((RamBlock block, ulong offset) in ram.Blocks)
        {
            text.Append(
                CultureInfo.InvariantCulture,
                $"{block.IdString,24} {PageSize(block.PageSize),8}  0x{offset:x16} 0x{block.UsedSize:x16} 0x{block.Size:x16}\n");
        }

        return text.ToString();
    }

    private List<T> Listed<T>()
        where T : QomObject
    {
        var result = new List<T>();
        foreach (QomObject child in tree.Objects.ChildrenInWireOrder())
        {
            if (child is T match)
            {
                result.Add(match);
            }
        }

        return result;
    }
}

/// <summary>A device that adds guest memory; query-memory-devices asks it.</summary>
public interface IMemoryDevice
{
    /// <summary>What it is and where its memory is.</summary>
    MemoryDeviceInfo Describe();
}
