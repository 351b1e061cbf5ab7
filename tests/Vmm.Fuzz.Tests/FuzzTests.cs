namespace Vmm.Fuzz.Tests;

/// <summary>Every target, a fixed number of executions from a fixed seed; longer runs are <c>tools/vmm fuzz</c>.</summary>
public sealed class FuzzTests
{
    private const int Seed = 20_240_229;

    private static IEnumerable<FuzzTarget> AllTargets => Targets.All;

    [TestCaseSource(nameof(AllTargets))]
    public void NothingEscapes(FuzzTarget target)
    {
        var fuzzer = new Fuzzer(target, Corpus.Load(target), Seed);
        Finding? finding = fuzzer.Run(done => done < target.Iterations);
        Assert.That(
            finding,
            Is.Null,
            () => $"{finding!.What}\ninput after {fuzzer.Executions} executions, base64: {Convert.ToBase64String(finding.Input)}");

        // A target that does the same whatever it gets would find nothing.
        Assert.That(fuzzer.Outcomes, Is.GreaterThan(1));
    }

    [TestCaseSource(nameof(AllTargets))]
    public void HasSeeds(FuzzTarget target) => Assert.That(Corpus.Load(target), Is.Not.Empty, Corpus.Folder(target));

    [Test]
    public void EveryCorpusHasATarget()
    {
        string root = Path.Combine(Corpus.Root, "tests", "corpora", "fuzz");
        Assert.That(Directory.GetDirectories(root).Select(Path.GetFileName), Is.EquivalentTo(Targets.All.Select(t => t.Name)));
    }

    [Test]
    public void ADefectIsFound()
    {
        Finding? finding = new Fuzzer(new DefectiveTarget(), ["aaaa"u8.ToArray()], Seed).Run(done => done < 100_000);
        Assert.That(finding?.What, Does.Contain("bug"));
        Assert.That(finding!.Input, Does.Contain((byte)'!'));
    }

    private sealed class DefectiveTarget : FuzzTarget
    {
        public override string Name => "defective";

        public override int Iterations => 0;

        public override long AllocationLimit(int inputLength) => long.MaxValue;

        public override string Execute(ReadOnlySpan<byte> input)
        {
            Require(!(input.Length > 6 && input.Contains((byte)'!')), "bug");
            return input.Contains((byte)'!') ? "near" : "far";
        }
    }
}
