using Vmm.Interop;

namespace Vmm.ObjectModel.Sockets;

/// <summary>
/// The file of a listening unix socket, which whoever listens removes at the end, wherever the socket came from. A file that has replaced it
/// meanwhile is somebody else's and stays.
/// </summary>
public readonly record struct ListenerFile
{
    private readonly string? _path;
    private readonly ulong _device;
    private readonly ulong _inode;

    private ListenerFile(string path, in FileStatus status)
    {
        _path = path;
        _device = status.st_dev;
        _inode = status.st_ino;
    }

    /// <summary>The file of a socket; none for sockets of other kinds.</summary>
    public static ListenerFile Of(SafeFd listener)
    {
        return Libc.GetSockName(listener.Fd, out SockAddr address) == Errno.OK && address.Family == Libc.AF_UNIX && !address.IsAbstract
            && address.Host is { Length: > 0 } path && Libc.Stat(path, out FileStatus status) == Errno.OK && status.IsSocket
            ? new ListenerFile(path, status)
            : default;
    }

    /// <summary>Removes the file if it is still the socket's.</summary>
    public void Remove()
    {
        if (_path is not null && Libc.Stat(_path, out FileStatus status) == Errno.OK && (status.st_dev, status.st_ino) == (_device, _inode))
        {
            Libc.Unlink(_path);
        }
    }
}
