using System.Diagnostics;

namespace Vmm.System.Tests.Processes;

/// <summary>The program in the background, as a process of its own.</summary>
public sealed class DaemonTests
{
    private string _directory = "";

    private static string Probe => Path.Combine(TestContext.CurrentContext.TestDirectory, "Vmm.StartupProbe.dll");

    [SetUp]
    public void SetUp() => _directory = Directory.CreateTempSubdirectory("vmm-").FullName;

    [TearDown]
    public void TearDown() => Directory.Delete(_directory, true);

    [Test]
    public void ParentEndsWhenTheDaemonIsSetUp()
    {
        string pidFile = Path.Combine(_directory, "pid");
        (int status, string output, string errors) = Run("-daemonize", "-pidfile", pidFile, "-M", "none,");
        Assert.That((status, output, errors), Is.EqualTo((0, "", "")), "the streams of the daemon are not the caller's");
        int pid = int.Parse(File.ReadAllText(pidFile));
        using Process daemon = Process.GetProcessById(pid);
        try
        {
            string[] stat = File.ReadAllText($"/proc/{pid}/stat").Split(") ")[1].Split(' ');
            Assert.Multiple(() =>
            {
                Assert.That(int.Parse(stat[3]), Is.EqualTo(pid), "session leader");
                Assert.That(new DirectoryInfo($"/proc/{pid}/cwd").LinkTarget, Is.EqualTo("/"));
                for (int fd = 0; fd < 3; fd++)
                {
                    Assert.That(new FileInfo($"/proc/{pid}/fd/{fd}").LinkTarget, Is.EqualTo("/dev/null"));
                }
            });
            (int second, _, string complaint) = Run("-pidfile", pidFile);
            Assert.That(second, Is.EqualTo(1));
            Assert.That(
                complaint,
                Is.EqualTo("vmm-probe: cannot create PID file: Cannot lock pid file: Resource temporarily unavailable\n"));
        }
        finally
        {
            daemon.Kill();
            daemon.WaitForExit();
        }
    }

    [Test]
    public void FailureOfTheDaemonIsTheParents()
    {
        (int status, _, string errors) = Run("-daemonize", "-M", "none,", "-object", "secret,id=a,loaded");
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors, Is.EqualTo(
            "vmm-probe: -object secret,id=a,loaded: warning: short-form boolean option 'loaded' deprecated\nPlease use loaded=on instead\n"
            + "vmm-probe: set-up failed\n"));
    }

    [Test]
    public void BadOptionsAndHelpNeedNoDaemon()
    {
        (int status, _, string errors) = Run("-daemonize", "-m", "1x");
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors, Does.StartWith("vmm-probe: -m 1x: Parameter 'size' expects"));
        (status, string output, _) = Run("-daemonize", "-version");
        Assert.That(status, Is.Zero);
        Assert.That(output, Does.StartWith("QEMU emulator version 7.2."));
    }

    [Test]
    public void PidFileFailures()
    {
        (int status, _, string errors) = Run("-pidfile", "/nonexistent/pid");
        Assert.That(status, Is.EqualTo(1));
        Assert.That(
            errors, Is.EqualTo("vmm-probe: cannot create PID file: Could not create '/nonexistent/pid': No such file or directory\n"));
    }

    private (int Status, string Output, string Errors) Run(params string[] arguments)
    {
        string host = Environment.ProcessPath!;
        string dotnet = Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet";
        var start = new ProcessStartInfo(dotnet, [Probe, .. arguments])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            RedirectStandardInput = true,
            WorkingDirectory = _directory,
        };
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, errors.Result);
    }
}
