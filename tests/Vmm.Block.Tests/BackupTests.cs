using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Qmp;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Backups, snapshots and transactions over a disk that is written meanwhile.</summary>
public sealed class BackupTests : Qcow2Fixture
{
    private const int Length = 2 << 20;

    private readonly JobEventLog _events = new();
    private JobManager _jobs = null!;
    private JobCommands _commands = null!;
    private BackupCommands _backups = null!;
    private SnapshotCommands _snapshots = null!;
    private BitmapCommands _bitmaps = null!;
    private BlockBackend _disk = null!;
    private byte[] _model = null!;
    private Random _random = null!;

    [SetUp]
    public void MakeDisk()
    {
        _events.Lines.Clear();
        _random = new Random(11);
        _jobs = new JobManager(Graph, _events);
        TransactionRunner transactions = new(_jobs);
        _commands = new JobCommands(_jobs);
        _backups = new BackupCommands(transactions);
        _snapshots = new SnapshotCommands(transactions);
        _bitmaps = new BitmapCommands(transactions);
        _model = Pattern(Length, 5);
        File.WriteAllBytes(PathOf("src"), _model);
        OpenRaw("src");
        NewFile("dst", Length);
        OpenRaw("dst");
        _disk = new BlockBackends(Graph).Add("disk");
        _disk.SetPermissions(BlockPermissions.ConsistentRead | BlockPermissions.Write, BlockPermissions.ConsistentRead | BlockPermissions.WriteUnchanged);
        _disk.Insert(Graph.Find("src")!);
    }

    [Test]
    public void ABackupHasTheContentsOfItsBegin()
    {
        byte[] before = (byte[])_model.Clone();
        Backup(MirrorSyncMode.Full);
        WriteWhileRunning(60);
        Assert.That(File.ReadAllBytes(PathOf("dst")), Is.EqualTo(before));
        Assert.That(DiskContents(), Is.EqualTo(_model));
        Assert.That(_events.Lines, Is.EqualTo(new[]
        {
            "created", "running", "paused", "running", "waiting", "pending", "COMPLETED", "concluded", "null",
        }));
        Assert.That(Graph.Nodes.Select(static n => n.Driver.FormatName), Has.None.EqualTo("copy-before-write"));
    }

    [Test]
    public void ABackupOfNothingKeepsWhatIsOverwritten()
    {
        byte[] before = (byte[])_model.Clone();
        Backup(MirrorSyncMode.None);
        for (int i = 0; i < 30; i++)
        {
            WriteOnce();
        }

        Run(_commands.BlockCancel("b", force: null));
        WriteWhileRunning(0);
        byte[] saved = File.ReadAllBytes(PathOf("dst"));
        for (int cluster = 0; cluster < Length; cluster += 65536)
        {
            bool isChanged = !_model.AsSpan(cluster, 65536).SequenceEqual(before.AsSpan(cluster, 65536));
            Assert.That(saved.AsSpan(cluster, 65536).SequenceEqual(isChanged ? before.AsSpan(cluster, 65536) : new byte[65536]), $"{cluster}");
        }
    }

    [Test]
    public void IncrementalBackupsFollowTheDisk()
    {
        Run(_bitmaps.Add("src", "m", null, null, null));
        byte[] start = (byte[])_model.Clone();
        Backup(MirrorSyncMode.Full);
        WriteWhileRunning(10);
        Assert.That(File.ReadAllBytes(PathOf("dst")), Is.EqualTo(start));
        for (int round = 0; round < 3; round++)
        {
            byte[] moment = (byte[])_model.Clone();
            Backup(MirrorSyncMode.Incremental, "m");
            WriteWhileRunning(10);
            Assert.That(File.ReadAllBytes(PathOf("dst")), Is.EqualTo(moment), $"round {round}");
        }
    }

    [Test]
    public void ACancelledIncrementalBackupLosesNothing()
    {
        Run(_bitmaps.Add("src", "m", null, null, null));
        for (int i = 0; i < 20; i++)
        {
            WriteOnce();
        }

        long dirty = Graph.Find("src")!.FindBitmap("m")!.Bits.Count;
        Backup(MirrorSyncMode.Incremental, "m", speed: 4096);
        Run(_commands.Cancel("b"));
        WriteWhileRunning(0);
        Assert.That(Graph.Find("src")!.FindBitmap("m")!.Bits.Count, Is.EqualTo(dirty));
        Assert.That(Graph.Find("src")!.FindBitmap("m")!.IsBusy, Is.False);
    }

