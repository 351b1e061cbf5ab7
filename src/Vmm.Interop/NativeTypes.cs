using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>struct iovec: one piece of a scattered buffer in native memory.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct IoVec(nint address, nuint length)
{
    /// <summary>First byte. The memory must stay valid until the call that uses it has returned.</summary>
    public nint Address = address;

    /// <summary>Length in bytes.</summary>
    public nuint Length = length;

    /// <summary>The memory, below 2 GiB. The span must not outlive what owns the memory.</summary>
    public readonly unsafe Span<byte> Span => new((void*)Address, checked((int)Length));
}

/// <summary>struct timespec.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct TimeSpec
{
    public long tv_sec;
    public long tv_nsec;

    /// <summary>From nanoseconds, which must not be negative.</summary>
    public static TimeSpec FromNs(long ns) => new() { tv_sec = ns / 1_000_000_000, tv_nsec = ns % 1_000_000_000 };

    /// <summary>As nanoseconds.</summary>
    public readonly long ToNs() => tv_sec * 1_000_000_000 + tv_nsec;
}

/// <summary>struct stat of x86-64.</summary>
[StructLayout(LayoutKind.Sequential, Size = 144)]
public struct FileStatus
{
    public ulong st_dev;
    public ulong st_ino;
    public ulong st_nlink;
    public uint st_mode;
    public uint st_uid;
    public uint st_gid;
    private readonly uint _pad0;
    public ulong st_rdev;
    public long st_size;
    public long st_blksize;
    public long st_blocks;
    public TimeSpec st_atim;
    public TimeSpec st_mtim;
    public TimeSpec st_ctim;

    /// <summary>A regular file.</summary>
    public readonly bool IsRegular => (st_mode & Libc.S_IFMT) == Libc.S_IFREG;

    /// <summary>A directory.</summary>
    public readonly bool IsDirectory => (st_mode & Libc.S_IFMT) == Libc.S_IFDIR;

    /// <summary>A block device.</summary>
    public readonly bool IsBlockDevice => (st_mode & Libc.S_IFMT) == Libc.S_IFBLK;

    /// <summary>A character device.</summary>
    public readonly bool IsCharDevice => (st_mode & Libc.S_IFMT) == Libc.S_IFCHR;

    /// <summary>A socket.</summary>
    public readonly bool IsSocket => (st_mode & Libc.S_IFMT) == Libc.S_IFSOCK;

    /// <summary>A FIFO.</summary>
    public readonly bool IsFifo => (st_mode & Libc.S_IFMT) == Libc.S_IFIFO;
}

/// <summary>struct pollfd.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct PollFd
{
    public int fd;
    public short events;
    public short revents;
}

/// <summary>struct epoll_event, which is packed on x86-64.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct EpollEvent
{
    public uint events;
    public ulong data;
}

/// <summary>struct termios as glibc lays it out on x86-64.</summary>
[StructLayout(LayoutKind.Sequential, Size = 60)]
public struct Termios
{
    public uint c_iflag;
    public uint c_oflag;
    public uint c_cflag;
    public uint c_lflag;
    public byte c_line;
    public CcArray c_cc;
    public uint c_ispeed;
    public uint c_ospeed;

    /// <summary>The control characters, indexed by V* constants.</summary>
    [System.Runtime.CompilerServices.InlineArray(32)]
    public struct CcArray
    {
        private byte _first;
    }
}

/// <summary>struct winsize.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct WinSize
{
    public ushort ws_row;
    public ushort ws_col;
    public ushort ws_xpixel;
    public ushort ws_ypixel;
}

/// <summary>struct ucred: who is at the other end of a unix socket.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct UCred
{
    public int pid;
    public uint uid;
    public uint gid;
}

/// <summary>struct flock, for record locks.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FLock
{
    internal short l_type;
    internal short l_whence;
    internal long l_start;
    internal long l_len;
    internal int l_pid;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct MsgHdr
{
    internal byte* msg_name;
    internal uint msg_namelen;
    internal IoVec* msg_iov;
    internal nuint msg_iovlen;
    internal void* msg_control;
    internal nuint msg_controllen;
    internal int msg_flags;
}

[StructLayout(LayoutKind.Sequential)]
internal struct CMsgHdr
{
    internal nuint cmsg_len;
    internal int cmsg_level;
    internal int cmsg_type;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct AddrInfo
{
    internal int ai_flags;
    internal int ai_family;
    internal int ai_socktype;
    internal int ai_protocol;
    internal uint ai_addrlen;
    internal byte* ai_addr;
    internal byte* ai_canonname;
    internal AddrInfo* ai_next;
}

/// <summary>struct sigaction as glibc lays it out: handler, 1024-bit mask, flags, restorer.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct SigAction
{
    internal nint sa_handler;
    internal fixed ulong sa_mask[16];
    internal int sa_flags;
    internal nint sa_restorer;
}
