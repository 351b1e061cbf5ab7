using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>Images, jobs and exports when the machine stops or the process ends while they are in use, as with the real emulator.</summary>
public sealed class EndTests
{
    private const int Bytes = 1 << 20;

    private string _folder = "";

    private static readonly string[] s_cases = ["export", "sleeping", "paused", "ready", "pending", "concluded"];

    [SetUp]
    public void MakeFolder()
    {
        if (!QemuImg.IsInstalled)
        {
            Assert.Ignore(QemuImg.Missing);
        }

        _folder = Emulator.NewDirectory();
    }

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void AMachineThatIsStoppedHasItsDataInTheFiles()
    {
        QemuImg.Run("create", "-q", "-f", "qcow2", PathOf("a.qcow2"), $"{Bytes}");
        using Emulator emulator = Monitored.Start();
        QmpClient client = emulator.Qmp();
        Add(client, "a");
        Export(client, "a");
        using NbdWriter writer = new(PathOf("nbd"), "e");
        client.Execute("cont");
        for (byte value = 1; value < 3; value++)
        {
            // The second time it is stopped already.
            writer.Send(NbdWriter.Kind.Write, value << 16, 4096, value);
            writer.Answer();
            client.Execute("stop");
            QemuImg.Run("convert", "-U", "-O", "raw", PathOf("a.qcow2"), PathOf("raw"));
            Assert.That(File.ReadAllBytes(PathOf("raw")).AsSpan(value << 16, 4096).ContainsAnyExcept(value), Is.False);
        }
    }

    [TestCaseSource(nameof(s_cases))]
    public void ClientsHearWhatTheyHearOfQemu(string what)
    {
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("qemu-system-x86_64 is not installed");
        }

        using Emulator theirs = Monitored.StartQemu();
        using Emulator ours = Monitored.Start();
        List<string> wanted = Messages(theirs, what, "theirs");
        Assert.That(Messages(ours, what, "ours"), Is.EqualTo(wanted));
    }

    private List<string> Messages(Emulator emulator, string what, string prefix)
    {
        string source = prefix + "-a";
        string overlay = prefix + "-b";
        File.WriteAllBytes(PathOf(source + ".raw"), [.. Enumerable.Repeat((byte)7, Bytes)]);
        QemuImg.Run("convert", "-O", "qcow2", PathOf(source + ".raw"), PathOf(source + ".qcow2"));
        QemuImg.Run("create", "-q", "-f", "qcow2", "-b", PathOf(source + ".qcow2"), "-F", "qcow2", PathOf(overlay + ".qcow2"));
        QemuImg.Run("create", "-q", "-f", "qcow2", PathOf(prefix + "-c.qcow2"), $"{Bytes}");
        QmpClient client = emulator.Qmp();
        Add(client, "o", overlay);
        switch (what)
        {
            case "export":
                Export(client, "o", prefix + "-nbd");
                break;
            case "sleeping":
            case "paused":
                client.Execute("block-stream", """{"job-id": "j", "device": "o", "speed": 1024}""");
                WaitFor(client, job => (long)job["offset"]! == 512 << 10);
                if (what == "paused")
                {
                    client.Execute("job-pause", """{"id": "j"}""");
                    WaitFor(client, job => (string?)job["status"] == "paused");
                }

                break;
            case "ready":
                Add(client, "c", prefix + "-c");
                client.Execute("blockdev-mirror", """{"job-id": "j", "device": "o", "target": "c", "sync": "full"}""");
                client.WaitEvent("BLOCK_JOB_READY");
                WaitFor(client, job => (string?)job["status"] == "ready" && !(bool)job["busy"]!);
                break;
            default:
                string automatic = what == "pending" ? "auto-finalize" : "auto-dismiss";
                client.Execute("block-stream", $$"""{"job-id": "j", "device": "o", "{{automatic}}": false}""");
                WaitFor(client, job => (string?)job["status"] == what);
                break;
        }

        client.Events.Clear();
        client.SendRaw("""{"execute": "quit"}""");
        List<string> messages = [];
        while (client.ReadLine() is { } line)
        {
            JsonObject message = JsonNode.Parse(line)!.AsObject();
            message.Remove("timestamp");
            messages.Add(message.ToJsonString());
        }

        Assert.That(emulator.WaitExit(), Is.Zero);
        QemuImg.Run("check", "-q", PathOf(overlay + ".qcow2"));
        return messages;
    }

    private static void WaitFor(QmpClient client, Predicate<JsonObject> condition) => Assert.That(
        () => condition(client.Execute("query-block-jobs")![0]!.AsObject()), Is.True.After(60_000, 1));

    private string PathOf(string name) => Path.Combine(_folder, name);

    private void Add(QmpClient client, string node, string? name = null) => client.Execute(
        "blockdev-add", $$"""{"driver": "qcow2", "node-name": "{{node}}", "file": {"driver": "file", "filename": "{{PathOf((name ?? node) + ".qcow2")}}"} }""");

    private void Export(QmpClient client, string node, string socket = "nbd")
    {
        client.Execute("nbd-server-start", $$"""{"addr": {"type": "unix", "data": {"path": "{{PathOf(socket)}}"} } }""");
        client.Execute("block-export-add", $$"""{"type": "nbd", "id": "e", "node-name": "{{node}}", "name": "e", "writable": true}""");
    }
}