    [Test]
    public void ACompressedBackupIsReadByItsPeer()
    {
        Array.Clear(_model, Length / 4, Length / 2);
        Write(Graph.Find("src")!, 0, _model);
        Create("c.qcow2", "2M");
        Graph.AddMonitorOwned(Open($$"""{'driver': 'qcow2', 'node-name': 'c', 'file': {'driver': 'file', 'filename': '{{PathOf("c.qcow2")}}'} }"""));
        byte[] before = (byte[])_model.Clone();
        Run(_backups.BlockdevBackup(new BlockdevBackup { Sync = MirrorSyncMode.Full, Device = "src", Target = "c", JobId = "b", Compress = true }));
        WriteWhileRunning(20);
        Loop.RunUntil(Graph.DeleteAsync(Graph.Find("c")!));
        Img("check", "-q", PathOf("c.qcow2"));
        Assert.That(Convert(PathOf("c.qcow2")), Is.EqualTo(before));
    }

    [Test]
    public void SnapshotsAreOverlaysOfTheirMoment()
    {
        byte[] before = (byte[])_model.Clone();
        Run(_snapshots.BlockdevSnapshotSync(null, "src", PathOf("o1.qcow2"), "o1", null, null));
        Assert.That(_disk.Root!.Name, Is.EqualTo("o1"));
        Assert.That(Graph.Find("src")!.IsReadOnly);
        WriteOnce();
        byte[] first = (byte[])_model.Clone();
        Run(_snapshots.BlockdevSnapshotSync("disk", null, PathOf("o2.qcow2"), null, "qcow2", null));
        WriteOnce();
        Assert.That(DiskContents(), Is.EqualTo(_model));
        BlockNode root = _disk.Remove()!;
        Loop.RunUntil(Graph.CloseIfUnusedAsync(root));
        Assert.That(File.ReadAllBytes(PathOf("src")), Is.EqualTo(before));
        Assert.That(Convert(PathOf("o1.qcow2")), Is.EqualTo(first));
        Assert.That(Convert(PathOf("o2.qcow2")), Is.EqualTo(_model));
    }

    [Test]
    public void ATransactionThatFailsLeavesNoTrace()
    {
        Run(_bitmaps.Add("src", "m", null, null, null));
        for (int i = 0; i < 5; i++)
        {
            WriteOnce();
        }

        string bits = Graph.Find("src")!.FindBitmap("m")!.Bits.Sha256();
        string[] nodes = [.. Graph.Nodes.Select(static n => n.Name)];
        Assert.That(
            () => Run(_snapshots.Transaction(
                [
                    new() { Type = TransactionActionKind.BlockDirtyBitmapClear, BitmapClear = new() { Node = "src", Name = "m" } },
                    new() { Type = TransactionActionKind.BlockdevSnapshotSync, SnapshotSync = new() { NodeName = "src", SnapshotFile = PathOf("o.qcow2"), SnapshotNodeName = "o" } },
                    new() { Type = TransactionActionKind.BlockdevBackup, Backup = new() { Device = "src", Target = "dst", Sync = MirrorSyncMode.Full, JobId = "b" } },
                    new() { Type = TransactionActionKind.Abort, Abort = new() },
                ],
                null)),
            Throws.TypeOf<QapiException>());
        Assert.That(Graph.Find("src")!.FindBitmap("m")!.Bits.Sha256(), Is.EqualTo(bits));
        Assert.That(Graph.Nodes.Select(static n => n.Name), Is.EqualTo(nodes));
        Assert.That(_disk.Root!.Name, Is.EqualTo("src"));
        Assert.That(_jobs.Jobs, Is.Empty);
        WriteOnce();
        Assert.That(DiskContents(), Is.EqualTo(_model));
    }

