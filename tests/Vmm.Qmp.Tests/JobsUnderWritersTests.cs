using System.Globalization;
using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// Jobs on the node of an export that NBD clients write to all the time, requests being under way whenever a job begins, copies, becomes ready
/// or ends: images have at the end, by qemu-img, what they should have had at the moment that the job promises. A job gets on a part at a time,
/// whenever its limit is set anew: nothing depends on how fast anything is.
/// </summary>
public sealed class JobsUnderWritersTests
{
    private const int BlockBytes = 4096;
    private const int Blocks = 1024;
    private const int Depth = 8;

    // Beyond so many batches the writers only wait: a mirror need not keep up with them.
    private const int MaxBatches = 60;

    private readonly byte[] _model = new byte[Blocks];
    private readonly List<Batch> _underWay = [];
    private readonly List<NbdWriter> _writers = [];
    private string _folder = "";
    private Random _random = new(1);
    private int _speed;
    private Emulator _emulator = null!;
    private QmpClient _client = null!;

    [SetUp]
    public void Launch()
    {
        if (!QemuImg.IsInstalled)
        {
            Assert.Ignore(QemuImg.Missing);
        }

        _folder = Emulator.NewDirectory();
        _random = new Random(7);
        _model.AsSpan().Clear();
        _emulator = Monitored.Start();
        _client = _emulator.Qmp();
        Create("source", "");
        AddNode("source");
        string socket = PathOf("nbd");
        _client.Execute("nbd-server-start", $$"""{"addr": {"type": "unix", "data": {"path": "{{socket}}"} } }""");
        _client.Execute("block-export-add", """{"type": "nbd", "id": "e", "node-name": "source", "name": "e", "writable": true}""");
        for (int i = 0; i < 2; i++)
        {
            _writers.Add(new NbdWriter(socket, "e"));
        }

        WriteMuch(40);
    }

