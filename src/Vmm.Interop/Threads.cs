namespace Vmm.Interop;

/// <summary>Kernel-level thread operations, by kernel thread id.</summary>
public static unsafe class Threads
{
    private const nint SYS_gettid = 186;
    private const nint SYS_tgkill = 234;
    private const int MaskWords = 16;

    /// <summary>Kernel id of the calling thread.</summary>
    public static int Gettid() => (int)Native.syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);

    /// <summary>Sends a signal to one thread of this process. ESRCH when the thread has gone.</summary>
    public static Errno TgKill(int tid, int signal) =>
        ErrnoText.FromResult(Native.Check(Native.syscall(SYS_tgkill, Native.getpid(), tid, signal, 0, 0, 0)));

    /// <summary>Names the calling thread, as ps and top show it; the kernel keeps 15 bytes.</summary>
    public static void SetName(string name)
    {
        fixed (byte* z = Native.Z(name))
        {
            _ = Native.prctl(Libc.PR_SET_NAME, (nint)z, 0, 0, 0);
        }
    }

    /// <summary>
    /// Whether threads get names of their own, for people who debug; otherwise they keep that of the process. Set before threads start.
    /// </summary>
    public static bool DebugNames { get; set; }

    /// <summary>Names the calling thread when <see cref="DebugNames"/> asks for that.</summary>
    public static void SetDebugName(string name)
    {
        if (DebugNames)
        {
            SetName(name);
        }
    }

    /// <summary>Restricts a thread (0: the caller) to the host CPUs given. EINVAL when none of them exists.</summary>
    public static Errno SetAffinity(int tid, ReadOnlySpan<int> cpus)
    {
        ulong* mask = stackalloc ulong[MaskWords];
        new Span<ulong>(mask, MaskWords).Clear();
        foreach (int cpu in cpus)
        {
            if ((uint)cpu >= MaskWords * 64)
            {
                return Errno.EINVAL;
            }

            mask[cpu / 64] |= 1UL << (cpu % 64);
        }

        return Native.CheckErrno(Native.sched_setaffinity(tid, MaskWords * 8, mask));
    }

    /// <summary>The host CPUs a thread (0: the caller) may run on.</summary>
    public static Errno GetAffinity(int tid, List<int> cpus)
    {
        ulong* mask = stackalloc ulong[MaskWords];
        new Span<ulong>(mask, MaskWords).Clear();
        Errno errno = Native.CheckErrno(Native.sched_getaffinity(tid, MaskWords * 8, mask));
        for (int cpu = 0; errno == Errno.OK && cpu < MaskWords * 64; cpu++)
        {
            if ((mask[cpu / 64] >> (cpu % 64) & 1) != 0)
            {
                cpus.Add(cpu);
            }
        }

        return errno;
    }

    /// <summary>sched_yield(2).</summary>
    public static void Yield() => _ = Native.sched_yield();
}
