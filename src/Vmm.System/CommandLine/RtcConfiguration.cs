using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>What the real-time clock shows at start.</summary>
public enum RtcBase
{
    /// <summary>Universal time.</summary>
    Utc,

    /// <summary>Local time of the host.</summary>
    LocalTime,

    /// <summary>A given time.</summary>
    DateTime,
}

/// <summary>Which clock drives the real-time clock.</summary>
public enum RtcClock
{
    /// <summary>The host's wall clock.</summary>
    Host,

    /// <summary>The host's monotonic clock.</summary>
    RealTime,

    /// <summary>The guest's clock, which stands still with the guest.</summary>
    Virtual,
}

/// <summary>-rtc.</summary>
/// <param name="Base">What the clock shows at start.</param>
/// <param name="StartSeconds">Seconds since 1970 for <see cref="RtcBase.DateTime"/>, else 0.</param>
/// <param name="Clock">Which clock drives it.</param>
/// <param name="SlewLostTicks">driftfix=slew: lost periodic interrupts are injected later.</param>
public sealed record RtcConfiguration(RtcBase Base, long StartSeconds, RtcClock Clock, bool SlewLostTicks)
{
    /// <summary>Reads the options.</summary>
    /// <exception cref="QapiException">A value is not one of those known.</exception>
    public static RtcConfiguration Parse(QemuOpts? opts)
    {
        RtcBase rtcBase = RtcBase.Utc;
        long start = 0;
        switch (opts?.Get("base"))
        {
            case null or "utc":
                break;
            case "localtime":
                rtcBase = RtcBase.LocalTime;
                break;
            case var text:
                rtcBase = RtcBase.DateTime;
                if (!TryParseDateTime(text, out start))
                {
                    throw new QapiException(
                        QapiErrorClass.GenericError,
                        "invalid datetime format",
                        "valid formats: '2006-06-17T16:01:21' or '2006-06-17'");
                }

                break;
        }

        RtcClock clock = opts?.Get("clock") switch
        {
            null or "host" => RtcClock.Host,
            "rt" => RtcClock.RealTime,
            "vm" => RtcClock.Virtual,
            var text => throw new QapiException($"invalid option value '{text}'"),
        };
        bool slew = opts?.Get("driftfix") switch
        {
            null or "none" => false,
            "slew" => true,
            var text => throw new QapiException($"invalid option value '{text}'"),
        };
        return new RtcConfiguration(rtcBase, start, clock, slew);
    }

    // Numbers separated as in 2006-06-17T16:01:21; what follows the third or the sixth number is not looked at.
    private static bool TryParseDateTime(string text, out long seconds)
    {
        ReadOnlySpan<char> separators = "--T::";
        Span<int> fields = stackalloc int[6];
        fields.Clear();
        int count = 0;
        int i = 0;
        while (count < 6)
        {
            int start = i;
            int value = 0;
            while (i < text.Length && char.IsAsciiDigit(text[i]) && i - start < 9)
            {
                value = (value * 10) + (text[i++] - '0');
            }

            if (i == start)
            {
                break;
            }

            fields[count++] = value;
            if (count == 6 || i >= text.Length || text[i] != separators[count - 1])
            {
                break;
            }

            i++;
        }

        seconds = 0;
        if (count < 3)
        {
            return false;
        }

        if (count < 6)
        {
            fields[3..].Clear();
        }

        seconds = (DaysSinceEpoch(fields[0], fields[1], fields[2]) * 86400) + (fields[3] * 3600L) + (fields[4] * 60L) + fields[5];
        return seconds != -1;
    }

    // Proleptic Gregorian calendar, years counted from March so that the leap day is the last of its year.
    private static long DaysSinceEpoch(int year, int month, int day)
    {
        long y = month < 3 ? year - 1L : year;
        long m = month < 3 ? month + 12L : month;
        return (365 * y) + (y / 4) - (y / 100) + (y / 400) + (((153 * m) - 457) / 5) + day - 719469;
    }
}
