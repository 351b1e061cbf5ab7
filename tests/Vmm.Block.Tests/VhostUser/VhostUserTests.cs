using System.Text;
using Vmm.Block.Exports;
using Vmm.Block.Graph;
using Vmm.Block.Tests.Nbd;
using Vmm.Qapi;

namespace Vmm.Block.Tests.VhostUser;

/// <summary>Exports of type vhost-user-blk with QEMU's own front end.</summary>
public sealed class VhostUserTests : NbdFixture
{
    private const int Size = 4 << 20;

    [Test]
    public void QemusFrontEndReadsAndWrites()
    {
        Need("qemu-system-x86_64");
        string path = NewFile("disk", Size);
        BlockNode node = Open($$"""{"driver": "file", "node-name": "n", "filename": "{{path}}", "discard": "unmap"}""");
        Add("n", ", \"writable\": true, \"num-queues\": 2");
        byte[] data = Pattern(8192, 1);
        WhileServing(disk =>
        {
            disk.SetUp();
            Assert.That(disk.Request(1, 8, data, 0), Is.Zero);
            Assert.That(disk.Request(0, 8, [], 8192), Is.Zero);
            Assert.That(disk.Input(8192), Is.EqualTo(data));
            Assert.That(disk.Request(4, 0, [], 0), Is.Zero, "flush");
            Assert.That(disk.Request(13, 0, Range(0, 8, 1), 0), Is.Zero, "zeroes");
            Assert.That(disk.Request(11, 0, Range(16, 8, 0), 0), Is.Zero, "discard");
            Assert.That(disk.Request(8, 0, [], 20), Is.Zero, "identity");
            Assert.That(Encoding.ASCII.GetString(disk.Input(15)), Is.EqualTo("vhost_user_blk\0"));
            Assert.That(disk.Request(0, Size / 512, [], 512), Is.EqualTo(1), "behind the end");
            Assert.That(disk.Request(77, 0, [], 0), Is.EqualTo(2), "unknown");
            disk.Reset();
            disk.SetUp(queue: 1);
            Assert.That(disk.Request(0, 8, [], 512, queue: 1), Is.Zero);
            Assert.That(disk.Input(512), Is.EqualTo(data[..512]), "after a reset");
        }, queues: 2);
        Assert.That(Read(node, 4096, 512), Is.EqualTo(data[..512]));
        WhileServing(disk =>
        {
            disk.SetUp();
            Assert.That(disk.Request(0, 8, [], 512), Is.Zero);
            Assert.That(disk.Input(512), Is.EqualTo(data[..512]), "the second front end");
        });
    }

    [Test]
    public void TheConfigurationIsThatOfTheExport()
    {
        Need("qemu-system-x86_64");
        BlockNode node = Open($$"""{"driver": "file", "node-name": "n", "filename": "{{NewFile("disk", Size)}}"}""");
        Add("n", ", \"logical-block-size\": 4096");
        WhileServing(disk =>
        {
            disk.SetUp();
            byte[] config = disk.Config(60);
            Assert.That(BitConverter.ToUInt64(config), Is.EqualTo(Size / 512));
            Assert.That(BitConverter.ToUInt32(config, 20), Is.EqualTo(4096));
            Assert.That(config[32], Is.EqualTo(1), "the cache is on");
            Assert.That(disk.Request(1, 0, new byte[4096], 0), Is.EqualTo(1), "read-only");
            Assert.That(disk.Request(0, 1, [], 4096), Is.EqualTo(1), "not whole blocks");
            Loop.Post(() => node.TruncateAsync(2 * Size, exact: false).Forget());
            Assert.That(
                SpinWait.SpinUntil(() => BitConverter.ToUInt64(disk.Config(8)) == 2 * Size / 512, TimeSpan.FromSeconds(60)), "the front end learns of the new size");
        });
    }

    [TestCase(", \"logical-block-size\": 513", "Property e.logical-block-size doesn't take value '513', it's not a power of 2")]
    [TestCase(", \"logical-block-size\": 256", "Property e.logical-block-size doesn't take value 256 (minimum: 512, maximum: 2097152)")]
    [TestCase(", \"num-queues\": 0", "num-queues must be greater than 0")]
    public void OptionsAreRefusedAsQemuDoes(string options, string error)
    {
        Open("""{"driver": "null-co", "node-name": "n"}""");
        Assert.That(Assert.Throws<QapiException>(() => Add("n", options))!.Message, Is.EqualTo(error));
        Assert.That(Exporting.Exports.All, Is.Empty);
    }

    private void Add(string node, string more = "") => Export(
        $$"""{"type": "vhost-user-blk", "id": "e", "node-name": "{{node}}", "addr": {"type": "unix", "path": "{{SocketPath}}"}{{more}}}""");

    [TearDown]
    public void EndExport()
    {
        if (Exporting.Exports.Find("e") is { } export)
        {
            export.ShutDown();
            while (Exporting.Exports.All.Count > 0)
            {
                Loop.RunOnce(block: true);
            }

            Assert.That(File.Exists(SocketPath), Is.False);
        }
    }

    private void WhileServing(Action<QtestDisk> driver, int queues = 1)
    {
        Task task = Task.Run(() =>
        {
            using QtestDisk disk = QtestDisk.Start(Folder, SocketPath, queues);
            driver(disk);
        });
        task.ContinueWith(_ => Loop.Post(static () => { }), TaskScheduler.Default);
        while (!task.IsCompleted)
        {
            Loop.RunOnce(block: true);
        }

        task.GetAwaiter().GetResult();
    }

    private static byte[] Range(ulong sector, uint count, uint flags)
    {
        byte[] range = new byte[16];
        BitConverter.TryWriteBytes(range, sector);
        BitConverter.TryWriteBytes(range.AsSpan(8), count);
        BitConverter.TryWriteBytes(range.AsSpan(12), flags);
        return range;
    }
}
