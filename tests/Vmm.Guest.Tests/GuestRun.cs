using System.Globalization;
using System.Text;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>Our emulator with a guest under KVM; the debug console (0xe9) and the first serial port go to files.</summary>
internal sealed class GuestRun : IDisposable
{
    /// <summary>Exit status of a guest that wrote <c>TestGuests.Success</c> to isa-debug-exit.</summary>
    public const int SuccessStatus = (0x10 << 1) | 1;

    private const string DebugFile = "debug.txt";
    private const string SerialFile = "serial.txt";

    private GuestRun(Emulator emulator) => Emulator = emulator;

    public Emulator Emulator { get; }

    /// <summary>What the guest wrote to port 0xe9 so far.</summary>
    public string DebugText => ReadText(DebugFile);

    /// <summary>What the guest wrote to COM1 so far.</summary>
    public string SerialText => ReadText(SerialFile);

    /// <summary>How many bytes the guest wrote to port 0xe9 so far.</summary>
    public long DebugLength => new FileInfo(Path.Combine(Emulator.Directory, DebugFile)).Length;

    /// <summary>Resident memory in KiB without what is mapped from files or shared, as the kernel accounts it.</summary>
    public long AnonymousKiB => ReadStatus("RssAnon:");

    /// <summary>Ends the test as skipped on a host that cannot run guests.</summary>
    public static void RequireKvm()
    {
        if (!Emulator.HasKvm)
        {
            Assert.Ignore("/dev/kvm cannot be opened: guests do not run here");
        }
    }

    /// <summary>Starts a machine with <paramref name="kernel"/>; <paramref name="debugExit"/> adds isa-debug-exit at 0xf4.</summary>
    public static GuestRun Start(string machine, byte[] kernel, bool debugExit, params string[] arguments)
    {
        RequireKvm();
        string directory = Emulator.NewDirectory();
        File.WriteAllBytes(Path.Combine(directory, "kernel"), kernel);
        List<string> all =
        [
            "-accel", "kvm", "-machine", machine, "-nodefaults", "-display", "none", "-kernel", "kernel",
            "-debugcon", "file:" + DebugFile, "-serial", "file:" + SerialFile,
        ];
        if (debugExit)
        {
            all.AddRange(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        }

        all.AddRange(arguments);
        return new GuestRun(Emulator.StartBinary(Emulator.OurBinary, true, directory, [.. all]));
    }

    /// <summary>Runs a guest to its end; returns the exit status and what it wrote to the two consoles.</summary>
    public static (int Status, string Debug, string Serial) ToEnd(string machine, byte[] kernel, params string[] arguments)
    {
        using GuestRun run = Start(machine, kernel, debugExit: true, arguments);
        int status = run.Emulator.WaitExit();
        if (status == 1)
        {
            Assert.Fail(run.Emulator.Errors);
        }

        return (status, run.DebugText, run.SerialText);
    }

    /// <summary>Waits until the guest wrote something to port 0xe9 that satisfies <paramref name="done"/>.</summary>
    public void WaitDebug(Func<string, bool> done)
    {
        if (!WaitFor(() => done(DebugText), 60))
        {
            Assert.Fail($"debug console: '{DebugText}'; errors: {Emulator.Errors}");
        }
    }

    /// <summary>Waits for a condition while the process lives; false when it never came.</summary>
    public bool WaitFor(Func<bool> condition, int seconds)
    {
        // Asked once more only after the end: what was true of a running guest need not stay so.
        bool isMet = false;
        SpinWait.SpinUntil(() => (isMet = condition()) || Emulator.Process.HasExited, TimeSpan.FromSeconds(seconds));
        return isMet || condition();
    }

    public void Dispose() => Emulator.Dispose();

    private string ReadText(string name)
    {
        string path = Path.Combine(Emulator.Directory, name);
        if (!File.Exists(path))
        {
            return "";
        }

        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using StreamReader reader = new(file, Encoding.Latin1);
        return reader.ReadToEnd();
    }

    private long ReadStatus(string field)
    {
        foreach (string line in File.ReadLines($"/proc/{Emulator.Process.Id}/status"))
        {
            if (line.StartsWith(field, StringComparison.Ordinal))
            {
                return long.Parse(line.AsSpan(field.Length).Trim().TrimEnd(" kB"), CultureInfo.InvariantCulture);
            }
        }

        throw new InvalidOperationException(field);
    }
}
