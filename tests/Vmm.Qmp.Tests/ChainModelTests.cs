using System.Globalization;
using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// A guest writes to a chain of qcow2 images that is snapshotted, streamed, committed, mirrored, backed up and resized meanwhile, beside the same on
/// an array of bytes; with faults in the files (blkdebug), and with a process that is killed at any moment. VMM_MODEL_ROUNDS sets how many sequences.
/// </summary>
public sealed class ChainModelTests
{
    private const int BlockBytes = 4096;
    private const int MaxBlocks = 512;
    private const int Steps = 16;

    private static readonly int s_rounds =
        int.TryParse(Environment.GetEnvironmentVariable("VMM_MODEL_ROUNDS"), CultureInfo.InvariantCulture, out int n) ? n : 1;

    // What each block may hold, oldest first: the last one is what it holds, the others may come back as long as nothing was flushed.
    private readonly List<List<byte>> _values = [];
    private readonly List<int> _chain = [];
    private Random _random = new(0);
    private string _folder = "";
    private string _options = "";
    private bool _hasFaults;
    private bool _isKilled;
    private int _layers;
    private int _jobs;
    private byte _stamp;
    private bool _hasBackup;
    private Emulator? _emulator;
    private QmpClient _client = null!;
    private NbdWriter? _writer;

    private int Top => _chain[^1];

    [SetUp]
    public void MakeFolder()
    {
        if (!QemuImg.IsInstalled)
        {
            Assert.Ignore(QemuImg.Missing);
        }

        _folder = Emulator.NewDirectory();
    }

    [TearDown]
    public void RemoveFolder()
    {
        EndProcess();
        Directory.Delete(_folder, recursive: true);
    }

    [TestCase("cluster_size=64k", false, false, 1)]
    [TestCase("cluster_size=4k,lazy_refcounts=on", false, false, 2)]
    [TestCase("cluster_size=64k", true, false, 3)]
    [TestCase("cluster_size=4k", true, false, 4)]
    [TestCase("cluster_size=64k", false, true, 5)]
    [TestCase("cluster_size=16k", true, true, 6)]
    public void TheDiskIsWhatItsModelIs(string options, bool hasFaults, bool isKilled, int seed)
    {
        (_options, _hasFaults, _isKilled) = (options, hasFaults, isKilled);
        for (int i = 0; i < s_rounds; i++)
        {
            _random = new Random(seed + (1000 * i));
            Play();
        }
    }

    private void Play()
    {
        _chain.Clear();
        _values.Clear();
        _hasBackup = false;
        Grow(128);
        _chain.Add(MakeImage());
        Start();
        for (int step = 0; step < Steps; step++)
        {
            GuestWork(_random.Next(1, 6));
            switch (_random.Next(_isKilled ? 9 : 8))
            {
                case 0 or 1 when _chain.Count < 4:
                    Snapshot();
                    break;
                case 2 when _chain.Count > 1:
                    Stream();
                    break;
                case 3 when _chain.Count > 2:
                    CommitMiddle();
                    break;
                case 4 when _chain.Count > 1:
                    CommitTop();
                    break;
                case 5:
                    Mirror();
                    break;
                case 6 when _values.Count < MaxBlocks:
                    Resize();
                    break;
                case 8:
                    KillAndRestart();
                    break;
                default:
                    Backup();
                    break;
            }

            AssertSame($"step {step}");
        }

        _client.Execute("quit");
        _emulator!.WaitExit();
        EndProcess();
        foreach (int layer in _chain)
        {
            QemuImg.Run(_hasFaults || _isKilled ? 3 : 0, "check", "-q", PathOf(layer));
        }

        if (!_hasFaults)
        {
            string raw = Path.Combine(_folder, "raw");
            QemuImg.Run(0, "convert", "-O", "raw", PathOf(Top), raw);
            Assert.That(File.ReadAllBytes(raw).AsSpan().SequenceEqual(Model()), "qemu-img reads something else");
        }
    }

