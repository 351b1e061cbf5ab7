namespace Vmm.Interop;

/// <summary>
/// System calls on files. Results are an <see cref="Errno"/>, or a non-negative number or -errno; nothing here throws for an expected
/// failure. read, write, open and accept retry EINTR; the others report it. Usable from any thread.
/// </summary>
public static unsafe partial class Libc
{
    /// <summary>errno of the last native call of this thread, valid only directly after one.</summary>
    public static Errno LastError => Native.LastError;

    /// <summary>Size of a page in bytes.</summary>
    public static int PageSize => 4096;

    /// <summary>open(2); the descriptor is close-on-exec whatever the flags say.</summary>
    public static Errno Open(string path, int flags, uint mode, out SafeFd file)
    {
        int result = OpenRaw(path, flags | O_CLOEXEC, mode);
        file = new SafeFd(Math.Max(result, -1));
        return ErrnoText.FromResult(result);
    }

    /// <summary>open(2) with mode 0666 before umask.</summary>
    public static Errno Open(string path, int flags, out SafeFd file) => Open(path, flags, 0x1B6, out file);

    /// <summary>openat(2), close-on-exec.</summary>
    public static Errno OpenAt(int directory, string path, int flags, uint mode, out SafeFd file)
    {
        int result;
        fixed (byte* p = Native.Z(path))
        {
            do
            {
                result = Native.Check(Native.openat(directory, p, flags | O_CLOEXEC, mode));
            }
            while (result == -(int)Errno.EINTR);
        }

        file = new SafeFd(Math.Max(result, -1));
        return ErrnoText.FromResult(result);
    }

    /// <summary>close(2) of a raw descriptor that no <see cref="SafeFd"/> owns.</summary>
    public static Errno Close(int fd) => Native.CheckErrno(Native.close(fd));

