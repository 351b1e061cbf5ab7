using FsCheck;
using FsCheck.Fluent;
using Vmm.Qapi.Options;
using Vmm.System.CommandLine;

namespace Vmm.System.Tests.CommandLine;

/// <summary>What valid command lines become.</summary>
public sealed class AcceptedTests
{
    private static VmConfiguration Parse(string line)
    {
        CommandLineResult result = CommandLineParser.Parse(Pipeline.Split(line), Pipeline.Environment("/"));
        Assert.That(result.Configuration, Is.Not.Null, string.Concat(result.Diagnostics));
        return result.Configuration!;
    }

    private static CommandLineResult Result(string line) => CommandLineParser.Parse(Pipeline.Split(line), Pipeline.Environment("/"));

    [Test]
    public void LibvirtProbe()
    {
        VmConfiguration c = Parse(
            "-S -no-user-config -nodefaults -nographic -machine none,accel=kvm:tcg -qmp unix:/d/qmp.monitor,server=on,wait=off"
            + " -pidfile /d/qmp.pid -daemonize");
        c.Backends.AddDefaults(machineHasSerial: false, c.Nographic, c.Daemonize);
        MonitorOption monitor = c.Backends.ResolveMonitors()!.Single();
        QemuOpts chardev = c.Backends.Chardevs.Single();
        Assert.Multiple(() =>
        {
            Assert.That(c.StartStopped);
            Assert.That(c.Daemonize);
            Assert.That(c.PidFile, Is.EqualTo("/d/qmp.pid"));
            Assert.That(c.Machine.Type, Is.EqualTo("none"));
            Assert.That(c.Accelerators.Candidates.Select(a => a.Name), Is.EqualTo(new[] { "kvm", "tcg" }));
            Assert.That(c.Backends.ResolveSerials(), Is.Empty);
            Assert.That(monitor, Is.EqualTo(monitor with { Id = "compat_monitor0", Chardev = "compat_monitor0", Control = true, Pretty = false }));
            Assert.That(chardev.ToDict().ToJson(), Does.Contain("\"path\": \"/d/qmp.monitor\""));
            Assert.That(chardev.GetBool("wait", true), Is.False);
        });
    }

    [Test]
    public void LibvirtDomain()
    {
        VmConfiguration c = Parse(
            "-name guest=lv,debug-threads=on -S -object '{\"qom-type\":\"memory-backend-ram\",\"id\":\"pc.ram\",\"size\":67108864}'"
            + " -machine pc-i440fx-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram -accel kvm -cpu qemu64,pni=off"
            + " -m size=262144k,slots=4,maxmem=1048576k -overcommit mem-lock=off -smp 3,maxcpus=4,sockets=4,cores=1,threads=1"
            + " -uuid 6a3c1f00-0000-4000-8000-000000000001 -no-user-config -nodefaults"
            + " -chardev socket,id=charmonitor,fd=30,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control"
            + " -rtc base=utc,driftfix=slew -global kvm-pit.lost_tick_policy=delay -no-hpet -no-shutdown -global PIIX4_PM.disable_s3=1"
            + " -boot strict=on -add-fd set=0,fd=27,opaque=serial1-source"
            + " -device '{\"driver\":\"isa-serial\",\"chardev\":\"charserial1\",\"id\":\"serial1\",\"index\":1}' -msg timestamp=on");
        Assert.Multiple(() =>
        {
            Assert.That(c.Name, Is.EqualTo(new NameConfiguration("lv", null, true)));
            Assert.That(c.Machine.MemoryBackend, Is.EqualTo("pc.ram"));
            Assert.That(c.Machine.Properties.ToJson(), Is.EqualTo("""{"hpet": "off", "usb": "off", "dump-guest-core": "off"}""")
                .Or.Contain("\"hpet\": \"off\""));
            Assert.That(
                MemoryConfiguration.Resolve(c.Machine.Memory, 1, SilentOptionDiagnostics.Instance), Is.EqualTo(new MemoryConfiguration(256 << 20, 1 << 30, 4)));
            Assert.That(
                SmpConfiguration.Resolve(c.Machine.Smp, new SmpRules("pc", 255, HasDies: true), SilentOptionDiagnostics.Instance),
                Is.EqualTo(new SmpConfiguration(3, 4, 4, 1, 1, 1, 1)));
            Assert.That(c.Uuid, Is.EqualTo(new Guid("6a3c1f00-0000-4000-8000-000000000001")));
            Assert.That(c.Globals.Select(g => $"{g.Driver}.{g.Property}={g.Value}"), Is.EqualTo(new[]
            {
                "kvm-pit.lost_tick_policy=delay", "PIIX4_PM.disable_s3=1", "mc146818rtc.lost_tick_policy=slew",
            }));
            Assert.That(c.Actions.Shutdown, Is.EqualTo("pause"));
            Assert.That(BootConfiguration.Resolve(c.Machine.Boot).Strict, Is.True);
            Assert.That(c.AddFds.Single(), Is.EqualTo(new AddFdOption(27, 0, "serial1-source", c.AddFds[0].Location)));
            Assert.That(c.Devices.Single().IsJson);
            Assert.That(c.Objects.Single().Properties.GetInt64("size"), Is.EqualTo(64 << 20));
            Assert.That(c.Messages.Timestamp);
        });
    }

