using System.Globalization;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// What the crash utility makes of dumps of a real Linux kernel with its symbols: Debian's, which the real emulator has run until it found no disk and
/// panicked, and which goes on panicking in the same memory in our machine.
/// </summary>
public sealed class CrashPeerTests
{
    private const string Crash = "/usr/bin/crash";
    private const int MemoryMib = 128;
    private const int ReadAt = 4 << 20;
    private const int ReadBytes = 120 << 20;
    private const string Panic = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)";

    // The second MiB is what the guest needs that brings the kernel back.
    private const string CommandLine = "console=ttyS0 panic=0 memmap=1M$1M";

    // Starting it costs seconds of reading symbols.
    private static readonly SemaphoreSlim s_processors = new(Environment.ProcessorCount);

    private static readonly string[] s_formats = ["elf", "kdump-zlib", "kdump-lzo", "kdump-snappy"];

    private readonly Dictionary<string, Task<string>> _sessions = [];
    private string _folder = "";
    private string[] _console = [];

    [OneTimeSetUp]
    public void DumpAPanickedKernel()
    {
        string kernel = Environment.GetEnvironmentVariable("VMM_DEBUG_KERNEL") is { Length: > 0 } given
            ? given
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache/vmm/vmlinux");
        Require(Emulator.HasKvm, "/dev/kvm");
        Require(Emulator.RealQemu is not null, "qemu-system-x86_64 to boot a kernel (package qemu-system-x86)");
        Require(File.Exists(Crash), $"{Crash} (package crash)");
        Require(File.Exists(kernel), $"{kernel}, a kernel with its symbols (tools/vmm peers)");

        _folder = Emulator.NewDirectory();
        string registers = BootAndPanic(kernel);
        string stub = Path.Combine(_folder, "resume.elf");
        string console = Path.Combine(_folder, "console");
        File.WriteAllBytes(stub, ResumeGuest.From(registers));
        using Emulator emulator = Emulator.Start(
        [
            "-machine", "microvm,memory-backend=m", "-accel", "kvm", .. Memory(), "-nodefaults", "-display", "none", "-kernel", stub,
            "-debugcon", "file:" + console,
        ]);
        QmpClient client = emulator.Qmp();
        Wait(() => File.Exists(console) && File.ReadAllText(console).Contains(ResumeGuest.Mark, StringComparison.Ordinal), "the guest starts");
        Wait(() => client.Human("info registers").Contains("RIP=ffffffff", StringComparison.Ordinal), "the kernel goes on");
        client.Execute("stop");
        foreach (string format in s_formats)
        {
            string dump = Path.Combine(_folder, format);
            client.Execute("dump-guest-memory", $$"""{"paging": false, "protocol": "file:{{dump}}", "format": "{{format}}"}""");
            _sessions[format] = Task.Run(() => Examine(kernel, dump));
        }
    }

    [OneTimeTearDown]
    public void RemoveFolder()
    {
        Task.WaitAll(_sessions.Values);
        if (_folder.Length > 0)
        {
            Directory.Delete(_folder, true);
        }
    }

    [TestCaseSource(nameof(s_formats))]
    public void CrashReadsTheKernelsDump(string format)
    {
        string output = _sessions[format].Result;
        string release = _console.First(l => l.Contains("Linux version ", StringComparison.Ordinal)).Split("Linux version ")[1].Split(' ')[0];
        Assert.Multiple(() =>
        {
            Assert.That(output, Does.Contain("RELEASE: " + release + "\n"));
            Assert.That(output, Does.Contain($"PANIC: \"{Panic}\"\n"));
            Assert.That(output, Does.Match(@"\n +0 +0 +0 +[0-9a-f]{16} +RU .* \[swapper/0\]\n> +1 +0 +0 +[0-9a-f]{16} +RU .* swapper/0\n"));
            Assert.That(output, Does.Match(@"#0 \[[0-9a-f]{16}\] panic at [0-9a-f]{16}\n #1 .* mount_block_root at .*\n #2 .* prepare_namespace at "));
            Assert.That(_console, Is.SubsetOf(output.Split('\n')), "what the kernel has logged");
        });

        Span<byte> read = File.ReadAllBytes(Path.Combine(_folder, format + ".memory"));
        Assert.That(read.Length, Is.EqualTo(ReadBytes));
        Assert.That(read.SequenceEqual(File.ReadAllBytes(Path.Combine(_folder, "memory")).AsSpan(ReadAt, ReadBytes)), Is.True);
    }

    private static void Require(bool isThere, string what)
    {
        if (!isThere)
        {
            Assert.Ignore("needs " + what);
        }
    }

    private static void Wait(Func<bool> condition, string what) =>
        Assert.That(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(100)), Is.True, what);

    private static string Examine(string kernel, string dump)
    {
        string commands = dump + ".commands";
        File.WriteAllText(commands, $"sys\nps\nlog\nbt\nrd -p -r {dump}.memory 0x{ReadAt:x} 0x{ReadBytes:x}\nquit\n");
        s_processors.Wait();
        try
        {
            (int status, string output, string errors) = Emulator.Run(Crash, "-s", "-i", commands, kernel, dump);
            Assert.That(status, Is.Zero, output + errors);
            return output;
        }
        finally
        {
            s_processors.Release();
        }
    }

    private string[] Memory() =>
    [
        "-m", MemoryMib.ToString(CultureInfo.InvariantCulture),
        "-object", $"memory-backend-file,id=m,size={MemoryMib}M,mem-path={Path.Combine(_folder, "memory")},share=on",
    ];

    // The registers of the kernel that is in the memory file then.
    private string BootAndPanic(string kernel)
    {
        string serial = Path.Combine(_folder, "serial");
        using Emulator emulator = Emulator.StartQemu(
        [
            "-machine", "pc,memory-backend=m", "-accel", "tcg", .. Memory(), "-nodefaults", "-display", "none", "-serial", "file:" + serial,
            "-kernel", kernel, "-append", CommandLine,
        ]);
        QmpClient client = emulator.Qmp();
        Wait(() => File.Exists(serial) && File.ReadAllText(serial).Contains("---[ end " + Panic, StringComparison.Ordinal), "the kernel panics");
        client.Execute("stop");
        _console = File.ReadAllText(serial).Split("\r\n", StringSplitOptions.RemoveEmptyEntries);
        return client.Human("info registers");
    }
}
