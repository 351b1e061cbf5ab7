using Vmm.Qapi;

namespace Vmm.Block.Throttling;

/// <summary>What a bucket limits.</summary>
public enum ThrottleBucket
{
    /// <summary>Bytes of all requests.</summary>
    BpsTotal,

    /// <summary>Bytes read.</summary>
    BpsRead,

    /// <summary>Bytes written.</summary>
    BpsWrite,

    /// <summary>All requests.</summary>
    IopsTotal,

    /// <summary>Reads.</summary>
    IopsRead,

    /// <summary>Writes.</summary>
    IopsWrite,
}

/// <summary>Limits of one bucket.</summary>
/// <param name="Average">Units per second over a long time; 0: no limit.</param>
/// <param name="Max">Units per second in bursts; 0: no bursts beyond a tenth of a second's average.</param>
/// <param name="BurstLength">How long a burst at <paramref name="Max"/> may last, in seconds, at least 1.</param>
public readonly record struct ThrottleRate(long Average, long Max, long BurstLength)
{
    /// <summary>No limit.</summary>
    public static ThrottleRate None => new(0, 0, 1);
}

/// <summary>The limits of a group. Immutable.</summary>
public sealed class ThrottleConfig
{
    /// <summary>The greatest rate.</summary>
    public const long MaxValue = 1_000_000_000_000_000;

    /// <summary>Number of buckets.</summary>
    public const int Buckets = 6;

    private readonly ThrottleRate[] _rates;

    /// <summary>No limits.</summary>
    public ThrottleConfig()
        : this([ThrottleRate.None, ThrottleRate.None, ThrottleRate.None, ThrottleRate.None, ThrottleRate.None, ThrottleRate.None], 0)
    {
    }

    /// <summary>Limits in the order of <see cref="ThrottleBucket"/>.</summary>
    /// <param name="rates">Six rates.</param>
    /// <param name="iopsSize">Bytes that count as one request; 0: every request counts as one.</param>
    public ThrottleConfig(ReadOnlySpan<ThrottleRate> rates, long iopsSize)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(rates.Length, Buckets);
        _rates = rates.ToArray();
        IopsSize = iopsSize;
    }

    /// <summary>The limits of a bucket.</summary>
    public ThrottleRate this[ThrottleBucket bucket] => _rates[(int)bucket];

    /// <summary>Bytes that count as one request; 0: every request counts as one.</summary>
    public long IopsSize { get; }

    /// <summary>True when something is limited.</summary>
    public bool IsEnabled => Array.Exists(_rates, static rate => rate.Average > 0);

    /// <summary>These limits with another one for a bucket.</summary>
    public ThrottleConfig With(ThrottleBucket bucket, ThrottleRate rate)
    {
        ThrottleConfig copy = new(_rates, IopsSize);
        copy._rates[(int)bucket] = rate;
        return copy;
    }

    /// <summary>These limits with another size of a request.</summary>
    public ThrottleConfig WithIopsSize(long bytes) => new(_rates, bytes);

    /// <summary>Refuses limits that contradict each other.</summary>
    /// <exception cref="QapiException">They do.</exception>
    public void Validate()
    {
        if (Conflicts(ThrottleBucket.BpsTotal) || Conflicts(ThrottleBucket.IopsTotal))
        {
            throw new QapiException("bps/iops/max total values and read/write values cannot be used at the same time");
        }

        if (IopsSize != 0 && _rates[3].Average == 0 && _rates[4].Average == 0 && _rates[5].Average == 0)
        {
            throw new QapiException("iops size requires an iops value to be set");
        }

        foreach (ThrottleRate rate in _rates)
        {
            Validate(rate);
        }
    }

    private static void Validate(ThrottleRate rate)
    {
        if (rate.Average < 0 || rate.Max < 0 || rate.Average > MaxValue || rate.Max > MaxValue)
        {
            throw new QapiException($"bps/iops/max values must be within [0, {MaxValue}]");
        }

        if (rate.BurstLength == 0)
        {
            throw new QapiException("the burst length cannot be 0");
        }

        // As unsigned numbers: a negative one is a great one.
        if ((ulong)rate.BurstLength > 1 && rate.Max == 0)
        {
            throw new QapiException("burst length set without burst rate");
        }

        if (rate.Max != 0 && (ulong)rate.BurstLength > (ulong)(MaxValue / rate.Max))
        {
            throw new QapiException("burst length too high for this burst rate");
        }

        if (rate.Max != 0 && rate.Average == 0)
        {
            throw new QapiException("bps_max/iops_max require corresponding bps/iops values");
        }

        if (rate.Max != 0 && rate.Max < rate.Average)
        {
            throw new QapiException("bps_max/iops_max cannot be lower than bps/iops");
        }
    }

    private bool Conflicts(ThrottleBucket total)
    {
        ThrottleRate all = this[total];
        ThrottleRate read = this[total + 1];
        ThrottleRate write = this[total + 2];
        return (all.Average != 0 && (read.Average != 0 || write.Average != 0)) || (all.Max != 0 && (read.Max != 0 || write.Max != 0));
    }
}
