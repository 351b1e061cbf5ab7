using System.Diagnostics;
using System.Globalization;
using System.Text;
using Iced.Intel;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Guest.Tests;

/// <summary>
/// A real kernel by its PVH entry and by the Linux boot protocol, with an initial RAM disk made here, until it has run /init, on <c>pc</c> until it has
/// switched the machine off through ACPI; and one whose root is a disk.
/// </summary>
/// <remarks>
/// All boot at the same time: where privileged code is emulated each takes minutes. On a host that does not deliver system calls /init cannot ask for
/// the power to be switched off; there the kernel of <c>pc</c> does it by itself, because the thermal zone of a table in its initial RAM disk becomes too
/// hot.
/// </remarks>
public sealed class LinuxTests
{
    // First what some hosts' emulation of privileged code lacks (see the README beside the kernel), then what takes it long for nothing: 512 legacy
    // terminals, changing the protection of the kernel's own pages, large hash tables. With a finer clock source than jiffies the guest makes
    // up for ticks that it was late for, and where one takes longer than its period it does nothing else any more.
    private const string CommandLine =
        "console=ttyS0 panic=-1 noxsave nosmap nosmep nopcid nofsgsbase clearcpuid=smap,popcnt,umip,erms,fsrm,invpcid,rdpid,rdtscp,movbe "
        + "mitigations=off nokaslr tsc=reliable no_timer_check lpj=4600000 random.trust_cpu=on "
        + "pty.legacy_count=0 rodata=off thash_entries=64 uhash_entries=64 dhash_entries=1024 ihash_entries=1024 8250.nr_uarts=1 "
        + "clocksource=jiffies rcupdate.rcu_cpu_stall_suppress=1";

    private const string Greeting = "init: this is ring 3";

    // Nobody is asked to prepare for the end: a helper program could do nothing without system calls.
    private const string NoPowerOffHelper = " sysctl.kernel.poweroff_cmd=\" \"";

    // The scratch register of the first serial port; the zone below is at 110 degrees while it holds 0x77, else at 30.
    private const string Heat = "o /b 0x3ff 0x77";

    // SSDT: OperationRegion (\COMS, SystemIO, 0x3ff, 1)  Field (\COMS, ByteAcc, NoLock, Preserve) { SCRT, 8 }
    // Scope (\_TZ) { ThermalZone (HOT0) { Name (_CRT, 3731)  Name (_TZP, 20)
    //   Method (_TMP, 0, Serialized) { If (LEqual (\SCRT, 0x77)) { Return (3831) }  Return (3031) } } }
    private const string ThermalZone =
        "535344547400000001c3564d4d000000484f54000000000001000000494e544c250920205b805c434f4d53010bff03015b810c5c434f4d530153435254081035"
        + "5c5f545a5f5b852d484f5430085f4352540b930e085f545a500a1414185f544d5008a00d935c534352540a77a40bf70ea40bd70b";

    // Of the power management block without firmware: status and enable word, and in both the power button.
    private const string ReadPmStatus = "i /h 0x600";
    private const string ReadPmEnable = "i /h 0x602";
    private const int PowerButton = 0x100;

    // A bound for a guest that hangs, not a measure: an idle host of the slow kind needs two and a half minutes.
    private const int PatienceSeconds = 900;

    private GuestRun? _elf;
    private GuestRun? _bzImage;
    private GuestRun? _disk;
    private QmpClient? _elfMonitor;
    private QmpClient? _bzImageMonitor;
    private string? _diskDirectory;
    private bool _deliversSystemCalls;

