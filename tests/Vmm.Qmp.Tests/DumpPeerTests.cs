using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;
using System.Text.Json.Nodes;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>Dumps of real guests: beside QEMU's, under a debugger, into targets that make it wait, and in the middle of everything else.</summary>
public sealed class DumpPeerTests
{
    private const int MemoryMib = 16;
    private const string Firmware = "/usr/share/seabios/bios-256k.bin";
    private string _folder = "";

    [SetUp]
    public void MakeFolder()
    {
        if (!Emulator.HasKvm)
        {
            Assert.Ignore("needs /dev/kvm");
        }

        _folder = Emulator.NewDirectory();
    }

    [TearDown]
    public void RemoveFolder()
    {
        if (_folder.Length > 0)
        {
            Directory.Delete(_folder, true);
        }
    }

    [TestCase("""{"paging": false}""")]
    [TestCase("""{"paging": true}""")]
    [TestCase("""{"paging": false, "begin": 65552, "length": 1193046}""")]
    [TestCase("""{"paging": false, "begin": 16000000, "length": 9223372036854775807}""")]
    [TestCase("""{"paging": false, "format": "kdump-zlib"}""")]
    public void SameMemoryGivesQemusFile(string arguments)
    {
        RequireQemu();
        string image = Image();
        byte[] ours;
        byte[] theirs;
        using (Emulator emulator = Emulator.Start([.. Stopped(image), "-bios", Firmware]))
        {
            ours = Dump(emulator.Qmp(), arguments);
        }

        using (Emulator emulator = Emulator.StartQemu([.. Stopped(image), "-bios", Firmware]))
        {
            theirs = Dump(emulator.Qmp(), arguments);
        }

        if (arguments.Contains("kdump", StringComparison.Ordinal))
        {
            ours = Unflatten(ours);
            theirs = Unflatten(theirs);
            int descriptors = DescriptorsAt(theirs);
            Assert.That(ours.AsSpan(0, descriptors).SequenceEqual(theirs.AsSpan(0, descriptors)), Is.True, "headers and bitmaps");
            List<byte[]> mine = Pages(ours);
            List<byte[]> other = Pages(theirs);
            Assert.That(mine, Has.Count.EqualTo(other.Count));
            for (int i = 0; i < mine.Count; i++)
            {
                Assert.That(mine[i].AsSpan().SequenceEqual(other[i]), Is.True, $"page {i}");
            }

            return;
        }

        // QEMU 7.2 swaps the two bytes of the field that says how long the header is.
        int headerBytes = ours[4] == 2 ? 52 : 40;
        theirs[headerBytes] = ours[headerBytes];
        theirs[headerBytes + 1] = ours[headerBytes + 1];
        Assert.That(ours.AsSpan().CommonPrefixLength(theirs), Is.EqualTo(theirs.Length));
        Assert.That(ours, Has.Length.EqualTo(theirs.Length));
    }

    [Test]
    public void ContentsAreThoseOfPmemsave()
    {
        string image = Image();
        using Emulator emulator = Emulator.Start(Stopped(image));
        QmpClient client = emulator.Qmp();
        string saved = Path.Combine(_folder, "saved");
        client.Execute("pmemsave", $$"""{"val": 0, "size": 655360, "filename": "{{saved}}"}""");
        byte[] core = Dump(client, """{"paging": false, "begin": 0, "length": 655360}""");
        int offset = (int)BinaryPrimitives.ReadUInt32LittleEndian(core.AsSpan(FirstLoad(core) + (core[4] == 2 ? 8 : 4)));
        Assert.That(core.AsSpan(offset, 655360).SequenceEqual(File.ReadAllBytes(saved)), Is.True);
    }

