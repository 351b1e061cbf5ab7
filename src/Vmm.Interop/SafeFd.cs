using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>Owns a file descriptor and closes it once. Usable from any thread.</summary>
public class SafeFd : SafeHandle
{
    /// <summary>Takes ownership of <paramref name="fd"/>; -1 makes an invalid handle.</summary>
    public SafeFd(int fd)
        : base(-1, ownsHandle: true)
    {
        SetHandle(fd);
    }

    /// <summary>The descriptor number; -1 after <see cref="Close"/> or <see cref="Detach"/>. The caller must not outlive this object with it.</summary>
    public int Fd => IsClosed ? -1 : (int)handle;

    /// <inheritdoc/>
    public override bool IsInvalid => handle < 0;

    /// <summary>A second descriptor for the same open file, close-on-exec. EMFILE, EBADF.</summary>
    public Errno Dup(out SafeFd duplicate)
    {
        int result = Libc.Fcntl(Fd, Libc.F_DUPFD_CLOEXEC, 0);
        duplicate = new SafeFd(result < 0 ? -1 : result);
        return ErrnoText.FromResult(result);
    }

    /// <summary>Gives the descriptor up without closing it and returns it.</summary>
    public int Detach()
    {
        int fd = Fd;
        SetHandle(-1);
        SetHandleAsInvalid();
        return fd;
    }

    /// <summary>Reads: bytes, 0 at end of file, or -errno. EINTR is retried.</summary>
    public int Read(Span<byte> buffer) => Libc.Read(Fd, buffer);

    /// <summary>Writes: bytes, or -errno. EINTR is retried.</summary>
    public int Write(ReadOnlySpan<byte> data) => Libc.Write(Fd, data);

    /// <summary>Sets or clears O_NONBLOCK.</summary>
    public Errno SetNonBlocking(bool on) => Libc.SetNonBlocking(Fd, on);

    /// <inheritdoc/>
    public override string ToString() => string.Concat("fd ", Fd.ToString(System.Globalization.CultureInfo.InvariantCulture));

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Native.close((int)handle) == 0;
}
