using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests.Qmp;

public sealed class CommandTests
{
    private Bench _bench = null!;
    private string _directory = null!;

    [SetUp]
    public void SetUp()
    {
        _bench = new Bench();
        _directory = Directory.CreateTempSubdirectory("vmm-qmp-").FullName;
    }

    [TearDown]
    public void TearDown()
    {
        MachineLog.Sink = null;
        foreach (TraceEvent trace in RunControl.TraceEvents)
        {
            trace.IsEnabled = false;
        }

        _bench.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Test]
    public void IdentityIsTold()
    {
        Assert.That(_bench.Execute("query-name"), Is.EqualTo("{}"));
        Assert.That(_bench.Execute("query-uuid"), Is.EqualTo("""{"UUID": "00000000-0000-0000-0000-000000000000"}"""));
        _bench.Summary.Name = "g";
        _bench.Summary.BaseMemory = 1 << 20;
        Assert.That(_bench.Execute("query-name"), Is.EqualTo("""{"name": "g"}"""));
        Assert.That(_bench.Execute("query-memory-size-summary"), Is.EqualTo("""{"base-memory": 1048576, "plugged-memory": 0}"""));
        Assert.That(_bench.Execute("query-memory-devices"), Is.EqualTo("[]"));
        Assert.That(_bench.Execute("query-target"), Is.EqualTo("""{"arch": "x86_64"}"""));
        Assert.That(_bench.Execute("query-current-machine"), Is.EqualTo("""{"wakeup-suspend-support": false}"""));
    }

    [Test]
    public void PhysicalMemoryIsSaved()
    {
        byte[] pattern = MapPattern(3 * 4096);
        string file = Path.Combine(_directory, "m");
        Assert.That(_bench.Execute("pmemsave", $$"""{"val":100,"size":9000,"filename":"{{file}}"}"""), Is.EqualTo("{}"));
        Assert.That(File.ReadAllBytes(file), Is.EqualTo(pattern[100..9100]));
        Assert.That(
            _bench.Execute("pmemsave", """{"val":0,"size":1,"filename":"/nope/ms"}"""),
            Does.Contain("Could not open '/nope/ms': No such file or directory"));
    }

    [Test]
    public void VirtualMemoryIsSavedThroughThePageTables()
    {
        byte[] pattern = MapPattern(8 * 4096);
        var cpu = new FakeVcpu();
        _bench.Accelerator.Cpus.Add(cpu);
        string file = Path.Combine(_directory, "m");
        Assert.That(_bench.Execute("memsave", $$"""{"val":16,"size":32,"filename":"{{file}}"}"""), Is.EqualTo("{}"));
        Assert.That(File.ReadAllBytes(file), Is.EqualTo(pattern[16..48]));

        // One 4 KiB page at linear 4 MiB leads to physical 0x5000; all tables are 32-bit.
        _bench.Memory.WriteU32(0x1000 + 4, 0x2003);
        _bench.Memory.WriteU32(0x2000, 0x5003);
        cpu.State.Cr0 = 0x8000_0001;
        cpu.State.Cr3 = 0x1000;
        Assert.That(_bench.Execute("memsave", $$"""{"val":4194304,"size":4096,"filename":"{{file}}","cpu-index":0}"""), Is.EqualTo("{}"));
        Assert.That(File.ReadAllBytes(file), Is.EqualTo(pattern[0x5000..0x6000]));
        Assert.That(
            _bench.Execute("memsave", $$"""{"val":4194304,"size":4097,"filename":"{{file}}"}"""),
            Does.Contain("Invalid addr 0x0000000000400000/size 4097 specified"));
        Assert.That(
            _bench.Execute("memsave", $$"""{"val":0,"size":1,"filename":"{{file}}","cpu-index":5}"""),
            Does.Contain("Parameter 'cpu-index' expects a CPU number"));
    }

