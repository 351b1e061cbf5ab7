using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Qmp;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>
/// A job allocates as it begins and ends, but nothing for what it copies: one that copies more allocates no more. Counts for optimized code.
/// </summary>
[Category("Allocation")]
public sealed class JobAllocationTests : BlockFixture
{
    private const int MiB = 1 << 20;
    private const int LeastObject = 24;

    private readonly JobEventLog _events = new();
    private JobManager _jobs = null!;

    [SetUp]
    public void MakeJobs() => _jobs = new JobManager(Graph, _events);

    [Test]
    public void AMirrorAllocatesNothingForAChunk() => Check(24, 280, 256, OpenSink, () =>
    {
        Loop.RunUntil(new MirrorCommands(_jobs).BlockdevMirror(
            "j", "src", "dst", null, MirrorSyncMode.Full, null, null, null, null, null, null, null, null, null));
        RunUntil(JobStatus.Ready);
        Loop.RunUntil(new JobCommands(_jobs).BlockCancel("j", force: null));
    });

    [Test]
    public void ABackupAllocatesNothingForAChunk() => Check(24, 280, 256, OpenSink, () =>
    {
        Loop.RunUntil(new BackupCommands(new TransactionRunner(_jobs)).BlockdevBackup(
            new BlockdevBackup { Sync = MirrorSyncMode.Full, Device = "src", Target = "dst", JobId = "j" }));
    });

    [Test]
    public void AStreamAllocatesNothingForAChunk() => Check(8, 40, 64, OpenChain, () =>
        Loop.RunUntil(new ChainCommands(_jobs).BlockStream("dst", null, null, null, null, "j", null, null, null, null, null)));

    // The source says that all of it is data, and its file is a hole. The target has a latency, so that the methods of the job suspend there as
    // well, and that as many as there can be are under way at a time.
    private void OpenSink(int size)
    {
        OpenQcow2("src", "", new Qcow2CreateOptions { Size = size, Preallocation = PreallocMode.Metadata });
        Graph.AddMonitorOwned(Open($$"""{'driver': 'null-co', 'node-name': 'dst', 'size': {{size}}, 'latency-ns': 2000000}"""));
    }

    private void OpenChain(int size)
    {
        string path = NewFile("source", 0);
        File.WriteAllBytes(path, Pattern(size, 3));
        Graph.AddMonitorOwned(Open($$"""{'driver': 'file', 'node-name': 'src', 'filename': '{{path}}'}"""));
        OpenQcow2("dst", "'backing': 'src', ", new Qcow2CreateOptions { Size = size });
    }

    private void OpenQcow2(string name, string options, Qcow2CreateOptions creation)
    {
        string path = NewFile(name, 0);
        BlockNode made = Open($$"""{'driver': 'file', 'node-name': 'made', 'filename': '{{path}}'}""");
        Loop.RunUntil(Qcow2Creator.CreateAsync(Graph, made, creation));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(made));
        Graph.AddMonitorOwned(Open(
            $$"""{'driver': 'qcow2', 'node-name': '{{name}}', {{options}}'file': {'driver': 'file', 'filename': '{{path}}'} }"""));
    }

    private void Check(int mebibytes, int moreMebibytes, int chunks, Action<int> open, Action start)
    {
        // Other threads of the test's host may allocate now and then, but not in each round.
        Measure(moreMebibytes, open, start);
        long less = long.MaxValue;
        long more = long.MaxValue;
        for (int round = 0; round < 2; round++)
        {
            less = Math.Min(less, Measure(mebibytes, open, start));
            more = Math.Min(more, Measure(moreMebibytes, open, start));
        }

        long extra = more - less;
#if DEBUG
        Assert.Ignore($"state machines are objects in debug builds: {extra} bytes for {chunks} more chunks");
#else
        Assert.That(extra, Is.LessThan(chunks * LeastObject), $"bytes for {chunks} more chunks");
#endif
    }

    private void RunUntil(JobStatus status)
    {
        for (Job? job = _jobs.Find("j"); job is not null && job.Status != status;)
        {
            Loop.RunOnce(block: true);
        }
    }

    private long Measure(int mebibytes, Action<int> open, Action start)
    {
        open(mebibytes * MiB);
        long before = GC.GetTotalAllocatedBytes(precise: true);
        start();
        RunUntil(JobStatus.Null);
        long allocated = GC.GetTotalAllocatedBytes(precise: true) - before;
        Assert.That(_events.Lines[^3..], Is.EqualTo(new[] { "COMPLETED", "concluded", "null" }));
        Loop.RunUntil(Graph.DeleteAsync(Graph.Find("dst")!));
        Loop.RunUntil(Graph.DeleteAsync(Graph.Find("src")!));
        return allocated;
    }
}
