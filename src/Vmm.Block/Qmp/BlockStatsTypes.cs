using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Statistics of a back end or node.</summary>
[QapiStruct]
public sealed partial record BlockStats
{
    /// <summary>Name of the back end.</summary>
    public string? Device { get; init; }

    /// <summary>Id or path of the device.</summary>
    public string? Qdev { get; init; }

    /// <summary>Name of the node.</summary>
    public string? NodeName { get; init; }

    /// <summary>Counters.</summary>
    public required BlockDeviceStats Stats { get; init; }

    /// <summary>What the driver counts.</summary>
    public BlockStatsSpecific? DriverSpecific { get; init; }

    /// <summary>Statistics of the file below.</summary>
    public BlockStats? Parent { get; init; }

    /// <summary>Statistics of the backing file.</summary>
    public BlockStats? Backing { get; init; }
}

/// <summary>Statistics over an interval.</summary>
[QapiStruct]
public sealed partial record BlockDeviceTimedStats
{
    /// <summary>Length of the interval in seconds.</summary>
    [QapiName("interval_length")]
    public required long IntervalLength { get; init; }

    /// <summary>Shortest latency of reads in ns.</summary>
    [QapiName("min_rd_latency_ns")]
    public required long MinRdLatencyNs { get; init; }

    /// <summary>Longest latency of reads in ns.</summary>
    [QapiName("max_rd_latency_ns")]
    public required long MaxRdLatencyNs { get; init; }

    /// <summary>Mean latency of reads in ns.</summary>
    [QapiName("avg_rd_latency_ns")]
    public required long AvgRdLatencyNs { get; init; }

    /// <summary>Shortest latency of writes in ns.</summary>
    [QapiName("min_wr_latency_ns")]
    public required long MinWrLatencyNs { get; init; }

    /// <summary>Longest latency of writes in ns.</summary>
    [QapiName("max_wr_latency_ns")]
    public required long MaxWrLatencyNs { get; init; }

    /// <summary>Mean latency of writes in ns.</summary>
    [QapiName("avg_wr_latency_ns")]
    public required long AvgWrLatencyNs { get; init; }

    /// <summary>Shortest latency of flushes in ns.</summary>
    [QapiName("min_flush_latency_ns")]
    public required long MinFlushLatencyNs { get; init; }

    /// <summary>Longest latency of flushes in ns.</summary>
    [QapiName("max_flush_latency_ns")]
    public required long MaxFlushLatencyNs { get; init; }

    /// <summary>Mean latency of flushes in ns.</summary>
    [QapiName("avg_flush_latency_ns")]
    public required long AvgFlushLatencyNs { get; init; }

    /// <summary>Mean number of reads under way.</summary>
    [QapiName("avg_rd_queue_depth")]
    public required double AvgRdQueueDepth { get; init; }

    /// <summary>Mean number of writes under way.</summary>
    [QapiName("avg_wr_queue_depth")]
    public required double AvgWrQueueDepth { get; init; }
}

/// <summary>A histogram of latencies.</summary>
[QapiStruct]
public sealed partial record BlockLatencyHistogramInfo
{
    /// <summary>Limits of the bins in ns.</summary>
    public required IReadOnlyList<ulong> Boundaries { get; init; }

    /// <summary>Requests in each bin.</summary>
    public required IReadOnlyList<long> Bins { get; init; }
}

/// <summary>Counters.</summary>
[QapiStruct]
public sealed partial record BlockDeviceStats
{
    /// <summary>Bytes read.</summary>
    [QapiName("rd_bytes")]
    public required long RdBytes { get; init; }

    /// <summary>Bytes written.</summary>
    [QapiName("wr_bytes")]
    public required long WrBytes { get; init; }

    /// <summary>Bytes discarded.</summary>
    [QapiName("unmap_bytes")]
    public required long UnmapBytes { get; init; }

    /// <summary>Reads.</summary>
    [QapiName("rd_operations")]
    public required long RdOperations { get; init; }

    /// <summary>Writes.</summary>
    [QapiName("wr_operations")]
    public required long WrOperations { get; init; }

    /// <summary>Flushes.</summary>
    [QapiName("flush_operations")]
    public required long FlushOperations { get; init; }

    /// <summary>Discards.</summary>
    [QapiName("unmap_operations")]
    public required long UnmapOperations { get; init; }

    /// <summary>Time of reads in ns.</summary>
    [QapiName("rd_total_time_ns")]
    public required long RdTotalTimeNs { get; init; }

