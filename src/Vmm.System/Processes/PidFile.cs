using System.Text;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.System.Processes;

/// <summary>
/// A file with the process id, locked as long as the process lives so that a second process with the same file refuses to start.
/// </summary>
public sealed class PidFile : IDisposable
{
    private readonly string _path;
    private readonly SafeFd _file;

    private PidFile(string path, SafeFd file)
    {
        _path = path;
        _file = file;
    }

    /// <summary>Creates or takes over the file, locks it and writes the process id.</summary>
    /// <exception cref="QapiException">The file cannot be created or another process holds it.</exception>
    public static PidFile Create(string path)
    {
        while (true)
        {
            Errno errno = Libc.Open(path, Libc.O_RDWR | Libc.O_CREAT | Libc.O_CLOEXEC, 0x180, out SafeFd file);
            if (errno != Errno.OK)
            {
                throw Failure($"Could not create '{path}'", errno);
            }

            try
            {
                if (TryTake(path, file))
                {
                    // The directory may have changed by the time the file is removed.
                    return new PidFile(Path.GetFullPath(path), file);
                }
            }
            catch (QapiException)
            {
                file.Dispose();
                throw;
            }

            file.Dispose();
        }
    }

    /// <summary>Removes the file.</summary>
    public void Dispose()
    {
        if (!_file.IsClosed)
        {
            // A device that root has named stays: the host needs it.
            if (Libc.FStat(_file.Fd, out FileStatus status) == Errno.OK && status.IsRegular)
            {
                Libc.Unlink(_path);
            }

            _file.Dispose();
        }
    }

    // False when the file was replaced between opening and locking it.
    private static bool TryTake(string path, SafeFd file)
    {
        Errno errno = Libc.FStat(file.Fd, out FileStatus opened);
        if (errno != Errno.OK)
        {
            throw Failure("Cannot stat file", errno);
        }

        errno = Libc.OfdLock(file.Fd, Libc.F_WRLCK, 0, 0);
        if (errno != Errno.OK)
        {
            throw Failure("Cannot lock pid file", errno);
        }

        if (Libc.Stat(path, out FileStatus current) != Errno.OK || current.st_ino != opened.st_ino || current.st_dev != opened.st_dev)
        {
            return false;
        }

        errno = Libc.FTruncate(file.Fd, 0);
        if (errno != Errno.OK)
        {
            throw Failure("Failed to truncate pid file", errno);
        }

        errno = Libc.WriteAll(file.Fd, Encoding.ASCII.GetBytes($"{Libc.GetPid()}\n"));
        return errno == Errno.OK ? true : throw Failure("Failed to write pid file", errno);
    }

    private static QapiException Failure(string what, Errno errno) => new($"cannot create PID file: {what}: {errno.Message()}");
}
