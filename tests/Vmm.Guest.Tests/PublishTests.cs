using System.Diagnostics;
using System.Text;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>The published binary by itself: no .NET, no environment, nothing left behind.</summary>
public sealed class PublishTests
{
    private static readonly string[] s_allowedLibraries = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"];

    [Test]
    public void ItNeedsNoDotnet()
    {
        string binary = Published();
        string dynamic = Tool("readelf", "-dW", binary);
        string[] needed = [.. dynamic.Split('\n').Where(l => l.Contains("(NEEDED)", StringComparison.Ordinal)).Select(l => l.Split('[', ']')[1])];
        Assert.Multiple(() =>
        {
            Assert.That(needed, Is.Not.Empty.And.SubsetOf(s_allowedLibraries));
            Assert.That(dynamic, Does.Not.Contain("RUNPATH").And.Not.Contain("RPATH"));
            Assert.That(Tool("ldd", binary), Does.Not.Contain("not found"));

            // A managed host would look for these beside itself.
            string name = Path.ChangeExtension(binary, null);
            Assert.That(File.Exists(name + ".dll") || File.Exists(name + ".runtimeconfig.json") || File.Exists(name + ".deps.json"), Is.False);
        });
    }

    [Test]
    public void ItRunsAGuestWithAnEmptyEnvironmentAndWritesNothing()
    {
        GuestRun.RequireKvm();
        string binary = Published();
        string directory = Emulator.NewDirectory();
        try
        {
            string work = Directory.CreateDirectory(Path.Combine(directory, "work")).FullName;
            string temporary = Path.GetTempPath();
            File.WriteAllBytes(Path.Combine(directory, "kernel"), TestGuests.Spin());
            HashSet<string> before = Entries(temporary);
            ProcessStartInfo info = new(
                binary,
                [
                    "-accel", "kvm", "-cpu", "host", "-machine", "microvm", "-m", "64", "-nodefaults", "-display", "none", "-kernel", "../kernel",
                    "-debugcon", "file:../debug", "-qmp", "unix:../qmp.sock,server=on,wait=off",
                ])
            {
                WorkingDirectory = work,
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            info.Environment.Clear();
            using Process process = Process.Start(info)!;
            process.StandardInput.Close();
            try
            {
                using QmpClient qmp = QmpClient.Connect(Path.Combine(directory, "qmp.sock"), () => !process.HasExited);
                qmp.Negotiate();
                string debug = Path.Combine(directory, "debug");
                Assert.That(SpinWait.SpinUntil(() => File.Exists(debug) && new FileInfo(debug).Length == 1, 60_000), "the guest did not start");
                Assert.That((string?)qmp.Execute("query-status")!["status"], Is.EqualTo("running"));
                string[] environment = File.ReadAllText($"/proc/{process.Id}/environ").Split('\0', StringSplitOptions.RemoveEmptyEntries);
                string[] open = [.. Directory.GetFiles($"/proc/{process.Id}/fd").Select(f => File.ResolveLinkTarget(f, false)?.FullName ?? "")];
                string maps = File.ReadAllText($"/proc/{process.Id}/maps");
                qmp.Execute("quit");
                string output = process.StandardOutput.ReadToEnd();
                string errors = process.StandardError.ReadToEnd();
                process.WaitForExit();
                Assert.Multiple(() =>
                {
                    Assert.That((process.ExitCode, output, errors), Is.EqualTo((0, "", "")));
                    Assert.That(environment, Is.Empty);
                    Assert.That(maps, Does.Not.Contain("libcoreclr").And.Not.Contain("libhostfxr").And.Not.Contain(".dll"));
                    Assert.That(open, Has.None.Contains("dotnet"));
                    Assert.That(Directory.EnumerateFileSystemEntries(work), Is.Empty);
                    Assert.That(
                        Directory.EnumerateFileSystemEntries(directory).Select(Path.GetFileName),
                        Is.EquivalentTo((string[])["debug", "kernel", "qmp.sock", "work"]).Or.EquivalentTo((string[])["debug", "kernel", "work"]));

                    // Others use this directory too: what the runtime would make there carries the number of the process.
                    Assert.That(Entries(temporary).Except(before).Where(Foreign), Is.Empty);
                });
            }
            finally
            {
                if (!process.HasExited)
                {
                    process.Kill();
                    process.WaitForExit();
                }
            }

            bool Foreign(string name) => name.Contains($"-{process.Id}-", StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(directory, true);
        }
    }

    [Test]
    public void AHomeThatCannotBeWrittenDoesNotMatter()
    {
        GuestRun.RequireKvm();
        string binary = Published();
        string directory = Emulator.NewDirectory();
        string home = Directory.CreateDirectory(Path.Combine(directory, "home")).FullName;
        File.WriteAllBytes(Path.Combine(directory, "kernel"), TestGuests.PvhHello());
        File.SetUnixFileMode(home, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        try
        {
            ProcessStartInfo info = new(
                binary,
                [
                    "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-m", "64", "-nodefaults", "-display", "none", "-kernel", "kernel", "-serial", "stdio",
                    "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
                ])
            {
                WorkingDirectory = directory,
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            info.Environment.Clear();
            info.Environment["HOME"] = home;
            using Process process = Process.Start(info)!;
            string output = process.StandardOutput.ReadToEnd();
            string errors = process.StandardError.ReadToEnd();
            process.WaitForExit();
            Assert.Multiple(() =>
            {
                Assert.That((process.ExitCode, output, errors), Is.EqualTo((GuestRun.SuccessStatus, TestGuests.Hello, "")));
                Assert.That(Directory.EnumerateFileSystemEntries(home), Is.Empty);
                Assert.That(Directory.EnumerateFileSystemEntries(directory).Select(Path.GetFileName), Is.EquivalentTo((string[])["home", "kernel"]));
            });
        }
        finally
        {
            File.SetUnixFileMode(home, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            Directory.Delete(directory, true);
        }
    }

    /// <summary>The native binary; ends the test as skipped where only the development build is there.</summary>
    private static string Published()
    {
        string binary = Emulator.OurBinary;
        if (!File.Exists(binary) || File.Exists(binary + ".dll"))
        {
            Assert.Ignore("no published binary: run tools/publish, or set VMM_BINARY");
        }

        return binary;
    }

    private static HashSet<string> Entries(string directory) => [.. Directory.EnumerateFileSystemEntries(directory).Select(e => Path.GetFileName(e))];

    private static string Tool(string name, params string[] arguments)
    {
        if (!File.Exists("/usr/bin/" + name))
        {
            Assert.Ignore($"needs {name} (Debian packages binutils and libc-bin)");
        }

        ProcessStartInfo info = new(name, arguments) { RedirectStandardOutput = true, StandardOutputEncoding = Encoding.UTF8 };
        info.Environment["LC_ALL"] = "C";
        using Process process = Process.Start(info)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero, name);
        return output;
    }
}
