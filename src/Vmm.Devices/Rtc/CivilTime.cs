namespace Vmm.Devices.Rtc;

/// <summary>A calendar date and time in the proleptic Gregorian calendar; fields may be out of range, as guests write them.</summary>
/// <param name="Year">Full year.</param>
/// <param name="Month">1 to 12.</param>
/// <param name="Day">1 to 31.</param>
/// <param name="Hour">0 to 23.</param>
/// <param name="Minute">0 to 59.</param>
/// <param name="Second">0 to 59.</param>
public readonly record struct CivilTime(int Year, int Month, int Day, int Hour, int Minute, int Second)
{
    private const int DaysPerEra = 146_097; // 400 years
    private const int EpochDays = 719_468;  // 0000-03-01 to 1970-01-01

    /// <summary>0 is Sunday.</summary>
    public int DayOfWeek
    {
        get
        {
            long days = Days(Year, Month, Day);
            return (int)((((days + 4) % 7) + 7) % 7);
        }
    }

    /// <summary>Converts seconds since 1970-01-01.</summary>
    public static CivilTime FromSeconds(long seconds)
    {
        long days = Math.DivRem(seconds, 86_400, out long rest);
        if (rest < 0)
        {
            rest += 86_400;
            days--;
        }

        long z = days + EpochDays;
        long era = (z >= 0 ? z : z - DaysPerEra + 1) / DaysPerEra;
        int dayOfEra = (int)(z - (era * DaysPerEra));
        int yearOfEra = (dayOfEra - (dayOfEra / 1460) + (dayOfEra / 36_524) - (dayOfEra / 146_096)) / 365;
        int dayOfYear = dayOfEra - ((365 * yearOfEra) + (yearOfEra / 4) - (yearOfEra / 100));
        int shifted = ((5 * dayOfYear) + 2) / 153; // month counted from March
        int day = dayOfYear - (((153 * shifted) + 2) / 5) + 1;
        int month = shifted < 10 ? shifted + 3 : shifted - 9;
        int year = (int)(yearOfEra + (era * 400)) + (month <= 2 ? 1 : 0);
        return new CivilTime(year, month, day, (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60));
    }

    /// <summary>Seconds since 1970-01-01; fields out of range carry into the next.</summary>
    public long ToSeconds() => (Days(Year, Month, Day) * 86_400) + (Hour * 3600L) + (Minute * 60L) + Second;

    private static long Days(int year, int month, int day)
    {
        // Normalise the month first: it decides the leap day.
        int months = month - 1;
        year += months / 12;
        months %= 12;
        if (months < 0)
        {
            months += 12;
            year--;
        }

        month = months + 1;
        long y = month <= 2 ? year - 1 : year;
        long era = (y >= 0 ? y : y - 399) / 400;
        int yearOfEra = (int)(y - (era * 400));
        int dayOfYear = ((153 * (month > 2 ? month - 3 : month + 9)) + 2) / 5;
        long dayOfEra = (yearOfEra * 365L) + (yearOfEra / 4) - (yearOfEra / 100) + dayOfYear;
        return (era * DaysPerEra) + dayOfEra - EpochDays + (day - 1);
    }
}
