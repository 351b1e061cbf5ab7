namespace Vmm.Interop;

/// <content>Memory, random numbers, clocks.</content>
public static unsafe partial class Libc
{
    private const nint SYS_mbind = 237;
    private const nint SYS_memfd_create = 319;

    /// <summary>memfd_create(2) with MFD_* flags; close-on-exec.</summary>
    public static Errno MemFdCreate(string name, uint flags, out SafeFd file)
    {
        long result;
        fixed (byte* z = Native.Z(name))
        {
            result = Native.Check(Native.syscall(SYS_memfd_create, (nint)z, (nint)(flags | MFD_CLOEXEC), 0, 0, 0, 0));
        }

        file = new SafeFd((int)Math.Max(result, -1));
        return ErrnoText.FromResult(result);
    }

    /// <summary>mlockall(2) with MCL_* flags.</summary>
    public static Errno MLockAll(int flags) => Native.CheckErrno(Native.mlockall(flags));

    /// <summary>Fills the buffer from the kernel's random source.</summary>
    public static Errno GetRandom(Span<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            int done = 0;
            while (done < buffer.Length)
            {
                nint result = Native.getrandom(p + done, (nuint)(buffer.Length - done), 0);
                if (result < 0)
                {
                    Errno errno = Native.LastError;
                    if (errno == Errno.EINTR)
                    {
                        continue;
                    }

                    return errno;
                }

                done += (int)result;
            }
        }

        return Errno.OK;
    }

    /// <summary>clock_gettime(2) in nanoseconds.</summary>
    public static long ClockNs(int clock)
    {
        TimeSpec value;
        _ = Native.clock_gettime(clock, &value);
        return value.ToNs();
    }

    /// <summary>sysconf(3): the value, or -1.</summary>
    public static long SysConf(int name) => Native.sysconf(name);

    internal static Errno MBind(nint address, ulong length, int mode, ReadOnlySpan<ulong> nodes, uint flags)
    {
        fixed (ulong* p = nodes)
        {
            // The kernel looks at one bit less than it is told.
            nint maxNode = nodes.IsEmpty ? 0 : nodes.Length * 64 + 1;
            return ErrnoText.FromResult(Native.Check(Native.syscall(SYS_mbind, address, (nint)length, mode, (nint)p, maxNode, (nint)flags)));
        }
    }
}