    [Test]
    public void TraceEventsAreSwitched()
    {
        var sink = new Sink();
        MachineLog.Sink = sink;
        Assert.That(_bench.Execute("trace-event-get-state", """{"name":"nope"}"""), Does.Contain("unknown event \\\"nope\\\""));
        Assert.That(_bench.Execute("trace-event-get-state", """{"name":"nope*"}"""), Is.EqualTo("[]"));
        Assert.That(_bench.Execute("trace-event-set-state", """{"name":"runstate_*","enable":true}"""), Is.EqualTo("{}"));
        Assert.That(
            _bench.Execute("trace-event-get-state", """{"name":"runstate_set"}"""),
            Is.EqualTo("""[{"name": "runstate_set", "vcpu": false, "state": "enabled"}]"""));
        Assert.That(_bench.Execute("trace-event-set-state", """{"name":"runstate_set","enable":true,"vcpu":0}"""), Does.Contain("invalid vCPU index 0"));
        _bench.Execute("cont");
        Assert.That(sink.Traces, Is.EqualTo(new[] { "runstate_set current_run_state 6 (prelaunch) new_state 9 (running)" }));
        Assert.That(_bench.Human("info", "trace-events", new QDict { ["name"] = "runstate*" }), Is.EqualTo("runstate_set : state 1\n"));
    }

    [Test]
    public void NumbersArePrinted()
    {
        string Print(char format, long value) =>
            _bench.Human("", "p", new QDict { ["fmt"] = new HmpFormat(1, format, 4).ToValue(), ["val"] = value });
        Assert.That(Print('x', 3), Is.EqualTo("0x3\n"));
        Assert.That(Print('x', 0), Is.EqualTo("0\n"));
        Assert.That(Print('d', 16), Is.EqualTo("16\n"));
        Assert.That(Print('d', -1), Is.EqualTo("-1\n"));
        Assert.That(Print('u', -1), Is.EqualTo("18446744073709551615\n"));
        Assert.That(Print('c', 65), Is.EqualTo("'A'\n"));
        Assert.That(Print('c', 10), Is.EqualTo("'\\n'\n"));
    }

    [Test]
    public void EveryCommandOfTheRegistryHasItsArguments()
    {
        string? shared = SharedFiles.Find();
        if (shared is null)
        {
            Assert.Ignore("the reference registry (../shared) is not here");
            return;
        }

        int compared = 0;
        foreach (string line in File.ReadLines(Path.Combine(shared, "reference", "qmp-2.6-args_type.tsv")).Skip(1))
        {
            string[] columns = line.Split('\t');
            if (_bench.Table.TryGet(columns[0], out CommandEntry? entry))
            {
                string args = columns.Length > 1 ? columns[1] : "";
                Assert.That(entry.ArgsType == args || entry.ArgsType.StartsWith(args + ",", StringComparison.Ordinal) || args.Length == 0, entry.Name);
                compared++;
            }
        }

        Assert.That(compared, Is.GreaterThanOrEqualTo(25));
    }

    private byte[] MapPattern(int length)
    {
        RamBlock block = RamBackends.CreateAnonymous(new RamOptions("ram", (ulong)length), out _)!;
        _bench.SystemMemory.AddSubregion(0, MemoryRegion.Ram("ram", block));
        byte[] pattern = new byte[length];
        new Random(7).NextBytes(pattern);
        _bench.Memory.Write(0, pattern);
        return pattern;
    }

    private sealed class Sink : ILogSink
    {
        public List<string> Traces { get; } = [];

        public void Write(LogItems item, string message)
        {
        }

        public void WriteTrace(string name, string arguments) => Traces.Add($"{name} {arguments}");
    }

    private sealed class FakeVcpu : IVcpu
    {
        public CpuArchState State { get; } = new();

        public int Index => 0;

        public uint ApicId => 0;

        public int ThreadId => 0;

        public bool IsHalted => false;

        public CpuArchState GetState() => State;

        public void SetState(CpuArchState state)
        {
        }

        public void InjectNmi()
        {
        }

        public void RunOnVcpu(Action work) => work();
    }
}
