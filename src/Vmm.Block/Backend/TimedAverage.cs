namespace Vmm.Block.Backend;

/// <summary>
/// Least, greatest and mean of values over about the last period: two windows, half a window apart, of which the older one answers. Each is
/// four thirds of the period long, so that the answer is never about less than two thirds of it. One loop at a time.
/// </summary>
/// <param name="periodNs">The period in ns.</param>
/// <param name="nowNs">The time.</param>
public sealed class TimedAverage(long periodNs, long nowNs)
{
    private readonly long _lengthNs = periodNs * 4 / 3;
    private Window _a = new(nowNs + (periodNs * 4 / 3 / 2));
    private Window _b = new(nowNs + (periodNs * 4 / 3));

    /// <summary>A value.</summary>
    public void Add(long value, long nowNs)
    {
        Expire(nowNs);
        _a.Add(value);
        _b.Add(value);
    }

    /// <summary>The values of the last period: 0 without any.</summary>
    public (long Min, long Max, long Average) Values(long nowNs)
    {
        Window w = Current(nowNs);
        return w.Count == 0 ? (0, 0, 0) : (w.Min, w.Max, w.Sum / w.Count);
    }

    /// <summary>The sum of the values for each ns.</summary>
    public double Density(long nowNs)
    {
        Window w = Current(nowNs);
        long elapsed = _lengthNs - (w.EndNs - nowNs);
        return elapsed > 0 ? (double)w.Sum / elapsed : 0;
    }

    private Window Current(long nowNs)
    {
        Expire(nowNs);
        return _a.EndNs < _b.EndNs ? _a : _b;
    }

    private void Expire(long nowNs)
    {
        _a.Expire(nowNs, _lengthNs);
        _b.Expire(nowNs, _lengthNs);
    }

    private struct Window(long endNs)
    {
        internal long EndNs = endNs;
        internal long Min;
        internal long Max;
        internal long Sum;
        internal long Count;

        internal void Add(long value)
        {
            Min = Count == 0 ? value : Math.Min(Min, value);
            Max = Count == 0 ? value : Math.Max(Max, value);
            Sum += value;
            Count++;
        }

        internal void Expire(long nowNs, long lengthNs)
        {
            if (EndNs <= nowNs)
            {
                this = new Window(nowNs + lengthNs - ((nowNs - EndNs) % lengthNs));
            }
        }
    }
}
