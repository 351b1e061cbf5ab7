using Vmm.Block.Options;
using Vmm.Block.Throttling;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Drives;

/// <summary>The options of a drive, sorted by whom they concern. Taking them apart changes the dictionary. Pure.</summary>
internal sealed class DriveOptions
{
    private static readonly (string Old, string Name)[] s_aliases =
    [
        ("iops", "throttling.iops-total"),
        ("iops_rd", "throttling.iops-read"),
        ("iops_wr", "throttling.iops-write"),
        ("bps", "throttling.bps-total"),
        ("bps_rd", "throttling.bps-read"),
        ("bps_wr", "throttling.bps-write"),
        ("iops_max", "throttling.iops-total-max"),
        ("iops_rd_max", "throttling.iops-read-max"),
        ("iops_wr_max", "throttling.iops-write-max"),
        ("bps_max", "throttling.bps-total-max"),
        ("bps_rd_max", "throttling.bps-read-max"),
        ("bps_wr_max", "throttling.bps-write-max"),
        ("iops_size", "throttling.iops-size"),
        ("group", "throttling.group"),
        ("readonly", "read-only"),
    ];

    private static readonly string[] s_buckets = ["bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"];

    private readonly QDict _flat;

    /// <summary>Takes over options as they were given: all values text, names with dots.</summary>
    internal DriveOptions(QDict flat)
    {
        _flat = flat;
        foreach ((string old, string name) in s_aliases)
        {
            if (_flat.Remove(old, out QValue? value))
            {
                _flat[name] = _flat.ContainsKey(name)
                    ? throw new QapiException($"'{name}' and its alias '{old}' can't be used at the same time")
                    : value;
            }
        }

        if (Take("cache") is { } cache)
        {
            (bool direct, bool writeBack, bool noFlush) = ParseCache(cache) ?? throw new QapiException("invalid cache option");
            _flat.TryAdd("cache.writeback", OnOff(writeBack));
            _flat.TryAdd("cache.direct", OnOff(direct));
            _flat.TryAdd("cache.no-flush", OnOff(noFlush));
        }
    }

    /// <summary>What a mode of caching means; null for a name that is none.</summary>
    internal static (bool IsDirect, bool IsWriteBack, bool IsNoFlush)? ParseCache(string mode) => mode switch
    {
        "none" or "off" => (true, true, false),
        "directsync" => (true, false, false),
        "writeback" => (false, true, false),
        "unsafe" => (false, true, true),
        "writethrough" => (false, false, false),
        _ => null,
    };

    /// <summary>What is left.</summary>
    internal QDict Rest => _flat;

    /// <summary>A text; null when it is not given.</summary>
    internal string? Take(string name) => _flat.Remove(name, out QValue? value) ? ((QString)value).Value : null;

    /// <summary>A switch; null when it is not given.</summary>
    internal bool? TakeBool(string name) => Take(name) is { } text ? OptionErrors.ParseBool(name, text) : null;

    /// <summary>A number as 32 bits; null when it is not given.</summary>
    internal int? TakeInt(string name) => Take(name) is { } text ? unchecked((int)OptionErrors.ParseNumber(name, text)) : null;

    /// <summary>The limits, and the name of their group; null where it is not given.</summary>
    internal (ThrottleConfig Limits, string? Group) TakeLimits()
    {
        ThrottleRate[] rates = new ThrottleRate[ThrottleConfig.Buckets];
        for (int i = 0; i < rates.Length; i++)
        {
            string name = "throttling." + s_buckets[i];
            rates[i] = new ThrottleRate(TakeLong(name, 0), TakeLong(name + "-max", 0), TakeLong(name + "-max-length", 1));
        }

        ThrottleConfig limits = new(rates, TakeLong("throttling.iops-size", 0));
        string? group = Take("throttling.group");
        limits.Validate();
        return (limits, group);
    }

    /// <summary>The intervals for which statistics are kept, as text.</summary>
    internal IReadOnlyList<string> TakeIntervals()
    {
        const string Prefix = "stats-intervals.";
        List<string> intervals = [];
        while (Take(Prefix + intervals.Count) is { } text)
        {
            intervals.Add(text);
        }

        foreach (KeyValuePair<string, QValue> option in _flat)
        {
            if (option.Key.StartsWith(Prefix, StringComparison.Ordinal))
            {
                throw new QapiException($"Invalid option {option.Key}");
            }
        }

        return intervals;
    }

    /// <summary>Their lengths in seconds, 1 to 2^32 - 1.</summary>
    /// <exception cref="QapiException">One is not in that range.</exception>
    internal static IReadOnlyList<long> ReadIntervals(IReadOnlyList<string> texts)
    {
        List<long> intervals = [];
        foreach (string text in texts)
        {
            intervals.Add(OptionScalars.TryParseUInt64(text, out ulong seconds) == ScalarStatus.Ok && seconds is > 0 and <= uint.MaxValue
                ? (long)seconds
                : throw new QapiException($"Invalid interval length: {text}"));
        }

        return intervals;
    }

    /// <summary>A policy for failed requests.</summary>
    internal static BlockErrorPolicy ParsePolicy(string text, bool isRead) => text switch
    {
        "ignore" => BlockErrorPolicy.Ignore,
        "enospc" when !isRead => BlockErrorPolicy.Enospc,
        "stop" => BlockErrorPolicy.Stop,
        "report" => BlockErrorPolicy.Report,
        _ => throw new QapiException($"'{text}' invalid {(isRead ? "read" : "write")} error action"),
    };

    /// <summary>How files are read and written; null when it is not given.</summary>
    internal AioMode? TakeAio() => Take("aio") switch
    {
        null => null,
        "threads" => AioMode.Threads,
        "native" => AioMode.Native,
        "io_uring" => AioMode.IoUring,
        _ => throw new QapiException("invalid aio option"),
    };

    internal static string OnOff(bool value) => value ? "on" : "off";

    private long TakeLong(string name, long otherwise) =>
        Take(name) is { } text ? unchecked((long)OptionErrors.ParseNumber(name, text)) : otherwise;
}
