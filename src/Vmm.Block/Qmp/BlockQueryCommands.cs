using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Drivers.Files;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Throttling;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands that tell of back ends and nodes. Home: main loop.</summary>
public sealed class BlockQueryCommands(BlockGraph graph, BlockBackends backends)
{
    /// <summary>All back ends that have a name or a device.</summary>
    [QmpCommand("query-block", AllowPreconfig = true, Since = "0.14")]
    public IReadOnlyList<BlockInfo> QueryBlock()
    {
        List<BlockInfo> result = [];
        foreach (BlockBackend backend in backends.All)
        {
            if (backend.Name.Length == 0 && backend.Device is null)
            {
                continue;
            }

            result.Add(new BlockInfo
            {
                Device = backend.Name,
                Qdev = backend.Device?.QdevName,
                Type = "unknown",
                Removable = backend.Device?.IsRemovable ?? true,
                Locked = backend.Device?.IsLocked ?? false,
                Inserted = backend.Root is { } root && !root.SkipImplicit.Driver.IsEjected ? Describe(root.SkipImplicit, backend, flat: false) : null,
                TrayOpen = backend.Device?.IsTrayOpen,
                IoStatus = backend.IoStatus,
            });
        }

        return result;
    }

    /// <summary>All nodes that have a name, newest first.</summary>
    [QmpCommand("query-named-block-nodes", ArgsType = "flat:b?", AllowPreconfig = true, Since = "2.0")]
    public IReadOnlyList<BlockDeviceInfo> QueryNamedBlockNodes(bool? flat)
    {
        List<BlockDeviceInfo> result = [];
        for (int i = graph.Nodes.Count - 1; i >= 0; i--)
        {
            result.Add(Describe(graph.Nodes[i], null, flat ?? false));
        }

        return result;
    }

    /// <summary>Counters of back ends and the nodes below them, or of all nodes.</summary>
    [QmpCommand("query-blockstats", ArgsType = "query-nodes:b?", AllowPreconfig = true, Since = "0.14")]
    public IReadOnlyList<BlockStats> QueryBlockstats(bool? queryNodes)
    {
        List<BlockStats> result = [];
        if (queryNodes ?? false)
        {
            foreach (BlockNode node in graph.Nodes)
            {
                result.Add(StatsOf(node, null, withBacking: false));
            }

            return result;
        }

        foreach (BlockBackend backend in backends.All)
        {
            if (backend.Name.Length > 0 || backend.Device is not null)
            {
                result.Add(StatsOf(backend));
            }
        }

        return result;
    }

    /// <summary>What clients are told of a corrupt image.</summary>
    public static BlockImageCorruptedEvent CorruptionEvent(ImageCorruption corruption)
    {
        string device = "";
        foreach (BlockEdge edge in corruption.Node.Parents)
        {
            device = edge.Parent is BlockBackend { Name.Length: > 0 } backend ? backend.Name : device;
        }

        return new BlockImageCorruptedEvent(
            device,
            corruption.Node.Name,
            corruption.Message,
            corruption.Offset < 0 ? null : corruption.Offset,
            corruption.Bytes < 0 ? null : corruption.Bytes,
            corruption.IsFatal);
    }

    /// <summary>Begins or ends histograms of a device's latencies.</summary>
    [QmpCommand(
        "block-latency-histogram-set",
        ArgsType = "id:s,boundaries:q?,boundaries-read:q?,boundaries-write:q?,boundaries-flush:q?",
        AllowPreconfig = true,
        Since = "4.0")]
    public void SetLatencyHistogram(
        string id,
        IReadOnlyList<ulong>? boundaries,
        IReadOnlyList<ulong>? boundariesRead,
        IReadOnlyList<ulong>? boundariesWrite,
        IReadOnlyList<ulong>? boundariesFlush)
    {
        BlockAccounting accounting = backends.Resolve(null, id).Accounting;
        if (boundaries is null && boundariesRead is null && boundariesWrite is null && boundariesFlush is null)
        {
            for (AccountedKind kind = AccountedKind.Read; kind <= AccountedKind.Flush; kind++)
            {
                accounting.SetHistogram(kind, null);
            }
        }

        Set(AccountedKind.Read, "read", boundariesRead ?? boundaries);
        Set(AccountedKind.Write, "write", boundariesWrite ?? boundaries);
        Set(AccountedKind.Flush, "flush", boundariesFlush ?? boundaries);

        void Set(AccountedKind kind, string name, IReadOnlyList<ulong>? limits)
        {
            if (limits is null)
            {
                return;
            }

            accounting.SetHistogram(kind, LatencyHistogram.IsValid(limits)
                ? new LatencyHistogram(limits)
                : throw new QapiException($"Device '{id}' set {name} boundaries fail"));
        }
    }