    [Test]
    public void DebuggersReadTheMemoryOfAGuestThatPages()
    {
        if (!File.Exists("/usr/bin/gdb") || !File.Exists("/usr/bin/readelf"))
        {
            Assert.Ignore("needs gdb and readelf (packages gdb and binutils)");
        }

        string kernel = Path.Combine(_folder, "guest.elf");
        File.WriteAllBytes(kernel, TestGuests.StampTime());
        using Emulator emulator = Emulator.Start(
            "-machine", "microvm", "-accel", "kvm", "-m", "64", "-nodefaults", "-display", "none", "-kernel", kernel,
            "-debugcon", "file:" + Path.Combine(_folder, "console"));
        QmpClient client = emulator.Qmp();
        string console = Path.Combine(_folder, "console");
        Assert.That(
            SpinWait.SpinUntil(() => File.Exists(console) && new FileInfo(console).Length > 0, TimeSpan.FromSeconds(60)), Is.True, "the guest runs");
        client.Execute("stop");
        string file = Path.Combine(_folder, "core");
        client.Execute("dump-guest-memory", $$"""{"paging": true, "protocol": "file:{{file}}"}""");
        string registers = client.Human("info registers");
        string rip = registers[(registers.IndexOf("RIP=", StringComparison.Ordinal) + 4)..][..16];
        string code = client.Human("x /2xw 0x" + rip);
        (int status, string headers, string errors) = Emulator.Run("/usr/bin/readelf", "-lnW", file);
        Assert.That(status, Is.Zero);
        Assert.That(errors, Is.Empty);
        Assert.That(headers, Does.Contain("NT_PRSTATUS").And.Contain("QEMU"));
        (status, string output, errors) = Emulator.Run(
            "/usr/bin/gdb", "--batch", "-nx", "-c", file, "-ex", "info registers rip", "-ex", "x/2xw $rip");
        Assert.That(status, Is.Zero, errors);
        Assert.That(output, Does.Contain("0x" + rip.TrimStart('0')));
        string[] words = code[(code.IndexOf(':', StringComparison.Ordinal) + 1)..].Split((char[])[' ', '\r', '\n'], StringSplitOptions.RemoveEmptyEntries);
        Assert.That(words, Has.Length.EqualTo(2));
        Assert.That(output, Does.Contain(words[0]).And.Contain(words[1]));
    }

    [Test]
    public void MakedumpfileRestoresTheFlattenedFile()
    {
        if (!File.Exists("/usr/bin/makedumpfile"))
        {
            Assert.Ignore("needs makedumpfile (package makedumpfile)");
        }

        using Emulator emulator = Emulator.Start(Stopped(Image()));
        QmpClient client = emulator.Qmp();
        string flat = Path.Combine(_folder, "flat");
        string raw = Path.Combine(_folder, "raw");
        string restored = Path.Combine(_folder, "restored");
        client.Execute("dump-guest-memory", $$"""{"paging": false, "protocol": "file:{{flat}}", "format": "kdump-zlib"}""");
        client.Execute("dump-guest-memory", $$"""{"paging": false, "protocol": "file:{{raw}}", "format": "kdump-raw-zlib"}""");
        (int status, _, string errors) = Emulator.Run("/bin/sh", "-c", $"/usr/bin/makedumpfile -R '{restored}' < '{flat}'");
        Assert.That(status, Is.Zero, errors);
        Assert.That(File.ReadAllBytes(restored).AsSpan().SequenceEqual(File.ReadAllBytes(raw)), Is.True);
    }

    /// <summary>The reader of a pipe decides how far a dump gets.</summary>
    [Test]
    public void WhileADumpRunsTheMachineIsHeld()
    {
        using Emulator emulator = Running();
        QmpClient client = emulator.Qmp();
        using FileStream reader = Begin(client, "elf");
        Assert.That((string)client.Execute("query-dump")!["status"]!, Is.EqualTo("active"));
        Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("save-vm"));
        Refused(client, "cont");
        Refused(client, "stop");
        Refused(client, "dump-guest-memory", $$"""{"paging": false, "protocol": "file:{{_folder}}/other"}""");
        Assert.That(client.Human("info dump"), Does.StartWith("Status: active\r\nFinished: "));
        client.Execute("system_reset");
        client.Events.Clear();
        long last = 0;
        byte[] buffer = new byte[1 << 20];
        for (int n; (n = reader.Read(buffer)) > 0;)
        {
            JsonNode now = client.Execute("query-dump")!;
            long completed = (long)now["completed"]!;
            Assert.That(completed, Is.InRange(last, (long)now["total"]!));
            last = completed;
        }

