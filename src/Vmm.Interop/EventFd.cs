namespace Vmm.Interop;

/// <summary>A non-blocking, close-on-exec eventfd: a 64-bit counter that is readable while not zero. Usable from any thread.</summary>
public sealed unsafe partial class EventFd : SafeFd
{
    private EventFd(int fd)
        : base(fd)
    {
    }

    /// <summary>A new eventfd with count 0; throws when the process is out of descriptors.</summary>
    public static EventFd Create()
    {
        Errno errno = TryCreate(out EventFd? fd);
        return fd ?? throw new InvalidOperationException("eventfd: " + errno.Message());
    }

    /// <summary>A new eventfd with count 0. EMFILE, ENFILE, ENOMEM.</summary>
    public static Errno TryCreate(out EventFd? eventFd)
    {
        int fd = Native.Check(Native.eventfd(0, Libc.O_NONBLOCK | Libc.O_CLOEXEC));
        eventFd = fd < 0 ? null : new EventFd(fd);
        return ErrnoText.FromResult(fd);
    }

    /// <summary>Takes ownership of an eventfd that came from elsewhere.</summary>
    public static EventFd FromFd(int fd) => new(fd);

    /// <summary>Adds 1: whoever waits for readability wakes up. Never blocks; a counter at its maximum already is readable.</summary>
    public void Signal()
    {
        ulong one = 1;
        nint result;
        do
        {
            result = Native.write(Fd, &one, 8);
        }
        while (result < 0 && Native.LastError == Errno.EINTR);
    }

    /// <summary>Takes the count and resets it to 0; returns 0 when nothing was signalled.</summary>
    public ulong Drain()
    {
        ulong value = 0;
        nint result;
        do
        {
            result = Native.read(Fd, &value, 8);
        }
        while (result < 0 && Native.LastError == Errno.EINTR);
        return result == 8 ? value : 0;
    }
}
