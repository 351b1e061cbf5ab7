using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>
/// Random operations on an image beside the same on an array of bytes: writes, zeroes, discards, several at once; sizes, snapshots, a bitmap. With
/// faults, what a failed request covers is as before or as asked for, and everything else is untouched. VMM_MODEL_ROUNDS sets how many sequences.
/// </summary>
public sealed class Qcow2ModelTests : Qcow2Fixture
{
    private const int SectorBytes = 512;
    private const int MaxBytes = 3 << 20;
    private const BlockdevDriver Memory = BlockdevDriver.NullAio;

    private static readonly int s_rounds =
        int.TryParse(Environment.GetEnvironmentVariable("VMM_MODEL_ROUNDS"), System.Globalization.CultureInfo.InvariantCulture, out int n) ? n : 1;

    private readonly Dictionary<string, byte[]> _snapshots = [];
    private Random _random = new(0);
    private MemoryDriver _memory = null!;
    private BlockNode _node = null!;
    private DirtyBitmap _bitmap = null!;
    private byte[] _model = [];
    private byte[] _marked = [];
    private byte _stamp;

    private Qcow2Driver Driver => (Qcow2Driver)_node.Driver;

    [TestCase("cluster_size=64k", 0, 11)]
    [TestCase("cluster_size=512", 0, 12)]
    [TestCase("cluster_size=4k,refcount_bits=64,lazy_refcounts=on", 0, 13)]
    [TestCase("cluster_size=16k,extended_l2=on", 0, 14)]
    [TestCase("compat=0.10,cluster_size=4k", 0, 15)]
    [TestCase("cluster_size=64k", 0.02, 21)]
    [TestCase("cluster_size=512", 0.01, 22)]
    [TestCase("cluster_size=4k,lazy_refcounts=on", 0.02, 23)]
    [TestCase("cluster_size=16k,extended_l2=on", 0.03, 24)]
    public void TheImageIsWhatItsModelIs(string options, double faults, int seed)
    {
        for (int i = 0; i < s_rounds; i++)
        {
            Play(options, faults, seed + (1000 * i));
        }
    }

    private void Play(string options, double faults, int seed)
    {
        string path = Create("a.qcow2", "1M", options);
        Begin(path, seed);
        bool isV2 = options.Contains("0.10", StringComparison.Ordinal);
        for (int step = 0; step < 150; step++)
        {
            _memory.Faults = faults;
            switch (_random.Next(16))
            {
                case 0 when _snapshots.Count == 0 || !isV2:
                    Resize();
                    break;
                case 1 when faults == 0:
                    TakeSnapshot(step);
                    break;
                case 2 when faults == 0 && _snapshots.Count > 0:
                    UseSnapshot();
                    break;
                case 3:
                    _ = Loop.RunUntil(_node.FlushAsync());
                    break;
                default:
                    Requests();
                    break;
            }

            _memory.Faults = 0;
            if (step % 10 == 9)
            {
                AssertSame($"seed {seed}, step {step}");
            }
        }

        AssertSame($"seed {seed}, at the end");
        AssertBitmap();
        Assert.That(_memory.Failed, faults == 0 ? Is.Zero : Is.Positive);
        CloseNode(_node);
        File.WriteAllBytes(path, _memory.Bytes);
        var (code, text) = Run("qemu-img", "check", path);
        Assert.That(code, faults == 0 ? Is.Zero : Is.Zero.Or.EqualTo(3), text);
        Assert.That(Convert(path).AsSpan().SequenceEqual(_model), "qemu-img reads something else");
        foreach ((string name, byte[] contents) in _snapshots)
        {
            Img("convert", "-l", "snapshot.name=" + name, "-O", "raw", path, PathOf("s"));

            // As long as the disk is now, whatever it was then.
            int common = Math.Min(_model.Length, contents.Length);
            Assert.That(File.ReadAllBytes(PathOf("s")).AsSpan(0, common).SequenceEqual(contents.AsSpan(0, common)), "snapshot " + name);
        }
    }

    private void Begin(string path, int seed)
    {
        _random = new Random(seed);
        _snapshots.Clear();
        _model = new byte[1 << 20];
        MemoryDriver memory = _memory = new MemoryDriver(new Random(seed));
        memory.Load(File.ReadAllBytes(path));
        Graph.DriverRegistry.Add(Memory, new BlockDriverInfo { Create = _ => memory });
        Loop.RunUntil(Graph.OpenAsync(new BlockdevOptions { Driver = Memory, NullAio = new BlockdevOptionsNull(), NodeName = "m" }));
        _node = Open("{'driver': 'qcow2', 'discard': 'unmap', 'overlap-check': 'all', 'l2-cache-size': 2048, 'l2-cache-entry-size': 512, 'file': 'm'}");
        _bitmap = new DirtyBitmap(_node, "b", 4096);
        _node.AddBitmap(_bitmap);
        _marked = (byte[])_model.Clone();
    }

