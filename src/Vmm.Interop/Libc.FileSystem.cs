namespace Vmm.Interop;

/// <content>What a file's file system is.</content>
public static unsafe partial class Libc
{
    private const nint SYS_fstatfs = 138;

    /// <summary>fstatfs(2): the magic number and the block size (the page size on hugetlbfs) of the file system that holds a file.</summary>
    public static Errno FStatFs(int fd, out long type, out long blockSize)
    {
        long* buffer = stackalloc long[16];
        long result = Native.Check(Native.syscall(SYS_fstatfs, fd, (nint)buffer, 0, 0, 0, 0));
        type = buffer[0];
        blockSize = buffer[1];
        return ErrnoText.FromResult(result);
    }
}
