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

/// <summary>Copies of disks of which next to nothing was ever written go from one piece of data to the next; and what nobody does to a backing file.</summary>
public sealed class SparseDiskTests : Qcow2Fixture
{
    private const long Length = 2L << 40;
    private const int DataBytes = 300_000;

    // Between two steps of 1 GiB, at the ends, and two pieces near each other.
    private static readonly long[] s_places = [0, (1L << 30) - 100_000, 77L << 30, (77L << 30) + (5 << 20), (1L << 40) + 12_345, Length - DataBytes];

    private readonly JobEventLog _events = new();
    private JobManager _jobs = null!;
    private BlockBackend _disk = null!;

    [TestCase("mirror")]
    [TestCase("mirror-top")]
    [TestCase("backup")]
    [TestCase("backup-top")]
    public void DataIsFoundWhereverItIs(string job)
    {
        MakeDisk();
        byte[][] contents = [.. s_places.Select((place, i) => Pattern(DataBytes, i))];
        for (int i = 0; i < contents.Length; i++)
        {
            Write(Graph.Find("src")!, s_places[i], contents[i]);
        }

        bool isMirror = job.StartsWith("mirror", StringComparison.Ordinal);
        MirrorSyncMode sync = job.EndsWith("top", StringComparison.Ordinal) ? MirrorSyncMode.Top : MirrorSyncMode.Full;
        if (isMirror)
        {
            Run(new MirrorCommands(_jobs).BlockdevMirror("j", "src", "dst", null, sync, null, null, null, null, null, null, null, null, null));
        }
        else
        {
            Run(new BackupCommands(new TransactionRunner(_jobs)).BlockdevBackup(new BlockdevBackup { Sync = sync, Device = "src", Target = "dst", JobId = "j" }));
        }

        // What is written meanwhile is in a mirror, and not in a backup.
        byte[] later = Pattern(DataBytes, 99);
        for (int i = 0; i < 20; i++)
        {
            WriteToDisk((i * 90L << 30) + 50_000_000, later);
        }

        while (_jobs.Find("j") is { } running && (!isMirror || running.Status != JobStatus.Ready))
        {
            Loop.RunOnce(block: true);
        }

        if (isMirror)
        {
            Run(new JobCommands(_jobs).BlockCancel("j", force: null));
            while (_jobs.Find("j") is not null)
            {
                Loop.RunOnce(block: true);
            }
        }

        BlockNode target = Graph.Find("dst")!;
        for (int i = 0; i < contents.Length; i++)
        {
            Assert.That(Read(target, s_places[i], DataBytes), Is.EqualTo(contents[i]), $"piece {i}");
        }

        for (int i = 0; i < 20; i++)
        {
            Assert.That(Read(target, (i * 90L << 30) + 50_000_000, DataBytes), Is.EqualTo(isMirror ? later : new byte[DataBytes]), $"write {i}");
        }

        Assert.That(Read(target, 500L << 30, DataBytes), Is.EqualTo(new byte[DataBytes]));
    }

    // A bit of what is left to copy stands for more than is copied at once.
    [TestCase("cluster_size=2M", null, false)]
    [TestCase("cluster_size=2M", null, true)]
    [TestCase("cluster_size=64k", 4u << 20, false)]
    public void LargeClustersAndGranulesAreCopiedWhole(string options, uint? granularity, bool isCompressed)
    {
        _jobs = new JobManager(Graph, _events);
        byte[] contents = Pattern(9 << 20, 1);
        File.WriteAllBytes(PathOf("a.raw"), contents);
        Open($$"""{'driver': 'raw', 'node-name': 'src', 'file': {'driver': 'file', 'filename': '{{PathOf("a.raw")}}'} }""");
        Create("t.qcow2", "9M", options);
        OpenNamed("dst", "t.qcow2");
        Run(granularity is null
            ? new BackupCommands(new TransactionRunner(_jobs)).BlockdevBackup(
                new BlockdevBackup { Sync = MirrorSyncMode.Full, Device = "src", Target = "dst", JobId = "j", Compress = isCompressed })
            : new MirrorCommands(_jobs).BlockdevMirror("j", "src", "dst", null, MirrorSyncMode.Full, null, granularity, null, null, null, null, null, null, null));
        while (_jobs.Find("j") is { Status: not JobStatus.Ready })
        {
            Loop.RunOnce(block: true);
        }

        Assert.That(ReadAll(Graph.Find("dst")!, 1).AsSpan().SequenceEqual(contents));
    }

    [Test]
    public void ABackingFileIsNotChangedUnderItsImages()
    {
        MakeDisk();
        Create("o.qcow2", "", "", "-b", PathOf("a.qcow2"), "-F", "qcow2");
        Open($$"""{'driver': 'qcow2', 'node-name': 'o', 'backing': 'src', 'file': {'driver': 'file', 'filename': '{{PathOf("o.qcow2")}}'} }""");
        const string Busy = "Node 'src' is busy: node is used as backing hd of 'o'";
        MirrorCommands mirrors = new(_jobs);
        SnapshotCommands snapshots = new(new TransactionRunner(_jobs));
        Refused(mirrors.BlockdevMirror("j", "dst", "src", null, MirrorSyncMode.Full, null, null, null, null, null, null, null, null, null), Busy);
        Refused(mirrors.BlockdevMirror("j", "src", "dst", null, MirrorSyncMode.Full, null, null, null, null, null, null, null, null, null), "Need a root block node");
        Refused(snapshots.BlockdevSnapshotSync(null, "src", PathOf("n"), "n", null, null), Busy);
        Refused(snapshots.BlockdevSnapshot("src", "dst"), Busy);
        Refused(new BlockNodeCommands(Graph, new BlockBackends(Graph), _jobs).BlockResize(null, "src", Length * 2), "Device '(null)' is in use");
    }

    private void MakeDisk()
    {
        _jobs = new JobManager(Graph, _events);
        Create("a.qcow2", "2T", "cluster_size=2M");
        Create("t.qcow2", "2T", "cluster_size=2M");
        OpenNamed("src", "a.qcow2");
        OpenNamed("dst", "t.qcow2");
        _disk = new BlockBackends(Graph).Add("disk");
        _disk.SetPermissions(BlockPermissions.ConsistentRead | BlockPermissions.Write, BlockPermissions.All);
        _disk.Insert(Graph.Find("src")!);
    }

    private void OpenNamed(string name, string file) => Graph.AddMonitorOwned(
        Open($$"""{'driver': 'qcow2', 'node-name': '{{name}}', 'discard': 'unmap', 'file': {'driver': 'file', 'filename': '{{PathOf(file)}}'} }"""));

    private void Refused(Task command, string error) =>
        Assert.That(() => Run(command), Throws.TypeOf<QapiException>().With.Property(nameof(QapiException.Desc)).EqualTo(error));

    private void Run(Task command) => Loop.RunUntil(command);

    private void WriteToDisk(long offset, byte[] data)
    {
        using NativeBuffer buffer = new(data.Length);
        data.CopyTo(buffer.Span);
        IoVectors vectors = IoVectors.Rent(buffer.Vector(0, data.Length));
        Assert.That(Loop.RunUntil(_disk.WriteAsync(offset, vectors)), Is.Zero);
        vectors.Return();
    }
}
