using System.Diagnostics;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Nbd;

/// <summary>The NBD client with the servers that others wrote, and with ours.</summary>
public sealed class NbdClientTests : NbdFixture
{
    private const int Size = 4 << 20;

    private string Remote => Path.Combine(Folder, "r");

    [SetUp]
    public void FindPeers() => Need("qemu-nbd", "nbdkit");

    [TestCase("qemu-nbd")]
    [TestCase("nbdkit")]
    [TestCase("nbdkit-simple")]
    [TestCase("nbdkit-old")]
    [TestCase("ours")]
    public void WhatIsWrittenIsInTheFile(string server)
    {
        string path = SparseFile("f", Size, 11);
        byte[] expected = File.ReadAllBytes(path);
        Serve(server, path);
        BlockNode node = Connect("");
        Assert.That(node.Length, Is.EqualTo(Size));
        Assert.That(Read(node, 0, Size), Is.EqualTo(expected));
        Random random = new(5);
        for (int i = 0; i < 60; i++)
        {
            int offset = random.Next(Size);
            int length = random.Next(1, Math.Min(Size - offset, 200_000) + 1);
            if (i % 3 == 0)
            {
                Assert.That(Loop.RunUntil(node.WriteZeroesAsync(offset, length, i % 2 == 0 ? BlockRequestFlags.MayUnmap : 0)), Is.Zero);
                expected.AsSpan(offset, length).Clear();
            }
            else
            {
                byte[] data = Pattern(length, i);
                Write(node, offset, data);
                data.CopyTo(expected.AsSpan(offset));
            }
        }

        Assert.That(Loop.RunUntil(node.FlushAsync()), Is.Zero);
        Assert.That(Read(node, 0, Size), Is.EqualTo(expected));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
        Assert.That(File.ReadAllBytes(path), Is.EqualTo(expected));
    }

    [TestCase("qemu-nbd")]
    [TestCase("ours")]
    public void HolesAreSeen(string server)
    {
        string path = SparseFile("f", Size, 12);
        Serve(server, path);
        BlockNode local = Open($$"""{'driver': 'file', 'read-only': true, 'locking': 'off', 'filename': '{{path}}'}""");
        BlockNode node = Connect("'read-only': true, ");
        const BlockStatusFlags What = BlockStatusFlags.Data | BlockStatusFlags.Zero | BlockStatusFlags.Eof;
        for (long at = 0; at < Size;)
        {
            BlockStatus ours = Loop.RunUntil(node.StatusAsync(at, Size - at));
            BlockStatus expected = Loop.RunUntil(local.StatusAsync(at, Size - at));
            Assert.That((ours.Bytes, ours.Flags & What), Is.EqualTo((expected.Bytes, expected.Flags & What)), $"at {at}");
            at += ours.Bytes;
        }
    }

