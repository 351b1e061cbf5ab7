namespace Vmm.Interop;

/// <content>Terminals and pseudo terminals.</content>
public static unsafe partial class Libc
{
    /// <summary>isatty(3).</summary>
    public static bool IsATty(int fd) => Native.isatty(fd) == 1;

    /// <summary>tcgetattr(3). ENOTTY.</summary>
    public static Errno TcGetAttr(int fd, out Termios value)
    {
        fixed (Termios* p = &value)
        {
            return Native.CheckErrno(Native.tcgetattr(fd, p));
        }
    }

    /// <summary>tcsetattr(3) with TCSANOW, TCSADRAIN or TCSAFLUSH.</summary>
    public static Errno TcSetAttr(int fd, int actions, in Termios value)
    {
        fixed (Termios* p = &value)
        {
            return Native.CheckErrno(Native.tcsetattr(fd, actions, p));
        }
    }

    /// <summary>The raw form of a terminal mode: no echo, no line editing, eight bits, no signals from keys, one byte suffices to read.</summary>
    public static Termios MakeRaw(Termios value)
    {
        value.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
        value.c_oflag &= ~OPOST;
        value.c_lflag &= ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
        value.c_cflag = (value.c_cflag & ~(CSIZE | PARENB)) | CS8;
        value.c_cc[VMIN] = 1;
        value.c_cc[VTIME] = 0;
        return value;
    }

    /// <summary>TIOCGWINSZ. ENOTTY.</summary>
    public static Errno GetWinSize(int fd, out WinSize size)
    {
        size = default;
        return ErrnoText.FromResult(Ioctl(fd, TIOCGWINSZ, ref size));
    }

    /// <summary>A new pseudo terminal: the master (close-on-exec) and the path of the slave.</summary>
    public static Errno OpenPty(out SafeFd master, out string slavePath)
    {
        slavePath = "";
        int fd = Native.Check(Native.posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
        master = new SafeFd(Math.Max(fd, -1));
        if (fd < 0)
        {
            return ErrnoText.FromResult(fd);
        }

        byte* name = stackalloc byte[128];
        Errno errno = Native.CheckErrno(Native.grantpt(fd));
        errno = errno == Errno.OK ? Native.CheckErrno(Native.unlockpt(fd)) : errno;
        errno = errno == Errno.OK ? (Errno)Native.ptsname_r(fd, name, 128) : errno;
        if (errno != Errno.OK)
        {
            master.Dispose();
            return errno;
        }

        slavePath = System.Runtime.InteropServices.Marshal.PtrToStringUTF8((nint)name)!;
        return Errno.OK;
    }
}
