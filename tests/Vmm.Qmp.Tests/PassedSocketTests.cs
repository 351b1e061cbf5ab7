using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Vmm.Interop;
using Vmm.TestKit.Processes;
using Vmm.TestKit.Qmp;

namespace Vmm.Qmp.Tests;

/// <summary>Nodes whose server is a connection that the operator has made and passed; the words are those of the real emulator.</summary>
public sealed class PassedSocketTests
{
    private const int Size = 1 << 20;

    private string _folder = "";
    private Emulator? _server;

    private string SocketPath => Path.Combine(_folder, "s");

    [SetUp]
    public void ServeADisk()
    {
        _folder = Emulator.NewDirectory();
        byte[] disk = new byte[Size];
        new Random(9).NextBytes(disk);
        File.WriteAllBytes(Path.Combine(_folder, "disk"), disk);
        _server = Monitored.Start("-blockdev", $"driver=file,node-name=d,filename={Path.Combine(_folder, "disk")}");
        QmpClient client = _server.Qmp();
        client.Execute("nbd-server-start", $$$"""{"addr": {"type": "unix", "data": {"path": "{{{SocketPath}}}"} } }""");
        client.Execute("block-export-add", """{"type": "nbd", "id": "d", "node-name": "d", "writable": true}""");
    }

    [TearDown]
    public void Stop()
    {
        _server?.Dispose();
        _server = null;
        Directory.Delete(_folder, true);
    }

    [Test]
    public void AConnectionIsUsedByItsName([Values] bool isReal)
    {
        if (isReal && Emulator.RealQemu is null)
        {
            Assert.Ignore("qemu-system-x86_64 is not installed");
        }

        using Emulator emulator = isReal ? Monitored.StartQemu() : Monitored.Start();
        QmpClient client = emulator.Qmp();
        using (Socket socket = Connect())
        {
            Pass(client, "x", (int)socket.Handle);
        }

        client.Execute("blockdev-add", Options("x"));
        JsonNode node = client.Execute("query-named-block-nodes")!.AsArray().Single()!;
        Assert.That((long)node["image"]!["virtual-size"]!, Is.EqualTo(Size));
        JsonNode name = JsonNode.Parse(((string)node["file"]!)["json:".Length..])!;
        Assert.That((string?)name["server.type"], Is.EqualTo("fd"));
        Assert.That((string?)name["server.str"], Is.EqualTo("x"));
        JsonObject read = new() { ["command-line"] = "qemu-io n \"read 0 512\"" };
        Assert.That((string)client.Execute("human-monitor-command", read)!, Does.Not.Contain("failed"));
        client.Execute("blockdev-del", """{"node-name": "n"}""");
        Assert.That(Error(client, "x"), Is.EqualTo("File descriptor named 'x' has not been found"), "it was for one connection");
        Assert.That(Error(client, "3"), Is.EqualTo("File descriptor named '3' has not been found"), "numbers are for the command line");
        Errno errno = Libc.Open("/dev/null", Libc.O_RDONLY | Libc.O_CLOEXEC, 0, out SafeFd file);
        Assert.That(errno, Is.EqualTo(Errno.OK));
        using (file)
        {
            Pass(client, "y", file.Fd);
        }

        Assert.That(Error(client, "y"), Is.EqualTo("File descriptor 'y' is not a socket"));
        Assert.That(client.Execute("query-named-block-nodes")!.AsArray(), Is.Empty);
    }

    private static string Options(string name) =>
        $$$"""{"driver": "nbd", "node-name": "n", "export": "d", "server": {"type": "fd", "str": "{{{name}}}"} }""";

    private static string Error(QmpClient client, string name) =>
        Assert.Throws<QmpErrorException>(() => client.Execute("blockdev-add", Options(name)))!.Desc;

    private Socket Connect()
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(SocketPath));
        return socket;
    }

    private static void Pass(QmpClient client, string name, int fd)
    {
        byte[] message = Encoding.ASCII.GetBytes($$$"""{"execute": "getfd", "arguments": {"fdname": "{{{name}}}"} }""" + "\n");
        Assert.That(Libc.SendWithFds((int)client.Socket.Handle, message, [fd]), Is.EqualTo(message.Length));
        JsonObject reply;
        do
        {
            reply = client.ReadMessage();
        }
        while (reply.ContainsKey("event"));
        Assert.That(reply.ToJsonString(), Is.EqualTo("{\"return\":{}}"));
    }
}
