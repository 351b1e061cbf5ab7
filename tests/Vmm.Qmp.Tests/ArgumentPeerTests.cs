using System.Text;
using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>What is said of arguments before a command sees them, beside what the real QEMU says.</summary>
public sealed class ArgumentPeerTests
{
    /// <summary>Members are missed in the order of the schema, and only then is one too many noticed.</summary>
    [Test]
    public void EveryCommandMissesTheSameArgumentFirst()
    {
        using Emulator ours = Monitored.Start();
        using Emulator theirs = Monitored.StartQemu();
        QmpClient us = ours.Qmp();
        QmpClient them = theirs.Qmp();
        HashSet<string> known = [.. Names(them)];
        StringBuilder differences = new();
        foreach (string name in Names(us).Where(name => known.Contains(name) && name != "qmp_capabilities"))
        {
            // An argument that no command has keeps those that need none from doing anything.
            JsonObject none = new() { ["no-such-argument"] = 1 };
            string said = us.ExecuteRaw(name, (JsonObject)none.DeepClone())["error"]!.ToJsonString();
            string expected = them.ExecuteRaw(name, none)["error"]!.ToJsonString();
            if (said != expected)
            {
                differences.AppendLine($"{name}: {said}, not {expected}");
            }
        }

        Assert.That(differences.ToString(), Is.Empty);
    }

    private static IEnumerable<string> Names(QmpClient client) =>
        client.Execute("query-commands")!.AsArray().Select(static c => (string)c!["name"]!);
}