        JsonObject end = client.WaitEvent("DUMP_COMPLETED");
        Assert.That((string)end["data"]!["result"]!["status"]!, Is.EqualTo("completed"));
        client.WaitEvent("RESET");
        Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("running"));
        Assert.That((string)client.Execute("query-dump")!["status"]!, Is.EqualTo("completed"));
    }

    [TestCase("elf", "dump: failed to save memory: Broken pipe")]
    [TestCase("kdump-zlib", null)]
    public void ReaderThatGoesAwayLetsTheGuestRunOn(string format, string? error)
    {
        using Emulator emulator = Running();
        QmpClient client = emulator.Qmp();
        Begin(client, format).Dispose();
        JsonObject end = client.WaitEvent("DUMP_COMPLETED");
        Assert.That((string)end["data"]!["result"]!["status"]!, Is.EqualTo("failed"));
        Assert.That((string)end["data"]!["error"]!, error is null ? Does.StartWith("dump: failed to write ") : Is.EqualTo(error));
        client.WaitEvent("RESUME");
        Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("running"));
        Assert.That(client.Human("info dump"), Is.EqualTo("Status: failed\r\n"));
    }

    [TestCase("elf")]
    [TestCase("kdump-zlib")]
    public void ProcessEndsInTheMiddle(string format)
    {
        using Emulator emulator = Running();
        QmpClient client = emulator.Qmp();
        using FileStream reader = Begin(client, format);
        client.Execute("quit");
        Assert.That(emulator.WaitExit(), Is.Zero);
        Assert.That(emulator.Errors, Does.Not.Contain("nhandled"));
    }

    [Test]
    public void BackEndsThatAreNotToBeDumpedAreLeftOutOfCoreDumpsOfTheProcess()
    {
        using Emulator emulator = Emulator.Start(
            "-machine", "none", "-nodefaults", "-display", "none",
            "-object", "memory-backend-ram,id=a,size=33M,dump=off", "-object", "memory-backend-ram,id=b,size=35M,dump=on");
        QmpClient client = emulator.Qmp();
        Assert.That(FlagsOf(emulator, 33), Does.Contain("dd"));
        Assert.That(FlagsOf(emulator, 35), Does.Not.Contain("dd"));
        client.Execute("qom-set", """{"path": "/objects/b", "property": "dump", "value": false}""");
        client.Execute("qom-set", """{"path": "/objects/a", "property": "dump", "value": true}""");
        Assert.That(FlagsOf(emulator, 33), Does.Not.Contain("dd"));
        Assert.That(FlagsOf(emulator, 35), Does.Contain("dd"));
    }

    private static void RequireQemu()
    {
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("needs an installed qemu-system-x86_64");
        }

        if (!File.Exists(Firmware))
        {
            Assert.Ignore($"needs {Firmware} (package seabios): the same firmware on both sides");
        }
    }

    private static string[] Stopped(string image) =>
    [
        "-machine", "pc,memory-backend=m", "-accel", "kvm", "-cpu", "qemu64,-pni", "-smp", "2", "-m", MemoryMib.ToString(CultureInfo.InvariantCulture),
        "-object", $"memory-backend-file,id=m,size={MemoryMib}M,mem-path={image},share=off", "-nodefaults", "-display", "none", "-S",
    ];

    private static string[] FlagsOf(Emulator emulator, int mib)
    {
        bool isThis = false;
        foreach (string line in File.ReadLines($"/proc/{emulator.Process.Id}/smaps"))
        {
            if (line.StartsWith("Size:", StringComparison.Ordinal))
            {
                isThis = line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1] == (mib << 10).ToString(CultureInfo.InvariantCulture);
            }
            else if (isThis && line.StartsWith("VmFlags:", StringComparison.Ordinal))
            {
                return line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            }
        }

        throw new InvalidOperationException($"no mapping of {mib} MiB");
    }

    private static void Refused(QmpClient client, string command, string arguments = "{}")
    {
        QmpErrorException error = Assert.Throws<QmpErrorException>(() => client.Execute(command, arguments))!;
        Assert.That(error.Desc, Is.EqualTo("There is a dump in process, please wait."), command);
    }

    private static int FirstLoad(byte[] core) => core[4] == 2 ? 64 + 128 + 56 : 52 + 80 + 32;

    internal static byte[] Unflatten(byte[] file)
    {
        Assert.That(file.AsSpan().StartsWith("makedumpfile\0"u8), Is.True);
        byte[] raw = [];
        for (int at = 4096; ;)
        {
            long offset = BinaryPrimitives.ReadInt64BigEndian(file.AsSpan(at));
            int size = (int)BinaryPrimitives.ReadInt64BigEndian(file.AsSpan(at + 8));
            at += 16;
            if (offset < 0)
            {
                return raw;
            }

            if (raw.Length < offset + size)
            {
                Array.Resize(ref raw, (int)offset + size);
            }

            file.AsSpan(at, size).CopyTo(raw.AsSpan((int)offset));
            at += size;
        }
    }

    internal static int DescriptorsAt(byte[] dump)
    {
        int status = 12 + (6 * 65) + (dump.AsSpan(12 + (4 * 65)).StartsWith("x86_64"u8) ? 22 : 10);
        uint blocks = BinaryPrimitives.ReadUInt32LittleEndian(dump.AsSpan(status + 8)) + BinaryPrimitives.ReadUInt32LittleEndian(dump.AsSpan(status + 12));
        return (int)(1 + blocks) * 4096;
    }

    // Contents of each page; how well they are compressed is the writer's affair.
    internal static List<byte[]> Pages(byte[] dump)
    {
        List<byte[]> pages = [];
        int at = DescriptorsAt(dump);
        int end = (int)BinaryPrimitives.ReadInt64LittleEndian(dump.AsSpan(at));
        int lowest = int.MaxValue;
        for (; at < Math.Min(end, lowest); at += 24)
        {
            int offset = (int)BinaryPrimitives.ReadInt64LittleEndian(dump.AsSpan(at));
            int size = BinaryPrimitives.ReadInt32LittleEndian(dump.AsSpan(at + 8));
            lowest = Math.Min(lowest, offset);
            byte[] page = dump[offset..(offset + size)];
            if (dump[at + 12] == 1)
            {
                using ZLibStream stream = new(new MemoryStream(page), CompressionMode.Decompress);
                page = new byte[4096];
                stream.ReadExactly(page);
            }

            Assert.That(page, Has.Length.EqualTo(4096));
            pages.Add(page);
        }

        return pages;
    }

    private byte[] Dump(QmpClient client, string arguments)
    {
        string path = Path.Combine(_folder, "dump");
        JsonObject all = (JsonObject)JsonNode.Parse(arguments)!;
        all["protocol"] = "file:" + path;
        client.Execute("dump-guest-memory", all);
        byte[] bytes = File.ReadAllBytes(path);
        File.Delete(path);
        return bytes;
    }

    private Emulator Running()
    {
        string kernel = Path.Combine(_folder, "guest.elf");
        File.WriteAllBytes(kernel, TestGuests.StampTime());
        return Emulator.Start("-machine", "microvm", "-accel", "kvm", "-m", "32", "-nodefaults", "-display", "none", "-kernel", kernel);
    }

    // Begins a dump into a pipe, which it fills until it is read.
    private FileStream Begin(QmpClient client, string format)
    {
        string pipe = Path.Combine(_folder, "pipe");
        (int status, _, string errors) = Emulator.Run("/usr/bin/mkfifo", pipe);
        Assert.That(status, Is.Zero, errors);
        Task<FileStream> opened = Task.Run(() => new FileStream(pipe, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0));
        client.Execute("dump-guest-memory", $$"""{"paging": false, "protocol": "file:{{pipe}}", "detach": true, "format": "{{format}}"}""");
        FileStream reader = opened.Result;
        byte[] start = new byte[1];
        Assert.That(reader.Read(start), Is.EqualTo(1), "it has begun");
        return reader;
    }

    private string Image()
    {
        string path = Path.Combine(_folder, "image");
        Random random = new(1);
        byte[] memory = new byte[MemoryMib << 20];
        for (int at = 0; at < memory.Length; at += 4096)
        {
            Span<byte> page = memory.AsSpan(at, 4096);
            switch (random.Next(3))
            {
                case 0:
                    random.NextBytes(page);
                    break;
                case 1:
                    for (int i = 0; i < page.Length; i++)
                    {
                        page[i] = (byte)random.Next(3);
                    }

                    break;
            }
        }

        File.WriteAllBytes(path, memory);
        return path;
    }
}
