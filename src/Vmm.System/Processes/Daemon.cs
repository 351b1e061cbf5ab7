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
    private const string Variable = "VMM_DAEMON_FD";

    // What a daemon makes is not for everybody.
    private const uint FileMask = 0x17;

    private SafeFd? _status;
    private bool _isLogging;

    private Daemon(SafeFd status) => _status = status;

    /// <summary>The daemon that this process is, or null when it was started by its user.</summary>
    /// <remarks>Call before anything else opens or closes descriptors.</remarks>
    public static Daemon? Current()
    {
        string? text = Environment.GetEnvironmentVariable(Variable);
        if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int status) || status <= 2)
        {
            return null;
        }

        Environment.SetEnvironmentVariable(Variable, null);
        if (Libc.SetCloseOnExec(status, true) != Errno.OK)
        {
            return null;
        }

        Libc.Umask(FileMask);
        return new Daemon(new SafeFd(status));
    }

    /// <summary>Starts the program again as a daemon and waits for it.</summary>
    /// <returns>The exit status for this process: 0 once the daemon is set up, else the daemon's own.</returns>
    /// <exception cref="QapiException">The program could not be started.</exception>
    public static int Launch()
    {
        Errno errno = Libc.Pipe(0, out SafeFd statusRead, out SafeFd statusWrite);
        Errno errorsErrno = Libc.Pipe(0, out SafeFd errorsRead, out SafeFd errorsWrite);
        Errno nothingErrno = Libc.Open("/dev/null", Libc.O_RDWR | Libc.O_CLOEXEC, out SafeFd nothing);
        using (statusRead)
        using (statusWrite)
        using (errorsRead)
        using (errorsWrite)
        using (nothing)
        {
            Check(errno);
            Check(errorsErrno);
            Check(nothingErrno);
            if (Libc.SelfExe() is not { } program)
            {
                throw new QapiException("cannot daemonize: /proc is not available");
            }

            Check(Libc.SelfCommandLine(out string[] arguments));
            Check(Libc.SelfEnvironment(out string[] environment));

            // A copy above all inherited descriptors, which keep their numbers. What is said comes through a pipe, so that no copy in a
            // runtime keeps the user's standard error open.
            using SafeFd status = Inheritable(statusWrite.Fd);
            var options = new SpawnOptions
            {
                Environment = [.. environment, string.Create(CultureInfo.InvariantCulture, $"{Variable}={status.Fd}")],
                Duplicate = [(nothing.Fd, 0), (nothing.Fd, 1), (errorsWrite.Fd, 2)],
                NewSession = true,
            };
            Check(Libc.Spawn(program, arguments, options, out int pid));
            statusWrite.Dispose();
            status.Dispose();
            errorsWrite.Dispose();
            return Wait(statusRead, errorsRead, pid);
        }
    }

    /// <summary>From now on what is said goes to a log file instead of the user, and keeps going there.</summary>
    public void SendErrorsTo(string path)
    {
        if (Libc.Open(path, Libc.O_WRONLY | Libc.O_APPEND | Libc.O_CLOEXEC, out SafeFd file) == Errno.OK)
        {
            Libc.Dup3(file.Fd, 2, 0);
            _isLogging = true;
        }

        file.Dispose();
    }

    /// <summary>
    /// Leaves the terminal and the directory of the user behind and lets the waiting process end successfully. Call when the monitors listen and the
    /// pid file is written.
    /// </summary>
    public void Detach()
    {
        if (_status == null)
        {
            return;
        }

        Libc.ChDir("/");
        if (!_isLogging && Libc.Open("/dev/null", Libc.O_RDWR | Libc.O_CLOEXEC, out SafeFd nothing) == Errno.OK)
        {
            Libc.Dup3(nothing.Fd, 2, 0);
            nothing.Dispose();
        }

        _status.Write([0]);
        _status.Dispose();
        _status = null;
    }

    private static void Check(Errno errno)
    {
        if (errno != Errno.OK)
        {
            throw new QapiException($"cannot daemonize: {errno.Message()}");
        }
    }

    private static SafeFd Inheritable(int fd)
    {
        int copy = Libc.Fcntl(fd, Libc.F_DUPFD_CLOEXEC, 3);
        Check(ErrnoText.FromResult(copy));
        Libc.SetCloseOnExec(copy, false);
        return new SafeFd(copy);
    }

    // Passes on what the daemon says until it says that it is set up, or ends.
    private static int Wait(SafeFd status, SafeFd errors, int pid)
    {
        errors.SetNonBlocking(true);
        Span<PollFd> watched =
        [
            new PollFd { fd = status.Fd, events = Libc.POLLIN },
            new PollFd { fd = errors.Fd, events = Libc.POLLIN },
        ];
        while (watched[0].revents == 0)
        {
            Libc.Poll(watched, -1);
            if (!Relay(errors))
            {
                watched[1].fd = -1;
            }
        }

        // What was said before the status is in the pipe by now.
        Relay(errors);
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

        return Libc.WaitPid(pid, 0, out int waitStatus) == pid ? Libc.ExitStatus(waitStatus) ?? 1 : 1;
    }

    // Copies what there is; false at the end of the stream.
    private static bool Relay(SafeFd errors)
    {
        Span<byte> buffer = stackalloc byte[1024];
        while (true)
        {
            int count = errors.Read(buffer);
            if (count <= 0)
            {
                return count is -(int)Errno.EAGAIN or -(int)Errno.EINTR;
            }

            StdIo.Error.Write(buffer[..count]);
        }
    }
}
