using System.Diagnostics;
using System.Globalization;
using System.Text;
using Vmm.Interop;

namespace Vmm.Benchmarks;

/// <summary>One emulator under measurement: its name in tables and its binary.</summary>
internal sealed record Subject(string Name, string Binary);

/// <summary>
/// One started emulator, spawned without the overhead of System.Diagnostics.Process, with a monitor over an inherited socket
/// pair (descriptor 3) and standard output in a pipe.
/// </summary>
internal sealed class Launched : IDisposable
{
    private readonly SafeFd _monitor;
    private readonly SafeFd _output;
    private byte[] _buffer = new byte[1 << 20];
    private int _have;
    private int _consumed;

    private Launched(int pid, long startedAt, SafeFd monitor, SafeFd output)
    {
        Pid = pid;
        StartedAt = startedAt;
        _monitor = monitor;
        _output = output;
    }

    public int Pid { get; }

    /// <summary>Stopwatch timestamp just before the spawn.</summary>
    public long StartedAt { get; }

    /// <summary>Since just before the spawn.</summary>
    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(StartedAt);

    /// <summary>CPU time that all threads of the process have used, user and system, in ns.</summary>
    public long CpuNs => Libc.ClockNs((~Pid << 3) | 2);

    public static Launched Start(Subject subject, params string[] arguments)
    {
        Check(Libc.SocketPair(Libc.SOCK_STREAM | Libc.SOCK_CLOEXEC, out SafeFd ours, out SafeFd theirs));
        Check(Libc.Pipe(Libc.O_CLOEXEC, out SafeFd outRead, out SafeFd outWrite));
        Check(Libc.Open("/dev/null", Libc.O_RDWR | Libc.O_CLOEXEC, out SafeFd none));
        int errors = Environment.GetEnvironmentVariable("VMM_BENCH_STDERR") is null ? none.Fd : 2;
        SpawnOptions options = new() { Duplicate = [(none.Fd, 0), (outWrite.Fd, 1), (errors, 2), (theirs.Fd, 3)] };
        string[] all = [subject.Binary, .. arguments, "-chardev", "socket,id=benchmon,fd=3", "-mon", "chardev=benchmon,mode=control"];
        long start = Stopwatch.GetTimestamp();
        Check(Libc.Spawn(subject.Binary, all, options, out int pid));
        theirs.Dispose();
        outWrite.Dispose();
        none.Dispose();
        return new Launched(pid, start, ours, outRead);
    }

    public void ReadGreeting() => ReadLine();

    public void Negotiate()
    {
        ReadGreeting();
        RoundTrip("{\"execute\":\"qmp_capabilities\"}"u8);
    }

    /// <summary>Sends one command and reads lines until its reply; returns the length of the reply.</summary>
    public int RoundTrip(ReadOnlySpan<byte> command)
    {
        Send(command);
        return ReadReply();
    }

    public void Send(ReadOnlySpan<byte> bytes) => Check(Libc.WriteAll(_monitor.Fd, bytes));

    /// <summary>Reads lines until one is a reply; returns its length.</summary>
    public int ReadReply()
    {
        while (true)
        {
            ReadOnlySpan<byte> line = ReadLine();
            if (line.StartsWith("{\"return\""u8) || line.StartsWith("{\"error\""u8) || line.StartsWith("{\"id\""u8))
            {
                return line.Length;
            }
        }
    }

    /// <summary>Next line of the monitor, without its line end; valid until the next call.</summary>
    public ReadOnlySpan<byte> ReadLine()
    {
        if (_consumed > 0)
        {
            _buffer.AsSpan(_consumed, _have - _consumed).CopyTo(_buffer);
            _have -= _consumed;
            _consumed = 0;
        }

        int scanned = 0;
        while (true)
        {
            int at = _buffer.AsSpan(scanned, _have - scanned).IndexOf((byte)'\n');
            if (at >= 0)
            {
                _consumed = scanned + at + 1;
                return _buffer.AsSpan(0, scanned + at);
            }

            scanned = _have;
            if (_have == _buffer.Length)
            {
                Array.Resize(ref _buffer, 2 * _have);
            }

            int n = Libc.Read(_monitor.Fd, _buffer.AsSpan(_have));
            if (n <= 0)
            {
                throw new InvalidOperationException("the monitor closed: " + Encoding.UTF8.GetString(_buffer, 0, _have));
            }

            _have += n;
        }
    }

    /// <summary>Waits for the first byte on standard output.</summary>
    public byte ReadOutputByte()
    {
        Span<byte> one = stackalloc byte[1];
        int n = Libc.Read(_output.Fd, one);
        return n == 1 ? one[0] : throw new InvalidOperationException("standard output closed");
    }

    /// <summary>Reads standard output until it contains <paramref name="mark"/>.</summary>
    public void ReadOutputUntil(byte mark)
    {
        while (ReadOutputByte() != mark)
        {
        }
    }

    /// <summary>A field of /proc/PID/smaps_rollup in KiB.</summary>
    public long MemoryKiB(string field)
    {
        foreach (string line in File.ReadLines($"/proc/{Pid}/smaps_rollup"))
        {
            if (line.StartsWith(field + ":", StringComparison.Ordinal))
            {
                return long.Parse(line.AsSpan(field.Length + 1).Trim().ToString().Split(' ')[0], CultureInfo.InvariantCulture);
            }
        }

        throw new InvalidOperationException(field);
    }

    public void Dispose()
    {
        Libc.Kill(Pid, 9);
        Libc.WaitPid(Pid, 0, out _);
        _monitor.Dispose();
        _output.Dispose();
    }

    private static void Check(Errno e)
    {
        if (e != Errno.OK)
        {
            throw new IOException(e.ToString());
        }
    }
}