    [OneTimeSetUp]
    public void BootBoth()
    {
        GuestRun.RequireKvm();
        string directory = Shared();
        _deliversSystemCalls = DeliversSystemCalls();
        _bzImage = Boot("microvm", File.ReadAllBytes(Path.Combine(directory, "linux-6.1-tiny.bzImage")), CommandLine, Initrd(Init()));
        byte[] elf = Unpack(Path.Combine(directory, "linux-6.1-tiny.vmlinux.xz"));
        _elf = Boot("pc", elf, CommandLine + NoPowerOffHelper, Initrd(_deliversSystemCalls ? Init() : IdleInit(), Convert.FromHexString(ThermalZone)));
        _disk = HasDiskTools ? BootFromDisk(elf) : null;
        _bzImageMonitor = _bzImage.Emulator.Qmp();
        _elfMonitor = _elf.Emulator.Qmp();
    }

    [OneTimeTearDown]
    public void EndBoth()
    {
        _elf?.Dispose();
        _bzImage?.Dispose();
        _disk?.Dispose();
        if (_diskDirectory is { } directory)
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Test]
    public void TheElfFileBootsOnPc()
    {
        if (!_deliversSystemCalls)
        {
            PressAndHeat(_elf!, _elfMonitor!);
        }

        string console = ToTheEnd(_elf!, _elfMonitor!, isSwitchedOff: true);
        Assert.Multiple(() =>
        {
            Assert.That(console, Does.Contain("ACPI: RSDP 0x").And.Contain("ACPI: FACP 0x"));
            Assert.That(console, Does.Contain("ACPI: DSDT 0x").And.Contain("ACPI: APIC 0x"));
            Assert.That(console, Does.Contain("ACPI: Interpreter enabled").And.Contain("ACPI: PM: (supports S0 S5)"));
            Assert.That(console, Does.Contain("ACPI: PCI Root Bridge [PCI0]").And.Contain("ACPI: button: Power Button [PWRF]"));
            Assert.That(console, Does.Contain("IOAPIC[0]: apic_id 0, version 17, address 0xfec00000, GSI 0-23"));
            Assert.That(console, Does.Contain(_deliversSystemCalls ? Greeting : "reboot: HARDWARE PROTECTION shutdown (Temperature too high)"));
            Assert.That(console, Does.Contain("ACPI: PM: Preparing to enter system sleep state S5"));
        });
    }

    [Test]
    public void TheBzImageBootsOnMicrovm()
    {
        string console = ToTheEnd(_bzImage!, _bzImageMonitor!, isSwitchedOff: _deliversSystemCalls);
        Assert.Multiple(() =>
        {
            Assert.That(console, Does.Contain("ACPI: RSDP 0x").And.Contain("ACPI: FACP 0x"));
            Assert.That(console, Does.Contain("ACPI: DSDT 0x").And.Contain("ACPI: APIC 0x"));
            Assert.That(console, Does.Contain("ACPI: Interpreter enabled").And.Contain("ACPI: PM: (supports S0 S5)"));
            Assert.That(console, Does.Contain("ACPI: button: Power Button [PWRB]"));
        });
    }

    [Test]
    public void TheRootIsOnAnImageOverAnImage()
    {
        if (_disk is not { } run)
        {
            Assert.Ignore("needs mke2fs and qemu-img");
            return;
        }

        run.WaitFor(() => run.Emulator.Process.HasExited, PatienceSeconds);
        string console = run.SerialText;
        Assert.That(run.Emulator.WaitExit(), Is.Zero, console + run.Emulator.Errors);
        Assert.That(console, Does.Contain("virtio_blk virtio0: [vda] 8192 512-byte logical blocks"));
        Assert.That(console, Does.Contain("VFS: Mounted root (ext2 filesystem) on device 254:0.").And.Contain("Run /sbin/init as init process"));
        Assert.That(console, Does.Contain(Greeting).Or.Contain("init[1]: segfault at "), "the disk had what init is");
    }

    private static bool HasDiskTools => File.Exists("/usr/sbin/mke2fs") && QemuImg.IsInstalled;