    private void GuestWork(int requests)
    {
        for (int i = 0; i < requests; i++)
        {
            int first = _random.Next(_values.Count);
            int count = Math.Min(_random.Next(1, 12), _values.Count - first);
            NbdWriter.Kind kind = (NbdWriter.Kind)_random.Next(8) switch
            {
                0 => NbdWriter.Kind.Flush,
                NbdWriter.Kind.Write => NbdWriter.Kind.WriteZeroes,
                _ => NbdWriter.Kind.Write,
            };
            if (kind == NbdWriter.Kind.Flush)
            {
                if (_writer!.Request(kind, 0, 0))
                {
                    _values.ForEach(static v => v.RemoveRange(0, v.Count - 1));
                }
                else
                {
                    Assert.That(_hasFaults, "a flush has failed");
                }

                continue;
            }

            _stamp = (byte)((_stamp % 255) + 1);
            byte fill = kind == NbdWriter.Kind.Write ? _stamp : (byte)0;
            _values.GetRange(first, count).ForEach(v => v.Add(fill));

            // A guest tries again; then each block holds one of the values, and this one at last.
            for (int tries = 0; !_writer!.Request(kind, (long)first * BlockBytes, count * BlockBytes, fill); tries++)
            {
                Assert.That(_hasFaults && tries < 100, "a write has failed");
            }
        }
    }

    private void Snapshot()
    {
        EndBackups();
        int layer = MakeImage(below: Top);
        AddLayer(layer, null);
        if (Succeeds("blockdev-snapshot", new JsonObject { ["node"] = Node(Top), ["overlay"] = Node(layer) }))
        {
            _chain.Add(layer);
        }
        else
        {
            Delete(Node(layer));
        }
    }

    private void Stream()
    {
        EndBackups();
        if (RunJob("block-stream", new JsonObject { ["device"] = Node(Top) }))
        {
            Drop(0, _chain.Count - 1);
        }
    }

    private void CommitMiddle()
    {
        EndBackups();
        int at = _random.Next(1, _chain.Count - 1);
        if (RunJob("block-commit", new JsonObject { ["device"] = Node(Top), ["top-node"] = Node(_chain[at]), ["base-node"] = Node(_chain[at - 1]) }))
        {
            Drop(at, 1);
        }
    }

    private void CommitTop()
    {
        EndBackups();
        if (RunJob("block-commit", new JsonObject { ["device"] = Node(Top), ["base-node"] = Node(_chain[^2]) }, isCompleted: true))
        {
            Drop(_chain.Count - 1, 1);
        }
    }

    private void Mirror()
    {
        EndBackups();
        int layer = MakeImage();
        AddLayer(layer, null);
        string mode = _random.Next(2) == 0 ? "background" : "write-blocking";
        if (RunJob("blockdev-mirror", new JsonObject { ["device"] = Node(Top), ["target"] = Node(layer), ["sync"] = "full", ["copy-mode"] = mode }, isCompleted: true))
        {
            int old = _chain.Count;
            _chain.Add(layer);
            Drop(0, old);
        }
        else
        {
            Delete(Node(layer));
        }
    }

    // The first one copies all, the others what a bitmap says: the target is the disk at the moment of the command.
    private void Backup()
    {
        string path = Path.Combine(_folder, "target");
        byte[] moment = Model();
        JsonObject arguments = new() { ["device"] = Node(Top), ["target"] = "target", ["sync"] = "full" };
        if (_hasBackup)
        {
            arguments["sync"] = "incremental";
            arguments["bitmap"] = "b";
        }
        else
        {
            using (FileStream file = File.Create(path))
            {
                file.SetLength(moment.Length);
            }

            _client.Execute("blockdev-add", new JsonObject { ["driver"] = "file", ["node-name"] = "target", ["filename"] = path });
            _client.Execute("block-dirty-bitmap-add", new JsonObject { ["node"] = Node(Top), ["name"] = "b", ["granularity"] = BlockBytes });
            _hasBackup = true;
        }

        if (RunJob("blockdev-backup", arguments))
        {
            Assert.That(File.ReadAllBytes(path).AsSpan().SequenceEqual(moment), "the backup is not the disk as it was");
        }
        else if ((string)arguments["sync"]! == "full")
        {
            EndBackups();
        }
    }

