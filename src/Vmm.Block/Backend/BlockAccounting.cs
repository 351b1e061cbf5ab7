using Vmm.Interop;

namespace Vmm.Block.Backend;

/// <summary>Kinds of requests that are counted.</summary>
public enum AccountedKind
{
    /// <summary>Reads.</summary>
    Read,

    /// <summary>Writes.</summary>
    Write,

    /// <summary>Flushes.</summary>
    Flush,

    /// <summary>Discards.</summary>
    Unmap,
}

/// <summary>What query-blockstats says of a back end. Written on its loop, read anywhere: the numbers may be a little apart.</summary>
public sealed partial class BlockAccounting
{
    private readonly long[] _bytes = new long[4];
    private readonly long[] _operations = new long[4];
    private readonly long[] _failed = new long[4];
    private readonly long[] _invalid = new long[4];
    private readonly long[] _timeNs = new long[4];
    private long _lastNs;

    /// <summary>Requests that failed count in <see cref="Operations"/>-times and latencies.</summary>
    public bool CountsFailed { get; set; } = true;

    /// <summary>Requests that were invalid make the back end busy.</summary>
    public bool CountsInvalid { get; set; } = true;

    /// <summary>End of the last request, on the real-time clock; 0 before the first.</summary>
    public long LastNs => Volatile.Read(ref _lastNs);

    /// <summary>Bytes.</summary>
    public long Bytes(AccountedKind kind) => Volatile.Read(ref _bytes[(int)kind]);

    /// <summary>Requests that succeeded.</summary>
    public long Operations(AccountedKind kind) => Volatile.Read(ref _operations[(int)kind]);

    /// <summary>Requests that failed.</summary>
    public long Failed(AccountedKind kind) => Volatile.Read(ref _failed[(int)kind]);

    /// <summary>Requests that were refused before they began.</summary>
    public long Invalid(AccountedKind kind) => Volatile.Read(ref _invalid[(int)kind]);

    /// <summary>Time of all requests, in nanoseconds.</summary>
    public long TimeNs(AccountedKind kind) => Volatile.Read(ref _timeNs[(int)kind]);

    /// <summary>Now, for <see cref="Done"/>.</summary>
    public static long Start() => Libc.ClockNs(Libc.CLOCK_MONOTONIC);

    /// <summary>A request has ended.</summary>
    public void Done(AccountedKind kind, long startNs, long bytes, int result)
    {
        long now = Libc.ClockNs(Libc.CLOCK_MONOTONIC);
        int i = (int)kind;
        if (result >= 0)
        {
            _bytes[i] += bytes;
            _operations[i]++;
        }
        else
        {
            _failed[i]++;
        }

        if (result >= 0 || CountsFailed)
        {
            _timeNs[i] += now - startNs;
            AddLatency(i, now - startNs, now);
            Volatile.Write(ref _lastNs, now);
        }
    }

    /// <summary>A request was refused.</summary>
    public void Refused(AccountedKind kind)
    {
        _invalid[(int)kind]++;
        if (CountsInvalid)
        {
            Volatile.Write(ref _lastNs, Start());
        }
    }
}
