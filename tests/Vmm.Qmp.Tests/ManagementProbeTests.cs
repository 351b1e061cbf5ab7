using System.Diagnostics;
using System.Text.Json.Nodes;
using Vmm.Interop;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>How libvirt 9.0 finds out what an emulator is: a daemon on a machine without anything, asked over QMP.</summary>
public sealed class ManagementProbeTests
{
    private static readonly string[] s_typesAsked =
    [
        "virtio-blk-pci", "virtio-scsi-pci", "virtio-net-pci", "VGA", "PIIX4_PM", "ICH9-LPC", "usb-storage", "kvm-pit", "scsi-hd", "ide-hd",
        "virtio-gpu-pci", "virtio-balloon-pci", "pcie-root-port", "nvdimm", "mc146818rtc", "isa-serial",
    ];

    private string _directory = "";
    private int _pid;

    [SetUp]
    public void Launch()
    {
        if (!Emulator.HasKvm)
        {
            Assert.Ignore("/dev/kvm cannot be opened");
        }

        _directory = Emulator.NewDirectory();
        string socket = Path.Combine(_directory, "qmp.monitor");
        string pidFile = Path.Combine(_directory, "qmp.pid");

        // Ends only when the streams are closed on both sides: a daemon that keeps one would hang the caller.
        (int status, string output, string errors) = Emulator.Run(
            Emulator.OurBinary, "-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg",
            "-qmp", $"unix:{socket},server=on,wait=off", "-pidfile", pidFile, "-daemonize");
        Assert.That((status, output), Is.EqualTo((0, "")));
        string name = Path.GetFileName(Emulator.OurBinary);
        Assert.That(errors, Is.EqualTo($"{name}: invalid accelerator tcg\n{name}: falling back to KVM\n"), "as a QEMU built without TCG says");
        Assert.That(File.Exists(socket), "the monitor listens when the parent ends");
        _pid = int.Parse(File.ReadAllText(pidFile));
    }

    [TearDown]
    public void Kill()
    {
        if (_pid != 0)
        {
            Libc.Kill(_pid, Libc.SIGKILL);
        }

        if (_directory.Length > 0)
        {
            Directory.Delete(_directory, true);
        }
    }

    [Test]
    public void ConversationAndEnd()
    {
        using (QmpClient client = QmpClient.Connect(Path.Combine(_directory, "qmp.monitor")))
        {
            // It does not wait for the greeting.
            client.SendRaw("{\"execute\":\"qmp_capabilities\",\"id\":\"libvirt-1\"}\r\n");
            Assert.That(client.ReadMessage().ContainsKey("QMP"));
            Assert.That(client.ReadMessage().ToJsonString(), Is.EqualTo("{\"return\":{},\"id\":\"libvirt-1\"}"));
            Identity(client);
            Types(client);
            Machines(client);
            Cpus(client);
            foreach (string command in (string[])["query-tpm-models", "query-tpm-types"])
            {
                Assert.That(client.Execute(command), Is.TypeOf<JsonArray>(), command);
            }

            JsonArray options = client.Execute("query-command-line-options")!.AsArray();
            Assert.That(Names(options, "option"), Does.Contain("overcommit").And.Contain("msg").And.Not.Contain("sandbox"));
        }

        Terminate();
    }

    private static void Identity(QmpClient client)
    {
        JsonNode version = client.Execute("query-version")!;
        Assert.That((int)version["qemu"]!["major"]!, Is.EqualTo(7));
        Assert.That((string?)version["package"], Is.Not.Null);
        Assert.That((string?)client.Execute("query-target")!["arch"], Is.EqualTo("x86_64"));
        JsonNode kvm = client.Execute("query-kvm")!;
        Assert.That((bool)kvm["enabled"]! && (bool)kvm["present"]!);
        foreach (JsonNode? entry in client.Execute("query-qmp-schema")!.AsArray())
        {
            Assert.That((string?)entry!["name"], Is.Not.Null);
        }

        // set-action is what makes it leave reboots and power-offs to run-time commands.
        Assert.That(
            Names(client.Execute("query-commands")!.AsArray(), "name"),
            Does.Contain("query-hotpluggable-cpus").And.Contain("query-cpu-model-expansion").And.Contain("set-action").And.Contain("query-stats"));
    }