    [Test]
    public void GroupedBackupsFailTogether()
    {
        NewFile("src2", Length);
        NewFile("dst2", Length);
        OpenRaw("src2");
        OpenRaw("dst2");
        Run(_snapshots.Transaction(
            [
                new() { Type = TransactionActionKind.BlockdevBackup, Backup = new() { Device = "src", Target = "dst", Sync = MirrorSyncMode.Full, JobId = "b", Speed = 4096 } },
                new() { Type = TransactionActionKind.BlockdevBackup, Backup = new() { Device = "src2", Target = "dst2", Sync = MirrorSyncMode.Full, JobId = "c" } },
            ],
            new TransactionProperties { CompletionMode = ActionCompletionMode.Grouped }));
        while (_jobs.Find("c")!.Status != JobStatus.Waiting)
        {
            Loop.RunOnce(block: true);
        }

        Run(_commands.Cancel("b"));
        WriteWhileRunning(0);
        Assert.That(_jobs.Find("c"), Is.Null);
        Assert.That(_events.Lines.Count(static l => l == "CANCELLED"), Is.EqualTo(2));
        Assert.That(_events.Lines, Has.None.EqualTo("COMPLETED"));
    }

    [Test]
    public void BackupsAndMirrorsMakeTheirFiles()
    {
        byte[] before = (byte[])_model.Clone();
        Run(_backups.DriveBackup(new DriveBackup
        {
            Sync = MirrorSyncMode.None, Device = "src", Target = PathOf("none.qcow2"), Format = "qcow2", JobId = "b",
        }));
        WriteOnce();
        byte[] shown = ReadAll(Graph.Nodes.First(static n => n.Driver.FormatName == "qcow2"));
        Assert.That(shown, Is.EqualTo(before));
        Run(_commands.Cancel("b"));
        WriteWhileRunning(0);
        before = (byte[])_model.Clone();
        Run(_backups.DriveBackup(new DriveBackup
        {
            Sync = MirrorSyncMode.Full, Device = "src", Target = PathOf("full.qcow2"), Format = "qcow2", JobId = "b",
        }));
        WriteWhileRunning(5);
        Assert.That(Convert(PathOf("full.qcow2")), Is.EqualTo(before));
        Run(new MirrorCommands(_jobs).DriveMirror(
            "b", "src", PathOf("m.qcow2"), "qcow2", "m", null, MirrorSyncMode.Full, null, null, null, null, null, null, null, MirrorCopyMode.WriteBlocking, null, null));
        while (_jobs.Find("b")!.Status != JobStatus.Ready)
        {
            WriteOnce();
        }

        WriteOnce();
        _commands.BlockComplete("b");
        WriteWhileRunning(0);
        Assert.That(_disk.Root!.Name, Is.EqualTo("m"));
        WriteOnce();
        BlockNode root = _disk.Remove()!;
        Loop.RunUntil(Graph.CloseIfUnusedAsync(root));
        Assert.That(Convert(PathOf("m.qcow2")), Is.EqualTo(_model));
        Img("check", "-q", PathOf("m.qcow2"));
    }

    private byte[] ReadAll(BlockNode node) => Read(node, 0, Length);

    private void OpenRaw(string name) => Graph.AddMonitorOwned(
        Open($$"""{'driver': 'raw', 'node-name': '{{name}}', 'file': {'driver': 'file', 'filename': '{{PathOf(name)}}'} }"""));

    private void Run(Task task) => Loop.RunUntil(task);

    private void Backup(MirrorSyncMode sync, string? bitmap = null, long? speed = null) => Run(_backups.BlockdevBackup(
        new BlockdevBackup { Sync = sync, Device = "src", Target = "dst", Speed = speed, JobId = "b", Bitmap = bitmap }));

    private void WriteOnce()
    {
        int offset = _random.Next(Length - 70_000);
        byte[] data = new byte[_random.Next(1, 70_000)];
        _random.NextBytes(data);
        using NativeBuffer buffer = new(data.Length);
        data.CopyTo(buffer.Span);
        IoVectors vectors = IoVectors.Rent(buffer.Vector(0, data.Length));
        Assert.That(Loop.RunUntil(_disk.WriteAsync(offset, vectors)), Is.Zero);
        vectors.Return();
        data.CopyTo(_model, offset);
    }

    private byte[] DiskContents()
    {
        using NativeBuffer buffer = new(Length);
        Assert.That(Loop.RunUntil(_disk.ReadAsync(0, IoVectors.Rent(buffer.Vector(0, Length)))), Is.Zero);
        return buffer.Span.ToArray();
    }

    private void WriteWhileRunning(int writes)
    {
        while (_jobs.Find("b") is not null)
        {
            if (writes-- > 0)
            {
                WriteOnce();
            }

            Loop.RunOnce(block: writes <= 0 && _jobs.Find("b") is not null);
        }
    }
}
