namespace Vmm.Benchmarks;

/// <summary>What a probe records: values by quantity ("wall", "cpu", ...), in the units that its rows name.</summary>
internal sealed class Series
{
    private readonly Dictionary<string, List<double>> _values = [];

    public void Add(string quantity, double value)
    {
        if (!_values.TryGetValue(quantity, out List<double>? list))
        {
            _values.Add(quantity, list = []);
        }

        list.Add(value);
    }

    /// <summary>The value below which <paramref name="fraction"/> of the recorded ones lie; null when there are none.</summary>
    public double? Quantile(string quantity, double fraction)
    {
        if (!_values.TryGetValue(quantity, out List<double>? list))
        {
            return null;
        }

        double[] sorted = [.. list];
        Array.Sort(sorted);
        return sorted[Math.Min((int)(sorted.Length * fraction), sorted.Length - 1)];
    }

    /// <summary>The distance between the ninth and the first decile, in the unit of the values; 0 when there are none.</summary>
    public double Spread(string quantity) => (Quantile(quantity, 0.9) - Quantile(quantity, 0.1)) ?? 0;
}

/// <summary>Something measured on one emulator, sample by sample.</summary>
internal interface IProbe : IDisposable
{
    void Sample(Series series);
}

/// <summary>A probe that starts a process for every sample.</summary>
internal sealed class FreshProbe(Action<Series> sample) : IProbe
{
    public void Sample(Series series) => sample(series);

    public void Dispose()
    {
    }
}

/// <summary>One line of the table: a quantile of a quantity. The bar is a ratio ours / theirs.</summary>
/// <param name="Name">What it is.</param>
/// <param name="Unit">Unit of the values.</param>
/// <param name="Bar">Largest (or smallest) ratio; null for none.</param>
/// <param name="Quantity">Which of the recorded quantities.</param>
/// <param name="Fraction">Which quantile: 0.5 is the median.</param>
/// <param name="HigherIsBetter">The bar is a lower limit.</param>
/// <param name="WithoutKernel">The same quantity of the bare loop is subtracted from both.</param>
internal sealed record Row(
    string Name,
    string Unit,
    double? Bar = null,
    string Quantity = "wall",
    double Fraction = 0.5,
    bool HigherIsBetter = false,
    bool WithoutKernel = false);

/// <summary>Rows that come from the same samples.</summary>
/// <param name="Samples">Samples of each emulator, taken in turn so that a busy machine hits both.</param>
/// <param name="Open">Starts measuring one emulator.</param>
/// <param name="Rows">What is printed.</param>
internal sealed record Measurement(int Samples, Func<Subject, IProbe> Open, params Row[] Rows)
{
    /// <summary>Samples of the other emulator, when fewer are enough because they are slow; 0 when it is not measured.</summary>
    public int SamplesOfOther { get; init; } = Samples;

    /// <summary>The bare loop for rows that leave the kernel's part out.</summary>
    public Func<IProbe>? Bare { get; init; }

    /// <summary>Takes all samples.</summary>
    public (Series Mine, Series Other, Series Bare) Run(Subject mine, Subject other)
    {
        Series[] series = [new(), new(), new()];
        List<(IProbe Probe, Series Series, int Count)> probes = [];
        try
        {
            probes.Add((Open(mine), series[0], Samples));
            if (SamplesOfOther > 0)
            {
                probes.Add((Open(other), series[1], SamplesOfOther));
            }

            if (Bare is not null)
            {
                probes.Add((Bare(), series[2], Samples));
            }

            for (int i = 0; i < Samples; i++)
            {
                // Whoever is first after the others is at a disadvantage: take turns.
                for (int k = 0; k < probes.Count; k++)
                {
                    (IProbe probe, Series into, int count) = probes[(i + k) % probes.Count];
                    if (i < count)
                    {
                        probe.Sample(into);
                    }
                }
            }
        }
        finally
        {
            foreach ((IProbe probe, _, _) in probes)
            {
                probe.Dispose();
            }
        }

        return (series[0], series[1], series[2]);
    }
}
