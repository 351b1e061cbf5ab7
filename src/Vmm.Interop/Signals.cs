using System.Buffers.Binary;

namespace Vmm.Interop;

/// <summary>
/// Signal dispositions and masks. The runtime keeps SIGRTMIN (garbage collection suspends threads with it), so the vCPU kick is
/// another real-time signal.
/// </summary>
public static unsafe class Signals
{
    /// <summary>The signal that takes a vCPU thread out of KVM_RUN.</summary>
    public const int Kick = Libc.SIGRTMIN + 4;

    private const int SA_SIGINFO = 4;
    private const int SA_ONSTACK = 0x08000000;
    private const int SA_RESTART = 0x10000000;

    /// <summary>
    /// Installs the kick signal. Its handler is libc's abs: it does nothing, and no managed code runs in signal context; the only effect
    /// of <see cref="Threads.TgKill"/> with <see cref="Kick"/> is that a blocking system call of the thread returns EINTR.
    /// </summary>
    public static Errno InstallKick()
    {
        nint handler;
        fixed (byte* name = "abs\0"u8)
        {
            handler = Native.dlsym(0, name);
        }

        if (handler == 0)
        {
            return Errno.ENOENT;
        }

        // Without SA_RESTART: the point is that the call is interrupted.
        SigAction action = new() { sa_handler = handler, sa_flags = SA_ONSTACK };
        return Native.CheckErrno(Native.sigaction(Kick, &action, null));
    }

    /// <summary>Ignores a signal (SIG_IGN), which programs started later inherit.</summary>
    public static Errno Ignore(int signal)
    {
        SigAction action = new() { sa_handler = 1 };
        return Native.CheckErrno(Native.sigaction(signal, &action, null));
    }

    /// <summary>Restores a signal's default action.</summary>
    public static Errno Default(int signal)
    {
        SigAction action = default;
        return Native.CheckErrno(Native.sigaction(signal, &action, null));
    }

    /// <summary>Blocks signals for the calling thread and the threads it starts from now on.</summary>
    public static Errno Block(ReadOnlySpan<int> signals) => Mask(0, signals);

    /// <summary>Unblocks signals for the calling thread.</summary>
    public static Errno Unblock(ReadOnlySpan<int> signals) => Mask(1, signals);

    /// <summary>Whether the calling thread has the signal blocked.</summary>
    public static bool IsBlocked(int signal)
    {
        ulong* old = stackalloc ulong[16];
        _ = Native.pthread_sigmask(0, null, old);
        return (old[(signal - 1) / 64] >> ((signal - 1) % 64) & 1) != 0;
    }

    internal static void SetHandler(int signal, nint handler)
    {
        SigAction action = new() { sa_handler = handler, sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
        _ = Native.sigaction(signal, &action, null);
    }

    /// <summary>Installs a handler that passes signals on to the one before it, and so must run on the stack that that one expects.</summary>
    internal static void SetHandler(int signal, nint handler, SigAction before)
    {
        before.sa_handler = handler;
        before.sa_flags |= SA_SIGINFO | SA_RESTART;
        _ = Native.sigaction(signal, &before, null);
    }

    internal static void ToSet(ReadOnlySpan<int> signals, ulong* set)
    {
        new Span<ulong>(set, 16).Clear();
        foreach (int signal in signals)
        {
            set[(signal - 1) / 64] |= 1UL << ((signal - 1) % 64);
        }
    }

    private static Errno Mask(int how, ReadOnlySpan<int> signals)
    {
        ulong* set = stackalloc ulong[16];
        ToSet(signals, set);
        return (Errno)Native.pthread_sigmask(how, set, null);
    }
}

/// <summary>A signal that arrived, and who sent it.</summary>
/// <param name="Signal">SIG* number.</param>
/// <param name="Code">si_code: 0 for kill(2), negative for other senders in user space, positive for the kernel.</param>
/// <param name="Pid">Sending process, where Code says there is one.</param>
/// <param name="Uid">Its user.</param>
public readonly record struct SignalInfo(int Signal, int Code, int Pid, uint Uid);

/// <summary>
/// Turns process-directed signals into readable records on a pipe, for the main loop. signalfd cannot do that here: it needs a signal
/// blocked in every thread, and the runtime starts threads, with nothing blocked, before the program's first line. So the handler is a
/// 24-byte routine of our own machine code that writes its siginfo_t to the pipe with one system call: async-signal-safe, free of the
/// managed runtime, and it works on whichever thread the kernel picks. Programs started later get the default actions, not blocked ones.
/// One instance per process; lives until the process ends.
/// </summary>
public sealed unsafe class SignalPipe : IDisposable
{
    private const int SigInfoSize = 128;