    private static void Types(QmpClient client)
    {
        HashSet<string> types = Names(client.Execute("qom-list-types")!.AsArray(), "name");
        Assert.That(types, Does.Contain("memory-backend-memfd").And.Contain("iothread").And.Not.Contain("tcg-accel"));
        foreach (string type in s_typesAsked)
        {
            JsonObject answer = client.ExecuteRaw("device-list-properties", new JsonObject { ["typename"] = type });
            if (types.Contains(type))
            {
                Assert.That(answer["return"], Is.TypeOf<JsonArray>(), type);
            }
            else
            {
                // Any other class ends the probe.
                Assert.That((string?)answer["error"]?["class"], Is.EqualTo("DeviceNotFound"), type);
            }
        }

        // An error here makes it crash.
        Assert.That(Properties(client, "memory-backend-file"), Does.Contain("mem-path").And.Contain("align"));
        Assert.That(Properties(client, "memory-backend-memfd"), Does.Contain("hugetlb"));
        Assert.That(Properties(client, "max-x86_64-cpu"), Does.Contain("unavailable-features").And.Contain("migratable"));
        Assert.That(Properties(client, "none-machine"), Does.Contain("memory-backend").And.Contain("dump-guest-core"));
    }

    private static void Machines(QmpClient client)
    {
        JsonArray machines = client.Execute("query-machines")!.AsArray();
        JsonNode pc = machines.Single(static m => (string?)m!["alias"] == "pc")!;
        Assert.That((bool?)pc["is-default"], Is.True);
        Assert.That((string?)pc["default-ram-id"], Is.EqualTo("pc.ram"));
        Assert.That((string?)pc["default-cpu-type"], Is.EqualTo("qemu64-x86_64-cpu"));
    }

    private static void Cpus(QmpClient client)
    {
        foreach (JsonNode? definition in client.Execute("query-cpu-definitions")!.AsArray())
        {
            Assert.That((string?)definition!["name"], Is.Not.Null);
        }

        foreach ((string type, string model) in ((string, string)[])
            [
                ("static", "{\"name\":\"host\"}"),
                ("static", "{\"name\":\"host\",\"props\":{\"migratable\":false}}"),
                ("full", "{\"name\":\"host\",\"props\":{\"migratable\":false,\"hv-passthrough\":true}}"),
            ])
        {
            JsonObject answer = client.ExecuteRaw("query-cpu-model-expansion", new JsonObject { ["type"] = type, ["model"] = JsonNode.Parse(model) });
            bool tolerated = (string?)answer["error"]?["class"] == "GenericError";
            Assert.That(tolerated || answer["return"]?["model"]?["props"] is JsonObject, $"{type} {model}: {answer.ToJsonString()}");
        }
    }

    // The monitor is closed, then the process is told to end; the directory must be empty after the socket and the pid file are removed.
    private void Terminate()
    {
        using Process daemon = Process.GetProcessById(_pid);
        Assert.That(Libc.Kill(_pid, Libc.SIGTERM), Is.EqualTo(Errno.OK));
        Assert.That(daemon.WaitForExit(TimeSpan.FromSeconds(60)));
        _pid = 0;
        string[] left = [.. Directory.GetFiles(_directory).Select(static f => Path.GetFileName(f)).Except(["qmp.monitor", "qmp.pid"])];
        Assert.That(left, Is.Empty);
    }

    private static HashSet<string> Properties(QmpClient client, string type) =>
        Names(client.Execute("qom-list-properties", new JsonObject { ["typename"] = type })!.AsArray(), "name");

    private static HashSet<string> Names(JsonArray items, string member) => [.. items.Select(item => (string)item![member]!)];
}
