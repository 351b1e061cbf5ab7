using System.Text.Json;
using Vmm.System.CommandLine;
using Vmm.System.CommandLine.Qmp;

namespace Vmm.System.Tests.CommandLine;

/// <summary>query-command-line-options against what the peer answers.</summary>
public sealed class QueryTests
{
    [Test]
    public void ParametersAreThePeersOnes()
    {
        string? shared = Environment.GetEnvironmentVariable("VMM_SHARED") ?? FindShared();
        string path = Path.Combine(shared ?? "/", "reference", "qemu-7.2", "query-command-line-options.json");
        if (!File.Exists(path))
        {
            Assert.Ignore("needs reference/qemu-7.2 in the shared directory (set VMM_SHARED)");
        }

        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(path));
        Dictionary<string, List<string>> peer = document.RootElement.EnumerateArray().ToDictionary(
            option => option.GetProperty("option").GetString()!,
            option => option.GetProperty("parameters").EnumerateArray()
                .Select(p => $"{p.GetProperty("name").GetString()}:{p.GetProperty("type").GetString()}").ToList());
        foreach (CommandLineOptionInfo option in CommandLineOptionCommands.Query())
        {
            List<string> ours = [.. option.Parameters.Select(p => $"{p.Name}:{p.Type.ToString().ToLowerInvariant()}")];
            Assert.That(peer, Does.ContainKey(option.Option));
            if (option.Option == "machine")
            {
                Assert.That(ours, Is.SubsetOf(peer[option.Option]));
            }
            else
            {
                Assert.That(ours, Is.EqualTo(peer[option.Option]), option.Option);
            }
        }
    }

    [Test]
    public void OneOptionCanBeAskedFor()
    {
        Assert.That(CommandLineOptionCommands.Query("chardev").Single().Parameters.Last().Name, Is.EqualTo("backend"));
        Assert.That(() => CommandLineOptionCommands.Query("sandbox"), Throws.Exception.With.Message.EqualTo("invalid option name: sandbox"));
    }

    private static string? FindShared()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (directory != null && !File.Exists(Path.Combine(directory.FullName, "Vmm.sln")))
        {
            directory = directory.Parent;
        }

        return directory?.Parent == null ? null : Path.Combine(directory.Parent.FullName, "shared");
    }
}
