using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>
/// Images that contradict themselves, and what QEMU 7.2 says of them: text, place and size of the event, whether the image is given up, and what
/// the requests end with.
/// </summary>
public sealed class Qcow2CorruptionTests : Qcow2Fixture
{
    private const ulong Copied = 1UL << 63;
    private const int Eio = -(int)Errno.EIO;
    private const int Gone = -(int)Errno.ENOMEDIUM;

    private readonly List<ImageCorruption> _events = [];
    private string _path = "";

    private long L1 => Number(40);

    private long L2 => Number(L1) & 0xfffffffffffe00;

    private long RefcountTable => Number(48);

    private long RefcountBlock => Number(RefcountTable);

    [SetUp]
    public void MakeImage()
    {
        _events.Clear();
        Graph.OnCorruption = _events.Add;
    }

    [TestCase("L1", "active L1 table", 196608)]
    [TestCase("L2", "active L2 table", 262144)]
    [TestCase("RT", "refcount table", 65536)]
    [TestCase("RB", "refcount block", 131072)]
    public void DataMappedOverMetadataIsNotWritten(string where, string name, long place)
    {
        MakeBase();
        Put(L2, Copied | (ulong)PlaceOf(where));
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 4096, 8192), Is.EqualTo(Eio));
        AssertFatal(node, $"Preventing invalid write on metadata (overlaps with {name})", place + 4096, 8192);
    }

    [TestCase("H", "qcow2_header", 0)]
    [TestCase("L1", "active L1 table", 196608)]
    [TestCase("L2", "active L2 table", 262144)]
    [TestCase("RT", "refcount table", 65536)]
    [TestCase("RB", "refcount block", 131072)]
    public void MetadataThatIsNotCountedIsNotAllocated(string where, string name, long place)
    {
        MakeBase();
        PutCount(PlaceOf(where), 0);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 256 << 10, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, $"Preventing invalid write on metadata (overlaps with {name})", place, 65536);
    }

    [Test]
    public void ThePartThatWouldBeWrittenIsReported()
    {
        MakeBase();
        PutCount(RefcountBlock, 0);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 260 << 10, 8 << 10), Is.EqualTo(Eio));
        AssertFatal(node, "Preventing invalid write on metadata (overlaps with refcount block)", 135168, 8192);
    }

    [Test]
    public void TablesAreNotPutOverMetadata()
    {
        _path = Create("d.qcow2", "1M");
        PutCount(RefcountBlock, 0);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 0, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, "Preventing invalid write on metadata (overlaps with refcount block)", 131072, 65536);
    }

    [Test]
    public void NoTableIsPutAtTheBeginning()
    {
        _path = Create("d.qcow2", "1M");
        Poke(RefcountBlock, new byte[64]);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 0, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, "Preventing invalid allocation of L2 table at offset 0", -1, -1);
    }

    [Test]
    public void ATableOverAnotherIsNotWritten()
    {
        MakeBase();
        Put(L1, Copied | (ulong)RefcountTable);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 512 << 10, 64 << 10), Is.Zero);
        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.EqualTo(Eio));
        AssertFatal(node, "Preventing invalid write on metadata (overlaps with refcount table)", 65536, 65536);
    }

    [TestCase("snapshot table", 0)]
    [TestCase("inactive L1 table", 1)]
    public void MetadataOfSnapshotsIsProtected(string name, int which)
    {
        MakeBase();
        Img("snapshot", "-c", "s", _path);
        long table = Number(64);
        long place = which == 0 ? table : Number(table);
        PutCount(place, 0);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 256 << 10, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, $"Preventing invalid write on metadata (overlaps with {name})", place, 65536);
    }

    [TestCase("'cached'", false)]
    [TestCase("'all'", true)]
    [TestCase("{'template': 'none', 'inactive-l2': true}", true)]
    [TestCase("{'template': 'all', 'inactive-l2': false}", false)]
    public void TablesOfSnapshotsAreProtectedWhenAskedFor(string option, bool isProtected)
    {
        MakeBase();
        Img("snapshot", "-c", "s", _path);
        long table = Number(Number(Number(64))) & 0xfffffffffffe00;
        Io(_path, "write 0 64k");
        PutCount(table, 0);
        BlockNode node = OpenImage(_path, $"'overlap-check': {option}, ");
        Assert.That(Try(node, 'w', 256 << 10, 64 << 10), Is.EqualTo(isProtected ? Eio : 0));
        if (isProtected)
        {
            AssertFatal(node, "Preventing invalid write on metadata (overlaps with inactive L2 table)", table, 65536);
        }
        else
        {
            Assert.That(_events, Is.Empty);
        }
    }

    [TestCase("'none'", "RT", false)]
    [TestCase("'constant'", "RT", true)]
    [TestCase("'constant'", "RB", false)]
    [TestCase("{'refcount-block': false}", "RB", false)]
    [TestCase("{'template': 'constant', 'refcount-block': true}", "RB", true)]
    public void EachStructureCanBeChosen(string option, string where, bool isProtected)
    {
        MakeBase();
        Put(L2, Copied | (ulong)PlaceOf(where));
        BlockNode node = OpenImage(_path, $"'overlap-check': {option}, ");
        Assert.That(Try(node, 'w', 0, 4096), Is.EqualTo(isProtected ? Eio : 0));
        Assert.That(_events.Count, Is.EqualTo(isProtected ? 1 : 0));
    }

    [TestCase('w', "Data cluster offset 0x40200 unaligned (guest offset: 0)")]
    [TestCase('r', "Cluster allocation offset 0x40200 unaligned (L2 offset: 0x40000, L2 index: 0)")]
    public void UnalignedData(char kind, string message)
    {
        MakeBase();
        Put(L2, Copied | (ulong)(L2 + 512));
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, kind, 0, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, message, -1, -1);
    }

    [TestCase('w')]
    [TestCase('r')]
    [TestCase('d')]
    public void UnalignedTables(char kind)
    {
        MakeBase();
        Put(L1, Copied | (ulong)(L2 + 512));
        BlockNode node = OpenImage(_path, "'discard': 'unmap', ");
        Assert.That(Try(node, kind, 0, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, "L2 table offset 0x40200 unaligned (L1 index: 0)", -1, -1);
    }

    [Test]
    public void UnalignedZeroes()
    {
        MakeBase();
        Put(L2, Copied | 1 | (ulong)(L2 + 512));
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 0, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, "Preallocated zero cluster offset 0x40200 unaligned (guest offset: 0)", -1, -1);
    }

    [Test]
    public void UnalignedRefcountBlocks()
    {
        MakeBase();
        Put(RefcountTable, (ulong)(RefcountBlock + 512));
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'w', 256 << 10, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, "Refblock offset 0x20200 unaligned (reftable index: 0)", -1, -1);
    }

    [TestCase('d', Copied)]
    [TestCase('w', 0UL)]
    public void AnUnalignedClusterThatIsFreedIsNoReasonToGiveUp(char kind, ulong mark)
    {
        MakeBase();
        Put(L2, mark | (ulong)(L2 + 512));
        BlockNode node = OpenImage(_path, "'discard': 'unmap', ");
        int result = Try(node, kind, 0, 64 << 10);
        Assert.That(_events, Is.EqualTo(new[] { new ImageCorruption(node, "Cannot free unaligned cluster 0x40200", -1, -1, false) }));
        Assert.That(result, Is.Zero);
        Assert.That(Try(node, 'r', 128 << 10, 4096), Is.Zero);
        CloseNode(node);
        Assert.That(Number(72), Is.Zero);
    }

    [TestCase('r', "Invalid cluster entry found  (L2 offset: 0x40000, L2 index: 0)")]
    [TestCase('w', "Invalid cluster entry found (L2 offset: 0x40000, L2 index: 0)")]
    public void SubclustersThatAreBothZeroAndData(char kind, string message)
    {
        _path = Create("d.qcow2", "1M", "extended_l2=on");
        Io(_path, "write 0 64k");
        Put(L2 + 8, ulong.MaxValue);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, kind, 0, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, message, -1, -1);
    }

    [Test]
    public void ClustersOfDataFilesAreWhereTheGuestHasThem()
    {
        _path = Create("d.qcow2", "1M", "data_file=" + PathOf("ext"));
        Io(_path, "write 64k 64k");
        Put(L2 + 8, Copied | 0x50000);
        BlockNode node = OpenImage(_path);
        Assert.That(Try(node, 'r', 64 << 10, 64 << 10), Is.EqualTo(Eio));
        AssertFatal(node, "External data file host cluster offset 0x50000 does not match guest cluster offset: 0x10000, L2 index: 0x1)", -1, -1);
    }

    [Test]
    public void AnImageThatIsOnlyReadIsNotGivenUp()
    {
        MakeBase();
        Put(L2, Copied | (ulong)(L2 + 512));
        BlockNode node = OpenReadOnly(_path);
        Assert.That(Try(node, 'r', 0, 4096), Is.EqualTo(Eio));
        Assert.That(Try(node, 'r', 0, 512), Is.EqualTo(Eio));
        Assert.That(Try(node, 'r', 128 << 10, 4096), Is.Zero);
        string message = "Cluster allocation offset 0x40200 unaligned (L2 offset: 0x40000, L2 index: 0)";
        Assert.That(_events, Is.EqualTo(new[] { new ImageCorruption(node, message, -1, -1, false) }));
        CloseNode(node);
        Assert.That(Number(72), Is.Zero);
    }

    private void MakeBase()
    {
        _path = Create("d.qcow2", "1M");
        Io(_path, "write 0 64k", "write 128k 64k");
    }

    private void AssertFatal(BlockNode node, string message, long offset, long bytes)
    {
        Assert.That(_events, Is.EqualTo(new[] { new ImageCorruption(node, message, offset, bytes, true) }));
        Assert.That(Try(node, 'r', 128 << 10, 4096), Is.EqualTo(Gone));
        Assert.That(Try(node, 'w', 128 << 10, 4096), Is.EqualTo(Gone));
        Assert.That(Try(node, 'd', 128 << 10, 4096), Is.EqualTo(Gone).Or.Zero);
        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.Zero);
        Assert.That(_events, Has.Count.EqualTo(1));
        QapiException? refused = Assert.Throws<QapiException>(() => Loop.RunUntil(node.TruncateAsync(2 << 20)));
        Assert.That(refused!.Desc, Is.EqualTo("No medium inserted"));
        CloseNode(node);
        Assert.That(Number(72) & 2, Is.EqualTo(2), "the mark of corruption");
    }

    private int Try(BlockNode node, char kind, long offset, int bytes)
    {
        using NativeBuffer buffer = new(bytes);
        return kind switch
        {
            'r' => Loop.RunUntil(node.ReadAsync(offset, IoVectors.Rent(buffer.Vector(0, bytes)))),
            'w' => Loop.RunUntil(node.WriteAsync(offset, IoVectors.Rent(buffer.Vector(0, bytes)))),
            _ => Loop.RunUntil(node.DiscardAsync(offset, bytes)),
        };
    }

    private long PlaceOf(string where) => where switch
    {
        "L1" => L1,
        "L2" => L2,
        "RT" => RefcountTable,
        "RB" => RefcountBlock,
        _ => 0,
    };

    private long Number(long offset)
    {
        using FileStream file = File.OpenRead(_path);
        byte[] bytes = new byte[8];
        file.Position = offset;
        file.ReadExactly(bytes);
        return BinaryPrimitives.ReadInt64BigEndian(bytes);
    }

    private void Put(long offset, ulong value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        Poke(offset, bytes);
    }

    private void PutCount(long place, ushort count) => Poke(RefcountBlock + (2 * (place >> 16)), [(byte)(count >> 8), (byte)count]);

    private void Poke(long offset, byte[] bytes)
    {
        using FileStream file = File.OpenWrite(_path);
        file.Position = offset;
        file.Write(bytes);
    }
}