    // One to four at once, which do not touch each other's sectors.
    private void Requests()
    {
        List<(long Offset, int Bytes, byte? Value, IoTask<int> Task, NativeBuffer Buffer)> running = [];
        int count = _random.Next(1, 5);
        int share = (_model.Length / SectorBytes / count) & ~7;
        for (int i = 0; i < count && share > 8; i++)
        {
            long offset = ((long)i * share + _random.Next(share - 1)) * SectorBytes;
            int bytes = (int)Math.Min(((i + 1L) * share * SectorBytes) - offset, _random.Next(1, _random.Next(2, 400)) * SectorBytes);
            NativeBuffer buffer = new(bytes);
            switch (_random.Next(6))
            {
                case 0:
                    running.Add((offset, bytes, 0, _node.WriteZeroesAsync(offset, bytes, _random.Next(2) == 0 ? BlockRequestFlags.None : BlockRequestFlags.MayUnmap), buffer));
                    break;
                case 1:
                    running.Add((offset, bytes, null, _node.DiscardAsync(offset, bytes), buffer));
                    break;
                default:
                    _stamp = (byte)((_stamp % 255) + 1);
                    buffer.Span.Fill(_stamp);
                    running.Add((offset, bytes, _stamp, _node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, bytes))), buffer));
                    break;
            }
        }

        bool[] hasFailed = [.. running.Select(r => Loop.RunUntil(r.Task) < 0)];
        for (int i = 0; i < running.Count; i++)
        {
            (long offset, int bytes, byte? value, _, NativeBuffer buffer) = running[i];
            buffer.Dispose();
            Apply((int)offset, bytes, value, hasFailed[i]);
        }
    }

    private void Apply(int offset, int bytes, byte? value, bool hasFailed)
    {
        Span<byte> model = _model.AsSpan(offset, bytes);
        if (value is { } known && !hasFailed)
        {
            model.Fill(known);
            return;
        }

        // Of what was discarded each part is as before or zero; of what failed, as before or as asked for.
        _memory.Faults = 0;
        byte[] now = Read(_node, offset, bytes);
        for (int i = 0; i < bytes; i += SectorBytes)
        {
            bool isOld = model.Slice(i, SectorBytes).SequenceEqual(now.AsSpan(i, SectorBytes));
            bool isNew = !now.AsSpan(i, SectorBytes).ContainsAnyExcept(value ?? 0);
            if (!isOld && !isNew)
            {
                Assert.Fail($"sector {(offset + i) / SectorBytes} is neither as before nor as asked for");
            }
        }

        now.CopyTo(model);
    }

    private void Resize()
    {
        int bytes = _random.Next(1, MaxBytes / SectorBytes) * SectorBytes;
        try
        {
            Loop.RunUntil(_node.TruncateAsync(bytes, prealloc: bytes > _model.Length && _random.Next(4) == 0 ? PreallocMode.Metadata : PreallocMode.Off));
        }
        catch (QapiException) when (_memory.Faults > 0)
        {
            // The size is the old one; what was to be cut off may be gone.
            _memory.Faults = 0;
            Assert.That(_node.Length, Is.EqualTo(_model.Length));
            if (bytes < _model.Length)
            {
                Apply(bytes, _model.Length - bytes, 0, hasFailed: true);
            }

            return;
        }

        Array.Resize(ref _model, bytes);
        Array.Resize(ref _marked, bytes);
    }

    private void TakeSnapshot(int step)
    {
        if (_snapshots.Count < 4)
        {
            string name = "s" + step;
            Loop.RunUntil(Driver.CreateSnapshotAsync(new Qcow2Snapshot { Id = "", Name = name }));
            _snapshots.Add(name, (byte[])_model.Clone());
        }
    }

    private void UseSnapshot()
    {
        string name = _snapshots.Keys.ElementAt(_random.Next(_snapshots.Count));
        if (_random.Next(2) == 0)
        {
            Loop.RunUntil(Driver.DeleteSnapshotAsync(name));
            _snapshots.Remove(name);
            return;
        }

        // Bitmaps do not record what a snapshot brings back.
        Loop.RunUntil(Driver.ApplySnapshotAsync(name));
        _model = (byte[])_snapshots[name].Clone();
        _bitmap.Bits.Clear();
        _marked = (byte[])_model.Clone();
    }

    private void AssertSame(string when)
    {
        Assert.That(_node.Length, Is.EqualTo(_model.Length), when);
        byte[] contents = ReadAll(_node, _model.Length);
        int at = contents.AsSpan().CommonPrefixLength(_model);
        Assert.That(at, Is.EqualTo(_model.Length), $"{when}: the first byte that is not the model's");
    }

    private void AssertBitmap()
    {
        for (int offset = 0; offset < _model.Length; offset += 4096)
        {
            int bytes = Math.Min(4096, _model.Length - offset);
            bool isChanged = !_model.AsSpan(offset, bytes).SequenceEqual(_marked.AsSpan(offset, bytes));
            Assert.That(!isChanged || _bitmap.Bits[offset], $"a change at {offset} is not in the bitmap");
        }
    }
}