    /// <summary>read(2): bytes, 0 at end of file, or -errno.</summary>
    public static int Read(int fd, Span<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            int result;
            do
            {
                result = (int)Native.Check(Native.read(fd, p, (nuint)buffer.Length));
            }
            while (result == -(int)Errno.EINTR);
            return result;
        }
    }

    /// <summary>write(2): bytes, or -errno.</summary>
    public static int Write(int fd, ReadOnlySpan<byte> data)
    {
        fixed (byte* p = data)
        {
            int result;
            do
            {
                result = (int)Native.Check(Native.write(fd, p, (nuint)data.Length));
            }
            while (result == -(int)Errno.EINTR);
            return result;
        }
    }

    /// <summary>Writes everything to a blocking descriptor.</summary>
    public static Errno WriteAll(int fd, ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            int written = Write(fd, data);
            if (written < 0)
            {
                return ErrnoText.FromResult(written);
            }

            data = data[written..];
        }

        return Errno.OK;
    }

    /// <summary>pread(2) into managed memory: bytes, or -errno.</summary>
    public static int PRead(int fd, Span<byte> buffer, long offset)
    {
        fixed (byte* p = buffer)
        {
            return (int)PRead(fd, (nint)p, (nuint)buffer.Length, offset);
        }
    }

    /// <summary>pread(2) into native memory: bytes, or -errno.</summary>
    public static long PRead(int fd, nint buffer, nuint length, long offset)
    {
        long result;
        do
        {
            result = Native.Check(Native.pread(fd, (void*)buffer, length, offset));
        }
        while (result == -(int)Errno.EINTR);
        return result;
    }

    /// <summary>pwrite(2) from managed memory: bytes, or -errno.</summary>
    public static int PWrite(int fd, ReadOnlySpan<byte> data, long offset)
    {
        fixed (byte* p = data)
        {
            return (int)PWrite(fd, (nint)p, (nuint)data.Length, offset);
        }
    }

    /// <summary>pwrite(2) from native memory: bytes, or -errno.</summary>
    public static long PWrite(int fd, nint buffer, nuint length, long offset)
    {
        long result;
        do
        {
            result = Native.Check(Native.pwrite(fd, (void*)buffer, length, offset));
        }
        while (result == -(int)Errno.EINTR);
        return result;
    }

    /// <summary>readv(2): bytes, or -errno.</summary>
    public static long ReadV(int fd, ReadOnlySpan<IoVec> vectors)
    {
        fixed (IoVec* p = vectors)
        {
            return Native.Check(Native.readv(fd, p, vectors.Length));
        }
    }

    /// <summary>writev(2): bytes, or -errno.</summary>
    public static long WriteV(int fd, ReadOnlySpan<IoVec> vectors)
    {
        fixed (IoVec* p = vectors)
        {
            return Native.Check(Native.writev(fd, p, vectors.Length));
        }
    }

    /// <summary>preadv(2): bytes, or -errno.</summary>
    public static long PReadV(int fd, ReadOnlySpan<IoVec> vectors, long offset)
    {
        fixed (IoVec* p = vectors)
        {
            return Native.Check(Native.preadv(fd, p, vectors.Length, offset));
        }
    }

    /// <summary>pwritev(2): bytes, or -errno.</summary>
    public static long PWriteV(int fd, ReadOnlySpan<IoVec> vectors, long offset)
    {
        fixed (IoVec* p = vectors)
        {
            return Native.Check(Native.pwritev(fd, p, vectors.Length, offset));
        }
    }

    /// <summary>preadv2(2) with RWF_* flags: bytes, or -errno.</summary>
    public static long PReadV(int fd, ReadOnlySpan<IoVec> vectors, long offset, int flags)
    {
        fixed (IoVec* p = vectors)
        {
            return Native.Check(Native.preadv2(fd, p, vectors.Length, offset, flags));
        }
    }

    /// <summary>pwritev2(2) with RWF_* flags: bytes, or -errno.</summary>
    public static long PWriteV(int fd, ReadOnlySpan<IoVec> vectors, long offset, int flags)
    {
        fixed (IoVec* p = vectors)
        {
            return Native.Check(Native.pwritev2(fd, p, vectors.Length, offset, flags));
        }
    }

    /// <summary>lseek(2): the new offset, or -errno.</summary>
    public static long LSeek(int fd, long offset, int whence)
    {
        long result = Native.lseek(fd, offset, whence);
        return result >= 0 ? result : -(long)Native.LastError;
    }

    /// <summary>ftruncate(2).</summary>
    public static Errno FTruncate(int fd, long length) => Native.CheckErrno(Native.ftruncate(fd, length));

    /// <summary>fallocate(2) with FALLOC_FL_* flags.</summary>
    public static Errno FAllocate(int fd, int mode, long offset, long length) =>
        Native.CheckErrno(Native.fallocate(fd, mode, offset, length));

    /// <summary>fsync(2).</summary>
    public static Errno FSync(int fd) => Native.CheckErrno(Native.fsync(fd));

    /// <summary>fdatasync(2).</summary>
    public static Errno FDataSync(int fd) => Native.CheckErrno(Native.fdatasync(fd));

    /// <summary>
    /// sync_file_range(2) with SYNC_FILE_RANGE_WRITE: has the kernel begin to write a range of the page cache to the file. Promises nothing, and
    /// takes no error away from a later flush.
    /// </summary>
    public static Errno StartWriteOut(int fd, long offset, long length) =>
        Native.CheckErrno(Native.sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE));

    /// <summary>fstat(2).</summary>
    public static Errno FStat(int fd, out FileStatus status)
    {
        fixed (FileStatus* p = &status)
        {
            return Native.CheckErrno(Native.fstat(fd, p));
        }
    }

    /// <summary>stat(2).</summary>
    public static Errno Stat(string path, out FileStatus status)
    {
        fixed (FileStatus* p = &status)
        fixed (byte* z = Native.Z(path))
        {
            return Native.CheckErrno(Native.stat(z, p));
        }
    }

    /// <summary>access(2) with R_OK, W_OK, X_OK or F_OK.</summary>
    public static Errno Access(string path, int mode)
    {
        fixed (byte* z = Native.Z(path))
        {
            return Native.CheckErrno(Native.access(z, mode));
        }
    }

    /// <summary>unlink(2).</summary>
    public static Errno Unlink(string path)
    {
        fixed (byte* z = Native.Z(path))
        {
            return Native.CheckErrno(Native.unlink(z));
        }
    }

    /// <summary>rename(2).</summary>
    public static Errno Rename(string from, string to)
    {
        fixed (byte* f = Native.Z(from))
        fixed (byte* t = Native.Z(to))
        {
            return Native.CheckErrno(Native.rename(f, t));
        }
    }

    /// <summary>mkfifo(3).</summary>
    public static Errno MkFifo(string path, uint mode)
    {
        fixed (byte* z = Native.Z(path))
        {
            return Native.CheckErrno(Native.mkfifo(z, mode));
        }
    }

    /// <summary>chmod(2).</summary>
    public static Errno ChMod(string path, uint mode)
    {
        fixed (byte* z = Native.Z(path))
        {
            return Native.CheckErrno(Native.chmod(z, mode));
        }
    }

    /// <summary>A new file from a template that ends in XXXXXX (mkstemp), close-on-exec, and the name it got.</summary>
    public static Errno MkStemp(string template, out SafeFd file, out string path)
    {
        byte[] z = Native.Z(template);
        int result;
        fixed (byte* p = z)
        {
            result = Native.Check(Native.mkstemp(p));
        }

        path = System.Text.Encoding.UTF8.GetString(z, 0, z.Length - 1);
        file = new SafeFd(Math.Max(result, -1));
        return result < 0 ? ErrnoText.FromResult(result) : SetCloseOnExec(result, true);
    }

    /// <summary>dup3(2): makes <paramref name="target"/> a copy of <paramref name="fd"/>; flags O_CLOEXEC or 0.</summary>
    public static Errno Dup3(int fd, int target, int flags) => Native.CheckErrno(Native.dup3(fd, target, flags));

    /// <summary>fcntl(2) with an integer argument: the result, or -errno.</summary>
    public static int Fcntl(int fd, int command, nint argument) => Native.Check(Native.fcntl(fd, command, argument));

    /// <summary>Sets or clears O_NONBLOCK, which belongs to the open file, not to the descriptor.</summary>
    public static Errno SetNonBlocking(int fd, bool on)
    {
        int flags = Fcntl(fd, F_GETFL, 0);
        if (flags < 0)
        {
            return ErrnoText.FromResult(flags);
        }

        int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        return wanted == flags ? Errno.OK : ErrnoText.FromResult(Fcntl(fd, F_SETFL, wanted));
    }

    /// <summary>Sets or clears close-on-exec.</summary>
    public static Errno SetCloseOnExec(int fd, bool on) => ErrnoText.FromResult(Fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0));

    /// <summary>
    /// Takes (F_RDLCK, F_WRLCK) or drops (F_UNLCK) an open-file-description lock on bytes [start, start+length), without waiting;
    /// length 0 reaches to the end. EAGAIN when another open file holds it.
    /// </summary>
    public static Errno OfdLock(int fd, short type, long start, long length)
    {
        FLock value = new() { l_type = type, l_whence = SEEK_SET, l_start = start, l_len = length };
        return Native.CheckErrno(Native.fcntl(fd, F_OFD_SETLK, (nint)(&value)));
    }

    /// <summary>Asks whether a lock could be taken; <paramref name="conflict"/> is F_UNLCK when it could, else the type of the obstacle.</summary>
    public static Errno OfdTestLock(int fd, short type, long start, long length, out short conflict)
    {
        FLock value = new() { l_type = type, l_whence = SEEK_SET, l_start = start, l_len = length };
        Errno errno = Native.CheckErrno(Native.fcntl(fd, F_OFD_GETLK, (nint)(&value)));
        conflict = value.l_type;
        return errno;
    }

    /// <summary>pipe2(2); close-on-exec whatever the flags say.</summary>
    public static Errno Pipe(int flags, out SafeFd read, out SafeFd write)
    {
        int* fds = stackalloc int[2] { -1, -1 };
        Errno errno = Native.CheckErrno(Native.pipe2(fds, flags | O_CLOEXEC));
        read = new SafeFd(fds[0]);
        write = new SafeFd(fds[1]);
        return errno;
    }

    /// <summary>readlink(2), as text; null on failure.</summary>
    public static string? ReadLink(string path)
    {
        byte* buffer = stackalloc byte[4096];
        fixed (byte* z = Native.Z(path))
        {
            nint length = Native.readlink(z, buffer, 4096);
            return length < 0 ? null : System.Text.Encoding.UTF8.GetString(buffer, (int)length);
        }
    }

    /// <summary>ioctl(2) with an integer argument: the result, or -errno.</summary>
    public static int Ioctl(int fd, uint request, nint argument) => Native.Check(Native.ioctl(fd, request, argument));

    /// <summary>ioctl(2) on a structure: the result, or -errno.</summary>
    public static int Ioctl<T>(int fd, uint request, ref T value)
        where T : unmanaged
    {
        fixed (T* p = &value)
        {
            return Native.Check(Native.ioctl(fd, request, (nint)p));
        }
    }

    /// <summary>Reads a whole (small) file, such as one of /proc or /sys. EFBIG beyond <paramref name="limit"/> bytes.</summary>
    public static Errno ReadFile(string path, int limit, out byte[] content)
    {
        content = [];
        Errno errno = Open(path, O_RDONLY, out SafeFd file);
        using (file)
        {
            if (errno != Errno.OK)
            {
                return errno;
            }

            byte[] buffer = new byte[Math.Min(limit, 4096) + 1];
            int used = 0;
            while (true)
            {
                int got = file.Read(buffer.AsSpan(used));
                if (got <= 0)
                {
                    Array.Resize(ref buffer, used);
                    content = buffer;
                    return ErrnoText.FromResult(got);
                }

                used += got;
                if (used > limit)
                {
                    return Errno.EFBIG;
                }

                if (used == buffer.Length)
                {
                    Array.Resize(ref buffer, (int)Math.Min(2L * used, limit + 1L));
                }
            }
        }
    }

    private static int OpenRaw(string path, int flags, uint mode)
    {
        fixed (byte* z = Native.Z(path))
        {
            int result;
            do
            {
                result = Native.Check(Native.open(z, flags, mode));
            }
            while (result == -(int)Errno.EINTR);
            return result;
        }
    }
}
