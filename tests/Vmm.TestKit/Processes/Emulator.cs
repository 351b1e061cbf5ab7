using System.Diagnostics;
using System.Text;

namespace Vmm.TestKit.Processes;

/// <summary>
/// A running emulator, ours or the real QEMU, with a private directory and a QMP socket in it. Disposing kills it.
/// </summary>
public sealed class Emulator : IDisposable
{
    private readonly StringBuilder _stdout = new();
    private readonly StringBuilder _stderr = new();
    private readonly List<QmpClient> _clients = [];

    private Emulator(Process process, string directory)
    {
        Process = process;
        Directory = directory;
    }

    /// <summary>The process.</summary>
    public Process Process { get; }

    /// <summary>Private directory, removed on dispose.</summary>
    public string Directory { get; }

    /// <summary>Path of the QMP socket.</summary>
    public string QmpPath => Path.Combine(Directory, "qmp.sock");

    /// <summary>What it wrote to standard output so far.</summary>
    public string Output
    {
        get
        {
            lock (_stdout)
            {
                return _stdout.ToString();
            }
        }
    }

    /// <summary>What it wrote to standard error so far.</summary>
    public string Errors
    {
        get
        {
            lock (_stderr)
            {
                return _stderr.ToString();
            }
        }
    }

    /// <summary>Our binary: VMM_BINARY, else the published one of the repository, else the debug build.</summary>
    public static string OurBinary { get; } = FindOurBinary();

    /// <summary>Debian's QEMU, null when not installed.</summary>
    public static string? RealQemu { get; } = File.Exists("/usr/bin/qemu-system-x86_64") ? "/usr/bin/qemu-system-x86_64" : null;

    /// <summary>True when /dev/kvm can be opened.</summary>
    public static bool HasKvm { get; } = CanOpenKvm();

    /// <summary>Makes a private directory for one emulator.</summary>
    public static string NewDirectory() => System.IO.Directory.CreateTempSubdirectory("vmm-").FullName;

    /// <summary>Starts our binary with a QMP server socket and the given arguments.</summary>
    public static Emulator Start(params string[] arguments) => StartBinary(OurBinary, true, NewDirectory(), arguments);

    /// <summary>Starts the real QEMU with a QMP server socket and the given arguments.</summary>
    public static Emulator StartQemu(params string[] arguments) =>
        StartBinary(RealQemu ?? throw new InvalidOperationException("qemu-system-x86_64 is not installed"), true, NewDirectory(), arguments);

    /// <summary>Starts any binary; with <paramref name="withQmp"/>, <c>-qmp unix:DIR/qmp.sock,server=on,wait=off</c> is added.</summary>
    public static Emulator StartBinary(string binary, bool withQmp, string directory, params string[] arguments)
    {
        ProcessStartInfo info = new(binary)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = directory,
        };
        foreach (string a in arguments)
        {
            info.ArgumentList.Add(a);
        }

        if (withQmp)
        {
            info.ArgumentList.Add("-qmp");
            info.ArgumentList.Add($"unix:{Path.Combine(directory, "qmp.sock")},server=on,wait=off");
        }

        Process process = new() { StartInfo = info };
        Emulator emulator = new(process, directory);
        process.OutputDataReceived += (_, e) => Append(emulator._stdout, e.Data);
        process.ErrorDataReceived += (_, e) => Append(emulator._stderr, e.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return emulator;
    }

    /// <summary>Runs a binary to its end; returns status, standard output and standard error.</summary>
    public static (int Status, string Output, string Errors) Run(string binary, params string[] arguments)
    {
        using Emulator e = StartBinary(binary, false, NewDirectory(), arguments);
        e.Process.StandardInput.Close();
        int status = e.WaitExit();
        return (status, e.Output, e.Errors);
    }

    /// <summary>Connects to the QMP socket and negotiates.</summary>
    public QmpClient Qmp(bool oob = false)
    {
        QmpClient client = QmpRaw();
        client.Negotiate(oob);
        return client;
    }

    /// <summary>Connects to the QMP socket without reading or sending anything.</summary>
    public QmpClient QmpRaw()
    {
        QmpClient client;
        try
        {
            client = QmpClient.Connect(QmpPath, () => !Process.HasExited);
        }
        catch (Exception e)
        {
            throw new InvalidOperationException($"no monitor at {QmpPath}: {Errors}", e);
        }

        _clients.Add(client);
        return client;
    }

    /// <summary>Waits for the process to end; returns its status.</summary>
    public int WaitExit()
    {
        if (!Process.WaitForExit(TimeSpan.FromSeconds(60)))
        {
            throw new TimeoutException($"process {Process.Id} did not end; stderr: {Errors}");
        }

        Process.WaitForExit();
        return Process.ExitCode;
    }

    /// <summary>Waits until standard output contains <paramref name="text"/>.</summary>
    public void WaitOutput(string text, int seconds = 60)
    {
        bool found = SpinWait.SpinUntil(() => Output.Contains(text, StringComparison.Ordinal) || Process.HasExited, TimeSpan.FromSeconds(seconds));
        if (!found || !Output.Contains(text, StringComparison.Ordinal))
        {
            throw new TimeoutException($"'{text}' did not appear; output: {Output}; errors: {Errors}");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (QmpClient c in _clients)
        {
            c.Dispose();
        }

        if (!Process.HasExited)
        {
            Process.Kill();
            Process.WaitForExit();
        }

        Process.Dispose();
        try
        {
            System.IO.Directory.Delete(Directory, true);
        }
        catch (IOException)
        {
            // A daemonized child may still be writing its pid file; the directory is in the temporary folder anyway.
        }
    }

    private static void Append(StringBuilder to, string? line)
    {
        if (line is not null)
        {
            lock (to)
            {
                to.Append(line).Append('\n');
            }
        }
    }

    private static bool CanOpenKvm()
    {
        try
        {
            using FileStream f = new("/dev/kvm", FileMode.Open, FileAccess.ReadWrite);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static string FindOurBinary()
    {
        if (Environment.GetEnvironmentVariable("VMM_BINARY") is { Length: > 0 } given)
        {
            return given;
        }

        string? dir = AppContext.BaseDirectory;
        while (dir is not null && !File.Exists(Path.Combine(dir, "Vmm.sln")))
        {
            dir = Path.GetDirectoryName(dir);
        }

        string published = Path.Combine(dir ?? "", "out", "vmm-system-x86_64");
        return File.Exists(published) ? published : Path.Combine(dir ?? "", "src/Vmm.System/bin/Debug/net10.0/linux-x64/vmm-system-x86_64");
    }
}