    [TestCase("", "null", false)]
    [TestCase("-nographic", "mon:stdio", false)]
    [TestCase("-nographic -serial null", "null", true)]
    [TestCase("-nographic -monitor null", "stdio", true)]
    [TestCase("-nographic -nodefaults", "", false)]
    [TestCase("-nographic -device isa-serial", "", true)]
    [TestCase("-serial mon:pty", "mon:pty", false)]
    [TestCase("-serial none -serial null", "null", false)]
    public void Defaults(string line, string serials, bool monitor)
    {
        VmConfiguration c = Parse(line);
        c.Backends.AddDefaults(machineHasSerial: true, c.Nographic, c.Daemonize);
        Assert.That(string.Join(' ', c.Backends.ResolveSerials()!.Select(s => s.Text)), Is.EqualTo(serials));
        Assert.That(c.Backends.ResolveMonitors()!.Any(), Is.EqualTo(monitor));
    }

    [TestCase("mon:stdio", "mux=on,signal=off,backend=stdio")]
    [TestCase("tcp::5,server=on", "backend=socket,host=,port=5,server=on")]
    [TestCase("telnet:h:5,nowait", "backend=socket,host=h,port=5,wait=off,telnet=on")]
    [TestCase("udp:h:5@l:6", "backend=udp,host=h,port=5,localaddr=l,localport=6")]
    [TestCase("unix:/a,server,nowait", "backend=socket,path=/a,server=on,wait=off")]
    [TestCase("file:/a,b", "backend=file,path=/a,b")]
    [TestCase("vc:80Cx24C", "backend=vc,cols=80,rows=24")]
    [TestCase("vc:640x480", "backend=vc,width=640,height=480")]
    [TestCase("/dev/ttyS0", "backend=serial,path=/dev/ttyS0")]
    [TestCase("pipe:p", "backend=pipe,path=p")]
    public void LegacyCharacterDevices(string text, string expected)
    {
        VmConfiguration c = Parse($"-serial {text}");
        LegacyBackend serial = c.Backends.ResolveSerials()!.Single();
        Assert.That(string.Join(',', serial.Chardev!.Values.Select(v => $"{v.Key}={v.Value}")), Is.EqualTo(expected));
        Assert.That(serial.Label, Is.EqualTo("serial0"));
    }

    [TestCase("-M help", HelpTopic.Machines, null, 0)]
    [TestCase("-M pc,help", HelpTopic.MachineProperties, "pc", 0)]
    [TestCase("-cpu help", HelpTopic.Cpus, null, 0)]
    [TestCase("-accel ?", HelpTopic.Accelerators, null, 0)]
    [TestCase("-device help", HelpTopic.Devices, null, 0)]
    [TestCase("-device isa-serial,help", HelpTopic.DeviceProperties, "isa-serial", 0)]
    [TestCase("-chardev help", HelpTopic.Chardevs, null, 0)]
    [TestCase("-object help", HelpTopic.Objects, null, 0)]
    [TestCase("-object iothread,help", HelpTopic.ObjectProperties, "iothread", 0)]
    [TestCase("-trace help", HelpTopic.TraceEvents, null, 0)]
    [TestCase("-d trace:help", HelpTopic.TraceEvents, null, 0)]
    [TestCase("-L help", HelpTopic.DataDirectories, null, 0)]
    public void Help(string line, HelpTopic topic, string? subject, int status)
    {
        HelpRequest help = Result(line).Help!;
        Assert.That((help.Topic, help.Subject, help.ExitStatus), Is.EqualTo((topic, subject, status)));
    }

    [TestCase("-d help", "Log items", 1)]
    [TestCase("-d in_asm", "Log items", 1)]
    [TestCase("-smp help", "smp-opts options:", 0)]
    [TestCase("-rtc help", "rtc options:", 1)]
    [TestCase("-version", "QEMU emulator version 7.2.", 0)]
    [TestCase("--help", "QEMU emulator version 7.2.", 0)]
    public void HelpTexts(string line, string start, int status)
    {
        HelpRequest help = Result(line).Help!;
        Assert.That(help.Subject, Does.StartWith(start));
        Assert.That(help.ExitStatus, Is.EqualTo(status));
    }

