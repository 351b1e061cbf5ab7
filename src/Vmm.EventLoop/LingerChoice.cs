namespace Vmm.EventLoop;

/// <summary>
/// Whether a thread that expects an event soon had better look for it awake than sleep. No rule tells: it depends on the processors that are
/// free, on what a wake-up costs here, and on the peer. So both are measured: what has clearly shorter waits is done, and the other one is
/// tried now and then, the more rarely the longer nothing changes.
/// </summary>
internal sealed class LingerChoice
{
    // Longer waits are all the same: there is nothing that lingering could gain.
    private const long MaxNs = 1_000_000;
    private const long MinNs = 1000;

    private const int MinInterval = 8;
    private const int MaxInterval = 1024;

    // A single wait may be long because of others on the machine; it moves the average by less than it differs.
    private const int MaxGrowth = 4;
    private const int Weight = 4;

    // 0 before the first wait.
    private long _awakeNs;
    private long _asleepNs;
    private int _interval = MinInterval;
    private int _untilTrial = 1;

    /// <summary>Staying awake has the shorter waits.</summary>
    internal bool IsAwakeBetter { get; private set; }

    /// <summary>Whether to look for the next event awake.</summary>
    internal bool Next()
    {
        if (--_untilTrial > 0)
        {
            return IsAwakeBetter;
        }

        _interval = Math.Min(2 * _interval, MaxInterval);
        _untilTrial = _interval;
        return !IsAwakeBetter;
    }

    /// <summary>A wait is over.</summary>
    /// <param name="awake">The thread was awake at its begin.</param>
    /// <param name="ns">How long it was.</param>
    internal void Observe(bool awake, long ns)
    {
        ref long average = ref awake ? ref _awakeNs : ref _asleepNs;
        long sample = Math.Clamp(ns, MinNs, MaxNs);
        average = average == 0 ? sample : average + ((Math.Min(sample, MaxGrowth * average) - average) / Weight);

        // The time of a processor is worth something, too.
        bool isAwakeBetter = _awakeNs != 0 && _awakeNs < _asleepNs - (_asleepNs / 4);
        if (isAwakeBetter != IsAwakeBetter)
        {
            IsAwakeBetter = isAwakeBetter;
            _interval = MinInterval;
            _untilTrial = _interval;
        }
    }
}