    [TestCase("qemu-nbd")]
    [TestCase("ours")]
    public void ABitmapAnswersForWhatIsDirty(string server)
    {
        Need("qemu-img", "qemu-io");
        string path = Path.Combine(Folder, "b.qcow2");
        Good("qemu-img", "create", "-q", "-f", "qcow2", path, "4M");
        Good("qemu-img", "bitmap", "--add", "-g", "65536", path, "b");
        Good("qemu-io", "-f", "qcow2", "-c", "write 1M 192k", "-c", "write 3M 64k", path);
        if (server == "ours")
        {
            Open($$"""{'driver': 'qcow2', 'node-name': 'd', 'read-only': true, 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
            StartServer();
            Export("{'type': 'nbd', 'id': 'd', 'node-name': 'd', 'bitmaps': ['b']}");
            File.CreateSymbolicLink(Remote, SocketPath);
        }
        else
        {
            Background(Remote, server, "-t", "-e", "4", "-r", "-f", "qcow2", "-k", Remote, "-x", "d", "-B", "b", path);
        }

        BlockNode node = Connect("'read-only': true, 'x-dirty-bitmap': 'qemu:dirty-bitmap:b', ");
        List<(long, long)> dirty = [];
        for (long at = 0; at < Size;)
        {
            BlockStatus status = Loop.RunUntil(node.StatusAsync(at, Size - at));
            Assert.That(status.Flags & BlockStatusFlags.Zero, Is.EqualTo((BlockStatusFlags)0));
            if ((status.Flags & BlockStatusFlags.Data) == 0)
            {
                dirty.Add((at, status.Bytes));
            }

            at += status.Bytes;
        }

        Assert.That(dirty, Is.EqualTo(((long, long)[])[(1 << 20, 192 << 10), (3 << 20, 64 << 10)]));
        Assert.That(
            () => Connect("'read-only': true, 'x-dirty-bitmap': 'qemu:dirty-bitmap:none', "),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("Could not open image: Invalid argument"));
        Assert.That(
            () => Connect($"'read-only': true, 'x-dirty-bitmap': '{new string('a', 4097)}', "),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("x-dirty-bitmap query too long to send to server"));
        string tooOld = Path.Combine(Folder, "old");
        Background(tooOld, "nbdkit", "-f", "-U", tooOld, "--no-sr", "null", "1M");
        Assert.That(
            () => Open($$"""{'driver': 'nbd', 'x-dirty-bitmap': 'qemu:dirty-bitmap:b', 'server': {'type': 'unix', 'path': '{{tooOld}}'} }"""),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("Could not open image: Invalid argument"));
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
    }

    [Test]
    public void ManyRequestsAreUnderWayAtOnce()
    {
        string path = SparseFile("f", Size, 13);
        Serve("qemu-nbd", path);
        BlockNode node = Connect("");
        byte[] expected = File.ReadAllBytes(path);
        using NativeBuffer memory = new(Size);
        List<IoTask<int>> tasks = [];
        for (int at = 0; at < Size; at += 4096)
        {
            tasks.Add(node.ReadAsync(at, IoVectors.Rent(memory.Vector(at, 4096))));
        }

        foreach (IoTask<int> task in tasks)
        {
            Assert.That(Loop.RunUntil(task), Is.Zero);
        }

        Assert.That(memory.Span.SequenceEqual(expected));
    }

    [Test]
    public void ARequestWaitsForAServerThatComesBack()
    {
        string path = SparseFile("f", Size, 14);
        Process first = Serve("qemu-nbd", path)!;
        BlockNode node = Connect("'reconnect-delay': 60, ");
        Read(node, 0, 512);
        Stop(first);
        File.Delete(Remote);
        using NativeBuffer memory = new(4096);
        IoTask<int> read = node.ReadAsync(0, IoVectors.Rent(memory.Vector(0, 4096)));
        Loop.RunOnce(block: false);
        Assert.That(read.IsCompleted, Is.False);
        Serve("qemu-nbd", path);
        Assert.That(Loop.RunUntil(read), Is.Zero);
        Assert.That(memory.Span.SequenceEqual(File.ReadAllBytes(path).AsSpan(0, 4096)));
    }

    [Test]
    public void WithoutDelayALostConnectionIsAnError()
    {
        Process server = Serve("qemu-nbd", SparseFile("f", Size, 15))!;
        BlockNode node = Connect("");
        Stop(server);
        using NativeBuffer memory = new(4096);
        Assert.That(Loop.RunUntil(node.ReadAsync(0, IoVectors.Rent(memory.Vector(0, 4096)))), Is.EqualTo(BlockResult.Io));
    }

    [Test]
    public void ErrorsOfTheServerComeBack()
    {
        Background(Remote, "nbdkit", "-f", "-U", Remote, "--filter=error", "memory", "1M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%");
        BlockNode node = Connect("");
        using NativeBuffer memory = new(4096, zeroed: true);
        Assert.That(Loop.RunUntil(node.WriteAsync(0, IoVectors.Rent(memory.Vector(0, 4096)))), Is.EqualTo(BlockResult.NoSpace));
        Assert.That(Loop.RunUntil(node.ReadAsync(0, IoVectors.Rent(memory.Vector(0, 4096)))), Is.Zero);
    }

    [Test]
    public void TheServersBlocksAreKeptTo()
    {
        Background(
            Remote, "nbdkit", "-f", "-U", Remote, "--filter=blocksize-policy", "memory", "1M",
            "blocksize-minimum=4096", "blocksize-maximum=65536", "blocksize-error-policy=error");
        BlockNode node = Connect("");
        Assert.That(node.Limits.RequestAlignment, Is.EqualTo(4096));
        Write(node, 1000, Pattern(300_000, 1));
        Assert.That(Read(node, 1000, 300_000), Is.EqualTo(Pattern(300_000, 1)));
    }

    [Test]
    public void OpeningFailsAsThatOfAPeer()
    {
        Assert.That(OpenError("x"), Is.EqualTo($"Failed to connect to '{Remote}': No such file or directory"));
        Serve("qemu-nbd", SparseFile("f", Size, 16));
        Assert.That(OpenError("x"), Is.EqualTo("Requested export not available"));
    }

    private string OpenError(string export) => Assert.Throws<QapiException>(
        () => Open($$"""{'driver': 'nbd', 'export': '{{export}}', 'server': {'type': 'unix', 'path': '{{Remote}}'} }"""))!.Desc;

    private BlockNode Connect(string more) =>
        Open($$"""{'driver': 'nbd', 'discard': 'unmap', {{more}}'export': 'd', 'server': {'type': 'unix', 'path': '{{Remote}}'} }""");

    private Process? Serve(string server, string path)
    {
        switch (server)
        {
            case "qemu-nbd":
                return Background(Remote, server, "-t", "-f", "raw", "-k", Remote, "-x", "d", "--discard=unmap", path);
            case "ours":
                Open($$"""{'driver': 'raw', 'node-name': 'd', 'discard': 'unmap', 'file': {'driver': 'file', 'filename': '{{path}}', 'locking': 'off'} }""");
                StartServer();
                Export("{'type': 'nbd', 'id': 'd', 'node-name': 'd', 'writable': true}");
                File.CreateSymbolicLink(Remote, SocketPath);
                return null;
            default:
                List<string> arguments = ["-f", "-U", Remote];
                if (server == "nbdkit-simple")
                {
                    arguments.Add("--no-sr");
                }
                else if (server == "nbdkit-old")
                {
                    arguments.AddRange(["--mask-handshake=0"]);
                }

                return Background(Remote, "nbdkit", [.. arguments, "file", path]);
        }
    }
}
