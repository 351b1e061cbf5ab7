namespace Vmm.Fuzz.Tests;

/// <summary>An input that shows a defect.</summary>
internal sealed record Finding(byte[] Input, string What);

/// <summary>Runs a target on its seeds and then on mutations of them. Findings end it.</summary>
internal sealed class Fuzzer
{
    private const int MaxPool = 1024;

    private readonly FuzzTarget _target;
    private readonly Mutator _mutator;
    private readonly List<byte[]> _pool;
    private readonly HashSet<string> _outcomes = [];
    private readonly int _seeds;

    public Fuzzer(FuzzTarget target, IReadOnlyList<byte[]> corpus, int seed)
    {
        _target = target;
        _mutator = new Mutator(new Random(seed), target.Dictionary, target.MaxLength);
        _pool = [.. corpus];
        _seeds = corpus.Count;
        if (_seeds == 0)
        {
            _pool.Add([]);
        }
    }

    /// <summary>The input that is being executed, and how many were before it.</summary>
    public byte[] Current { get; private set; } = [];

    /// <inheritdoc cref="Current"/>
    public long Executions { get; private set; }

    /// <summary>How many different things happened.</summary>
    public int Outcomes => _outcomes.Count;

    /// <summary>Executes inputs while <paramref name="more"/> says so; the seeds come first.</summary>
    public Finding? Run(Func<long, bool> more)
    {
        // The first execution allocates what later ones find ready.
        _ = Execute(_pool[0], measure: false);
        for (; Executions < _seeds || more(Executions); Executions++)
        {
            bool isSeed = Executions < _seeds;
            byte[] input = isSeed ? _pool[(int)Executions] : _mutator.Mutate(_pool);
            if (Execute(input, measure: !isSeed) is { } finding)
            {
                return finding;
            }
        }

        return null;
    }

    private Finding? Execute(byte[] input, bool measure)
    {
        Current = input;
        long before = GC.GetAllocatedBytesForCurrentThread();
        string outcome;
        try
        {
            outcome = _target.Execute(input);
        }
        catch (Exception e)
        {
            return new Finding(input, e.ToString());
        }

        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        if (measure && allocated > _target.AllocationLimit(input.Length))
        {
            return new Finding(input, $"{allocated} bytes allocated for {input.Length} bytes of input");
        }

        if (_outcomes.Add(outcome) && _pool.Count < MaxPool)
        {
            _pool.Add(input);
        }

        return null;
    }
}
