using Vmm.EventLoop;

namespace Vmm.Devices.Rtc;

/// <summary>What <c>-rtc base=</c> says the clock shows when the machine is created.</summary>
public enum RtcBaseKind
{
    /// <summary>UTC of the host.</summary>
    Utc,

    /// <summary>Local time of the host.</summary>
    LocalTime,

    /// <summary>A given date and time.</summary>
    DateTime,
}

/// <summary>
/// The reference that a real time clock is set from and compared with: <c>-rtc base=…,clock=…</c>. One per machine; immutable.
/// </summary>
public sealed class RtcTimeBase
{
    private readonly Clocks _clocks;
    private readonly RtcBaseKind _kind;
    private readonly long _startSeconds;
    private readonly long _hostDateOffset;
    private readonly long _realtimeStart;

    /// <param name="clocks">Clocks of the process.</param>
    /// <param name="clock">Clock that drives the RTC: host (default), realtime or virtual.</param>
    /// <param name="kind">Meaning of the initial value.</param>
    /// <param name="startSeconds">With <see cref="RtcBaseKind.DateTime"/>: the date in seconds since 1970.</param>
    public RtcTimeBase(Clocks clocks, ClockType clock = ClockType.Host, RtcBaseKind kind = RtcBaseKind.Utc, long startSeconds = 0)
    {
        _clocks = clocks;
        Clock = clock;
        _kind = kind;
        long host = Seconds(ClockType.Host);
        _startSeconds = kind == RtcBaseKind.DateTime ? startSeconds : host;
        _hostDateOffset = kind == RtcBaseKind.DateTime ? host - startSeconds : 0;
        _realtimeStart = Seconds(ClockType.Realtime);
    }

    /// <summary>Clock that drives the RTC.</summary>
    public ClockType Clock { get; }

    /// <summary>What a clock that nobody has set shows now, as seconds since 1970 in its own time zone.</summary>
    public long NowSeconds()
    {
        long value = Clock switch
        {
            ClockType.Host => Seconds(ClockType.Host) - _hostDateOffset,
            ClockType.Realtime => Seconds(ClockType.Realtime) - _realtimeStart + _startSeconds,
            _ => Seconds(ClockType.Virtual) + _startSeconds,
        };
        if (_kind == RtcBaseKind.LocalTime)
        {
            value += (long)TimeZoneInfo.Local.GetUtcOffset(DateTimeOffset.FromUnixTimeSeconds(value)).TotalSeconds;
        }

        return value;
    }

    private long Seconds(ClockType clock) => _clocks.NowNs(clock) / WideMath.NsPerSecond;
}
