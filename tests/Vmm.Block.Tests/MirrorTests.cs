using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Qmp;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Mirrors of nodes that are written meanwhile.</summary>
public sealed class MirrorTests : BlockFixture
{
    private const int Length = 4 << 20;

    private readonly JobEventLog _events = new();
    private JobManager _jobs = null!;
    private BlockBackends _backends = null!;
    private MirrorCommands _mirrors = null!;
    private JobCommands _commands = null!;

    [SetUp]
    public void MakeJobs()
    {
        _events.Lines.Clear();
        _jobs = new JobManager(Graph, _events);
        _backends = new BlockBackends(Graph);
        _mirrors = new MirrorCommands(_jobs);
        _commands = new JobCommands(_jobs);
    }

    [Test]
    public void TheTargetTakesThePlaceOfASourceThatIsWritten()
    {
        (BlockBackend disk, string source, string target) = MakeDisk();
        byte[] model = File.ReadAllBytes(source);
        Mirror();
        Random random = new(7);
        for (int i = 0; i < 200; i++)
        {
            Write(disk, model, random);
        }

        RunUntil(JobStatus.Ready);
        for (int i = 0; i < 50; i++)
        {
            Write(disk, model, random);
        }

        _commands.BlockComplete("m");
        RunUntilGone();
        Assert.That(disk.Root!.Name, Is.EqualTo("dst"));
        byte[] atPivot = (byte[])model.Clone();
        for (int i = 0; i < 20; i++)
        {
            Write(disk, model, random);
        }

        Loop.RunUntil(disk.FlushAsync());
        Assert.That(File.ReadAllBytes(target), Is.EqualTo(model));
        Assert.That(File.ReadAllBytes(source), Is.EqualTo(atPivot), "the source is as it was at the moment of the pivot");
        Assert.That(_events.Lines, Is.EqualTo(new[] { "created", "running", "ready", "READY", "waiting", "pending", "COMPLETED", "concluded", "null" }));
        Assert.That(Graph.Nodes.Select(n => n.Driver.FormatName), Has.None.EqualTo("mirror_top"));
    }

    [Test]
    public void AReadyMirrorThatIsCancelledLeavesAConsistentCopy()
    {
        (BlockBackend disk, string source, string target) = MakeDisk();
        Mirror();
        RunUntil(JobStatus.Ready);
        Write(disk, File.ReadAllBytes(source), new Random(1));
        Loop.RunUntil(_commands.BlockCancel("m", force: null));
        RunUntilGone();
        Assert.That(disk.Root!.Name, Is.EqualTo("src"));
        Assert.That(File.ReadAllBytes(target), Is.EqualTo(File.ReadAllBytes(source)));
        Assert.That(_events.Lines[^3], Is.EqualTo("COMPLETED"));
    }

    [Test]
    public void APausedMirrorDoesNothingAndGoesOn()
    {
        (BlockBackend disk, string source, string target) = MakeDisk();
        Mirror();
        RunUntil(JobStatus.Ready);
        _commands.BlockPause("m");
        RunUntil(JobStatus.Standby);
        byte[] before = File.ReadAllBytes(target);
        byte[] model = File.ReadAllBytes(source);
        Write(disk, model, new Random(2));
        while (Loop.RunOnce(block: false))
        {
        }

        Assert.That(File.ReadAllBytes(target), Is.EqualTo(before));
        Assert.That(() => _commands.BlockPause("m"), Throws.TypeOf<QapiException>().With.Message.EqualTo("Job is already paused"));
        _commands.BlockResume("m");
        _commands.BlockComplete("m");
        RunUntilGone();
        Assert.That(File.ReadAllBytes(target), Is.EqualTo(model));
    }

    [Test]
    public void AMirrorThatIsCompletedWhilePausedPivotsWhenItGoesOn()
    {
        (BlockBackend disk, string source, string target) = MakeDisk();
        Mirror();
        RunUntil(JobStatus.Ready);
        _commands.BlockPause("m");
        RunUntil(JobStatus.Standby);
        byte[] model = File.ReadAllBytes(source);
        Write(disk, model, new Random(2));
        _commands.BlockComplete("m");
        while (Loop.RunOnce(block: false))
        {
        }

        Assert.That(_jobs.Find("m")!.Status, Is.EqualTo(JobStatus.Standby));
        _commands.BlockResume("m");
        RunUntilGone();
        Assert.That(disk.Root!.Name, Is.EqualTo("dst"));
        Assert.That(File.ReadAllBytes(target), Is.EqualTo(model));
    }