    /// <summary>What a client is told of a node.</summary>
    internal static BlockDeviceInfo Describe(BlockNode node, BlockBackend? backend, bool flat)
    {
        if (node.Driver.IsEjected)
        {
            throw new QapiException($"Block device {node.Name} is ejected");
        }

        ThrottleConfig limits = backend?.Limits ?? new ThrottleConfig();
        BlockNode? backing = node.FilteredOrBacking;
        bool isLimited = backend?.Limits is not null;
        long? Max(ThrottleBucket b) => limits[b].Max > 0 ? limits[b].Max : null;
        long? Length(ThrottleBucket b) => limits[b].Max > 0 ? limits[b].BurstLength : null;
        int depth = 0;
        for (BlockNode? below = flat ? null : backing; below is not null; below = below.FilteredOrBacking)
        {
            depth++;
        }

        return new BlockDeviceInfo
        {
            File = node.Filename,
            NodeName = node.Name,
            Ro = node.IsReadOnly,
            Drv = node.Driver.FormatName,
            BackingFile = node.Driver.IsFilter ? null : node.Backing?.Node.Filename,
            BackingFileDepth = depth,
            Encrypted = node.Driver.IsEncrypted,
            DetectZeroes = node.Options.DetectZeroes,
            Bps = limits[ThrottleBucket.BpsTotal].Average,
            BpsRd = limits[ThrottleBucket.BpsRead].Average,
            BpsWr = limits[ThrottleBucket.BpsWrite].Average,
            Iops = limits[ThrottleBucket.IopsTotal].Average,
            IopsRd = limits[ThrottleBucket.IopsRead].Average,
            IopsWr = limits[ThrottleBucket.IopsWrite].Average,
            Image = DescribeImage(node, flat),
            BpsMax = Max(ThrottleBucket.BpsTotal),
            BpsRdMax = Max(ThrottleBucket.BpsRead),
            BpsWrMax = Max(ThrottleBucket.BpsWrite),
            IopsMax = Max(ThrottleBucket.IopsTotal),
            IopsRdMax = Max(ThrottleBucket.IopsRead),
            IopsWrMax = Max(ThrottleBucket.IopsWrite),
            BpsMaxLength = Length(ThrottleBucket.BpsTotal),
            BpsRdMaxLength = Length(ThrottleBucket.BpsRead),
            BpsWrMaxLength = Length(ThrottleBucket.BpsWrite),
            IopsMaxLength = Length(ThrottleBucket.IopsTotal),
            IopsRdMaxLength = Length(ThrottleBucket.IopsRead),
            IopsWrMaxLength = Length(ThrottleBucket.IopsWrite),
            IopsSize = isLimited && limits.IopsSize > 0 ? limits.IopsSize : null,
            Group = backend?.ThrottleGroupName,
            Cache = new BlockdevCacheInfo
            {
                Writeback = backend?.IsWriteCacheEnabled ?? true,
                Direct = node.Options.IsDirect,
                NoFlush = node.Options.IsNoFlush,
            },
            WriteThreshold = node.WriteThreshold,
            DirtyBitmaps = DescribeBitmaps(node),
        };
    }

