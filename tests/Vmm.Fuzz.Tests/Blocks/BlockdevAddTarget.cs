using System.Text;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Throttling;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Fds;
using Vmm.Qapi;

namespace Vmm.Fuzz.Tests.Blocks;

/// <summary>
/// Options of nodes, one JSON object on each line: each is refused in words and leaves nothing behind, or makes a node that answers requests and
/// can be closed. What would reach out of the process is memory instead.
/// </summary>
internal sealed class BlockdevAddTarget : FuzzTarget
{
    private const int MaxNodes = 8;
    private const int RequestBytes = 4096;

    private static readonly string[] s_outside =
        ["file", "host_device", "host_cdrom", "nbd", "http", "https", "ftp", "ftps", "ssh", "nvme", "io_uring", "virtio-blk-vhost-user"];

    private readonly byte[] _image = File.ReadAllBytes(Path.Combine(Corpus.Root, "tests", "corpora", "fuzz", "qcow2", "v3"));
    private readonly NativeBuffer _buffer = new(RequestBytes);
    private readonly LoopWorkers _workers = new(1);

    public override string Name => "blockdev-add";

    public override int Iterations => 1500;

    public override int MaxLength => 2048;

    public override IReadOnlyList<byte[]> Dictionary { get; } = Words(
        "\"driver\":", "\"node-name\":", "\"file\":", "\"backing\":", "\"data-file\":", "\"read-only\":true,", "\"auto-read-only\":true,", "\"discard\":\"unmap\",",
        "\"detect-zeroes\":\"unmap\",", "\"cache\":{\"direct\":true,\"no-flush\":true},", "\"force-share\":true,", "\"filename\":\"/q\"", "\"filename\":\"/r\"",
        "\"offset\":512,", "\"size\":4096,", "\"throttle-group\":\"g\",", "\"lazy-refcounts\":true,", "\"cache-size\":", "\"l2-cache-size\":", "\"l2-cache-entry-size\":",
        "\"refcount-cache-size\":", "\"overlap-check\":\"all\",", "\"overlap-check\":{\"template\":\"none\",\"main-header\":true},", "\"pass-discard-other\":true,",
        "\"raw\"", "\"qcow2\"", "\"null-co\"", "\"null-aio\"", "\"throttle\"", "\"file\"", "\"copy-on-read\"", "\"compress\"", "\"preallocate\"", "\"blkdebug\"", "\"blkverify\"", "\"luks\"",
        "\"vmdk\"", "\"vdi\"", "\"vpc\"", "\"vhdx\"", "\"n0\"", "\"n1\"", "{\"driver\":\"null-co\"}", "{\"driver\":\"file\",\"filename\":\"/q\"}", "null", "\n");

    public override long AllocationLimit(int inputLength) => (4 << 20) + (8192L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        using EventLoop.EventLoop loop = new("fuzz", new Clocks());
        loop.Bind();
        BlockGraph graph = new(loop, new BlockDriverRegistry(new FdSets(), _workers, new ThrottleGroups(loop.Clocks)));
        foreach (BlockdevDriver driver in Enum.GetValues<BlockdevDriver>())
        {
            if (s_outside.Contains(driver.ToWire()))
            {
                graph.DriverRegistry.Add(driver, new BlockDriverInfo { Create = o => new MemoryFile(o.File?.Filename == "/q" ? _image : [], 64 << 10) });
            }
        }

        StringBuilder outcome = new();
        List<BlockNode> added = [];
        foreach (string line in Encoding.UTF8.GetString(input).Split('\n').Take(MaxNodes))
        {
            int before = graph.Nodes.Count;
            try
            {
                BlockdevOptions options = BlockdevOptions.QapiRead(QValue.Parse(line), new QapiReader(), null);
                BlockNode node = loop.RunUntil(graph.OpenAsync(options));
                graph.AddMonitorOwned(node);
                added.Add(node);
                outcome.Append(node.Driver.FormatName).Append(Use(loop, node)).Append(' ');
            }
            catch (QapiException e)
            {
                Require(graph.Nodes.Count == before, "a node is left of options that were refused: " + e.Desc);
                outcome.Append(Shape(e.Desc)).Append(' ');
            }
        }

        for (int i = added.Count - 1; i >= 0; i--)
        {
            Require(added[i].Parents.Count == 0, "an older node uses a newer one");
            loop.RunUntil(graph.DeleteAsync(added[i]));
        }

        Require(graph.Nodes.Count == 0, "a node is left");
        return outcome.ToString();
    }

    private string Use(EventLoop.EventLoop loop, BlockNode node)
    {
        long end = Math.Max(node.Length - RequestBytes, 0);
        int read = loop.RunUntil(node.ReadAsync(end, Vectors()));
        int written = loop.RunUntil(node.WriteAsync(end, Vectors()));
        int zeroed = loop.RunUntil(node.WriteZeroesAsync(0, RequestBytes, BlockRequestFlags.MayUnmap));
        int flushed = loop.RunUntil(node.FlushAsync());
        long status = loop.RunUntil(node.StatusAsync(0, RequestBytes)).Result;
        return $"{read}{written}{zeroed}{flushed}{status}";
    }

    private IoVectors Vectors() => IoVectors.Rent(_buffer.Vector(0, RequestBytes));

    /// <summary>A small file that does not grow.</summary>
    private sealed class MemoryFile(byte[] start, int bytes) : BlockDriver
    {
        private readonly byte[] _bytes = Fill(start, bytes);

        public override string FormatName => "memory";

        public override IoTask<long> GetLengthAsync() => new(_bytes.Length);

        public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
        {
            long inside = Math.Clamp(_bytes.Length - offset, 0, data.Size);
            data.CopyFrom(0, _bytes.AsSpan((int)Math.Min(offset, _bytes.Length), (int)inside));
            data.Fill(inside, data.Size - inside, 0);
            return new(0);
        }

        public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
        {
            if (offset + data.Size > _bytes.Length)
            {
                return new(BlockResult.NoSpace);
            }

            data.CopyTo(0, _bytes.AsSpan((int)offset, (int)data.Size));
            return new(0);
        }

        private static byte[] Fill(byte[] start, int bytes)
        {
            byte[] all = new byte[bytes];
            start.CopyTo(all, 0);
            return all;
        }
    }
}
