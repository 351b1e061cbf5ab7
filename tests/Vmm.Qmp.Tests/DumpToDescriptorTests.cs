using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Vmm.Interop;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// Dumps as a management daemon asks for them (libvirt's <c>dump --memory-only</c>): the machine is stopped, the file that the daemon has opened comes
/// with a message, the dump goes on in the background and its end is an event; then the guest runs on.
/// </summary>
public sealed class DumpToDescriptorTests
{
    private const int MemoryMib = 16;
    private const int SmallDiskMib = 4;

    private string _folder = "";
    private string _mounted = "";

    [SetUp]
    public void MakeGuestMemory()
    {
        if (!Emulator.HasKvm)
        {
            Assert.Ignore("needs /dev/kvm");
        }

        _folder = Emulator.NewDirectory();

        // Half of it cannot be compressed, the other half is zeroes.
        byte[] memory = new byte[MemoryMib << 20];
        new Random(5).NextBytes(memory.AsSpan(memory.Length / 2));
        File.WriteAllBytes(Path.Combine(_folder, "image"), memory);

        // Where the processor starts: it jumps to itself.
        byte[] firmware = new byte[0x10000];
        ReadOnlySpan<byte> jump = [0xeb, 0xfe];
        jump.CopyTo(firmware.AsSpan(0xfff0));
        File.WriteAllBytes(Path.Combine(_folder, "firmware"), firmware);
    }

    [TearDown]
    public void RemoveFolder()
    {
        if (_mounted.Length > 0)
        {
            Emulator.Run("/usr/bin/umount", _mounted);
            _mounted = "";
        }

        if (_folder.Length > 0)
        {
            Directory.Delete(_folder, true);
        }
    }

    [Test]
    public void TheDaemonsFileIsThatOfTheName([Values("elf", "kdump-zlib")] string format, [Values] bool isPipe)
    {
        string path = Path.Combine(_folder, "dump");
        using Emulator emulator = Start(isReal: false);
        QmpClient client = emulator.Qmp();
        client.Execute("cont");
        client.WaitEvent("RESUME");
        Task<byte[]> reader = Task.FromResult(Array.Empty<byte>());
        SafeFd target;
        if (isPipe)
        {
            Libc.Pipe(Libc.O_CLOEXEC, out SafeFd read, out target);
            reader = Task.Run(() => ReadAll(read));
        }
        else
        {
            target = Create(path);
        }

        client.Execute("query-dump-guest-memory-capability");
        client.Execute("stop");
        client.WaitEvent("STOP");
        using (target)
        {
            Pass(client, target);
        }

        client.Execute("dump-guest-memory", Request(format));
        JsonObject result = (JsonObject)client.WaitEvent("DUMP_COMPLETED")["data"]!["result"]!;
        Assert.That((string)result["status"]!, Is.EqualTo("completed"));
        Assert.That((long)result["completed"]!, Is.EqualTo((long)result["total"]!).And.GreaterThan(0));
        Assert.That(client.Execute("query-dump")!.ToJsonString(), Is.EqualTo(result.ToJsonString()));
        Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("paused"), "who has stopped the machine starts it");
        AssertRefused(client, "elf", "File descriptor named 'dump' has not been found");