    [Test]
    public void HelpListsExactlyWhatIsServed()
    {
        var listed = new HashSet<string>(StringComparer.Ordinal);
        foreach (string line in Result("-help").Help!.Subject!.Split('\n'))
        {
            if (line.StartsWith('-'))
            {
                listed.Add(line.Split(' ', ',', '/')[0][1..]);
            }
        }

        foreach (string name in listed)
        {
            CommandLineResult result = CommandLineParser.Parse(["-" + name, "x"], Pipeline.Environment("/"));
            string text = string.Concat(result.Diagnostics.Select(d => d.Text));
            Assert.That(text, Does.Not.Contain("Option not supported by this build").And.Not.Contain("invalid option"), name);
        }

        string[] all =
        [
            "h", "version", "machine", "M", "cpu", "accel", "enable-kvm", "smp", "add-fd", "set", "global", "boot", "m", "device", "name", "uuid",
            "display", "nographic", "vga", "net", "nic", "no-acpi", "no-hpet", "chardev", "bios", "kernel", "append", "initrd", "L", "object",
            "serial", "parallel", "monitor", "qmp", "qmp-pretty", "mon", "debugcon", "pidfile", "preconfig", "S", "overcommit", "d", "D",
            "trace", "no-reboot", "no-shutdown", "action", "watchdog-action", "daemonize", "rtc", "nodefaults", "no-user-config",
            "readconfig", "msg", "qtest", "qtest-log", "fda", "hda", "hdc", "cdrom", "mtdblock", "pflash", "sd", "snapshot",
            "blockdev", "drive",
        ];
        Assert.That(listed, Is.EquivalentTo(all));
    }

    [TestCase("-icount 1")]
    [TestCase("-usb")]
    [TestCase("-sandbox on")]
    [TestCase("-netdev user")]
    public void UnservedOptionsSaySo(string line)
    {
        CommandLineResult result = Result(line);
        Assert.That(result.ExitStatus, Is.EqualTo(1));
        Assert.That(result.Diagnostics.Single().Format("vmm"), Is.EqualTo($"vmm: {line}: Option not supported by this build\n"));
    }

    [TestCase("2006-06-17T16:01:21", 1150560081)]
    [TestCase("2006-06-17", 1150502400)]
    [TestCase("1970-01-01T00:00:00", 0)]
    [TestCase("2000-02-29T23:59:59", 951868799)]
    [TestCase("2006-06-17T16", 1150502400)]
    public void RtcTimes(string text, long seconds)
    {
        RtcConfiguration rtc = Parse($"-rtc base={text}").Rtc;
        Assert.That((rtc.Base, rtc.StartSeconds), Is.EqualTo((RtcBase.DateTime, seconds)));
    }

    [Test]
    public void MessagesCarryTimeAndGuestName()
    {
        CommandLineResult result = Result("-name foo -msg timestamp=on,guest-name=on -m 1x");
        string text = result.Diagnostics.Single().Format("q", new DateTime(2023, 1, 2, 3, 4, 5, DateTimeKind.Utc).AddTicks(678910));
        Assert.That(text, Does.StartWith("2023-01-02T03:04:05.067891Z foo q: -m 1x: Parameter 'size'"));
    }

    [Test]
    public void AcceleratorsFallBack()
    {
        var messages = new List<string>();
        AcceleratorOption? chosen = Parse("-M none,accel=tcg:kvm").Accelerators.Choose(
            name => name == "kvm", static _ => true, d => messages.Add(d.Text));
        Assert.That(chosen!.Name, Is.EqualTo("kvm"));
        Assert.That(messages, Is.EqualTo(new[] { "invalid accelerator tcg", "falling back to KVM" }));
    }

    [Test]
    public void NoArgumentsMakeItThrow()
    {
        string[] words =
        [
            "-m", "-smp", "-M", "-chardev", "-mon", "-device", "-object", "-set", "-global", "-boot", "-rtc", "-serial", "-qmp", "-d",
            "-trace", "-name", "-uuid", "-accel", "-readconfig", "-action", "-add-fd", "-msg", "-display", "-nographic", "-net", "help",
            "null,id=a", "{\"a\":", "{}", "[]", "mon:stdio", "tcp:a:1,x", "a.b.c=d", "id=a", "1,2", "a.0=1,a.0.b", "x,,y", "device.a.b=c", "",
            "=", ",", "?", "kvm", "size=1k", "trace:x", "guest=x,help", "{\"driver\":{}}", "{\"qom-type\":\"iothread\",\"id\":[]}",
        ];
        Prop.ForAll(
            Gen.Elements(words).ArrayOf().ToArbitrary(),
            arguments =>
            {
                CommandLineResult result = CommandLineParser.Parse(arguments, Pipeline.Environment("/nonexistent"));
                return result.Configuration != null || result.Help != null
                    || result.Diagnostics.Any(d => d.Kind == DiagnosticKind.Error);
            }).QuickCheckThrowOnFailure();
    }
}