    /// <summary>Time of writes in ns.</summary>
    [QapiName("wr_total_time_ns")]
    public required long WrTotalTimeNs { get; init; }

    /// <summary>Time of flushes in ns.</summary>
    [QapiName("flush_total_time_ns")]
    public required long FlushTotalTimeNs { get; init; }

    /// <summary>Time of discards in ns.</summary>
    [QapiName("unmap_total_time_ns")]
    public required long UnmapTotalTimeNs { get; init; }

    /// <summary>End of the highest write.</summary>
    [QapiName("wr_highest_offset")]
    public required long WrHighestOffset { get; init; }

    /// <summary>Reads merged with others.</summary>
    [QapiName("rd_merged")]
    public required long RdMerged { get; init; }

    /// <summary>Writes merged with others.</summary>
    [QapiName("wr_merged")]
    public required long WrMerged { get; init; }

    /// <summary>Discards merged with others.</summary>
    [QapiName("unmap_merged")]
    public required long UnmapMerged { get; init; }

    /// <summary>Time since the last request in ns.</summary>
    [QapiName("idle_time_ns")]
    public long? IdleTimeNs { get; init; }

    /// <summary>Failed reads.</summary>
    [QapiName("failed_rd_operations")]
    public required long FailedRdOperations { get; init; }

    /// <summary>Failed writes.</summary>
    [QapiName("failed_wr_operations")]
    public required long FailedWrOperations { get; init; }

    /// <summary>Failed flushes.</summary>
    [QapiName("failed_flush_operations")]
    public required long FailedFlushOperations { get; init; }

    /// <summary>Failed discards.</summary>
    [QapiName("failed_unmap_operations")]
    public required long FailedUnmapOperations { get; init; }

    /// <summary>Invalid reads.</summary>
    [QapiName("invalid_rd_operations")]
    public required long InvalidRdOperations { get; init; }

    /// <summary>Invalid writes.</summary>
    [QapiName("invalid_wr_operations")]
    public required long InvalidWrOperations { get; init; }

    /// <summary>Invalid flushes.</summary>
    [QapiName("invalid_flush_operations")]
    public required long InvalidFlushOperations { get; init; }

    /// <summary>Invalid discards.</summary>
    [QapiName("invalid_unmap_operations")]
    public required long InvalidUnmapOperations { get; init; }

    /// <summary>Invalid requests count as requests.</summary>
    [QapiName("account_invalid")]
    public required bool AccountInvalid { get; init; }

    /// <summary>Failed requests count as requests.</summary>
    [QapiName("account_failed")]
    public required bool AccountFailed { get; init; }

    /// <summary>Statistics over intervals.</summary>
    [QapiName("timed_stats")]
    public required IReadOnlyList<BlockDeviceTimedStats> TimedStats { get; init; }

    /// <summary>Latencies of reads.</summary>
    [QapiName("rd_latency_histogram")]
    public BlockLatencyHistogramInfo? RdLatencyHistogram { get; init; }

    /// <summary>Latencies of writes.</summary>
    [QapiName("wr_latency_histogram")]
    public BlockLatencyHistogramInfo? WrLatencyHistogram { get; init; }

    /// <summary>Latencies of flushes.</summary>
    [QapiName("flush_latency_histogram")]
    public BlockLatencyHistogramInfo? FlushLatencyHistogram { get; init; }
}

/// <summary>What a driver counts.</summary>
[QapiUnion(Discriminator = "driver")]
public sealed partial record BlockStatsSpecific
{
    /// <summary>The driver.</summary>
    public required Options.BlockdevDriver Driver { get; init; }

    /// <summary>Of a file.</summary>
    [QapiBranch("file")]
    public BlockStatsSpecificFile? File { get; init; }

    /// <summary>Of a host device.</summary>
    [QapiBranch("host_device")]
    public BlockStatsSpecificFile? HostDevice { get; init; }
}

/// <summary>Discards of a file.</summary>
[QapiStruct]
public sealed partial record BlockStatsSpecificFile
{
    /// <summary>Discards that succeeded.</summary>
    public required ulong DiscardNbOk { get; init; }

    /// <summary>Discards that failed.</summary>
    public required ulong DiscardNbFailed { get; init; }

    /// <summary>Bytes of those that succeeded.</summary>
    public required ulong DiscardBytesOk { get; init; }
}