    // An ext2 file system in a raw image, under two empty qcow2 images.
    private GuestRun BootFromDisk(byte[] kernel)
    {
        string directory = _diskDirectory = Directory.CreateTempSubdirectory("vmm-root-").FullName;
        string tree = Path.Combine(directory, "tree");
        Directory.CreateDirectory(Path.Combine(tree, "sbin"));
        Directory.CreateDirectory(Path.Combine(tree, "dev"));
        string init = Path.Combine(tree, "sbin", "init");
        File.WriteAllBytes(init, Init());
        File.SetUnixFileMode(init, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        string raw = Path.Combine(directory, "root.img");
        string middle = Path.Combine(directory, "middle.qcow2");
        string top = Path.Combine(directory, "top.qcow2");
        Tool("/usr/sbin/mke2fs", "-q", "-t", "ext2", "-d", tree, "-F", raw, "4M");
        QemuImg.Run("create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", middle);
        QemuImg.Run("create", "-q", "-f", "qcow2", "-b", middle, "-F", "qcow2", top);
        return GuestRun.Start(
            "microvm",
            kernel,
            debugExit: false,
            [
                "-m", "64", "-cpu", "host,-cx16", "-no-reboot", "-append", CommandLine + " root=/dev/vda rootfstype=ext2",
                "-drive", "if=none,id=root,file=" + top, "-device", "virtio-blk-device,drive=root",
            ]);
    }

    private static void Tool(string program, params string[] arguments)
    {
        using Process process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero, program);
    }