    [TearDown]
    public void End()
    {
        _writers.ForEach(static writer => writer.Dispose());
        _writers.Clear();
        _underWay.Clear();
        _emulator?.Dispose();
        if (_folder.Length > 0)
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [TestCase("background", "full")]
    [TestCase("write-blocking", "full")]
    [TestCase("background", "top")]
    [TestCase("write-blocking", "top")]
    public void AMirrorTakesOver(string mode, string sync)
    {
        string image = "source";
        if (sync == "top")
        {
            Snapshot("source", "overlay");
            WriteMuch(10);
            image = "overlay";
        }

        Create("target", sync == "top" ? "source" : "");
        AddNode("target", sync == "top" ? ", \"backing\": \"source\"" : "");
        Start("blockdev-mirror", $$"""{"job-id": "j", "device": "{{image}}", "target": "target", "sync": "{{sync}}", "copy-mode": "{{mode}}", "speed": 1024}""");
        WriteUntilReady();
        WriteMuch(5);
        _client.Execute("job-complete", """{"id": "j"}""");
        WriteUntilCompleted();
        WriteMuch(5);
        Assert.That(Contents("target"), Is.EqualTo(_model));
        if (sync == "top")
        {
            Assert.That((string?)Info("target")["backing-filename"], Is.EqualTo(PathOf("source.qcow2")));
        }
    }

    [TestCase("background")]
    [TestCase("write-blocking")]
    public void AMirrorThatIsReadyEndsAsACopy(string mode)
    {
        Create("target", "");
        AddNode("target");
        Start("blockdev-mirror", $$"""{"job-id": "j", "device": "source", "target": "target", "sync": "full", "copy-mode": "{{mode}}", "speed": 1024}""");
        WriteUntilReady();
        WriteMuch(5);
        Settle();
        byte[] end = [.. _model];
        _client.Execute("block-job-cancel", """{"device": "j"}""");
        WaitCompleted();
        WriteMuch(5);
        Assert.That(Contents("target"), Is.EqualTo(end));
        Assert.That(Contents("source"), Is.EqualTo(_model));
    }

    [Test]
    public void TheActiveLayerIsCommitted()
    {
        Snapshot("source", "overlay");
        WriteMuch(20);
        Start("block-commit", """{"job-id": "j", "device": "overlay", "speed": 1024}""");
        WriteUntilReady();
        WriteMuch(5);
        _client.Execute("job-complete", """{"id": "j"}""");
        WriteUntilCompleted();
        WriteMuch(5);
        Assert.That(Contents("source"), Is.EqualTo(_model));
    }

    [Test]
    public void ALayerInTheMiddleIsCommitted()
    {
        Snapshot("source", "overlay");
        WriteMuch(20);
        Snapshot("overlay", "upper");
        Start("block-commit", """{"job-id": "j", "device": "upper", "top-node": "overlay", "base-node": "source", "speed": 1024}""");
        WriteUntilCompleted();
        WriteMuch(5);
        Assert.That(Contents("upper"), Is.EqualTo(_model));
        Assert.That((string?)Info("upper")["backing-filename"], Is.EqualTo(PathOf("source.qcow2")));
    }

    [Test]
    public void AChainIsStreamed()
    {
        Snapshot("source", "middle");
        WriteMuch(20);
        Snapshot("middle", "overlay");
        Start("block-stream", """{"job-id": "j", "device": "overlay", "speed": 1024}""");
        WriteUntilCompleted();
        WriteMuch(5);
        Assert.That(Contents("overlay"), Is.EqualTo(_model));
        Assert.That(Info("overlay").ContainsKey("backing-filename"), Is.False);
    }

    [Test]
    public void BackupsHaveTheMomentOfTheirBeginning()
    {
        Create("full", "");
        AddNode("full");
        _client.Execute("block-dirty-bitmap-add", """{"node": "source", "name": "b"}""");
        Write();

        // Requests under way are in the backup, or else the bitmap has them.
        byte[] after = [.. _model];
        byte[] before = [.. _model];
        _underWay.ForEach(batch => batch.Restore(before));
        Start(
            "transaction",
            """
            {"actions": [
              {"type": "block-dirty-bitmap-clear", "data": {"node": "source", "name": "b"} },
              {"type": "blockdev-backup", "data": {"job-id": "j", "device": "source", "target": "full", "sync": "full", "speed": 1024} }]}
            """);
        WriteUntilCompleted();
        Settle();
        byte[] second = [.. _model];
        Create("more", "full");
        AddNode("more", ", \"backing\": \"full\"");
        Start("blockdev-backup", """{"job-id": "j", "device": "source", "target": "more", "sync": "incremental", "bitmap": "b", "speed": 1024}""");
        WriteUntilCompleted();
        WriteMuch(5);
        byte[] full = Contents("full");
        for (int i = 0; i < Blocks; i++)
        {
            Assert.That(full[i], Is.EqualTo(before[i]).Or.EqualTo(after[i]), $"block {i} of the first backup");
        }

        Assert.That(Contents("more"), Is.EqualTo(second));
        Assert.That(Contents("source"), Is.EqualTo(_model));
    }

    private string PathOf(string name) => Path.Combine(_folder, name);

    private void Create(string name, string backing)
    {
        string[] more = backing.Length > 0 ? ["-b", PathOf(backing + ".qcow2"), "-F", "qcow2"] : [];
        QemuImg.Run(["create", "-q", "-f", "qcow2", .. more, PathOf(name + ".qcow2"), (Blocks * BlockBytes).ToString(CultureInfo.InvariantCulture)]);
    }

    private void AddNode(string name, string more = "") => _client.Execute(
        "blockdev-add", $$"""{"driver": "qcow2", "node-name": "{{name}}", "file": {"driver": "file", "filename": "{{PathOf(name + ".qcow2")}}"}{{more}} }""");

    private void Snapshot(string node, string name)
    {
        Write();
        _client.Execute("blockdev-snapshot-sync", $$"""{"node-name": "{{node}}", "snapshot-file": "{{PathOf(name + ".qcow2")}}", "snapshot-node-name": "{{name}}"}""");
    }

    private void Start(string command, string arguments)
    {
        _client.Execute(command, arguments);
        _client.Events.Clear();
        _speed = 1024;
    }

    private void WriteMuch(int batches)
    {
        for (int i = 0; i < batches; i++)
        {
            Write();
        }
    }

    // One of the writers waits for what it has under way and has more of it; no block is written by two requests at a time.
    private void Write()
    {
        NbdWriter writer = _writers[_random.Next(_writers.Count)];
        Settle(writer);
        Batch batch = new(writer);
        _underWay.Add(batch);
        for (int i = 0; i < Depth; i++)
        {
            int block;
            do
            {
                block = _random.Next(Blocks);
            }
            while (_underWay.Exists(other => other.Has(block)));

            // Many zeroes, which images keep in another way.
            byte value = (byte)(_random.Next(4) == 0 ? 0 : _random.Next(1, 256));
            ulong cookie = writer.Send(value == 0 ? NbdWriter.Kind.WriteZeroes : NbdWriter.Kind.Write, (long)block * BlockBytes, BlockBytes, value);
            batch.Add(cookie, block, _model[block]);
            _model[block] = value;
        }
    }

    private void Settle(NbdWriter writer)
    {
        if (_underWay.Find(batch => batch.Writer == writer) is { } batch)
        {
            while (!batch.IsEmpty)
            {
                batch.Remove(writer.Answer());
            }

            _underWay.Remove(batch);
        }
    }

    private void Settle() => _writers.ForEach(Settle);

    private void WriteUntilReady() => WriteUntil("BLOCK_JOB_READY");

    private void WriteUntilCompleted()
    {
        WriteUntil("BLOCK_JOB_COMPLETED");
        WaitCompleted();
    }

    // With each batch the job gets a part further; the last ones go on by themselves.
    private void WriteUntil(string name)
    {
        for (int i = 0; i < MaxBatches && !HasHappened(name); i++)
        {
            Write();
            SetSpeed(_speed ^= 1);
        }

        SetSpeed(0);
        if (name == "BLOCK_JOB_READY")
        {
            _client.WaitEvent(name);
        }
    }

    private void WaitCompleted()
    {
        JsonObject data = _client.WaitEvent("BLOCK_JOB_COMPLETED")["data"]!.AsObject();
        Assert.That(data.ContainsKey("error"), Is.False, data.ToJsonString());
    }

    private void SetSpeed(int speed)
    {
        try
        {
            _client.Execute("block-job-set-speed", $$"""{"device": "j", "speed": {{speed}} }""");
        }
        catch (QmpErrorException)
        {
            // It has just ended, or does; how, its event says.
        }
    }

    private bool HasHappened(string name) => _client.Events.Exists(e => (string?)e["event"] == name);

    // The program lets go of its images first: what they have is then in the files.
    private byte[] Contents(string name)
    {
        Settle();
        if (!_emulator.Process.HasExited)
        {
            _client.Execute("quit");
            Assert.That(_emulator.WaitExit(), Is.Zero);
        }

        QemuImg.Run(["check", "-q", PathOf(name + ".qcow2")]);
        QemuImg.Run(["convert", "-O", "raw", PathOf(name + ".qcow2"), PathOf("raw")]);
        byte[] contents = File.ReadAllBytes(PathOf("raw"));
        byte[] values = new byte[Blocks];
        for (int i = 0; i < Blocks; i++)
        {
            ReadOnlySpan<byte> block = contents.AsSpan(i * BlockBytes, BlockBytes);
            values[i] = block[0];
            Assert.That(block.ContainsAnyExcept(block[0]), Is.False, $"block {i} of {name} is of one write");
        }

        return values;
    }

    private JsonObject Info(string name) => JsonNode.Parse(QemuImg.Run(["info", "--output=json", PathOf(name + ".qcow2")]))!.AsObject();

    /// <summary>Requests of one writer that are under way, and what their blocks held before.</summary>
    private sealed class Batch(NbdWriter writer)
    {
        private readonly Dictionary<ulong, (int Block, byte Old)> _requests = [];

        public NbdWriter Writer => writer;

        public bool IsEmpty => _requests.Count == 0;

        public bool Has(int block) => _requests.Values.Any(r => r.Block == block);

        public void Add(ulong cookie, int block, byte old) => _requests.Add(cookie, (block, old));

        public void Remove(ulong cookie) => Assert.That(_requests.Remove(cookie), Is.True, $"request {cookie} is answered once");

        public void Restore(byte[] model)
        {
            foreach ((int block, byte old) in _requests.Values)
            {
                model[block] = old;
            }
        }
    }
}
