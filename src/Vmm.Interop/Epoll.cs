using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>An epoll instance with its own native event buffer, so that a blocked wait pins no managed memory. Wait on one thread only.</summary>
public sealed unsafe class Epoll : SafeFd
{
    private const int Capacity = 64;
    private const nint SYS_epoll_pwait2 = 441;

    private EpollEvent* _events;
    private bool _hasPwait2 = true;

    private Epoll(int fd)
        : base(fd)
    {
        _events = (EpollEvent*)NativeMemory.Alloc(Capacity, (nuint)sizeof(EpollEvent));
    }

    /// <summary>A new instance; throws when the process is out of descriptors.</summary>
    public static Epoll Create()
    {
        int fd = Native.Check(Native.epoll_create1(Libc.O_CLOEXEC));
        return fd >= 0 ? new Epoll(fd) : throw new InvalidOperationException("epoll_create1: " + ErrnoText.FromResult(fd).Message());
    }

    /// <summary>Starts watching. EPERM for a regular file, EEXIST, ENOSPC, EBADF.</summary>
    public Errno Add(int fd, uint events, ulong data) => Control(1, fd, events, data);

    /// <summary>Changes the events or the cookie. ENOENT, EBADF.</summary>
    public Errno Modify(int fd, uint events, ulong data) => Control(3, fd, events, data);

    /// <summary>Stops watching. ENOENT, EBADF.</summary>
    public Errno Remove(int fd) => Control(2, fd, 0, 0);

    /// <summary>
    /// Waits for at most <paramref name="timeoutNs"/> (0 polls, negative waits for ever; finer than a millisecond where the kernel has
    /// epoll_pwait2). Returns the number of events, read with <see cref="GetEvent"/>, or -errno (-EINTR after a signal).
    /// </summary>
    public int Wait(long timeoutNs)
    {
        if (timeoutNs == 0)
        {
            return Native.Check(Native.epoll_wait(Fd, _events, Capacity, 0));
        }

        if (timeoutNs < 0)
        {
            return Native.Check(Native.epoll_wait(Fd, _events, Capacity, -1));
        }

        if (_hasPwait2)
        {
            TimeSpec timeout = TimeSpec.FromNs(timeoutNs);
            long result = Native.Check(Native.syscall(SYS_epoll_pwait2, Fd, (nint)_events, Capacity, (nint)(&timeout), 0, 0));
            if (result != -(int)Errno.ENOSYS)
            {
                return (int)result;
            }

            _hasPwait2 = false;
        }

        long ms = Math.Min((timeoutNs + 999_999) / 1_000_000, int.MaxValue);
        return Native.Check(Native.epoll_wait(Fd, _events, Capacity, (int)ms));
    }

    /// <summary>Event <paramref name="index"/> of the last <see cref="Wait"/>.</summary>
    public EpollEvent GetEvent(int index)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Capacity);
        return _events[index];
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        NativeMemory.Free(_events);
        _events = null;
        return base.ReleaseHandle();
    }

    private Errno Control(int operation, int fd, uint events, ulong data)
    {
        EpollEvent ev = new() { events = events, data = data };
        return Native.CheckErrno(Native.epoll_ctl(Fd, operation, fd, &ev));
    }
}

/// <summary>A non-blocking timerfd on CLOCK_MONOTONIC.</summary>
public sealed unsafe class TimerFd : SafeFd
{
    private TimerFd(int fd)
        : base(fd)
    {
    }

    /// <summary>A new disarmed timer; throws when the process is out of descriptors.</summary>
    public static TimerFd Create()
    {
        int fd = Native.Check(Native.timerfd_create(Libc.CLOCK_MONOTONIC, Libc.O_NONBLOCK | Libc.O_CLOEXEC));
        return fd >= 0 ? new TimerFd(fd) : throw new InvalidOperationException("timerfd_create: " + ErrnoText.FromResult(fd).Message());
    }

    /// <summary>Expires at the monotonic time <paramref name="deadlineNs"/> (at once when that is past); 0 disarms.</summary>
    public void ArmAt(long deadlineNs)
    {
        TimeSpec* value = stackalloc TimeSpec[2];
        value[0] = default;
        value[1] = TimeSpec.FromNs(Math.Max(deadlineNs, 0));
        _ = Native.timerfd_settime(Fd, Libc.TFD_TIMER_ABSTIME, value, null);
    }

    /// <summary>Takes the number of expirations since the last call.</summary>
    public ulong Drain()
    {
        ulong value = 0;
        return Native.read(Fd, &value, 8) == 8 ? value : 0;
    }
}
