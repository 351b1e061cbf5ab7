using Vmm.Interop;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>
/// Standard input and output. A terminal is put into a mode without echo and line editing, and gets its own mode back at the end.
/// </summary>
public sealed class StdioChardev : StreamChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Stdio;

    private static StdioChardev? s_user;

    private readonly bool _isTerminal;
    private readonly bool _allowSignal;
    private readonly int _oldInputFlags;
    private readonly int _oldOutputFlags;
    private Termios _oldMode;
    private bool _echo;

    /// <summary>Takes standard input and output.</summary>
    /// <exception cref="QapiException">The process is a daemon, or stdio is taken.</exception>
    internal StdioChardev(ChardevHost host, ChardevStdio options)
        : base(host)
    {
        if (host.IsDaemon)
        {
            throw new QapiException("cannot use stdio with -daemonize");
        }

        if (s_user is not null)
        {
            throw new QapiException("cannot use stdio by multiple character devices");
        }

        _oldInputFlags = Libc.Fcntl(0, Libc.F_GETFL, 0);
        _oldOutputFlags = Libc.Fcntl(1, Libc.F_GETFL, 0);
        _allowSignal = options.Signal ?? true;
        _isTerminal = Libc.TcGetAttr(0, out _oldMode) == Errno.OK;
        if (_oldInputFlags < 0 || _oldOutputFlags < 0)
        {
            throw new QapiException("Failed to set FD nonblocking: " + Errno.EBADF.Message());
        }

        // The descriptors are duplicated so that closing this back end leaves 0 and 1 occupied: the next file opened must not become them.
        SafeFd input = Duplicate(0);
        SafeFd output = Duplicate(1);
        Libc.SetNonBlocking(0, true);
        Libc.SetNonBlocking(1, true);
        SetDescriptors(input, output);
        s_user = this;
        SetEcho(false);
        Filename = "stdio";
        IsOpen = true;
    }

    /// <inheritdoc/>
    public override void SetEcho(bool echo)
    {
        _echo = echo;
        ApplyMode();
    }

    /// <summary>Puts the terminal back into our mode after the process was stopped and continued by job control (SIGCONT).</summary>
    internal static void Reapply() => s_user?.ApplyMode();

    /// <inheritdoc/>
    private protected override void Close()
    {
        base.Close();
        if (s_user == this)
        {
            s_user = null;
            if (_isTerminal)
            {
                Libc.TcSetAttr(0, Libc.TCSANOW, _oldMode);
            }

            Libc.Fcntl(0, Libc.F_SETFL, _oldInputFlags);
            Libc.Fcntl(1, Libc.F_SETFL, _oldOutputFlags);
        }
    }

    private static SafeFd Duplicate(int fd) => new(Libc.Fcntl(fd, Libc.F_DUPFD_CLOEXEC, 3));

    private void ApplyMode()
    {
        if (!_isTerminal)
        {
            return;
        }

        Termios mode = _oldMode;
        if (!_echo)
        {
            mode = Libc.MakeRaw(mode);
            mode.c_oflag |= Libc.OPOST;
            mode.c_lflag |= _oldMode.c_lflag & Libc.ISIG;
        }

        if (!_allowSignal)
        {
            mode.c_lflag &= ~Libc.ISIG;
        }

        Libc.TcSetAttr(0, Libc.TCSANOW, mode);
    }
}