    private static List<BlockDirtyInfo>? DescribeBitmaps(BlockNode node)
    {
        if (node.BitmapViews.Count == 0)
        {
            return null;
        }

        // Newest first.
        List<BlockDirtyInfo> bitmaps = [];
        for (int i = node.BitmapViews.Count - 1; i >= 0; i--)
        {
            Bitmaps.IBitmapView bitmap = node.BitmapViews[i];
            bitmaps.Add(new BlockDirtyInfo
            {
                Name = bitmap.Name,
                Count = bitmap.DirtyBytes,
                Granularity = bitmap.Granularity,
                Recording = bitmap.IsEnabled,
                Busy = bitmap.IsBusy,
                Persistent = bitmap.IsPersistent,
                Inconsistent = bitmap.IsInconsistent ? true : null,
            });
        }

        return bitmaps;
    }

    private static ImageInfo DescribeImage(BlockNode node, bool flat)
    {
        ImageDescription image = new();
        node.Driver.DescribeImage(image);
        long allocated = node.Driver.GetAllocatedBytes();
        return new ImageInfo
        {
            Filename = node.Filename,
            Format = node.Driver.FormatName,
            DirtyFlag = image.IsDirty,
            ActualSize = allocated >= 0 ? allocated : null,
            VirtualSize = (node.Length + 511) & ~511L,
            ClusterSize = node.Driver.ClusterBytes is > 0 and int cluster ? cluster : null,
            Encrypted = node.Driver.IsEncrypted ? true : null,
            Compressed = image.IsCompressed ? true : null,
            BackingFilename = image.BackingFile,
            FullBackingFilename = image.FullBackingFile,
            BackingFilenameFormat = image.BackingFormat,
            Snapshots = DescribeSnapshots(image.Snapshots),
            FormatSpecific = image.FormatSpecific is { } specific && ImageInfoSpecificKindQapi.TryParse(specific.GetString("type") ?? "", out _)
                ? ImageInfoSpecific.QapiRead(specific, new QapiReader(), null)
                : null,
            BackingImage = !flat && node.FilteredOrBacking is { } backing ? DescribeImage(backing, flat) : null,
        };
    }

    private static List<SnapshotInfo>? DescribeSnapshots(QList? list)
    {
        if (list is null)
        {
            return null;
        }

        List<SnapshotInfo> snapshots = [];
        foreach (QValue snapshot in list)
        {
            snapshots.Add(SnapshotInfo.QapiRead(snapshot, new QapiReader(), null));
        }

        return snapshots;
    }

    private static BlockStats StatsOf(BlockBackend backend)
    {
        BlockStats below = backend.Root is { } root ? StatsOf(root, backend, withBacking: true) : new BlockStats { Stats = Counters(null, backend) };
        return below with { Device = backend.Name, Qdev = backend.Device?.QdevName };
    }

    private static BlockStats StatsOf(BlockNode node, BlockBackend? backend, bool withBacking)
    {
        node = withBacking ? node.SkipImplicit : node;
        BlockNode? parent = StorageOf(node);
        return new BlockStats
        {
            NodeName = node.Name,
            Stats = Counters(node, backend),
            DriverSpecific = Specific(node),
            Parent = parent is null ? null : StatsOf(parent, null, withBacking),
            Backing = withBacking && node.FilteredOrBacking is { } backing ? StatsOf(backing, null, withBacking) : null,
        };
    }

    // The child that has the node's data: the primary one, or the only other.
    private static BlockNode? StorageOf(BlockNode node)
    {
        if (node.Primary is { } primary && (primary.Role & (ChildRole.Data | ChildRole.Filtered)) != 0)
        {
            return primary.Node;
        }

        BlockEdge? found = null;
        foreach (BlockEdge edge in node.Children)
        {
            if ((edge.Role & ChildRole.Data) != 0)
            {
                if (found is not null)
                {
                    return null;
                }

                found = edge;
            }
        }

        return found?.Node;
    }

    private static BlockStatsSpecific? Specific(BlockNode node)
    {
        if (node.Driver is not FileDriver file)
        {
            return null;
        }

        BlockStatsSpecificFile counters = new()
        {
            DiscardNbOk = (ulong)file.DiscardStatistics.Succeeded,
            DiscardNbFailed = (ulong)file.DiscardStatistics.Failed,
            DiscardBytesOk = (ulong)file.DiscardStatistics.Bytes,
        };
        return file.FormatName == "file"
            ? new BlockStatsSpecific { Driver = BlockdevDriver.File, File = counters }
            : new BlockStatsSpecific { Driver = BlockdevDriver.HostDevice, HostDevice = counters };
    }

