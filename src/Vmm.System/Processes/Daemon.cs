using System.Globalization;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.System.Processes;

/// <summary>
/// Running in the background. A process with a runtime in it cannot fork, so the program starts itself again in a session of its own, with the same
/// arguments, environment and inherited descriptors, and waits until the new process says that it is set up or ends.
/// </summary>
public sealed class Daemon
{
    private const string Variable = "VMM_DAEMON_STATUS_FD";

    private SafeFd? _status;

    private Daemon(SafeFd status) => _status = status;

    /// <summary>The daemon that this process is, or null when it was started by its user.</summary>
    /// <remarks>Call before anything else opens or closes descriptors.</remarks>
    public static Daemon? Current()
    {
        string? text = Environment.GetEnvironmentVariable(Variable);
        if (text == null || !int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int fd) || fd < 3)
        {
            return null;
        }

        Environment.SetEnvironmentVariable(Variable, null);
        return Libc.SetCloseOnExec(fd, true) == Errno.OK ? new Daemon(new SafeFd(fd)) : null;
    }

    /// <summary>Starts the program again as a daemon and waits for it.</summary>
    /// <returns>The exit status for this process: 0 once the daemon is set up, else the daemon's own.</returns>
    /// <exception cref="QapiException">The program could not be started.</exception>
    public static int Launch()
    {
        Errno errno = Libc.Pipe(0, out SafeFd read, out SafeFd write);
        using (read)
        using (write)
        {
            if (errno != Errno.OK)
            {
                throw new QapiException($"cannot daemonize: {errno.Message()}");
            }

            if (Libc.SelfExe() is not { } program
                || Libc.SelfCommandLine(out string[] arguments) != Errno.OK
                || Libc.SelfEnvironment(out string[] environment) != Errno.OK)
            {
                throw new QapiException("cannot daemonize: /proc is not available");
            }

            // A copy above all inherited descriptors, which keep their numbers.
            int inherited = Libc.Fcntl(write.Fd, Libc.F_DUPFD_CLOEXEC, 3);
            Libc.SetCloseOnExec(inherited, false);
            using var copy = new SafeFd(inherited);
            var options = new SpawnOptions
            {
                Environment = [.. environment, $"{Variable}={inherited.ToString(CultureInfo.InvariantCulture)}"],
                NewSession = true,
            };
            errno = Libc.Spawn(program, arguments, options, out int pid);
            if (errno != Errno.OK)
            {
                throw new QapiException($"cannot daemonize: {errno.Message()}");
            }

            write.Dispose();
            copy.Dispose();
            return Wait(read, pid);
        }
    }

    /// <summary>
    /// Leaves the terminal and the directory of the user behind and lets the waiting process end successfully. Call when the monitors listen and the
    /// pid file is written.
    /// </summary>
    /// <param name="keepStandardError">Whether standard error stays, because the log goes there.</param>
    public void Detach(bool keepStandardError)
    {
        if (_status == null)
        {
            return;
        }

        Libc.ChDir("/");
        if (Libc.Open("/dev/null", Libc.O_RDWR | Libc.O_CLOEXEC, out SafeFd nothing) == Errno.OK)
        {
            int streams = keepStandardError ? 2 : 3;
            for (int fd = 0; fd < streams; fd++)
            {
                Libc.Dup3(nothing.Fd, fd, 0);
            }

            nothing.Dispose();
        }

        _status.Write([0]);
        _status.Dispose();
        _status = null;
    }

    private static int Wait(SafeFd status, int pid)
    {
        Span<byte> answer = stackalloc byte[1];
        int count;
        do
        {
            count = status.Read(answer);
        }
        while (count == -(int)Errno.EINTR);

        if (count == 1)
        {
            return answer[0];
        }

        // The daemon ended without a word: its messages are on the shared standard error already.
        return Libc.WaitPid(pid, 0, out int waitStatus) == pid ? Libc.ExitStatus(waitStatus) ?? 1 : 1;
    }
}
