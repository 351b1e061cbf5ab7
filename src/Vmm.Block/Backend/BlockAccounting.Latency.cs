namespace Vmm.Block.Backend;

/// <content>How long requests take.</content>
public sealed partial class BlockAccounting
{
    // Discards are not looked at.
    private const int LatencyKinds = 3;

    private readonly LatencyHistogram?[] _histograms = new LatencyHistogram?[LatencyKinds];
    private LatencyInterval[] _intervals = [];

    /// <summary>The intervals for which latencies are kept.</summary>
    public IReadOnlyList<LatencyInterval> Intervals => _intervals;

    /// <summary>Keeps latencies for intervals. Before the first request.</summary>
    public void SetIntervals(IReadOnlyList<long> seconds)
    {
        long now = Start();
        _intervals = [.. seconds.Select(s => new LatencyInterval(s, now))];
    }

    /// <summary>The histogram of a kind; null when there is none.</summary>
    public LatencyHistogram? Histogram(AccountedKind kind) => (int)kind < LatencyKinds ? Volatile.Read(ref _histograms[(int)kind]) : null;

    /// <summary>Begins a histogram, or ends it with null.</summary>
    public void SetHistogram(AccountedKind kind, LatencyHistogram? histogram) => Volatile.Write(ref _histograms[(int)kind], histogram);

    private void AddLatency(int kind, long ns, long now)
    {
        if (kind >= LatencyKinds)
        {
            return;
        }

        Volatile.Read(ref _histograms[kind])?.Add(ns);
        foreach (LatencyInterval interval in _intervals)
        {
            interval.Add((AccountedKind)kind, ns, now);
        }
    }
}

/// <summary>Latencies over an interval. Any thread.</summary>
/// <param name="seconds">Its length.</param>
/// <param name="nowNs">The time.</param>
public sealed class LatencyInterval(long seconds, long nowNs)
{
    private readonly TimedAverage[] _latencies =
    [
        new(seconds * 1_000_000_000, nowNs),
        new(seconds * 1_000_000_000, nowNs),
        new(seconds * 1_000_000_000, nowNs),
    ];

    /// <summary>Its length in seconds.</summary>
    public long Seconds => seconds;

    /// <summary>Least, greatest and mean latency in ns.</summary>
    public (long Min, long Max, long Average) Values(AccountedKind kind, long now)
    {
        lock (_latencies)
        {
            return _latencies[(int)kind].Values(now);
        }
    }

    /// <summary>Mean number of requests under way.</summary>
    public double Depth(AccountedKind kind, long now)
    {
        lock (_latencies)
        {
            return _latencies[(int)kind].Density(now);
        }
    }

    internal void Add(AccountedKind kind, long ns, long now)
    {
        lock (_latencies)
        {
            _latencies[(int)kind].Add(ns, now);
        }
    }
}