    private static BlockDeviceStats Counters(BlockNode? node, BlockBackend? backend)
    {
        BlockAccounting a = backend?.Accounting ?? s_none;
        return new BlockDeviceStats
        {
            RdBytes = a.Bytes(AccountedKind.Read),
            WrBytes = a.Bytes(AccountedKind.Write),
            UnmapBytes = a.Bytes(AccountedKind.Unmap),
            RdOperations = a.Operations(AccountedKind.Read),
            WrOperations = a.Operations(AccountedKind.Write),
            FlushOperations = a.Operations(AccountedKind.Flush),
            UnmapOperations = a.Operations(AccountedKind.Unmap),
            RdTotalTimeNs = a.TimeNs(AccountedKind.Read),
            WrTotalTimeNs = a.TimeNs(AccountedKind.Write),
            FlushTotalTimeNs = a.TimeNs(AccountedKind.Flush),
            UnmapTotalTimeNs = a.TimeNs(AccountedKind.Unmap),
            WrHighestOffset = node?.WriteHighestOffset ?? 0,
            RdMerged = 0,
            WrMerged = 0,
            UnmapMerged = 0,
            IdleTimeNs = a.LastNs == 0 ? null : BlockAccounting.Start() - a.LastNs,
            FailedRdOperations = a.Failed(AccountedKind.Read),
            FailedWrOperations = a.Failed(AccountedKind.Write),
            FailedFlushOperations = a.Failed(AccountedKind.Flush),
            FailedUnmapOperations = a.Failed(AccountedKind.Unmap),
            InvalidRdOperations = a.Invalid(AccountedKind.Read),
            InvalidWrOperations = a.Invalid(AccountedKind.Write),
            InvalidFlushOperations = a.Invalid(AccountedKind.Flush),
            InvalidUnmapOperations = a.Invalid(AccountedKind.Unmap),
            AccountInvalid = backend is not null && a.CountsInvalid,
            AccountFailed = backend is not null && a.CountsFailed,
            TimedStats = [.. a.Intervals.Select(static interval => Describe(interval))],
            RdLatencyHistogram = Describe(a.Histogram(AccountedKind.Read)),
            WrLatencyHistogram = Describe(a.Histogram(AccountedKind.Write)),
            FlushLatencyHistogram = Describe(a.Histogram(AccountedKind.Flush)),
        };
    }

    private static BlockLatencyHistogramInfo? Describe(LatencyHistogram? histogram) => histogram is null
        ? null
        : new BlockLatencyHistogramInfo { Boundaries = histogram.Boundaries, Bins = histogram.Bins };

    private static BlockDeviceTimedStats Describe(LatencyInterval interval)
    {
        long now = BlockAccounting.Start();
        var (minRead, maxRead, averageRead) = interval.Values(AccountedKind.Read, now);
        var (minWrite, maxWrite, averageWrite) = interval.Values(AccountedKind.Write, now);
        var (minFlush, maxFlush, averageFlush) = interval.Values(AccountedKind.Flush, now);
        return new BlockDeviceTimedStats
        {
            IntervalLength = interval.Seconds,
            MinRdLatencyNs = minRead,
            MaxRdLatencyNs = maxRead,
            AvgRdLatencyNs = averageRead,
            MinWrLatencyNs = minWrite,
            MaxWrLatencyNs = maxWrite,
            AvgWrLatencyNs = averageWrite,
            MinFlushLatencyNs = minFlush,
            MaxFlushLatencyNs = maxFlush,
            AvgFlushLatencyNs = averageFlush,
            AvgRdQueueDepth = interval.Depth(AccountedKind.Read, now),
            AvgWrQueueDepth = interval.Depth(AccountedKind.Write, now),
        };
    }

    private static readonly BlockAccounting s_none = new();
}
