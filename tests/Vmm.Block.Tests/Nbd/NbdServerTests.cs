using System.Buffers.Binary;
using System.Net.Sockets;
using Vmm.Block.Graph;
using Vmm.Block.Qmp;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Nbd;

/// <summary>The NBD server with the clients that others wrote.</summary>
public sealed class NbdServerTests : NbdFixture
{
    private const int Size = 4 << 20;

    // Everything that a client can ask, with what the answers are; a peer's server must answer the same.
    private const string Conversation = """
        import nbd, sys
        h = nbd.NBD()
        h.add_meta_context("base:allocation")
        h.add_meta_context("qemu:allocation-depth")
        h.set_export_name(sys.argv[1])
        h.connect_unix(sys.argv[2])
        h.set_strict_mode(0)
        def t(name, f):
            try: print(name, f())
            except nbd.Error as e: print(name, e.errno)
        def extents(offset, length, flags=0):
            h.block_status(length, offset, lambda *a: print("  ", a[0], a[1], a[2]), flags)
        size = h.get_size()
        print(size, h.is_read_only(), h.can_trim(), h.can_zero(), h.can_fua(), h.can_multi_conn(), h.can_cache(), h.can_df(), h.can_fast_zero())
        print([h.get_block_size(i) for i in range(3)], h.get_structured_replies_negotiated())
        t("read past", lambda: h.pread(10, size))
        t("read across", lambda: h.pread(10, size - 5))
        t("write past", lambda: h.pwrite(b"abc", size))
        t("zero past", lambda: h.zero(10, size))
        t("trim past", lambda: h.trim(10, size))
        t("cache past", lambda: h.cache(10, size))
        t("status past", lambda: extents(size, 10))
        t("status of nothing", lambda: extents(0, 0))
        t("trim of nothing", lambda: h.trim(0, 0))
        t("read of nothing", lambda: h.pread(0, 0))
        t("write", lambda: h.pwrite(b"x" * 5000, 70001))
        t("write fua", lambda: h.pwrite(b"y" * 4096, 0, 1))
        t("read", lambda: h.pread(5010, 69999))
        t("zero", lambda: h.zero(8192, 65536))
        t("zero no hole", lambda: h.zero(8192, 0, 2))
        t("zero fast", lambda: h.zero(8192, 0, 16))
        t("trim", lambda: h.trim(65536, 131072))
        t("trim fua", lambda: h.trim(65536, 131072, 1))
        t("cache", lambda: h.cache(65536, 0))
        t("flush", lambda: h.flush())
        t("flush with flags", lambda: h.flush(4))
        t("read with flags", lambda: h.pread(512, 0, 2))
        t("structured", lambda: len(h.pread_structured(200000, 50000, lambda b, o, s, e: 0)))
        t("do not fragment", lambda: h.pread_structured(200000, 50000, lambda b, o, s, e: print("  ", len(b), o, s), 4)[:4])
        t("status", lambda: extents(0, size))
        t("status of one", lambda: extents(0, size, 8))
        h.shutdown()
        """;

    [SetUp]
    public void FindPeers() => Need("nbdinfo", "nbdcopy", "qemu-img", "qemu-storage-daemon");

    [TestCase("")]
    [TestCase("'read-only': true, ")]
    public void EveryAnswerIsThatOfAPeer(string more)
    {
        string ours = SparseFile("ours", Size, 7);
        string theirs = SparseFile("theirs", Size, 7);
        bool isWritable = more.Length == 0;
        Open($$"""{'driver': 'raw', 'node-name': 'd', 'discard': 'unmap', {{more}}'file': {'driver': 'file', 'filename': '{{ours}}'} }""");
        StartServer();
        Export($$"""{'type': 'nbd', 'id': 'e', 'node-name': 'd', 'name': 'x', 'allocation-depth': true, 'writable': {{(isWritable ? "true" : "false")}} }""");
        File.WriteAllText(Path.Combine(Folder, "c.py"), Conversation);
        string socket = Path.Combine(Folder, "q");
        string options = isWritable ? "" : ",read-only=on";
        Background(
            socket, "qemu-storage-daemon",
            "--blockdev", $"raw,node-name=d,discard=unmap{options},file.driver=file,file.filename={theirs}",
            "--nbd-server", $"addr.type=unix,addr.path={socket}",
            "--export", $"type=nbd,id=e,node-name=d,name=x,allocation-depth=on,writable={(isWritable ? "on" : "off")}");
        (int code, string expected) = Peer("python3", "c.py", "x", socket);
        if (code != 0)
        {
            Assert.Ignore("python3-libnbd is not installed: " + expected);
        }

        Assert.That(Good("python3", "c.py", "x", SocketPath), Is.EqualTo(expected));
        Assert.That(File.ReadAllBytes(ours), Is.EqualTo(File.ReadAllBytes(theirs)));
    }

