using System.Text;

namespace Vmm.Interop.Tests;

/// <summary>Runs a program through <see cref="Libc.Spawn"/> and collects what it prints.</summary>
internal static class TestProcess
{
    internal static (int? Status, string Output) Run(string path, string[] arguments)
    {
        Assert.That(Libc.Pipe(0, out SafeFd read, out SafeFd write), Is.EqualTo(Errno.OK));
        using (read)
        {
            Errno errno;
            int pid;
            using (write)
            {
                errno = Libc.Spawn(path, arguments, new SpawnOptions { Duplicate = [(write.Fd, 1)] }, out pid);
            }

            Assert.That(errno, Is.EqualTo(Errno.OK));
            StringBuilder output = new();
            byte[] buffer = new byte[4096];
            int got;
            while ((got = read.Read(buffer)) > 0)
            {
                output.Append(Encoding.UTF8.GetString(buffer, 0, got));
            }

            Assert.That(Libc.WaitPid(pid, 0, out int status), Is.EqualTo(pid));
            return (Libc.ExitStatus(status), output.ToString());
        }
    }
}
