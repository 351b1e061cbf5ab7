using System.Globalization;
using System.Text;
using Vmm.Qapi.Options;

namespace Vmm.Block.IoTool;

/// <summary>Numbers and reports of qemu-io. Pure.</summary>
internal static class IoText
{
    private static readonly string[] s_units = [" bytes", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];

    /// <summary>A size or offset.</summary>
    internal static long ParseNumber(string text)
    {
        ScalarStatus status = OptionScalars.TryParseSize(text, out ulong value, out _);
        if (status == ScalarStatus.Ok && value <= long.MaxValue)
        {
            return (long)value;
        }

        throw new IoUsageException(status is ScalarStatus.Ok or ScalarStatus.OutOfRange
            ? $"Parsing error: argument too large -- {text}"
            : $"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}");
    }

    /// <summary>A time.</summary>
    internal static long ParseMilliseconds(string text) =>
        long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long value) && value is >= 0 and <= int.MaxValue
            ? value
            : throw new IoUsageException($"{text} is not a valid number");

    /// <summary>A byte.</summary>
    internal static byte ParsePattern(string text) => OptionScalars.TryParseUInt64(text, out ulong value) == ScalarStatus.Ok && value <= byte.MaxValue
        ? (byte)value
        : throw new IoUsageException($"{text} is not a valid pattern byte");

    /// <summary>A size with its unit.</summary>
    internal static string Size(double value)
    {
        int unit = 0;
        for (; value >= 1024 && unit < s_units.Length - 1; unit++)
        {
            value /= 1024;
        }

        string digits = value.ToString(unit == 0 ? "F6" : "F3", CultureInfo.InvariantCulture);
        int zeroes = digits.IndexOf(".000", StringComparison.Ordinal);
        return (zeroes < 0 ? digits : digits[..zeroes]) + s_units[unit];
    }

    /// <summary>What is said of a request that has succeeded.</summary>
    internal static string Report(string verb, TimeSpan time, long offset, long bytes, bool isMachineReadable)
    {
        double seconds = Math.Max(time.TotalSeconds, 1e-9);
        if (isMachineReadable)
        {
            string rates = string.Create(CultureInfo.InvariantCulture, $"{bytes / seconds:F3},{1 / seconds:F3}");
            return $"{bytes},1,{Time(time, true)},{rates}\n";
        }

        string perSecond = (1 / seconds).ToString("F4", CultureInfo.InvariantCulture);
        return $"{verb} {bytes}/{bytes} bytes at offset {offset}\n{Size(bytes)}, 1 ops; {Time(time, false)} ({Size(bytes / seconds)}/sec and {perSecond} ops/sec)\n";
    }

    /// <summary>Bytes as hexadecimal numbers and letters.</summary>
    internal static string Dump(ReadOnlySpan<byte> data, long offset)
    {
        StringBuilder text = new();
        for (int i = 0; i < data.Length; i += 16)
        {
            ReadOnlySpan<byte> line = data.Slice(i, Math.Min(16, data.Length - i));
            text.Append(CultureInfo.InvariantCulture, $"{offset + i:x8}:  ");
            foreach (byte b in line)
            {
                text.Append(CultureInfo.InvariantCulture, $"{b:x2} ");
            }

            text.Append(' ');
            foreach (byte b in line)
            {
                text.Append(char.IsAsciiLetterOrDigit((char)b) ? (char)b : '.');
            }

            text.Append('\n');
        }

        return text.ToString();
    }

    private static string Time(TimeSpan time, bool isFixed)
    {
        int centiseconds = time.Milliseconds / 10;
        return isFixed || time.TotalMinutes >= 1
            ? $"{(int)time.TotalHours}:{time.Minutes:D2}:{time.Seconds:D2}.{centiseconds:D2}"
            : $"{time.Seconds:D2}.{centiseconds:D2} sec";
    }
}