    [Test]
    public void CopiesAreEqual()
    {
        string from = SparseFile("from", Size, 1);
        Open($$"""{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'filename': '{{from}}'} }""");
        Open($$"""{'driver': 'raw', 'node-name': 'b', 'file': {'driver': 'file', 'filename': '{{NewFile("to", Size)}}'} }""");
        StartServer();
        Export("{'type': 'nbd', 'id': 'a', 'node-name': 'a'}");
        Export("{'type': 'nbd', 'id': 'b', 'node-name': 'b', 'writable': true}");
        Good("nbdcopy", Uri("a"), "out");
        Assert.That(File.ReadAllBytes(Path.Combine(Folder, "out")), Is.EqualTo(File.ReadAllBytes(from)));
        Good("nbdcopy", "--flush", Uri("a"), Uri("b"));
        Assert.That(File.ReadAllBytes(Path.Combine(Folder, "to")), Is.EqualTo(File.ReadAllBytes(from)));
        Assert.That(Good("qemu-img", "compare", Uri("a"), "to"), Does.Contain("Images are identical."));
        Good("qemu-img", "convert", "-O", "qcow2", Uri("a"), "c.qcow2");
        Assert.That(Good("qemu-img", "compare", Uri("a"), "c.qcow2"), Does.Contain("Images are identical."));
    }

    [Test]
    public void TheMapIsThatOfAPeer()
    {
        string path = SparseFile("a", Size, 2);
        Open($$"""{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'filename': '{{path}}'} }""");
        StartServer();
        Export("{'type': 'nbd', 'id': 'a', 'node-name': 'a', 'allocation-depth': true, 'description': 'for people'}");
        string ours = Good("nbdinfo", "--map", Uri("a"));
        Assert.That(ours, Does.Contain("hole,zero").And.Contain("data"));
        string socket = Path.Combine(Folder, "q");
        Background(socket, "qemu-nbd", "-r", "-t", "-A", "-f", "raw", "-k", socket, "-x", "a", path);
        Assert.That(ours, Is.EqualTo(Good("nbdinfo", "--map", $"nbd+unix:///a?socket={socket}")));
        Assert.That(
            Good("nbdinfo", "--map=qemu:allocation-depth", Uri("a")),
            Is.EqualTo(Good("nbdinfo", "--map=qemu:allocation-depth", $"nbd+unix:///a?socket={socket}")));
        Assert.That(Good("nbdinfo", "--list", Uri("")), Does.Contain("description: for people"));
    }

    [Test]
    public void ADirtyBitmapIsSeen()
    {
        BlockNode node = Open($$"""{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'filename': '{{NewFile("a", Size)}}'} }""");
        node.AddBitmap(new Bitmaps.DirtyBitmap(node, "bits", 65536));
        StartServer();
        Export("{'type': 'nbd', 'id': 'a', 'node-name': 'a', 'writable': true, 'bitmaps': ['bits']}");
        Write(node, 200_000, Pattern(70_000, 3));
        Assert.That(Good("nbdinfo", "--map=qemu:dirty-bitmap:bits", Uri("a")), Does.Match(@"0 +196608 +0 .*\n +196608 +131072 +1 .*\n +327680 "));
        Assert.That(Assert.Throws<QapiException>(() => node.FindBitmap("bits")!.CheckUsable())!.Desc, Does.Contain("use"));
        Loop.RunUntil(Exporting.StopServerAsync());
        node.FindBitmap("bits")!.CheckUsable();
    }

    [Test]
    public void AnExportGoesWhenItsClientsAreGone()
    {
        BlockNode node = Open("{'driver': 'null-co', 'node-name': 'n', 'read-zeroes': true}");
        Graph.AddMonitorOwned(node);
        StartServer();
        Export("{'type': 'nbd', 'id': 'e', 'node-name': 'n', 'writable': true}");
        using Socket client = Negotiated("n");
        ExportCommands commands = new(Graph, Exporting, new NoEvents());
        Exporting.Exports.OnDeleted = Deleted.Add;
        QapiException? refused = Assert.Throws<QapiException>(() => commands.BlockExportDel("e", null));
        Assert.That(refused!.Desc, Is.EqualTo("export 'e' still in use"));
        commands.BlockExportDel("e", BlockExportRemoveMode.Hard);
        Turn(() => Deleted.Count > 0);
        Assert.That(Deleted, Is.EqualTo(new[] { "e" }));
        Assert.That(node.Parents, Is.Empty);
        Assert.That(client.Receive(new byte[1]), Is.Zero);
    }

