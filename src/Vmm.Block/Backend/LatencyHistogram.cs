namespace Vmm.Block.Backend;

/// <summary>How many requests took how long. Written on one loop, read anywhere.</summary>
/// <param name="boundaries">Limits of the bins in ns, ascending, above 0.</param>
public sealed class LatencyHistogram(IReadOnlyList<ulong> boundaries)
{
    private readonly ulong[] _boundaries = [.. boundaries];
    private readonly long[] _bins = new long[boundaries.Count + 1];

    /// <summary>Limits of the bins.</summary>
    public IReadOnlyList<ulong> Boundaries => _boundaries;

    /// <summary>Requests by bin; one bin more than limits.</summary>
    public IReadOnlyList<long> Bins => _bins;

    /// <summary>Limits are above 0 and ascend.</summary>
    public static bool IsValid(IReadOnlyList<ulong> boundaries)
    {
        ulong last = 0;
        foreach (ulong boundary in boundaries)
        {
            if (boundary <= last)
            {
                return false;
            }

            last = boundary;
        }

        return true;
    }

    /// <summary>A request took that long.</summary>
    public void Add(long ns)
    {
        int bin = Array.BinarySearch(_boundaries, (ulong)Math.Max(ns, 0));
        _bins[bin >= 0 ? bin + 1 : ~bin]++;
    }
}
