namespace Vmm.Block.Throttling;

/// <summary>
/// Leaky buckets: requests fill them, time empties them at the average rate, and a request waits while one that it fills is over its size. A
/// bucket holds a tenth of a second of the average, or the burst (its rate times its length); a longer burst has a second bucket that holds
/// a tenth of a second of the burst rate. Pure: time is an argument, in nanoseconds. Not thread-safe.
/// </summary>
public sealed class ThrottleState
{
    private const double NsPerSecond = 1e9;

    private readonly double[] _level = new double[ThrottleConfig.Buckets];
    private readonly double[] _burst = new double[ThrottleConfig.Buckets];
    private long _leakedAt;

    /// <summary>The limits.</summary>
    public ThrottleConfig Config { get; private set; } = new();

    /// <summary>Sets other limits; the buckets are empty then.</summary>
    public void Configure(ThrottleConfig config, long nowNs)
    {
        Config = config;
        Array.Clear(_level);
        Array.Clear(_burst);
        _leakedAt = nowNs;
    }

    /// <summary>How long the next request must wait, in nanoseconds; 0 when it may go.</summary>
    public long WaitNs(bool isWrite, long nowNs)
    {
        Leak(nowNs);
        long wait = 0;
        for (int i = 0; i < ThrottleConfig.Buckets; i++)
        {
            if (Concerns(i, isWrite))
            {
                wait = Math.Max(wait, WaitFor(i));
            }
        }

        return wait;
    }

    /// <summary>Counts a request that goes.</summary>
    public void Account(bool isWrite, long bytes)
    {
        double requests = Config.IopsSize > 0 && bytes > Config.IopsSize ? (double)bytes / Config.IopsSize : 1;
        for (int i = 0; i < ThrottleConfig.Buckets; i++)
        {
            if (!Concerns(i, isWrite))
            {
                continue;
            }

            double units = i < (int)ThrottleBucket.IopsTotal ? bytes : requests;
            _level[i] += units;
            if (Config[(ThrottleBucket)i].BurstLength > 1)
            {
                _burst[i] += units;
            }
        }
    }

    private static bool Concerns(int bucket, bool isWrite) => (bucket % 3) switch
    {
        1 => !isWrite,
        2 => isWrite,
        _ => true,
    };

    private void Leak(long nowNs)
    {
        double seconds = (nowNs - _leakedAt) / NsPerSecond;
        if (seconds <= 0)
        {
            return;
        }

        _leakedAt = nowNs;
        for (int i = 0; i < ThrottleConfig.Buckets; i++)
        {
            ThrottleRate rate = Config[(ThrottleBucket)i];
            _level[i] = Math.Max(_level[i] - rate.Average * seconds, 0);
            if (rate.BurstLength > 1)
            {
                _burst[i] = Math.Max(_burst[i] - rate.Max * seconds, 0);
            }
        }
    }

    private long WaitFor(int bucket)
    {
        ThrottleRate rate = Config[(ThrottleBucket)bucket];
        if (rate.Average == 0)
        {
            return 0;
        }

        double size = rate.Max == 0 ? rate.Average / 10.0 : (double)rate.Max * rate.BurstLength;
        double extra = _level[bucket] - size;
        if (extra > 0)
        {
            return Ns(extra / rate.Average);
        }

        if (rate.BurstLength > 1)
        {
            extra = _burst[bucket] - rate.Max / 10.0;
            if (extra > 0)
            {
                return Ns(extra / rate.Max);
            }
        }

        return 0;
    }

    // At least one: a wait that rounds to nothing would let the request go too early.
    private static long Ns(double seconds) => Math.Max((long)Math.Min(seconds * NsPerSecond, long.MaxValue / 2), 1);
}