    [Test]
    public void ThoseWhoAreManyWaitForOthersToGo()
    {
        Open("{'driver': 'null-co', 'node-name': 'n', 'read-zeroes': true}");
        StartServer(maxConnections: 2);
        Export("{'type': 'nbd', 'id': 'e', 'node-name': 'n'}");
        using Socket first = Negotiated("n");
        using Socket second = Negotiated("n");
        using Socket third = Connect();
        Loop.RunOnce(block: false);
        Assert.That(third.Available, Is.Zero);
        first.Close();
        Turn(() => third.Available == 18);
        Assert.That(Exporting.Server!.Connections, Is.EqualTo(2));
    }

    [Test]
    public void WhoSendsNonsenseOrDoesNotReadHurtsNobodyElse()
    {
        Open("{'driver': 'null-co', 'node-name': 'n', 'read-zeroes': true, 'size': 67108864}");
        StartServer();
        Export("{'type': 'nbd', 'id': 'e', 'node-name': 'n'}");
        using Socket silent = Connect();
        using Socket noise = Connect();
        noise.Send(new byte[4096]);
        using Socket deaf = Negotiated("n");
        byte[] request = new byte[28];
        BinaryPrimitives.WriteUInt32BigEndian(request, 0x25609513);
        BinaryPrimitives.WriteInt32BigEndian(request.AsSpan(24), 8 << 20);
        deaf.Blocking = false;
        for (int i = 0; i < 200; i++)
        {
            deaf.Send(request, SocketFlags.None, out _);
            Loop.RunOnce(block: false);
        }

        Good("nbdcopy", Uri("n"), "null:");
        Turn(() => Exporting.Server!.Connections == 2);
    }

    [Test]
    [Category("Allocation")]
    public void RequestsInSteadyStateAllocateNothing()
    {
        Open("{'driver': 'null-co', 'node-name': 'n', 'read-zeroes': true}");
        StartServer();
        Export("{'type': 'nbd', 'id': 'e', 'node-name': 'n', 'writable': true}");
        using Socket client = Negotiated("n");
        byte[] request = new byte[28];
        byte[] reply = new byte[16 + 4096];
        BinaryPrimitives.WriteUInt32BigEndian(request, 0x25609513);
        BinaryPrimitives.WriteInt32BigEndian(request.AsSpan(24), 4096);
        void Once()
        {
            client.Send(request);
            for (int got = 0; got < reply.Length;)
            {
                while (client.Available == 0)
                {
                    Loop.RunOnce(block: true);
                }

                got += client.Receive(reply.AsSpan(got), SocketFlags.None);
            }
        }

        for (int i = 0; i < 200; i++)
        {
            Once();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            Once();
        }

        long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
#if DEBUG
        Assert.That(bytes, Is.LessThan(2_000_000), "state machines are classes in debug builds; nothing else is allocated");
#else
        Assert.That(bytes, Is.LessThan(10_000), "the test's own sockets allocate a little");
#endif
    }

    [TestCase("{'type': 'nbd', 'id': '1', 'node-name': 'n'}", "Invalid block export id")]
    [TestCase("{'type': 'nbd', 'id': 'a', 'node-name': 'x'}", "Cannot find device='' nor node-name='x'")]
    [TestCase("{'type': 'nbd', 'id': 'a', 'node-name': 'n', 'bitmaps': ['b']}", "Bitmap 'b' is not found")]
    [TestCase("{'type': 'nbd', 'id': 'a', 'node-name': 'n', 'iothread': 'i'}", "iothread \"i\" not found")]
    public void WhatIsRefusedLeavesNothing(string json, string message)
    {
        BlockNode node = Open("{'driver': 'null-co', 'node-name': 'n'}");
        StartServer();
        Assert.That(Assert.Throws<QapiException>(() => Export(json))!.Desc, Is.EqualTo(message));
        Assert.That(node.Parents, Is.Empty);
        Assert.That(Exporting.Exports.All, Is.Empty);
    }

    // A client with simple replies, after EXPORT_NAME.
    private Socket Negotiated(string export)
    {
        Socket socket = Connect();
        byte[] hello = new byte[4 + 16 + export.Length];
        hello[3] = 3;
        BinaryPrimitives.WriteUInt64BigEndian(hello.AsSpan(4), 0x49484156454F5054);
        hello[15] = 1;
        hello[19] = (byte)export.Length;
        System.Text.Encoding.ASCII.GetBytes(export, hello.AsSpan(20));
        socket.Send(hello);
        Turn(() => socket.Available >= 28);
        socket.Receive(new byte[28]);
        return socket;
    }

    private void Turn(Func<bool> until)
    {
        while (!until())
        {
            Loop.RunOnce(block: true);
        }
    }

    private sealed class NoEvents : IEventEmitter
    {
        public void Emit(IQmpEvent qmpEvent)
        {
        }
    }
}