    [Test]
    public void ATargetWithoutSpaceFailsTheJobAndNotTheGuest()
    {
        (BlockBackend disk, string source, _) = MakeDisk(target: "{'driver': 'raw', 'node-name': 'dst', 'size': 4194304, 'file': {'driver': 'file', 'filename': '/dev/full'}}");
        Assert.That(disk.Root, Is.Not.Null);
        Assert.That(Graph.Find("dst"), Is.Null, "a device is no file");
        BlockNode small = Open("{'driver': 'null-co', 'node-name': 'dst', 'size': 1048576}");
        Graph.AddMonitorOwned(small);
        Mirror();
        RunUntilGone();
        Assert.That(_events.Lines, Does.Contain("COMPLETED: Source and target image have different sizes"));
        Assert.That(disk.Root!.Name, Is.EqualTo("src"));
        Write(disk, File.ReadAllBytes(source), new Random(3));
    }

    [Test]
    public void ASpeedIsKept()
    {
        MakeDisk();
        Mirror(speed: 32 << 20);
        RunUntil(JobStatus.Ready);
        Job job = _jobs.Find("m")!;
        Assert.That(job.Progress, Is.EqualTo(Length));
        Loop.RunUntil(_commands.BlockCancel("m", force: true));
        RunUntilGone();
        Assert.That(_events.Lines[^3], Is.EqualTo("CANCELLED"));
    }

    private (BlockBackend Disk, string Source, string Target) MakeDisk(string? target = null)
    {
        string source = NewFile("src.img", Length);
        string path = NewFile("dst.img", Length);
        File.WriteAllBytes(source, Pattern(Length / 2, 5));
        using (FileStream file = File.OpenWrite(source))
        {
            file.SetLength(Length);
        }

        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'src', 'file': {'driver': 'file', 'filename': '{{source}}'} }""");
        Graph.AddMonitorOwned(node);
        if (target is null)
        {
            Graph.AddMonitorOwned(Open($$"""{'driver': 'raw', 'node-name': 'dst', 'file': {'driver': 'file', 'filename': '{{path}}'} }"""));
        }
        else
        {
            Assert.That(() => Open(target), Throws.TypeOf<QapiException>());
        }

        BlockBackend disk = _backends.Add("disk");
        disk.SetPermissions(BlockPermissions.ConsistentRead | BlockPermissions.Write, BlockPermissions.ConsistentRead | BlockPermissions.WriteUnchanged);
        disk.Insert(node);
        return (disk, source, path);
    }

    private void Mirror(long? speed = null) => Loop.RunUntil(_mirrors.BlockdevMirror(
        "m", "src", "dst", null, MirrorSyncMode.Full, speed, null, null, null, null, null, null, null, null));

    private void Write(BlockBackend disk, byte[] model, Random random)
    {
        int offset = random.Next(Length - 70_000);
        byte[] data = new byte[random.Next(1, 70_000)];
        random.NextBytes(data);
        using NativeBuffer buffer = new(data.Length);
        data.CopyTo(buffer.Span);
        IoVectors vectors = IoVectors.Rent(buffer.Vector(0, data.Length));
        Assert.That(Loop.RunUntil(disk.WriteAsync(offset, vectors)), Is.Zero);
        vectors.Return();
        data.CopyTo(model, offset);
    }

    private void RunUntil(JobStatus status)
    {
        while (_jobs.Find("m") is { } job && job.Status != status)
        {
            Loop.RunOnce(block: true);
        }

        Assert.That(_jobs.Find("m")?.Status, Is.EqualTo(status));
    }

    private void RunUntilGone()
    {
        while (_jobs.Find("m") is not null)
        {
            Loop.RunOnce(block: true);
        }
    }
}