    private void EndBackups()
    {
        if (_hasBackup)
        {
            _hasBackup = false;
            _client.Execute("block-dirty-bitmap-remove", new JsonObject { ["node"] = Node(Top), ["name"] = "b" });
            Delete("target");
        }
    }

    private void Resize()
    {
        EndBackups();
        int more = _random.Next(1, 64);
        if (Succeeds("block_resize", new JsonObject { ["node-name"] = Node(Top), ["size"] = (_values.Count + more) * BlockBytes }))
        {
            Grow(more);
            EndExport();
            Export();
        }
    }

    private void KillAndRestart()
    {
        // In the middle of a job half of the time: none of them changes what the chain holds, and none is completed.
        switch (_random.Next(6))
        {
            case 0 when _chain.Count > 1:
                Succeeds("block-stream", new JsonObject { ["job-id"] = "k", ["device"] = Node(Top), ["auto-finalize"] = false });
                break;
            case 1 when _chain.Count > 1:
                Succeeds("block-commit", new JsonObject { ["job-id"] = "k", ["device"] = Node(Top), ["base-node"] = Node(_chain[0]) });
                break;
            case 2:
                int layer = MakeImage();
                AddLayer(layer, null);
                Succeeds("blockdev-mirror", new JsonObject { ["job-id"] = "k", ["device"] = Node(Top), ["target"] = Node(layer), ["sync"] = "full" });
                break;
        }

        GuestWork(_random.Next(8));
        _emulator!.Process.Kill();
        _emulator.Process.WaitForExit();
        EndProcess();
        _hasBackup = false;
        Start();
        byte[] contents = ReadAll();
        for (int i = 0; i < _values.Count; i++)
        {
            byte value = contents[i * BlockBytes];
            bool isOne = !contents.AsSpan(i * BlockBytes, BlockBytes).ContainsAnyExcept(value) && _values[i].Contains(value);
            Assert.That(isOne, $"block {i} has {value}, may have {string.Join(' ', _values[i])}");
            _values[i] = [value];
        }
    }

    private void EndProcess()
    {
        _writer?.Dispose();
        _emulator?.Dispose();
        _emulator = null;
    }

    private bool RunJob(string command, JsonObject arguments, bool isCompleted = false)
    {
        string id = "j" + _jobs++.ToString(CultureInfo.InvariantCulture);
        arguments["job-id"] = id;
        arguments["auto-dismiss"] = false;
        if (!Succeeds(command, arguments))
        {
            return false;
        }

        GuestWork(_random.Next(4));
        if (isCompleted && WaitStatus(id, "ready") == "ready")
        {
            GuestWork(_random.Next(4));

            // With a fault it may have ended since.
            Succeeds("job-complete", new JsonObject { ["id"] = id });
        }

        WaitStatus(id, "concluded");
        JsonNode job = ((JsonArray)_client.Execute("query-jobs")!).First(j => (string)j!["id"]! == id)!;
        string? error = (string?)job["error"];
        _client.Execute("job-dismiss", new JsonObject { ["id"] = id });
        Assert.That(error is null || _hasFaults, error);
        return error is null;
    }

    private string WaitStatus(string id, string status)
    {
        while (true)
        {
            foreach (JsonNode? job in (JsonArray)_client.Execute("query-jobs")!)
            {
                string now = (string)job!["status"]!;
                if ((string)job["id"]! == id && (now == status || now == "concluded"))
                {
                    return now;
                }
            }

            _client.WaitEvent("JOB_STATUS_CHANGE");
        }
    }

    private bool Succeeds(string command, JsonObject arguments)
    {
        try
        {
            _client.Execute(command, arguments);
            return true;
        }
        catch (QmpErrorException) when (_hasFaults)
        {
            return false;
        }
    }

    private void Drop(int first, int count)
    {
        for (int i = first + count - 1; i >= first; i--)
        {
            Delete(Node(_chain[i]));
            _chain.RemoveAt(i);
        }
    }

