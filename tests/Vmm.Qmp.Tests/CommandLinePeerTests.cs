using System.Text;
using System.Text.Json.Nodes;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>What the program says on a command line beside what the real QEMU says on the same one.</summary>
public sealed class CommandLinePeerTests
{
    private static readonly string[] s_machine = ["-S", "-display", "none", "-nodefaults", "-m", "64"];

    [SetUp]
    public void NeedsPeerAndKvm()
    {
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("qemu-system-x86_64 is not installed");
        }

        if (!Emulator.HasKvm)
        {
            Assert.Ignore("/dev/kvm cannot be opened");
        }
    }

    /// <summary>Command lines that are refused, or warned of, when the machine comes to be.</summary>
    [TestCase("-global PIIX4_PM.foo=1")]
    [TestCase("-global PIIX4_PM.disable_s3=zz")]
    [TestCase("-global mc146818rtc.base_year=x")]
    [TestCase("-global qemu64-x86_64-cpu.avx=zz")]
    [TestCase("-device pvpanic -global pvpanic.foo=3")]
    [TestCase("-global nosuch.foo=1 -kernel nosuch")]
    [TestCase("-mem-path /nonexistent/z")]
    [TestCase("-mem-path /tmp -M memory-backend=x")]
    [TestCase("-M memory-backend=x")]
    [TestCase("-M memory-backend=x -object memory-backend-ram,id=x,size=32M")]
    [TestCase("-M memory-backend=x -object iothread,id=x")]
    [TestCase("-m 64,slots=300,maxmem=1G")]
    [TestCase("-m 64,slots=2,maxmem=1073741825")]
    [TestCase("-M max-ram-below-4g=8G")]
    [TestCase("-M max-ram-below-4g=x")]
    [TestCase("-M kernel-irqchip=x")]
    [TestCase("-M graphics=x")]
    [TestCase("-accel kvm,foo=1")]
    [TestCase("-accel kvm,help")]
    [TestCase("-object iothread,id=a,poll-max-ns=x")]
    [TestCase("-object memory-backend-ram,id=a,size=x")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,host-nodes=x")]
    [TestCase("-device isa-serial,index=zz")]
    [TestCase("-device isa-serial,index=5000000000")]
    [TestCase("-device isa-serial,wakeup=x")]
    [TestCase("-device isa-serial,id=1")]
    [TestCase("-device isa-serial,bus=x")]
    [TestCase("-device isa-serial,chardev=x")]
    [TestCase("-M none -cpu foo")]
    [TestCase("-kernel nosuch")]
    [TestCase("-kernel /tmp")]
    [TestCase("-kernel /etc/hostname")]
    [TestCase("-kernel /bin/true")]
    [TestCase("-bios nosuch")]
    [TestCase("-bios /etc/hostname")]
    [TestCase("-boot splash=nosuch -kernel nosuch")]
    [TestCase("-boot splash=/etc/hostname -kernel nosuch")]
    [TestCase("-smp 3,threads=3 -kernel nosuch")]
    [TestCase("-smp 2,cores=5 -chardev socket,id=x,path=/nonexistent/x")]
    [TestCase("-smp 2,cores=5 -boot order=zz")]
    [TestCase("-smp 2,cores=5 -m 64,slots=2")]
    [TestCase("-m 0x40 -mon nosuch")]
    [TestCase("-boot order=zz -m 64,slots=2")]
    [TestCase("-boot once=d -M microvm")]
    [TestCase("-boot once=d -M none")]
    [TestCase("-boot once=d -M none -smp 2,maxcpus=1")]
    [TestCase("-boot reboot-timeout=70000")]
    [TestCase("-boot splash-time=-2")]
    [TestCase("-M nosuch=x -object secret,id=a")]
    [TestCase("-M nosuch=x -blockdev file,node-name=a,filename=nosuch")]
    [TestCase("-smp 2,dies=2 -M none")]
    [TestCase("-smp 6,cores=4 -M none")]
    [TestCase("-pidfile /nonexistent/x -add-fd fd=99,set=1")]
    [TestCase("-pidfile /nonexistent/x -M nosuch")]
    [TestCase("-D /nonexistent/x -pidfile /nonexistent/x")]
    [TestCase("-serial unix:/nonexistent/x")]
    [TestCase("-serial mon:unix:/nonexistent/x")]
    [TestCase("-serial pipe:/nonexistent/x -serial nosuch")]
    [TestCase("-serial nosuch -mon nosuch")]
    [TestCase("-serial unix:/nonexistent/x -object memory-backend-ram,id=a,size=0")]
    [TestCase("-debugcon unix:/nonexistent/x")]
    [TestCase("-debugcon nosuch -serial nosuch")]
    [TestCase("-smp 4 -kernel nosuch")]
    [TestCase("-d trace:nosuch -kernel nosuch")]
    public void RefusedAlike(string line)
    {
        string[] arguments = [.. s_machine, "-M", "pc,accel=kvm", .. line.Split(' ')];
        (int expectedStatus, _, string expected) = Emulator.Run(Emulator.RealQemu!, arguments);
        (int status, _, string errors) = Emulator.Run(Emulator.OurBinary, arguments);
        Assert.That(errors.Replace("vmm-system-x86_64", "qemu-system-x86_64"), Is.EqualTo(expected));
        Assert.That(status, Is.EqualTo(expectedStatus).And.EqualTo(1));
    }

    /// <summary>What KVM thinks of a number of processors is said of the option that chose it.</summary>
    [Test]
    public void WarningsOfTheAcceleratorNameItsOption()
    {
        string[] arguments = [.. s_machine, "-accel", "kvm", "-smp", "64", "-object", "memory-backend-ram,id=a,size=0"];
        (_, _, string expected) = Emulator.Run(Emulator.RealQemu!, arguments);
        (int status, _, string errors) = Emulator.Run(Emulator.OurBinary, arguments);
        Assert.That(errors.Replace("vmm-system-x86_64", "qemu-system-x86_64"), Is.EqualTo(expected));
        Assert.That(status, Is.EqualTo(1));
    }

    /// <summary>A daemon with a log file says there what is wrong.</summary>
    [Test]
    public void ADaemonComplainsInItsLog()
    {
        Assert.That(Said(Emulator.OurBinary).Replace("vmm-system-x86_64", "qemu-system-x86_64"), Is.EqualTo(Said(Emulator.RealQemu!)).And.Not.Empty);

        static string Said(string binary)
        {
            string log = Path.Combine(Emulator.NewDirectory(), "log");
            (int status, _, string errors) = Emulator.Run(binary, [.. s_machine, "-M", "none", "-accel", "kvm", "-daemonize", "-D", log, "-cpu", "nosuch"]);
            Assert.That((status, errors), Is.EqualTo((1, "")));
            return File.ReadAllText(log);
        }
    }

    /// <summary>Drives that are refused, or that the machine has no device for.</summary>
    [TestCase("pc", "-drive file=nosuch,if=none")]
    [TestCase("pc", "-hda nosuch")]
    [TestCase("pc", "-cdrom nosuch")]
    [TestCase("pc", "-drive if=ide,unit=3")]
    [TestCase("pc", "-drive if=scsi,file.driver=null-co,driver=raw")]
    [TestCase("pc", "-drive if=ide,bus=7,driver=null-co")]
    [TestCase("pc", "-drive if=floppy,index=2")]
    [TestCase("pc", "-drive if=none,id=a -drive if=none,id=a")]
    [TestCase("microvm", "-drive if=virtio,driver=null-co")]
    [TestCase("microvm", "-drive if=ide,driver=null-co,id=d -device virtio-blk-device,drive=d")]
    [TestCase("microvm", "-drive if=none,driver=null-co,id=d -device virtio-blk-device,drive=d -device virtio-blk-device,drive=d")]
    [TestCase("microvm", "-drive if=none,id=d -device virtio-blk-device,drive=d")]
    [TestCase("microvm", "-drive if=none,driver=null-co,index=1 -drive if=none,index=1")]
    [TestCase("none", "-drive if=sd -drive if=mtd,unit=1")]
    [TestCase("none", "-blockdev null-co,node-name=x -drive if=none,id=x")]
    [TestCase("none", "-snapshot -drive if=none,file=nosuch -drive if=foo")]
    public void DrivesRefusedAlike(string machine, string line)
    {
        string[] arguments = ["-S", "-display", "none", "-nodefaults", "-M", machine, "-accel", "kvm", .. line.Split(' ')];
        (int expectedStatus, _, string expected) = Emulator.Run(Emulator.RealQemu!, arguments);
        (int status, _, string errors) = Emulator.Run(Emulator.OurBinary, arguments);
        Assert.That(errors.Replace("vmm-system-x86_64", "qemu-system-x86_64"), Is.EqualTo(expected));
        Assert.That(status, Is.EqualTo(expectedStatus).And.EqualTo(1));
    }

    /// <summary>Help of which every line is also QEMU's, in its order.</summary>
    [TestCase("-machine help", 0)]
    [TestCase("-machine pc,help", 0)]
    [TestCase("-machine microvm,?", 0)]
    [TestCase("-machine none,help", 0)]
    [TestCase("-machine nosuch,help", 0)]
    [TestCase("-accel help", 0)]
    [TestCase("-accel ?", 0)]
    [TestCase("-chardev help", 0)]
    [TestCase("-object help", 0)]
    [TestCase("-object iothread,help", 0)]
    [TestCase("-object memory-backend,help", 0)]
    [TestCase("-object memory-backend-ram,help", 0)]
    [TestCase("-object memory-backend-file,help", 0)]
    [TestCase("-object memory-backend-memfd,?", 0)]
    [TestCase("-object nosuch,help", 1)]
    [TestCase("-device isa-serial,help", 0)]
    [TestCase("-device isa-debugcon,help", 0)]
    [TestCase("-device isa-debug-exit,?", 0)]
    [TestCase("-device pvpanic,help", 0)]
    [TestCase("-device mc146818rtc,help", 0)]
    [TestCase("-device fw_cfg_io,help", 0)]
    [TestCase("-device i8042,help", 0)]
    [TestCase("-device PIIX4_PM,help", 0)]
    [TestCase("-device nosuch,help", 0)]
    [TestCase("-d help", 1)]
    [TestCase("-d ?", 1)]
    [TestCase("-global help", 1)]
    [TestCase("-smp help", 0)]
    [TestCase("-boot help", 0)]
    [TestCase("-rtc help", 1)]
    [TestCase("-overcommit help", 1)]
    [TestCase("-action help", 1)]
    [TestCase("-add-fd help", 1)]
    public void HelpIsPartOfTheirs(string line, int expectedStatus)
    {
        (int peerStatus, string peer, string peerErrors) = Emulator.Run(Emulator.RealQemu!, line.Split(' '));
        (int status, string output, string errors) = Emulator.Run(Emulator.OurBinary, line.Split(' '));
        Assert.That(status, Is.EqualTo(expectedStatus).And.EqualTo(peerStatus));
        Assert.That(errors.Replace("vmm-system-x86_64", "qemu-system-x86_64"), Is.EqualTo(peerErrors));
        Assert.That(output.Length == 0, Is.EqualTo(peer.Length == 0));
        string[] theirs = peer.Split('\n');
        int at = 0;
        foreach (string wanted in output.Split('\n'))
        {
            int found = Array.IndexOf(theirs, wanted, at);
            Assert.That(found, Is.GreaterThanOrEqualTo(at), $"'{wanted}' is not a line of theirs, or not here");
            at = found + 1;
        }
    }

    /// <summary>The kind of machine and its CPU models are listed as QEMU lists them; the list of features has its layout.</summary>
    [Test]
    public void CpuModelsAreTheSame()
    {
        (_, string peer, _) = Emulator.Run(Emulator.RealQemu!, "-cpu", "help");
        (int status, string output, _) = Emulator.Run(Emulator.OurBinary, "-cpu", "help");
        Assert.That(status, Is.Zero);
        Assert.That(Models(output), Is.EqualTo(Models(peer)));
        Assert.That(Flags(output), Is.EquivalentTo(Flags(peer)));
        Assert.That(output.Split('\n').Max(static l => l.StartsWith("  ", StringComparison.Ordinal) ? l.Length : 0), Is.LessThanOrEqualTo(75));

        static string Models(string text) => text[..text.IndexOf("\nRecognized", StringComparison.Ordinal)];
        static HashSet<string> Flags(string text) =>
            [.. text[(text.IndexOf("flags:", StringComparison.Ordinal) + 6)..].Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries)];
    }

    /// <summary>Commands about memory, on machines with the same command line.</summary>
    [TestCase("-M pc,accel=kvm -m 256")]
    [TestCase("-M microvm,accel=kvm -m 96")]
    [TestCase("-M none,accel=kvm")]
    [TestCase("-M none,accel=kvm -m 64")]
    [TestCase("-M pc,accel=kvm,memory-backend=m0 -m 256 -object memory-backend-ram,id=m0,size=256M")]
    [TestCase("-M pc,accel=kvm,memory-backend=m0 -object memory-backend-memfd,id=m0,size=64M,share=on")]
    [TestCase("-M pc,accel=kvm,mem-merge=off,dump-guest-core=off -m 64")]
    [TestCase("-M pc,accel=kvm,mem-merge=off -m 64 -object memory-backend-ram,id=m0,size=2M")]
    [TestCase("-M pc,accel=kvm -m 64 -mem-prealloc -object memory-backend-ram,id=m0,size=2M")]
    [TestCase("-M pc,accel=kvm -m 64 -mem-path /dev/shm")]
    [TestCase("-M pc,accel=kvm -m 256,slots=2,maxmem=1G")]
    public void MemoryIsDescribedAlike(string line)
    {
        string[] arguments = ["-S", "-display", "none", "-nodefaults", .. line.Split(' ')];
        using Emulator ours = Emulator.Start(arguments);
        using Emulator theirs = Emulator.StartQemu(arguments);
        QmpClient us = ours.Qmp();
        QmpClient them = theirs.Qmp();
        foreach (string command in (string[])["query-memory-size-summary", "query-memdev", "query-memory-devices", "x-query-numa"])
        {
            Assert.That(us.Execute(command)!.ToJsonString(), Is.EqualTo(them.Execute(command)!.ToJsonString()), command);
        }

        foreach (string command in (string[])["info numa", "info memdev", "info memory_size_summary", "info memory-devices"])
        {
            Assert.That(us.Human(command), Is.EqualTo(them.Human(command)), command);
        }

        foreach (string property in (string[])["memory", "smp", "boot", "memory-backend", "kernel", "append", "graphics"])
        {
            Assert.That(Property(us, property), Is.EqualTo(Property(them, property)), property);
        }

        // What QEMU has beside these blocks is tables for its firmware, which ours gets from elsewhere.
        Assert.That(us.Human("info ramblock").Split('\n'), Is.EqualTo(them.Human("info ramblock").Split('\n').Where(static l => !l.Contains("/rom@"))));
    }

    /// <summary>The pieces of a kernel, among what else each program loads.</summary>
    [TestCase("pc", true)]
    [TestCase("pc", false)]
    [TestCase("microvm", true)]
    public void KernelsAreListedAlike(string machine, bool pvh)
    {
        string kernel = Path.Combine(Emulator.NewDirectory(), "kernel");
        File.WriteAllBytes(kernel, pvh ? TestGuests.PvhHello() : TestGuests.MultibootElfHello());
        string[] arguments = ["-S", "-display", "none", "-nodefaults", "-m", "64", "-M", machine + ",accel=kvm", "-kernel", kernel];
        using Emulator ours = Emulator.Start(arguments);
        using Emulator theirs = Emulator.StartQemu(arguments);
        IEnumerable<string> expected = Pieces(theirs.Qmp().Human("info roms"));
        QmpClient us = ours.Qmp();
        Assert.That(Pieces(us.Human("info roms")), Is.EqualTo(expected).And.Not.Empty);
        Assert.That((string?)us.Execute("x-query-roms")!["human-readable-text"], Is.EqualTo(us.Human("info roms").Replace("\r", "")));

        static List<string> Pieces(string text) => [.. text.Split('\n').Where(static l => l.Contains("ELF program header"))];
    }

    /// <summary>The commands that are there before the machine is, and the way out of that state.</summary>
    [Test]
    public void PreconfigIsTheSame()
    {
        string[] arguments = [.. s_machine, "-M", "pc,accel=kvm", "-smp", "2", "-preconfig"];
        using Emulator ours = Emulator.Start(arguments);
        using Emulator theirs = Emulator.StartQemu(arguments);
        QmpClient us = ours.Qmp();
        QmpClient them = theirs.Qmp();
        HashSet<string> known = [.. them.Execute("query-commands")!.AsArray().Select(static c => (string)c!["name"]!)];
        StringBuilder differences = new();
        foreach (string name in us.Execute("query-commands")!.AsArray().Select(static c => (string)c!["name"]!))
        {
            // An argument that no command has keeps those that are permitted from doing anything.
            string request = "{\"execute\":\"" + name + "\",\"arguments\":{\"no-such-argument\":1}}";
            if (known.Contains(name) && name != "qmp_capabilities" && IsRefused(us, request) != IsRefused(them, request))
            {
                differences.AppendLine(name);
            }
        }

        Assert.That(differences.ToString(), Is.Empty);
        foreach (string request in (string[])["query-status", "query-hotpluggable-cpus", "query-memdev", "stop", "x-exit-preconfig", "x-exit-preconfig", "query-status"])
        {
            string text = "{\"execute\":\"" + request + "\"}";
            us.SendRaw(text);
            them.SendRaw(text);
            Assert.That(us.ReadMessage().ToJsonString(), Is.EqualTo(them.ReadMessage().ToJsonString()), request);
        }
    }

    private static bool IsRefused(QmpClient client, string request)
    {
        client.SendRaw(request);
        return ((string?)client.ReadMessage()["error"]?["desc"])!.Contains("is permitted only after machine initialization", StringComparison.Ordinal);
    }

    private static string Property(QmpClient client, string name) =>
        client.ExecuteRaw("qom-get", new JsonObject { ["path"] = "/machine", ["property"] = name }).ToJsonString();
}
