namespace Vmm.Tidy.Tests;

/// <summary>Rules of form that a reviewer should not have to repeat.</summary>
public sealed class SourceFormTests
{
    private const int MaxLines = 1000;

    [Test]
    public void FilesStayReadable()
    {
        string[] tooLong = [.. new[] { "src", "tests", "tools" }.SelectMany(d => Repository.Files(d, "*.cs"))
            .Where(f => File.ReadLines(f).Count() > MaxLines)
            .Select(Repository.Relative)];
        Assert.That(tooLong, Is.Empty, $"more than {MaxLines} lines: split by idea");
    }

    [Test]
    public void NoUnfinishedMarksInTheProduct()
    {
        string[] marks = ["Not" + "ImplementedException", "TO" + "DO", "FIX" + "ME", "HA" + "CK"];
        string[] found = [.. Repository.Files("src", "*.cs")
            .Where(f => File.ReadAllText(f) is var text && marks.Any(m => text.Contains(m, StringComparison.Ordinal)))
            .Select(Repository.Relative)];
        Assert.That(found, Is.Empty);
    }

    [Test]
    public void EveryProjectSaysWhatItIs()
    {
        string[] silent = [.. Repository.Files("src", "*.csproj")
            .Select(p => Path.GetDirectoryName(p)!)
            .Where(d => !File.Exists(Path.Combine(d, "README.md")))
            .Select(Repository.Relative)];
        Assert.That(silent, Is.Empty, "a README.md of at most 15 lines: provides, may depend on, must not, threads");
    }

    [Test]
    public void ProjectReadmesAreShort()
    {
        string[] wordy = [.. Repository.Files("src", "README.md")
            .Where(f => Path.GetDirectoryName(Path.GetDirectoryName(f)) == Path.Combine(Repository.Root, "src"))
            .Where(f => File.ReadLines(f).Count() > 15)
            .Select(Repository.Relative)];
        Assert.That(wordy, Is.Empty);
    }

    [Test]
    public void EveryProjectIsInTheSolution()
    {
        string solution = File.ReadAllText(Path.Combine(Repository.Root, "Vmm.sln")).Replace('\\', '/');
        string[] missing = [.. new[] { "src", "tests", "tools" }.SelectMany(d => Repository.Files(d, "*.csproj"))
            .Select(Repository.Relative)
            .Where(p => !solution.Contains(p, StringComparison.Ordinal))];
        Assert.That(missing, Is.Empty);
    }
}