    private void Delete(string node) => _client.Execute("blockdev-del", new JsonObject { ["node-name"] = node });

    private void Start()
    {
        _emulator = Monitored.Start();
        _client = _emulator.Qmp();
        for (int i = 0; i < _chain.Count; i++)
        {
            AddLayer(_chain[i], i == 0 ? null : _chain[i - 1]);
        }

        string socket = Path.Combine(_folder, "nbd");
        File.Delete(socket);
        _client.Execute("nbd-server-start", $$"""{"addr": {"type": "unix", "data": {"path": "{{socket}}"} } }""");
        Export();
    }

    private void Export()
    {
        _client.Execute(
            "block-export-add", new JsonObject { ["type"] = "nbd", ["id"] = "e", ["name"] = "e", ["node-name"] = Node(Top), ["writable"] = true });
        _writer = new NbdWriter(Path.Combine(_folder, "nbd"), "e");
    }

    private void EndExport()
    {
        _writer!.Dispose();
        _client.Execute("block-export-del", """{"id": "e", "mode": "hard"}""");
        _client.WaitEvent("BLOCK_EXPORT_DELETED");
    }

    private int MakeImage(int? below = null)
    {
        List<string> arguments = ["create", "-q", "-f", "qcow2", "-o", _options];
        if (below is { } layer)
        {
            // Ours has it open.
            arguments.AddRange(["-u", "-b", PathOf(layer), "-F", "qcow2"]);
        }

        QemuImg.Run(0, [.. arguments, PathOf(_layers), (_values.Count * BlockBytes).ToString(CultureInfo.InvariantCulture)]);
        return _layers++;
    }

    private void AddLayer(int layer, int? below)
    {
        JsonObject file = new() { ["driver"] = "file", ["filename"] = PathOf(layer), ["discard"] = "unmap" };
        if (_hasFaults)
        {
            // Each sector fails once, from the first data on.
            JsonArray rules = [];
            for (int i = 0; i < 24; i++)
            {
                rules.Add((JsonNode)new JsonObject
                {
                    ["event"] = _random.Next(3) == 0 ? "read_aio" : "write_aio",
                    ["errno"] = _random.Next(4) == 0 ? 28 : 5,
                    ["sector"] = _random.Next(2048),
                    ["once"] = true,
                });
            }

            file = new JsonObject { ["driver"] = "blkdebug", ["image"] = file, ["inject-error"] = rules };
        }

        JsonObject node = new() { ["driver"] = "qcow2", ["node-name"] = Node(layer), ["discard"] = "unmap", ["file"] = file };
        node["backing"] = below is { } other ? Node(other) : null;
        _client.Execute("blockdev-add", node);
    }

    private void AssertSame(string when)
    {
        byte[] contents = ReadAll();
        byte[] model = Model();
        int at = contents.AsSpan().CommonPrefixLength(model);
        Assert.That(at, Is.EqualTo(model.Length), $"{when}: the first byte that is not the model's");
    }

    private byte[] ReadAll()
    {
        byte[] contents = new byte[_values.Count * BlockBytes];
        const int Part = 64 * BlockBytes;
        for (int done = 0; done < contents.Length; done += Part)
        {
            int bytes = Math.Min(Part, contents.Length - done);
            for (int tries = 0; !_writer!.TryRead(done, contents.AsSpan(done, bytes)); tries++)
            {
                Assert.That(_hasFaults && tries < 100, "a read has failed");
            }
        }

        return contents;
    }

    private byte[] Model()
    {
        byte[] model = new byte[_values.Count * BlockBytes];
        for (int i = 0; i < _values.Count; i++)
        {
            model.AsSpan(i * BlockBytes, BlockBytes).Fill(_values[i][^1]);
        }

        return model;
    }

    private void Grow(int blocks)
    {
        for (int i = 0; i < blocks; i++)
        {
            _values.Add([0]);
        }
    }

    private string PathOf(int layer) => Path.Combine(_folder, "l" + layer.ToString(CultureInfo.InvariantCulture));

    private static string Node(int layer) => "n" + layer.ToString(CultureInfo.InvariantCulture);
}
