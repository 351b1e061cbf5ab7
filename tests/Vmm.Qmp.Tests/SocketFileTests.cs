using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>Files of listening sockets are removed when QEMU removes them: with the server, the export, the device, and at the end.</summary>
public sealed class SocketFileTests
{
    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Emulator.NewDirectory();

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase(false)]
    [TestCase(true)]
    public void FilesGoWithWhoeverListens(bool isQemu)
    {
        using Emulator emulator = Start(isQemu);
        QmpClient client = emulator.Qmp();
        Listen(client);
        Assert.That(Files(), Is.EqualTo("chardev export server"));
        client.Execute("nbd-server-stop");
        Assert.That(Files(), Is.EqualTo("chardev export"));
        client.Execute("block-export-del", """{"id": "v"}""");
        Assert.That(SpinWait.SpinUntil(() => Files() == "chardev", TimeSpan.FromSeconds(60)), Files());
        client.Execute("chardev-remove", """{"id": "c"}""");
        Assert.That(Files(), Is.Empty);
    }

    [TestCase(false)]
    [TestCase(true)]
    public void AnNbdServerThatNobodyStoppedLeavesItsFile(bool isQemu)
    {
        using Emulator emulator = Start(isQemu);
        QmpClient client = emulator.Qmp();
        Listen(client);
        client.Execute("quit");
        emulator.WaitExit();
        Assert.That(Files(), Is.EqualTo("server"));
    }

    [Test]
    public void AFileThatHasReplacedTheSocketStays()
    {
        using Emulator emulator = Start(isQemu: false);
        QmpClient client = emulator.Qmp();
        Listen(client);
        foreach (string name in new[] { "chardev", "export", "server" })
        {
            File.Delete(Path.Combine(_folder, name));
            File.WriteAllText(Path.Combine(_folder, name), "");
        }

        client.Execute("nbd-server-stop");
        client.Execute("block-export-del", """{"id": "v"}""");
        client.Execute("quit");
        emulator.WaitExit();
        Assert.That(Files(), Is.EqualTo("chardev export server"));
    }

    private static Emulator Start(bool isQemu)
    {
        if (isQemu && Emulator.RealQemu is null)
        {
            Assert.Ignore("needs an installed qemu-system-x86_64 to compare with");
        }

        return isQemu ? Monitored.StartQemu() : Monitored.Start();
    }

    private void Listen(QmpClient client)
    {
        client.Execute("blockdev-add", """{"driver": "null-co", "node-name": "n"}""");
        client.Execute("nbd-server-start", $$"""{"addr": {"type": "unix", "data": {"path": "{{_folder}}/server"} } }""");
        client.Execute(
            "block-export-add", $$"""{"type": "vhost-user-blk", "id": "v", "node-name": "n", "addr": {"type": "unix", "path": "{{_folder}}/export"} }""");
        client.Execute(
            "chardev-add",
            $$"""
            {"id": "c", "backend": {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "{{_folder}}/chardev"} }, "server": true, "wait": false} } }
            """);
    }

    private string Files() => string.Join(' ', Directory.EnumerateFiles(_folder).Select(Path.GetFileName).Order(StringComparer.Ordinal));
}
