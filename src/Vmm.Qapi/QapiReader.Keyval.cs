using System.Globalization;

namespace Vmm.Qapi;

public sealed partial class QapiReader
{
    private string Scalar(QValue value, string? name) => value is QString s
        ? s.Value
        : throw QapiException.InvalidParameterType(FullName(name), "string");

    private bool ParseBool(string text, string? name) => text switch
    {
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        _ => throw QapiException.InvalidParameterValue(FullName(name), "'on' or 'off'"),
    };

    private long ParseInt64(string text, string? name)
    {
        bool negative = text.StartsWith('-');
        ReadOnlySpan<char> digits = text.AsSpan(negative || text.StartsWith('+') ? 1 : 0);
        if (TryParseMagnitude(digits, out ulong magnitude))
        {
            if (negative && magnitude <= 1UL << 63)
            {
                return unchecked(-(long)magnitude);
            }

            if (!negative && magnitude <= long.MaxValue)
            {
                return (long)magnitude;
            }
        }

        throw QapiException.InvalidParameterValue(FullName(name), Mode == QapiInputMode.Options ? "an int64 value" : "integer");
    }

    private ulong ParseUInt64(string text, string? name)
    {
        bool negative = text.StartsWith('-');
        ReadOnlySpan<char> digits = text.AsSpan(negative || text.StartsWith('+') ? 1 : 0);
        if (Mode == QapiInputMode.Options && negative)
        {
            digits = "";
        }

        return TryParseMagnitude(digits, out ulong magnitude)
            ? negative ? unchecked(0 - magnitude) : magnitude
            : throw QapiException.InvalidParameterValue(FullName(name), Mode == QapiInputMode.Options ? "a uint64 value" : "integer");
    }

    private ulong ParseSize(string text, string? name)
    {
        int end = text.Length;
        int shift = 0;
        if (end > 0)
        {
            shift = char.ToUpperInvariant(text[end - 1]) switch
            {
                'B' => 0,
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                'P' => 50,
                'E' => 60,
                _ => -1,
            };
            if (shift >= 0 && !text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
            {
                end--;
            }
            else
            {
                shift = 0;
            }
        }

        ReadOnlySpan<char> digits = text.AsSpan(0, end);
        if (TryParseMagnitude(digits, out ulong magnitude) && magnitude <= ulong.MaxValue >> shift)
        {
            return magnitude << shift;
        }

        bool fraction = shift > 0
            && decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal value)
            && value <= ulong.MaxValue >> shift;
        return fraction
            ? (ulong)(decimal.Parse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture) * (1UL << shift))
            : throw QapiException.InvalidParameterValue(FullName(name), Mode == QapiInputMode.Options ? "a size value" : "size");
    }

    // C's strtoull with base 0: decimal, 0x hexadecimal, 0 octal.
    private static bool TryParseMagnitude(ReadOnlySpan<char> digits, out ulong value)
    {
        value = 0;
        uint radix = 10;
        if (digits.StartsWith("0x") || digits.StartsWith("0X"))
        {
            radix = 16;
            digits = digits[2..];
        }
        else if (digits.Length > 1 && digits[0] == '0')
        {
            radix = 8;
        }

        foreach (char c in digits)
        {
            uint digit = c switch
            {
                >= '0' and <= '9' => (uint)(c - '0'),
                >= 'a' and <= 'f' => (uint)(c - 'a' + 10),
                >= 'A' and <= 'F' => (uint)(c - 'A' + 10),
                _ => 99,
            };
            if (digit >= radix || value > (ulong.MaxValue - digit) / radix)
            {
                return false;
            }

            value = (value * radix) + digit;
        }

        return !digits.IsEmpty;
    }
}
