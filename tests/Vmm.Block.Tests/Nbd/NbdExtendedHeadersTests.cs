using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Tests.Nbd;

/// <summary>
/// The extension "EXTENDED_HEADERS" of the NBD protocol, which QEMU has since 8.2: with the tools of such a QEMU as server and as client, with
/// ourselves, and with servers that do not have it.
/// </summary>
public sealed class NbdExtendedHeadersTests : NbdFixture
{
    private const long Size = 20L << 30;
    private const long Data = 7000L << 20;
    private const long Long = 9L << 30;
    private const int DataBytes = 1 << 20;

    private string _newer = "";

    private string Remote => Path.Combine(Folder, "r");

    private string Log => Path.Combine(Folder, "log");

    [SetUp]
    public void FindPeers()
    {
        string given = Environment.GetEnvironmentVariable("VMM_NEWER_QEMU") is { Length: > 0 } path
            ? path
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache/vmm/qemu");
        _newer = Path.Combine(given, "usr/bin");
        if (!File.Exists(Path.Combine(_newer, "qemu-nbd")))
        {
            Assert.Ignore("no QEMU of 8.2 or later: `tools/vmm peers` fetches its tools");
        }

        Need("qemu-nbd");
    }

    [Test]
    public void LongRequestsOfTheClientStayWhole()
    {
        string path = LargeFile("f");
        ServeNewer(path);
        BlockNode node = Connect("");
        (long, long, bool)[] expected = [(0, Data, true), (Data, DataBytes, false), (Data + DataBytes, Size - Data - DataBytes, true)];
        Assert.That(Ranges(node), Is.EqualTo(expected));
        Assert.That(Read(node, Data, DataBytes), Is.EqualTo(Pattern(DataBytes, 3)));
        Write(node, Data + 5000, Pattern(300_000, 4));
        Assert.That(Read(node, Data + 5000, 300_000), Is.EqualTo(Pattern(300_000, 4)));
        Assert.That(Loop.RunUntil(node.WriteZeroesAsync(4096, Long, BlockRequestFlags.MayUnmap)), Is.Zero);
        Assert.That(Read(node, Data, DataBytes), Is.EqualTo(new byte[DataBytes]));
        Assert.That(Loop.RunUntil(node.DiscardAsync(0, Long)), Is.Zero);
        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.Zero);
        Assert.That(Ranges(node), Is.EqualTo(((long, long, bool)[])[(0, Size, true)]));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));

        // One request each, in the long form, and not a word of complaint: the peer logs what does not keep to the protocol.
        string log = File.ReadAllText(Log);
        Assert.That(log, Does.Contain($".flags = 0x0, .type = 0x6, from = 4096, len = {Long} "));
        Assert.That(log, Does.Contain($".flags = 0x0, .type = 0x4, from = 0, len = {Long} "));
        Assert.That(log, Does.Contain(".flags = 0x20, .type = 0x1"));
        Assert.That(log, Does.Not.Contain("0x25609513").And.Not.Contain("compliance"));
    }

    [Test]
    public void AServerThatIsReplacedByAnOlderOneGetsLongRequestsInParts()
    {
        string path = LargeFile("f");
        Process newer = ServeNewer(path);
        BlockNode node = Connect("'reconnect-delay': 60, ");
        Read(node, 0, 512);
        Stop(newer);
        File.Delete(Remote);
        IoTask<int> zeroes = node.WriteZeroesAsync(0, Size, BlockRequestFlags.MayUnmap);
        Loop.RunOnce(block: false);
        Background(Remote, "qemu-nbd", "-t", "-f", "raw", "--discard=unmap", "-k", Remote, "-x", "d", path);
        Assert.That(Loop.RunUntil(zeroes), Is.Zero);
        for (long at = 0; at < Size;)
        {
            BlockStatus status = Loop.RunUntil(node.StatusAsync(at, Size - at));
            Assert.That(status.Flags & BlockStatusFlags.Zero, Is.Not.Zero, $"at {at}");
            at += status.Bytes;
        }
    }

    [Test]
    public void OurServerAndOurClientUseThem()
    {
        Open($$"""{'driver': 'raw', 'node-name': 'd', 'discard': 'unmap', 'file': {'driver': 'file', 'discard': 'unmap', 'filename': '{{LargeFile("f")}}'} }""");
        StartServer();
        Export("{'type': 'nbd', 'id': 'd', 'node-name': 'd', 'writable': true}");
        File.CreateSymbolicLink(Remote, SocketPath);
        BlockNode node = Connect("");
        Assert.That(
            Ranges(node),
            Is.EqualTo(((long, long, bool)[])[(0, Data, true), (Data, DataBytes, false), (Data + DataBytes, Size - Data - DataBytes, true)]));
        Assert.That(Loop.RunUntil(node.WriteZeroesAsync(0, Size, BlockRequestFlags.MayUnmap)), Is.Zero);
        Assert.That(Ranges(node), Is.EqualTo(((long, long, bool)[])[(0, Size, true)]));
        Write(node, Long, Pattern(100_000, 8));
        Assert.That(Read(node, Long, 100_000), Is.EqualTo(Pattern(100_000, 8)));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
    }

    [Test]
    public void OurServerAnswersAsAPeer()
    {
        Need("python3");
        string ours = LargeFile("ours");
        string theirs = LargeFile("theirs");
        Open($$"""{'driver': 'raw', 'node-name': 'd', 'discard': 'unmap', 'file': {'driver': 'file', 'discard': 'unmap', 'filename': '{{ours}}'} }""");
        StartServer();
        Export("{'type': 'nbd', 'id': 'd', 'node-name': 'd', 'writable': true}");
        Background(Remote, Path.Combine(_newer, "qemu-nbd"), "-t", "-e", "8", "-f", "raw", "--discard=unmap", "-k", Remote, "-x", "d", theirs);
        File.WriteAllText(Path.Combine(Folder, "c.py"), Conversation);
        string expected = Good("python3", "c.py", Remote);
        Assert.That(expected, Does.Contain("status 0 6 [(7340032000, 3), (1048576, 0), (3398434816, 3)]"));
        Assert.That(Good("python3", "c.py", SocketPath), Is.EqualTo(expected));
        Assert.That(Good("qemu-img", "compare", "-f", "raw", "-F", "raw", ours, theirs), Does.Contain("Images are identical."));
    }

    [Test]
    public void ANewerClientUsesThem()
    {
        Open($$"""{'driver': 'raw', 'node-name': 'd', 'discard': 'unmap', 'file': {'driver': 'file', 'discard': 'unmap', 'filename': '{{LargeFile("f")}}'} }""");
        StartServer();
        Export("{'type': 'nbd', 'id': 'd', 'node-name': 'd', 'writable': true}");
        string map = Good(Path.Combine(_newer, "qemu-img"), "map", "--output=json", "-f", "raw", Uri("d"));
        (long, long, bool)[] ranges =
        [
            .. Regex.Matches(map, "\"start\": (\\d+), \"length\": (\\d+), .*?\"zero\": (\\w+)").Select(static m => (
                long.Parse(m.Groups[1].Value, CultureInfo.InvariantCulture),
                long.Parse(m.Groups[2].Value, CultureInfo.InvariantCulture),
                m.Groups[3].Value == "true")),
        ];
        Assert.That(ranges, Is.EqualTo(((long, long, bool)[])[(0, Data, true), (Data, DataBytes, false), (Data + DataBytes, Size - Data - DataBytes, true)]));
        Good(Path.Combine(_newer, "qemu-io"), "-f", "raw", "-c", $"write -P 7 {Long} 1M", "-c", $"read -P 7 {Long} 1M", "-c", "write -z -u -n 0 8G", Uri("d"));
        Good(Path.Combine(_newer, "qemu-img"), "convert", "-n", "--target-is-zero", "-f", "raw", "-O", "raw", Uri("d"), LargeFile("copy"));
        string trace = Good(
            Path.Combine(_newer, "qemu-img"), "-T", "nbd_receive_reply_chunk_header", "-T", "nbd_*compliance", "compare", "-f", "raw", "-F", "raw", Uri("d"), "f");
        Assert.That(trace, Does.Contain("Images are identical.").And.Contain("block status").And.Not.Contain("compliance"));
    }

    private string LargeFile(string name)
    {
        string path = Path.Combine(Folder, name);
        using FileStream file = File.Create(path);
        file.SetLength(Size);
        file.Position = Data;
        file.Write(Pattern(DataBytes, 3));
        return path;
    }

    private Process ServeNewer(string path)
    {
        const string Run = "exec \"$0\" \"$@\" 2>log";
        return Background(
            Remote, "sh", "-c", Run, Path.Combine(_newer, "qemu-nbd"), "-t", "-f", "raw", "--discard=unmap", "-T", "nbd_receive_request", "-T", "nbd_*compliance",
            "-k", Remote, "-x", "d", path);
    }

    private BlockNode Connect(string more) =>
        Open($$"""{'driver': 'nbd', 'discard': 'unmap', {{more}}'export': 'd', 'server': {'type': 'unix', 'path': '{{Remote}}'} }""");

    private List<(long, long, bool)> Ranges(BlockNode node)
    {
        List<(long, long, bool)> ranges = [];
        for (long at = 0; at < Size;)
        {
            BlockStatus status = Loop.RunUntil(node.StatusAsync(at, Size - at));
            Assert.That(status.Result, Is.Zero);
            ranges.Add((at, status.Bytes, (status.Flags & BlockStatusFlags.Zero) != 0));
            at += status.Bytes;
        }

        return ranges;
    }

    // The flag 0x1000 of the export is a block status with a payload, which we do not offer.
    private const string Conversation = """
        import socket, struct, sys, zlib

        G = 1 << 30
        EXTENDED = 0x21e41c71
        data = 7000 << 20

        def connect():
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(60)
            s.connect(sys.argv[1])
            def take(n):
                b = b''
                while len(b) < n:
                    c = s.recv(n - len(b))
                    if not c:
                        raise EOFError
                    b += c
                return b
            take(18)
            s.sendall(struct.pack('>I', 3))
            return s, take

        def text(t):
            return struct.pack('>I', len(t)) + t

        def option(s, take, number, sent=b''):
            s.sendall(b'IHAVEOPT' + struct.pack('>II', number, len(sent)) + sent)
            while True:
                _, o, t, n = struct.unpack('>QIII', take(20))
                d = take(n)
                if t == 3 and d[1] == 0:
                    d = d[:10] + struct.pack('>H', struct.unpack('>H', d[10:])[0] & 0xfff)
                print('option', o, hex(t), d.hex() if t < 1 << 31 else d.decode())
                if t not in (2, 3, 4):
                    return

        def ask(s, flags, command, cookie, offset, length, payload=b''):
            s.sendall(struct.pack('>IHHQQQ', EXTENDED, flags, command, cookie, offset, length) + payload)

        def answer(take):
            while True:
                magic, f, t, cookie, offset, n = struct.unpack('>IHHQQQ', take(32))
                d = take(n)
                if t & 0x8000:
                    print('error', hex(magic), f, hex(t), cookie, offset, struct.unpack('>I', d[:4])[0])
                elif t == 1:
                    print('data', hex(magic), f, cookie, offset, n, d[:8].hex(), zlib.crc32(d[8:]))
                elif t == 6:
                    c, count = struct.unpack('>II', d[:8])
                    print('status', c, t, [struct.unpack('>QQ', d[8 + 16 * i:24 + 16 * i]) for i in range(count)], len(d), cookie, offset)
                else:
                    print('chunk', hex(magic), f, t, cookie, offset, n, d.hex())
                if f & 1:
                    return

        s, take = connect()
        for number, sent in ((11, b'x'), (11, b''), (11, b''), (8, b'x'), (8, b''), (10, text(b'd') + struct.pack('>I', 1) + text(b'base:allocation')),
                             (7, text(b'd') + struct.pack('>H', 0))):
            if number != 8 or not sent:
                option(s, take, number, sent)
        for flags, command, offset, length in (
                (0, 7, 0, 10 * G + 2 * (1 << 20)), (8, 7, 0, 18 * G), (8, 7, G, 1000), (0, 0, data, 4096), (0, 0, 0, 65536), (0, 0, data - 65536, 131072),
                (4, 0, data - 65536, 131072), (0, 6, 0, 5 * G), (16, 6, 0, 5 * G), (2, 6, 0, 4096), (0, 4, 0, 5 * G), (0, 4, 0, 1 << 63), (0, 4, 19 * G, 2 * G),
                (0, 0, 0, (32 << 20) + 1), (0, 0, 0, 6 * G), (0, 3, 0, 0), (0, 5, 0, 4096), (0, 5, 0, 6 * G), (0, 7, 0, 0), (64, 3, 0, 0), (0, 99, 0, 0),
                (0, 0, 1 << 63, 1 << 63), (0, 6, data, 12 * G), (0, 7, 0, 20 * G)):
            print(flags, command, offset, length)
            ask(s, flags, command, offset ^ length, offset, length)
            answer(take)
        for flags, command, offset in ((32, 1, 3 * G), (0, 1, 3 * G + 4096), (33, 1, 3 * G + 8192), (32, 0, 0), (32, 3, 0), (32, 4, 0), (32, 5, 0), (32, 6, 0),
                                       (32, 1, 20 * G)):
            print('payload', flags, command, offset)
            ask(s, flags, command, 77, offset, 512, b'p' * 512)
            answer(take)
        ask(s, 4, 0, 5, 3 * G, 16384)
        answer(take)
        ask(s, 0, 2, 0, 0, 0)
        try:
            take(1)
        except EOFError:
            print('gone')
        for name, command in (('write', 1), ('read', 0)):
            s, take = connect()
            option(s, take, 11)
            option(s, take, 7, text(b'd') + struct.pack('>H', 0))
            ask(s, 32, command, 9, 0, (32 << 20) + 1)
            answer(take)
            try:
                take(1)
            except (EOFError, ConnectionResetError):
                print('gone after', name)
        s, take = connect()
        option(s, take, 11)
        s.sendall(b'IHAVEOPT' + struct.pack('>II', 1, 1) + b'd')
        try:
            take(1)
        except (EOFError, ConnectionResetError):
            print('the export is not chosen by name alone')
        s, take = connect()
        option(s, take, 8)
        option(s, take, 11)
        option(s, take, 10, text(b'd') + struct.pack('>I', 0))
        option(s, take, 6, text(b'd') + struct.pack('>H', 0))
        """;
}