    private readonly SafeFd _read;
    private readonly SafeFd _write;
    private readonly MappedMemory _code;
    private readonly int[] _signals;

    private SignalPipe(SafeFd read, SafeFd write, MappedMemory code, int[] signals)
    {
        _read = read;
        _write = write;
        _code = code;
        _signals = signals;
    }

    /// <summary>Readable while signals are waiting.</summary>
    public int Fd => _read.Fd;

    /// <summary>Installs the handler for the signals given. EMFILE, ENOMEM, EACCES (where policy forbids executable memory).</summary>
    public static Errno Create(ReadOnlySpan<int> signals, out SignalPipe? pipe)
    {
        pipe = null;
        Errno errno = Libc.Pipe(Libc.O_NONBLOCK, out SafeFd read, out SafeFd write);
        if (errno != Errno.OK)
        {
            return errno;
        }

        errno = MappedMemory.Map(
            4096, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS, -1, 0, out MappedMemory? code);
        if (errno == Errno.OK)
        {
            // void handler(int, siginfo_t *info, void *): info is in rsi, which is write's second argument already.
            Span<byte> at = code!.AsSpan(0, 24);
            ReadOnlySpan<byte> routine =
            [
                0xF3, 0x0F, 0x1E, 0xFA,             // endbr64
                0xBF, 0, 0, 0, 0,                   // mov edi, fd
                0xBA, SigInfoSize, 0, 0, 0,         // mov edx, 128
                0xB8, 1, 0, 0, 0,                   // mov eax, SYS_write
                0x0F, 0x05,                         // syscall
                0xC3,                               // ret
            ];
            routine.CopyTo(at);
            BinaryPrimitives.WriteInt32LittleEndian(at[5..], write.Fd);
            errno = code.Protect(0, 4096, Libc.PROT_READ | Libc.PROT_EXEC);
        }

        if (errno != Errno.OK)
        {
            read.Dispose();
            write.Dispose();
            code?.Dispose();
            return errno;
        }

        foreach (int signal in signals)
        {
            Signals.SetHandler(signal, code!.Address);
        }

        pipe = new SignalPipe(read, write, code!, signals.ToArray());
        return Errno.OK;
    }

    /// <summary>Takes the oldest waiting signal; false when there is none.</summary>
    public bool TryRead(out SignalInfo info)
    {
        Span<byte> record = stackalloc byte[SigInfoSize];
        if (_read.Read(record) != SigInfoSize)
        {
            info = default;
            return false;
        }

        info = new SignalInfo(
            BinaryPrimitives.ReadInt32LittleEndian(record),
            BinaryPrimitives.ReadInt32LittleEndian(record[8..]),
            BinaryPrimitives.ReadInt32LittleEndian(record[16..]),
            BinaryPrimitives.ReadUInt32LittleEndian(record[20..]));
        return true;
    }

    /// <summary>Gives the signals their default actions back, then releases the pipe.</summary>
    public void Dispose()
    {
        foreach (int signal in _signals)
        {
            _ = Signals.Default(signal);
        }

        _read.Dispose();
        _write.Dispose();

        // The code page stays: another thread may be inside the handler.
        _code.SetHandleAsInvalid();
    }
}
