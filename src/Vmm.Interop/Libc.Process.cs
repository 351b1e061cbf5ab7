using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>How <see cref="Libc.Spawn"/> starts a program.</summary>
public sealed class SpawnOptions
{
    /// <summary>Environment as NAME=value; null passes on the caller's own.</summary>
    public IReadOnlyList<string>? Environment { get; init; }

    /// <summary>Starts a session of its own (setsid).</summary>
    public bool NewSession { get; init; }

    /// <summary>Descriptors to duplicate in the child, in order: (from, to). The copies are not close-on-exec.</summary>
    public IReadOnlyList<(int From, int To)> Duplicate { get; init; } = [];

    /// <summary>Descriptors the child closes after that.</summary>
    public IReadOnlyList<int> Close { get; init; } = [];
}

/// <content>Processes.</content>
public static unsafe partial class Libc
{
    private const short POSIX_SPAWN_SETSIGDEF = 4, POSIX_SPAWN_SETSIGMASK = 8, POSIX_SPAWN_SETSID = 0x80;

    /// <summary>getpid(2).</summary>
    public static int GetPid() => Native.getpid();

    /// <summary>getppid(2).</summary>
    public static int GetPPid() => Native.getppid();

    /// <summary>getuid(2).</summary>
    public static uint GetUid() => Native.getuid();

    /// <summary>kill(2).</summary>
    public static Errno Kill(int pid, int signal) => Native.CheckErrno(Native.kill(pid, signal));

    /// <summary>prctl(2) with integer arguments: the result, or -errno.</summary>
    public static int Prctl(int option, nint argument) => Native.Check(Native.prctl(option, argument, 0, 0, 0));

    /// <summary>umask(2): sets the mask and returns the old one.</summary>
    public static uint Umask(uint mask) => Native.umask(mask);

    /// <summary>setsid(2).</summary>
    public static Errno SetSid() => Native.CheckErrno(Native.setsid());

    /// <summary>chdir(2).</summary>
    public static Errno ChDir(string path)
    {
        fixed (byte* z = Native.Z(path))
        {
            return Native.CheckErrno(Native.chdir(z));
        }
    }

    /// <summary>Where this program's file is (/proc/self/exe); null when /proc is not there.</summary>
    public static string? SelfExe() => ReadLink("/proc/self/exe");

    /// <summary>The command line of this process, argv[0] included, as the kernel has it.</summary>
    public static Errno SelfCommandLine(out string[] arguments)
    {
        Errno errno = ReadFile("/proc/self/cmdline", 16 << 20, out byte[] content);
        arguments = errno == Errno.OK ? SplitNul(content) : [];
        return errno;
    }

    /// <summary>The environment of this process at its start, as NAME=value.</summary>
    public static Errno SelfEnvironment(out string[] environment)
    {
        Errno errno = ReadFile("/proc/self/environ", 16 << 20, out byte[] content);
        environment = errno == Errno.OK ? SplitNul(content) : [];
        return errno;
    }

    /// <summary>execve(2); returns only on failure. Null environment: that of the process start.</summary>
    public static Errno Exec(string path, IReadOnlyList<string> arguments, IReadOnlyList<string>? environment)
    {
        if (environment is null)
        {
            Errno errno = SelfEnvironment(out string[] own);
            if (errno != Errno.OK)
            {
                return errno;
            }

            environment = own;
        }

        byte** argv = ToVector(arguments);
        byte** envp = ToVector(environment);
        Errno result;
        fixed (byte* z = Native.Z(path))
        {
            result = Native.CheckErrno(Native.execve(z, argv, envp));
        }

        FreeVector(argv);
        FreeVector(envp);
        return result;
    }