        string named = Path.Combine(_folder, "named");
        client.Execute("dump-guest-memory", $$"""{"paging": false, "protocol": "file:{{named}}", "format": "{{format}}"}""");
        byte[] bytes = isPipe ? reader.Result : File.ReadAllBytes(path);
        AssertSame(format, bytes, File.ReadAllBytes(named));
        client.Events.Clear();
        client.Execute("cont");
        client.WaitEvent("RESUME");
    }

    /// <summary>What is passed cannot be written to; the words are those of the real emulator.</summary>
    [TestCase("pipe", "elf", "dump: failed to write elf header: Broken pipe")]
    [TestCase("pipe", "kdump-zlib", "dump: failed to write start flat header")]
    [TestCase("readable", "elf", "dump: failed to write elf header: Bad file descriptor")]
    [TestCase("readable", "kdump-zlib", "dump: failed to write start flat header")]
    [TestCase("full", "elf", "dump: failed to save memory: No space left on device")]
    public void AFailureIsToldAndCostsNothingElse(string target, string format, string error)
    {
        Check(isReal: false, target, format, error);
        if (Emulator.RealQemu is not null)
        {
            Check(isReal: true, target, format, error);
        }
    }

    [TestCase("elf")]
    [TestCase("kdump-zlib")]
    [TestCase("kdump-raw-zlib")]
    public void ADiskThatIsFullHasNoDump(string format)
    {
        using Emulator emulator = Start(isReal: false);
        QmpClient client = emulator.Qmp();
        client.Execute("cont");
        client.WaitEvent("RESUME");
        string path = Path.Combine(SmallDisk(), "dump");
        using (SafeFd file = Create(path))
        {
            Pass(client, file);
        }

        client.Execute("dump-guest-memory", Request(format));
        JsonNode data = client.WaitEvent("DUMP_COMPLETED")["data"]!;
        Assert.That((string)data["result"]!["status"]!, Is.EqualTo("failed"));
        Assert.That((string)data["error"]!, Does.StartWith("dump: failed to "));
        client.WaitEvent("RESUME");
        Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("running"));
        byte[] start = File.ReadAllBytes(path)[..16];
        Assert.That(start, Is.EqualTo(new byte[16]), "what is there is no dump");

        // With room the same machine is dumped.
        File.Delete(path);
        string whole = Path.Combine(_folder, "dump");
        using (SafeFd file = Create(whole))
        {
            Pass(client, file);
        }

        client.Execute("dump-guest-memory", Request(format));
        Assert.That((string)client.WaitEvent("DUMP_COMPLETED")["data"]!["result"]!["status"]!, Is.EqualTo("completed"));
    }

    private static void AssertSame(string format, byte[] first, byte[] second)
    {
        if (format == "elf")
        {
            Assert.That(first.AsSpan().SequenceEqual(second), Is.True);
            return;
        }

        List<byte[]> pages = DumpPeerTests.Pages(DumpPeerTests.Unflatten(first));
        List<byte[]> others = DumpPeerTests.Pages(DumpPeerTests.Unflatten(second));
        Assert.That(pages, Has.Count.EqualTo(others.Count).And.Count.GreaterThan(MemoryMib << 8));
        Assert.That(pages.Zip(others).All(p => p.First.AsSpan().SequenceEqual(p.Second)), Is.True);
    }

    private static string Request(string format) => $$"""{"paging": false, "protocol": "fd:dump", "format": "{{format}}", "detach": true}""";

    private static void AssertRefused(QmpClient client, string format, string error) =>
        Assert.That(Assert.Throws<QmpErrorException>(() => client.Execute("dump-guest-memory", Request(format)))!.Desc, Is.EqualTo(error));

    private static void Pass(QmpClient client, SafeFd file)
    {
        byte[] message = Encoding.ASCII.GetBytes("{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"dump\"},\"id\":\"pass\"}\r\n");
        Assert.That(Libc.SendWithFds((int)client.Socket.Handle, message, [file.Fd]), Is.EqualTo(message.Length));
        JsonObject reply;
        do
        {
            reply = client.ReadMessage();
        }
        while (reply.ContainsKey("event"));
        Assert.That(reply.ToJsonString(), Is.EqualTo("{\"return\":{},\"id\":\"pass\"}"));
    }

    private static SafeFd Create(string path)
    {
        Errno errno = Libc.Open(path, Libc.O_WRONLY | Libc.O_CREAT | Libc.O_TRUNC | Libc.O_CLOEXEC, 0x180, out SafeFd file);
        Assert.That(errno, Is.EqualTo(Errno.OK), path);
        return file;
    }

    private static byte[] ReadAll(SafeFd file)
    {
        using (file)
        {
            using MemoryStream all = new();
            byte[] buffer = new byte[65536];
            for (int n; (n = file.Read(buffer)) > 0;)
            {
                all.Write(buffer, 0, n);
            }

            return all.ToArray();
        }
    }

    private Emulator Start(bool isReal)
    {
        string[] arguments =
        [
            "-machine", "pc,memory-backend=m", "-accel", "kvm", "-cpu", "qemu64,-pni", "-m", MemoryMib.ToString(CultureInfo.InvariantCulture),
            "-object", $"memory-backend-file,id=m,size={MemoryMib}M,mem-path={Path.Combine(_folder, "image")},share=off",
            "-bios", Path.Combine(_folder, "firmware"), "-nodefaults", "-display", "none", "-S",
        ];
        return isReal ? Emulator.StartQemu(arguments) : Emulator.Start(arguments);
    }

    private void Check(bool isReal, string target, string format, string error)
    {
        using Emulator emulator = Start(isReal);
        QmpClient client = emulator.Qmp();
        using (SafeFd file = Target(target))
        {
            Pass(client, file);
        }

        client.Execute("dump-guest-memory", Request(format));
        JsonNode data = client.WaitEvent("DUMP_COMPLETED")["data"]!;
        Assert.That((string)data["result"]!["status"]!, Is.EqualTo("failed"));
        Assert.That((string)data["error"]!, Is.EqualTo(error), isReal ? "the real emulator" : "ours");
        Assert.That((string)client.Execute("query-dump")!["status"]!, Is.EqualTo("failed"));
        Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("prelaunch"));
        AssertRefused(client, format, "File descriptor named 'dump' has not been found");
    }

    private SafeFd Target(string kind)
    {
        switch (kind)
        {
            case "pipe":
                Libc.Pipe(Libc.O_CLOEXEC, out SafeFd read, out SafeFd write);
                read.Dispose();
                return write;
            case "readable":
                Libc.Open(Path.Combine(_folder, "image"), Libc.O_RDONLY | Libc.O_CLOEXEC, 0, out SafeFd file);
                return file;
            default:
                return Create(Path.Combine(SmallDisk(), "dump"));
        }
    }

    private string SmallDisk()
    {
        if (_mounted.Length == 0)
        {
            string at = Path.Combine(_folder, "disk");
            Directory.CreateDirectory(at);
            (int status, _, string errors) = Emulator.Run("/usr/bin/mount", "-t", "tmpfs", "-o", $"size={SmallDiskMib}M", "none", at);
            if (status != 0)
            {
                Assert.Ignore("needs the right to mount a small file system: " + errors);
            }

            _mounted = at;
        }

        return _mounted;
    }
}
