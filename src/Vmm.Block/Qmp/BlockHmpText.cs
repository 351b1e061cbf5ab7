using System.Globalization;
using Vmm.Block.Options;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>How the terminal shows disks. Pure.</summary>
internal static class BlockHmpText
{
    private const string SnapshotHeader = "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT";

    /// <summary>Prints a back end with its medium, or a node.</summary>
    internal static void Print(HmpContext context, BlockInfo? info, BlockDeviceInfo? node, bool isVerbose)
    {
        context.Print(Head(info, node));
        if (info is not null)
        {
            PrintDevice(context, info);
        }

        if (node is null)
        {
            return;
        }

        BlockdevCacheInfo cache = node.Cache;
        context.PrintLine($"    Cache mode:       {(cache.Writeback ? "writeback" : "writethrough")}{(cache.Direct ? ", direct" : "")}{(cache.NoFlush ? ", ignore flushes" : "")}");
        if (node.BackingFile is { } backing)
        {
            context.PrintLine($"    Backing file:     {backing} (chain depth: {node.BackingFileDepth})");
        }

        if (node.DetectZeroes != DetectZeroesMode.Off)
        {
            context.PrintLine($"    Detect zeroes:    {node.DetectZeroes.ToWire()}");
        }

        if ((node.Bps | node.BpsRd | node.BpsWr | node.Iops | node.IopsRd | node.IopsWr) != 0)
        {
            context.PrintLine(
                $"    I/O throttling:   bps={node.Bps} bps_rd={node.BpsRd} bps_wr={node.BpsWr} bps_max={node.BpsMax ?? 0} bps_rd_max={node.BpsRdMax ?? 0} bps_wr_max={node.BpsWrMax ?? 0} iops={node.Iops} iops_rd={node.IopsRd} iops_wr={node.IopsWr} iops_max={node.IopsMax ?? 0} iops_rd_max={node.IopsRdMax ?? 0} iops_wr_max={node.IopsWrMax ?? 0} iops_size={node.IopsSize ?? 0} group={node.Group}");
        }

        if (isVerbose)
        {
            context.Print("\nImages:\n");
            for (ImageInfo? image = node.Image; image is not null; image = image.BackingImage)
            {
                Print(context, image);
            }
        }
    }

    /// <summary>The head of a table of snapshots.</summary>
    internal static void PrintSnapshots(HmpContext context, IReadOnlyList<SnapshotInfo> snapshots)
    {
        context.PrintLine(SnapshotHeader);
        foreach (SnapshotInfo s in snapshots)
        {
            DateTimeOffset date = DateTimeOffset.FromUnixTimeSeconds(s.DateSec).ToLocalTime();
            string clock = $"{s.VmClockSec / 3600:D2}:{s.VmClockSec / 60 % 60:D2}:{s.VmClockSec % 60:D2}.{s.VmClockNsec / 1_000_000:D3}";
            string icount = s.Icount is { } count ? count.ToString(CultureInfo.InvariantCulture) : "";
            string time = date.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture);
            context.PrintLine($"{s.Id,-9} {s.Name,-16} {Size(s.VmStateSize),8} {time,19} {clock,12} {icount,10}");
        }
    }

    /// <summary>A size with three digits: "1.5 MiB".</summary>
    internal static string Size(long bytes)
    {
        const string Units = " KMGTPE";
        double value = bytes;
        int unit = 0;

        // What would take four digits goes to the next unit.
        while (value >= 1000 && unit < 6)
        {
            value /= 1024;
            unit++;
        }

        int decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
        string digits = Math.Round(value, decimals, MidpointRounding.ToEven).ToString("0.##", CultureInfo.InvariantCulture);
        return unit == 0 ? digits + " B" : $"{digits} {Units[unit]}iB";
    }

    private static string Head(BlockInfo? info, BlockDeviceInfo? node)
    {
        string name;
        if (info is { Device.Length: > 0 })
        {
            name = node is null ? info.Device : $"{info.Device} ({node.NodeName})";
        }
        else
        {
            name = node?.NodeName ?? info?.Qdev ?? "<anonymous>";
        }

        return node is null
            ? name + ": [not inserted]\n"
            : $"{name}: {node.File} ({node.Drv}{(node.Ro ? ", read-only" : "")}{(node.Encrypted ? ", encrypted" : "")})\n";
    }

    private static void PrintDevice(HmpContext context, BlockInfo info)
    {
        if (info.Qdev is { } qdev)
        {
            context.PrintLine($"    Attached to:      {qdev}");
        }

        if (info.IoStatus is { } status && status != BlockDeviceIoStatus.Ok)
        {
            context.PrintLine($"    I/O status:       {status.ToWire()}");
        }

        if (info.Removable)
        {
            context.PrintLine($"    Removable device: {(info.Locked ? "" : "not ")}locked, tray {(info.TrayOpen ?? false ? "open" : "closed")}");
        }
    }

    private static void Print(HmpContext context, ImageInfo image)
    {
        context.PrintLine($"image: {image.Filename}");
        context.PrintLine($"file format: {image.Format}");
        context.PrintLine($"virtual size: {Size(image.VirtualSize)} ({image.VirtualSize} bytes)");
        context.PrintLine($"disk size: {(image.ActualSize is { } actual ? Size(actual) : "unavailable")}");
        if (image.Encrypted ?? false)
        {
            context.PrintLine("encrypted: yes");
        }

        if (image.ClusterSize is { } cluster)
        {
            context.PrintLine($"cluster_size: {cluster}");
        }

        if (image.DirtyFlag ?? false)
        {
            context.PrintLine("cleanly shut down: no");
        }

        if (image.BackingFilename is { } backing)
        {
            string actualPath = image.FullBackingFilename is not { } full
                ? " (cannot determine actual path)"
                : full == backing ? "" : $" (actual path: {full})";
            context.PrintLine($"backing file: {backing}{actualPath}");
            if (image.BackingFilenameFormat is { } format)
            {
                context.PrintLine($"backing file format: {format}");
            }
        }

        if (image.Snapshots is { } snapshots)
        {
            context.PrintLine("Snapshot list:");
            PrintSnapshots(context, snapshots);
        }

        if (image.FormatSpecific is { } specific && (specific.QapiToValue() as QDict)?.GetDict("data") is { } data)
        {
            context.PrintLine("Format specific information:");
            Print(context, data, 1);
        }
    }

    internal static void Print(HmpContext context, QDict dict, int depth)
    {
        foreach (KeyValuePair<string, QValue> member in dict)
        {
            PrintMember(context, member.Key.Replace('-', ' '), member.Value, depth);
        }
    }

    private static void PrintMember(HmpContext context, string name, QValue value, int depth)
    {
        string indent = new(' ', depth * 4);
        switch (value)
        {
            case QDict dict:
                context.PrintLine($"{indent}{name}:");
                Print(context, dict, depth + 1);
                break;
            case QList list:
                context.PrintLine($"{indent}{name}:");
                for (int i = 0; i < list.Count; i++)
                {
                    PrintMember(context, $"[{i}]", list[i], depth + 1);
                }

                break;
            default:
                context.PrintLine($"{indent}{name}: {(value is QString text ? text.Value : value.ToJson())}");
                break;
        }
    }
}
