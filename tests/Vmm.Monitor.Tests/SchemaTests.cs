using Vmm.Qapi;
using Vmm.TestKit.Qmp;

namespace Vmm.Monitor.Tests;

public sealed class SchemaTests
{
    [TestCase("qmp_capabilities")]
    [TestCase("query-version")]
    [TestCase("query-commands")]
    [TestCase("query-qmp-schema")]
    [TestCase("human-monitor-command")]
    public void CommandsAboutTheMonitorHaveQemusSchema(string command) => Assert.That(Compare(command), Is.Empty);

    [Test]
    public void DifferencesAreSeen() => Assert.That(
        Compare("query-status"), Is.EqualTo(new[] { "query-status result.status: is builtin instead of enum" }));

    private static List<string> Compare(string command)
    {
        string shared = Environment.GetEnvironmentVariable("VMM_SHARED") ?? Path.Combine(RepositoryRoot(), "../shared");
        string file = Path.Combine(shared, "reference/qemu-7.2/query-qmp-schema.json");
        if (!File.Exists(file))
        {
            Assert.Ignore("needs the recorded schema of QEMU 7.2 in shared/reference");
        }

        using var fixture = new MonitorFixture();
        var comparer = new SchemaComparer(
            (QList)QValue.Parse(fixture.Core.Table.SchemaJson.Span), (QList)QValue.Parse(File.ReadAllBytes(file)));
        return comparer.Compare(command);
    }

    private static string RepositoryRoot()
    {
        string directory = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(directory, "Vmm.sln")))
        {
            directory = Path.GetDirectoryName(directory)!;
        }

        return directory;
    }
}