    private static GuestRun Boot(string machine, byte[] kernel, string commandLine, byte[] archive)
    {
        string initrd = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(initrd, archive);
            GuestRun run = GuestRun.Start(
                machine, kernel, debugExit: false, "-m", "64", "-cpu", "host,-cx16", "-no-reboot", "-initrd", initrd, "-append", commandLine);

            // The monitor answers when the files have been read.
            run.Emulator.Qmp().Dispose();
            return run;
        }
        finally
        {
            File.Delete(initrd);
        }
    }

    /// <summary>Once /init runs: the kernel notices the power button, which is for programs to act upon, and then how hot it is.</summary>
    private static void PressAndHeat(GuestRun run, QmpClient monitor)
    {
        bool inRing3 = run.WaitFor(
            () => LacksWait(run) || (run.SerialText.Contains("Run /init as init process", StringComparison.Ordinal)
                && monitor.Human("info registers").Contains("CPL=3", StringComparison.Ordinal)),
            PatienceSeconds);
        Assert.That(inRing3, $"/init does not run: {run.SerialText}{run.Emulator.Errors}");
        if (LacksWait(run))
        {
            return;
        }

        Assert.That(Port(monitor, ReadPmEnable) & PowerButton, Is.Not.Zero, "the kernel wants to know of the button");
        monitor.Execute("system_powerdown");
        monitor.WaitEvent("POWERDOWN");
        bool isNoticed = run.WaitFor(() => LacksWait(run) || (Port(monitor, ReadPmStatus) & PowerButton) == 0, PatienceSeconds);
        Assert.That(isNoticed, "the kernel does not notice the button");
        monitor.Human(Heat);
    }

    // "portw[0x0600] = 0x0001"
    private static int Port(QmpClient monitor, string read)
    {
        string answer = monitor.Human(read);
        return int.Parse(answer.AsSpan(answer.LastIndexOf('x') + 1).TrimEnd(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    // Some hosts' emulation of privileged code has no WAIT. Linux executes it whenever a thread ends, so that it depends on the host's load: workers
    // of the kernel end that had nothing to do for five minutes.
    private static bool LacksWait(GuestRun run) => run.Emulator.Errors.Contains("emulation failure", StringComparison.Ordinal)
        && run.Emulator.Errors.Contains("<9b>", StringComparison.Ordinal);

    /// <summary>Waits until the process has ended and returns what the guest wrote to its console.</summary>
    private static string ToTheEnd(GuestRun run, QmpClient monitor, bool isSwitchedOff)
    {
        run.WaitFor(() => run.Emulator.Process.HasExited || LacksWait(run), PatienceSeconds);
        if (LacksWait(run))
        {
            Assert.Ignore("a kernel thread ended: this host's KVM does not execute WAIT in ring 0, which Linux does then");
        }

        string console = run.SerialText;
        Assert.That(run.Emulator.Process.HasExited, $"still running: {console}{run.Emulator.Errors}");
        string reason = (string)monitor.WaitEvent("SHUTDOWN")["data"]!["reason"]!;
        Assert.Multiple(() =>
        {
            Assert.That(run.Emulator.WaitExit(), Is.Zero, run.Emulator.Errors);
            Assert.That(console, Does.Contain("Linux version 6.1").And.Contain("Command line: " + CommandLine));
            Assert.That(console, Does.Contain("Hypervisor detected: KVM").And.Contain("kvm-clock: Using msrs").And.Contain("RAMDISK: [mem "));
            Assert.That(console, Does.Contain("Freeing initrd memory: ").And.Contain("Run /init as init process"));
            if (isSwitchedOff)
            {
                Assert.That(console, Does.Contain("reboot: Power down").And.Not.Contain("Kernel panic"));
                Assert.That(reason, Is.EqualTo("guest-shutdown"));
            }
            else
            {
                // The system call goes on in ring 3 at the kernel's entry point: init dies of it, and Linux resets the machine.
                Assert.That(console, Does.Contain("init[1]: segfault at ").And.Contain("Kernel panic - not syncing: Attempted to kill init!"));
                Assert.That(reason, Is.EqualTo("guest-reset"));
            }
        });
        return console;
    }

    /// <summary>Whether SYSCALL in ring 3 arrives in ring 0; some hosts' emulation does not change the privilege level.</summary>
    private static bool DeliversSystemCalls()
    {
        const uint handler = GuestImage.LongCode + 0x400;
        byte[] guest = new GuestImage()
            .EnterLongMode(gigabytes: 1)
            .Code(64, GuestImage.LongCode, c =>
            {
                GuestImage.LongModeProlog(c);
                c.mov(ecx, 0xc0000080);
                c.rdmsr();
                c.or(eax, 1);
                c.wrmsr();
                c.mov(ecx, 0xc0000081);
                c.xor(eax, eax);
                c.mov(edx, GuestImage.Code64 | (GuestImage.UserCode64 << 16));
                c.wrmsr();
                c.mov(ecx, 0xc0000082);
                c.mov(eax, handler);
                c.xor(edx, edx);
                c.wrmsr();
                GuestImage.EnterUser(c, GuestImage.UserCode);
            })
            .Code(64, handler, c =>
            {
                Label user = c.CreateLabel();
                c.mov(eax, cs);
                c.test(al, 3);
                c.jne(user);
                GuestImage.ExitAndPark(c, TestGuests.Success);
                c.Label(ref user);
                GuestImage.ExitAndPark(c, TestGuests.Failure, ring3: true);
            })
            .Code(64, GuestImage.UserCode, c => c.syscall())
            .ToPvhElf();
        int status = GuestRun.ToEnd("microvm", guest, "-m", "64", "-cpu", "host").Status;
        Assert.That(status, Is.EqualTo(GuestRun.SuccessStatus).Or.EqualTo((TestGuests.Failure << 1) | 1));
        return status == GuestRun.SuccessStatus;
    }

    private static string Shared()
    {
        string? shared = Environment.GetEnvironmentVariable("VMM_SHARED");
        for (string? d = AppContext.BaseDirectory; shared is null && d is not null; d = Path.GetDirectoryName(d))
        {
            shared = File.Exists(Path.Combine(d, "Vmm.sln")) ? Path.GetFullPath(Path.Combine(d, "..", "shared")) : null;
        }

        string directory = Path.Combine(shared ?? "", "guests");
        if (!Directory.Exists(directory))
        {
            Assert.Ignore($"no {directory}: set VMM_SHARED");
        }

        return directory;
    }

    private static byte[] Unpack(string packed)
    {
        using Process xz = Process.Start(new ProcessStartInfo("xz", ["-dc", packed]) { RedirectStandardOutput = true })!;
        using MemoryStream kernel = new();
        xz.StandardOutput.BaseStream.CopyTo(kernel);
        xz.WaitForExit();
        return kernel.ToArray();
    }

    /// <summary>A cpio archive ("newc") with /init, and a table for the kernel to find before it unpacks anything.</summary>
    private static byte[] Initrd(byte[] init, byte[]? table = null)
    {
        using MemoryStream archive = new();
        if (table is not null)
        {
            Entry(archive, "kernel/firmware/acpi/hot.aml", 0x81a4, table);
        }

        Entry(archive, "init", 0x81ed, init);
        Entry(archive, "TRAILER!!!", 0, []);
        return archive.ToArray();
    }

    /// <summary>A 64-bit executable that greets on its standard output and powers the machine off.</summary>
    private static byte[] Init() => Executable(Greeting + "\n", (c, text) =>
    {
        // write(1, text, length); reboot(LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF)
        c.mov(eax, 1);
        c.mov(edi, 1);
        c.mov(esi, text);
        c.mov(edx, Greeting.Length + 1);
        c.syscall();
        c.mov(eax, 169);
        c.mov(edi, 0xfee1dead);
        c.mov(esi, 672274793);
        c.mov(edx, 0x4321fedc);
        c.xor(r10d, r10d);
        c.syscall();
        c.ud2();
    });

    /// <summary>One that goes in circles.</summary>
    private static byte[] IdleInit() => Executable("", (c, _) =>
    {
        Label circle = c.CreateLabel();
        c.Label(ref circle);
        c.pause();
        c.jmp(circle);
    });

    private static byte[] Executable(string data, Action<Assembler, uint> emit)
    {
        const uint address = 0x400000;
        const int start = 0x78;
        const int text = 0xe0;
        byte[] init = new byte[text + data.Length];
        "\u007fELF\u0002\u0001\u0001"u8.CopyTo(init);
        init[0x10] = 2;
        init[0x12] = 62;
        init[0x14] = 1;
        BitConverter.TryWriteBytes(init.AsSpan(0x18), (ulong)address + start);
        init[0x20] = 0x40;
        init[0x34] = 0x40;
        init[0x36] = 0x38;
        init[0x38] = 1;
        init[0x40] = 1;
        init[0x44] = 5;
        BitConverter.TryWriteBytes(init.AsSpan(0x50), (ulong)address);
        BitConverter.TryWriteBytes(init.AsSpan(0x58), (ulong)address);
        BitConverter.TryWriteBytes(init.AsSpan(0x60), (long)init.Length);
        BitConverter.TryWriteBytes(init.AsSpan(0x68), (long)init.Length);
        BitConverter.TryWriteBytes(init.AsSpan(0x70), 0x1000L);
        Encoding.ASCII.GetBytes(data).CopyTo(init, text);
        Assembler c = new(64);
        emit(c, address + text);
        using MemoryStream code = new();
        c.Assemble(new StreamCodeWriter(code), address + start);
        Assert.That(code.Length, Is.LessThanOrEqualTo(text - start));
        code.ToArray().CopyTo(init, start);
        return init;
    }

    private static void Entry(MemoryStream archive, string name, int mode, byte[] content)
    {
        int[] fields = [1, mode, 0, 0, 1, 0, content.Length, 0, 0, 0, 0, name.Length + 1, 0];
        StringBuilder header = new("070701");
        foreach (int field in fields)
        {
            header.Append(field.ToString("x8", CultureInfo.InvariantCulture));
        }

        archive.Write(Encoding.ASCII.GetBytes(header.Append(name).Append('\0').ToString()));
        Pad(archive);
        archive.Write(content);
        Pad(archive);
    }

    private static void Pad(MemoryStream archive)
    {
        while (archive.Length % 4 != 0)
        {
            archive.WriteByte(0);
        }
    }
}
