using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Devices.Rtc;

/// <summary>What a periodic timer does with ticks that the guest missed (QAPI LostTickPolicy).</summary>
[QapiEnum]
public enum LostTickPolicy
{
    /// <summary>Throw them away.</summary>
    Discard,

    /// <summary>Deliver them at the normal rate, late.</summary>
    Delay,

    /// <summary>Deliver them at a higher rate.</summary>
    Slew,
}

/// <summary>The guest set its clock.</summary>
[QmpEvent("RTC_CHANGE", RateLimitMs = 1000)]
public sealed partial record RtcChangeEvent
{
    /// <summary>Seconds by which the guest's clock is ahead of the reference.</summary>
    public required long Offset { get; init; }

    /// <summary>Which clock.</summary>
    [QapiName("qom-path")]
    public required string QomPath { get; init; }
}

/// <summary>QOM faces of the clock.</summary>
public static class RtcQom
{
    /// <summary>
    /// Property <c>date</c> of the device; boards offer it as <c>rtc-time</c>: the guest's time with C's conventions (months from 0,
    /// years from 1900).
    /// </summary>
    public static QomPropertyInfo DateProperty(Mc146818 rtc, string name = "date") => new(name, "struct tm", _ => Date(rtc), null);

    private static QDict Date(Mc146818 rtc)
    {
        CivilTime time = rtc.GetTime();
        var dict = new QDict();
        dict.Add("tm_year", time.Year - 1900);
        dict.Add("tm_mon", time.Month - 1);
        dict.Add("tm_mday", time.Day);
        dict.Add("tm_hour", time.Hour);
        dict.Add("tm_min", time.Minute);
        dict.Add("tm_sec", time.Second);
        return dict;
    }
}