    /// <summary>
    /// Starts a program (posix_spawn: no fork, so it is safe from a process with threads). Descriptors that are not close-on-exec are
    /// inherited. The child has no signal blocked and all of them at their default actions.
    /// </summary>
    public static Errno Spawn(string path, IReadOnlyList<string> arguments, SpawnOptions options, out int pid)
    {
        pid = 0;
        IReadOnlyList<string>? environment = options.Environment;
        if (environment is null)
        {
            Errno errno = SelfEnvironment(out string[] own);
            if (errno != Errno.OK)
            {
                return errno;
            }

            environment = own;
        }

        // posix_spawn_file_actions_t is 80 bytes and posix_spawnattr_t 336 in glibc; larger here to be safe with other releases.
        byte* actions = stackalloc byte[256];
        byte* attributes = stackalloc byte[1024];
        ulong* set = stackalloc ulong[16];
        int result = Native.posix_spawn_file_actions_init(actions);
        if (result != 0)
        {
            return (Errno)result;
        }

        result = Native.posix_spawnattr_init(attributes);
        byte** argv = ToVector(arguments);
        byte** envp = ToVector(environment);
        if (result == 0)
        {
            foreach ((int from, int to) in options.Duplicate)
            {
                result = result == 0 ? Native.posix_spawn_file_actions_adddup2(actions, from, to) : result;
            }

            foreach (int fd in options.Close)
            {
                result = result == 0 ? Native.posix_spawn_file_actions_addclose(actions, fd) : result;
            }

            short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
            flags |= options.NewSession ? POSIX_SPAWN_SETSID : (short)0;
            _ = Native.posix_spawnattr_setflags(attributes, flags);
            new Span<ulong>(set, 16).Clear();
            _ = Native.posix_spawnattr_setsigmask(attributes, set);
            set[0] = ulong.MaxValue;
            _ = Native.posix_spawnattr_setsigdefault(attributes, set);
            if (result == 0)
            {
                fixed (byte* z = Native.Z(path))
                fixed (int* p = &pid)
                {
                    result = Native.posix_spawn(p, z, actions, attributes, argv, envp);
                }
            }

            _ = Native.posix_spawnattr_destroy(attributes);
        }

        _ = Native.posix_spawn_file_actions_destroy(actions);
        FreeVector(argv);
        FreeVector(envp);
        return (Errno)result;
    }

    /// <summary>waitpid(2) with WNOHANG or 0: the pid, 0 when still running, or -errno. EINTR is retried.</summary>
    public static int WaitPid(int pid, int options, out int status)
    {
        int value = 0;
        int result;
        do
        {
            result = Native.Check(Native.waitpid(pid, &value, options));
        }
        while (result == -(int)Errno.EINTR);
        status = value;
        return result;
    }

    /// <summary>The exit status in a wait status; null when the process died from a signal.</summary>
    public static int? ExitStatus(int status) => (status & 0x7F) == 0 ? (status >> 8) & 0xFF : null;

    /// <summary>The signal that killed the process in a wait status; 0 when it exited.</summary>
    public static int TermSignal(int status) => status & 0x7F;

    /// <summary>Ends the process at once, running nothing (_exit).</summary>
    public static void ExitNow(int status) => Native._exit(status);

    private static string[] SplitNul(byte[] content)
    {
        List<string> parts = [];
        ReadOnlySpan<byte> rest = content;
        while (!rest.IsEmpty)
        {
            int end = rest.IndexOf((byte)0);
            parts.Add(System.Text.Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]));
            rest = end < 0 ? default : rest[(end + 1)..];
        }

        return [.. parts];
    }

    private static byte** ToVector(IReadOnlyList<string> strings)
    {
        byte** vector = (byte**)NativeMemory.AllocZeroed((nuint)strings.Count + 1, (nuint)sizeof(byte*));
        for (int i = 0; i < strings.Count; i++)
        {
            byte[] z = Native.Z(strings[i]);
            vector[i] = (byte*)NativeMemory.Alloc((nuint)z.Length);
            z.CopyTo(new Span<byte>(vector[i], z.Length));
        }

        return vector;
    }

    private static void FreeVector(byte** vector)
    {
        for (byte** p = vector; *p != null; p++)
        {
            NativeMemory.Free(*p);
        }

        NativeMemory.Free(vector);
    }
}
