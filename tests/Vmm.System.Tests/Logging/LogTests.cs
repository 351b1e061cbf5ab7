using Vmm.ObjectModel.Logging;
using Vmm.Qapi;
using Vmm.System.CommandLine;
using Vmm.System.Logging;
using Vmm.System.Tests.CommandLine;

namespace Vmm.System.Tests.Logging;

/// <summary>The log and trace events.</summary>
[NonParallelizable]
public sealed class LogTests
{
    private string _directory = "";

    [SetUp]
    public void SetUp() => _directory = Directory.CreateTempSubdirectory("vmm-").FullName;

    [TearDown]
    public void TearDown() => Directory.Delete(_directory, true);

    [Test]
    public void ItemsAndEventsGoToTheFile()
    {
        var first = new TraceEvent("serial_write");
        var second = new TraceEvent("serial_read");
        var other = new TraceEvent("kvm_exit");
        var registry = new TraceEventRegistry();
        registry.AddCatalog(() => [first, second]);
        registry.AddCatalog(() => [other]);
        string path = Path.Combine(_directory, "log-%d");
        VmConfiguration configuration = Parse($"-D {path} -d guest_errors -trace serial_* -trace -serial_read");
        string file = LogControl.ExpandPath(path);
        File.WriteAllText(file, "old");
        using (LogControl log = Open(configuration, registry))
        {
            MachineLog.Write(LogItems.GuestErrors, $"bad port {0x61:x}");
            MachineLog.Write(LogItems.Unimplemented, $"not asked for {Fail()}");
            first.Write("port 0x3f8");
            second.Write("not asked for");
            other.Write("not asked for");
        }

        Assert.That(File.ReadAllText(file), Is.EqualTo("bad port 61\nserial_write port 0x3f8\n"));
        Assert.That(MachineLog.IsEnabled(LogItems.GuestErrors), Is.False);

        static int Fail() => throw new AssertionException("a disabled message was put together");
    }

    [Test]
    public void NothingAskedForIsNothing()
    {
        using LogControl log = Open(Parse("-nographic"), new TraceEventRegistry());
        Assert.That(MachineLog.Sink, Is.Null);
    }

    [Test]
    public void TheMonitorChangesItemsAndFile()
    {
        string first = Path.Combine(_directory, "first");
        string second = Path.Combine(_directory, "second");
        using (LogControl log = Open(Parse($"-D {first}"), new TraceEventRegistry()))
        {
            log.SetItems(LogItems.GuestErrors, []);
            MachineLog.Write(LogItems.GuestErrors, "one");
            Assert.That(() => log.SetFile("/nonexistent/log"), Throws.TypeOf<QapiException>());
            MachineLog.Write(LogItems.GuestErrors, "two");
            log.SetFile(second);
            MachineLog.Write(LogItems.GuestErrors, "three");
            log.SetItems(LogItems.None, []);
            MachineLog.Write(LogItems.GuestErrors, "four");
        }

        Assert.That(File.ReadAllText(first), Is.EqualTo("one\ntwo\n"));
        Assert.That(File.ReadAllText(second), Is.EqualTo("three\n"));
    }

    [TestCase("/nonexistent/log", "Error opening logfile /nonexistent/log: No such file or directory")]
    [TestCase("a%s", "Bad logfile template: a%s")]
    [TestCase("a%d%d", "Bad logfile template: a%d%d")]
    public void BadFiles(string path, string message) => Assert.That(
        () => Open(Parse($"-D {path}"), new TraceEventRegistry()),
        Throws.TypeOf<QapiException>().With.Property("Desc").EqualTo(message));

    [Test]
    public void GuestsCannotFloodIt()
    {
        var sink = new CountingSink();
        MachineLog.Sink = sink;
        MachineLog.Enabled = LogItems.GuestErrors;
        try
        {
            for (int i = 0; i < 100_000; i++)
            {
                MachineLog.Write(LogItems.GuestErrors, $"line {i}");
            }
        }
        finally
        {
            MachineLog.Enabled = LogItems.None;
            MachineLog.Sink = null;
        }

        Assert.That(sink.Lines, Is.LessThan(50_000));
    }

    [TestCase("*", "abc", true)]
    [TestCase("a*c", "abc", true)]
    [TestCase("a*c", "abcd", false)]
    [TestCase("a?c", "abc", true)]
    [TestCase("abc", "abc", true)]
    [TestCase("", "abc", false)]
    [TestCase("**b**", "abc", true)]
    public void Patterns(string pattern, string name, bool expected) =>
        Assert.That(TraceEventRegistry.Matches(pattern, name), Is.EqualTo(expected));

    private static VmConfiguration Parse(string line) =>
        CommandLineParser.Parse(Pipeline.Split(line), Pipeline.Environment("/")).Configuration!;

    private sealed class CountingSink : ILogSink
    {
        public int Lines { get; private set; }

        public void Write(LogItems item, string message) => Lines++;

        public void WriteTrace(string name, string arguments) => Lines++;
    }

    private static LogControl Open(VmConfiguration configuration, TraceEventRegistry registry)
    {
        LogControl log = new(configuration, registry, new ErrorReporter("p", static () => 0));
        log.Open();
        return log;
    }
}
