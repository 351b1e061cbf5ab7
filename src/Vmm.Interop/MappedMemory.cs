using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>Owns one mmap of host memory. Usable from any thread; the memory goes away with this object.</summary>
public sealed unsafe class MappedMemory : SafeHandle
{
    private MappedMemory(nint address, ulong length)
        : base(-1, ownsHandle: true)
    {
        Length = length;
        SetHandle(address);
    }

    /// <summary>First byte of the mapping.</summary>
    public nint Address => handle;

    /// <summary>Length in bytes.</summary>
    public ulong Length { get; }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == -1;

    /// <summary>mmap(2) of a file or, with fd -1 and MAP_ANONYMOUS, of zeroes. ENOMEM, EACCES, EINVAL, ENODEV.</summary>
    public static Errno Map(ulong length, int protection, int flags, int fd, long offset, out MappedMemory? memory)
    {
        void* address = Native.mmap(null, (nuint)length, protection, flags, fd, offset);
        if ((nint)address == -1)
        {
            memory = null;
            return Native.LastError;
        }

        memory = new MappedMemory((nint)address, length);
        return Errno.OK;
    }

    /// <summary>
    /// Like <see cref="Map"/>, at an address that is a multiple of <paramref name="alignment"/> (a power of two, at least a page), with
    /// an inaccessible guard page behind it.
    /// </summary>
    public static Errno MapAligned(ulong length, ulong alignment, int protection, int flags, int fd, long offset, out MappedMemory? memory)
    {
        memory = null;
        ulong page = (ulong)Libc.PageSize;
        ulong total = checked(length + alignment + page);
        byte* reserved = (byte*)Native.mmap(
            null, (nuint)total, Libc.PROT_NONE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE, -1, 0);
        if ((nint)reserved == -1)
        {
            return Native.LastError;
        }

        byte* start = (byte*)(((ulong)reserved + alignment - 1) & ~(alignment - 1));
        void* mapped = Native.mmap(start, (nuint)length, protection, flags | Libc.MAP_FIXED, fd, offset);
        if ((nint)mapped == -1)
        {
            Errno errno = Native.LastError;
            _ = Native.munmap(reserved, (nuint)total);
            return errno;
        }

        if (start > reserved)
        {
            _ = Native.munmap(reserved, (nuint)(start - reserved));
        }

        ulong used = (length + page - 1) & ~(page - 1);
        byte* guard = start + used;
        byte* end = reserved + total;
        if (guard + page < end)
        {
            _ = Native.munmap(guard + page, (nuint)(end - guard - (long)page));
        }

        memory = new MappedMemory((nint)start, length) { _guardBytes = page + (used - length) };
        return Errno.OK;
    }

    private ulong _guardBytes;

    /// <summary>The bytes as a span; the mapping must be shorter than 2 GiB and outlive the span.</summary>
    public Span<byte> AsSpan() => new((void*)handle, checked((int)Length));

    /// <summary>Bytes [offset, offset+length) as a span, which this object must outlive.</summary>
    public Span<byte> AsSpan(ulong offset, int length)
    {
        if (length < 0 || offset > Length || (ulong)length > Length - offset)
        {
            throw new ArgumentOutOfRangeException(nameof(offset));
        }

        return new Span<byte>((byte*)handle + offset, length);
    }

    /// <summary>mprotect(2) of a page-aligned range.</summary>
    public Errno Protect(ulong offset, ulong length, int protection) =>
        Native.CheckErrno(Native.mprotect(At(offset, length), (nuint)length, protection));

    /// <summary>madvise(2) with MADV_* on a page-aligned range.</summary>
    public Errno Advise(ulong offset, ulong length, int advice) =>
        Native.CheckErrno(Native.madvise(At(offset, length), (nuint)length, advice));

    /// <summary>madvise(2) on all of it.</summary>
    public Errno Advise(int advice) => Advise(0, Length, advice);

    /// <summary>msync(2) with MS_SYNC or MS_ASYNC.</summary>
    public Errno Sync(ulong offset, ulong length, int flags) =>
        Native.CheckErrno(Native.msync(At(offset, length), (nuint)length, flags));

    /// <summary>mbind(2): NUMA policy MPOL_* over a bit map of host nodes (bit n of word n/64), flags MPOL_MF_*. ENOSYS, EINVAL, EIO.</summary>
    public Errno Bind(int mode, ReadOnlySpan<ulong> nodes, uint flags) => Libc.MBind(handle, Length, mode, nodes, flags);

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Native.munmap((void*)handle, (nuint)(Length + _guardBytes)) == 0;

    private byte* At(ulong offset, ulong length)
    {
        if (offset > Length || length > Length - offset)
        {
            throw new ArgumentOutOfRangeException(nameof(offset));
        }

        return (byte*)handle + offset;
    }
}
