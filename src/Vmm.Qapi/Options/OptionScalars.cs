using System.Globalization;

namespace Vmm.Qapi.Options;

/// <summary>Outcome of reading a scalar from option text.</summary>
public enum ScalarStatus
{
    /// <summary>The whole text is a value.</summary>
    Ok,

    /// <summary>The text is not of that type.</summary>
    Invalid,

    /// <summary>The text is of that type but its value does not fit.</summary>
    OutOfRange,
}

/// <summary>
/// Readers of single values as command lines spell them. Pure functions; they allocate nothing and never throw.
/// </summary>
public static class OptionScalars
{
    /// <summary>Reads on, yes, true, y or off, no, false, n.</summary>
    public static bool TryParseBool(ReadOnlySpan<char> text, out bool value)
    {
        value = text is "on" or "yes" or "true" or "y";
        return value || text is "off" or "no" or "false" or "n";
    }

    /// <summary>
    /// Reads an unsigned number as strtoull with base 0 does: leading white space, a sign (a negative number wraps), 0x for hexadecimal, a
    /// leading 0 for octal. Trailing characters are invalid.
    /// </summary>
    public static ScalarStatus TryParseUInt64(ReadOnlySpan<char> text, out ulong value)
    {
        ScalarStatus status = ParseMagnitude(text, out bool negative, out value);
        if (status == ScalarStatus.Ok && negative)
        {
            value = unchecked(0 - value);
        }

        return status;
    }

    /// <summary>Reads a signed number as strtoll with base 0 does. Trailing characters are invalid.</summary>
    public static ScalarStatus TryParseInt64(ReadOnlySpan<char> text, out long value)
    {
        ScalarStatus status = ParseMagnitude(text, out bool negative, out ulong magnitude);
        value = negative ? unchecked((long)(0 - magnitude)) : (long)magnitude;
        if (status == ScalarStatus.Ok && magnitude > (negative ? 1UL << 63 : long.MaxValue))
        {
            return ScalarStatus.OutOfRange;
        }

        return status;
    }

    /// <summary>Reads a finite floating-point number; trailing characters are invalid.</summary>
    public static bool TryParseDouble(ReadOnlySpan<char> text, out double value)
    {
        const NumberStyles Style = NumberStyles.AllowLeadingWhite | NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint
            | NumberStyles.AllowExponent;
        return double.TryParse(text, Style, CultureInfo.InvariantCulture, out value) && double.IsFinite(value);
    }

    /// <summary>
    /// Reads a size in bytes: decimal digits, an optional fraction (only with a suffix, half a byte rounds up), an optional suffix B, k, M, G,
    /// T, P or E in either case, powers of 1024; or a hexadecimal number.
    /// </summary>
    /// <param name="text">Text of the value.</param>
    /// <param name="bytes">The size in bytes.</param>
    /// <param name="hexSuffix">Set when a hexadecimal number carries a suffix, which is deprecated.</param>
    /// <param name="defaultUnit">What a number without suffix is multiplied by: 1, or 1 MiB for -m and sizes of old.</param>
    public static ScalarStatus TryParseSize(ReadOnlySpan<char> text, out ulong bytes, out bool hexSuffix, ulong defaultUnit = 1)
    {
        bytes = 0;
        hexSuffix = false;
        int i = SkipWhite(text);
        bool negative = i < text.Length && text[i] == '-';
        if (i < text.Length && text[i] is '-' or '+')
        {
            i++;
        }

        int start = i;
        bool overflow = false;
        ulong whole = 0;
        i += ScanDigits(text[i..], 10, ref whole, ref overflow);
        if (i == start || negative)
        {
            return ScalarStatus.Invalid;
        }

        ulong fraction = 0;
        bool hex = false;
        if (whole == 0 && !overflow && i + 1 < text.Length && text[i] is 'x' or 'X' && char.IsAsciiHexDigit(text[i + 1]))
        {
            hex = true;
            i++;
            i += ScanDigits(text[i..], 16, ref whole, ref overflow);
            if (!overflow && i < text.Length && text[i] == '.')
            {
                return ScalarStatus.Invalid;
            }
        }
        else if (!overflow && i < text.Length && text[i] == '.')
        {
            int end = i + 1;
            while (end < text.Length && char.IsAsciiDigit(text[end]))
            {
                end++;
            }

            if (end < text.Length && end > i + 1 && text[end] is 'e' && end + 1 < text.Length && char.IsAsciiDigit(text[end + 1]))
            {
                return ScalarStatus.Invalid;
            }

            fraction = ParseFraction(text[(i + 1)..end]);
            i = end;
        }

        ulong multiplier = defaultUnit;
        if (!overflow && i < text.Length && SuffixMultiplier(text[i]) is var m and not 0)
        {
            hexSuffix = hex;
            multiplier = m;
            i++;
        }

        if (i < text.Length)
        {
            return ScalarStatus.Invalid;
        }

        if (overflow)
        {
            return ScalarStatus.OutOfRange;
        }

        if (multiplier == 1)
        {
            bytes = whole;
            return fraction == 0 ? ScalarStatus.Ok : ScalarStatus.Invalid;
        }

        UInt128 scaledFraction = (UInt128)fraction * multiplier;
        UInt128 total = ((UInt128)whole * multiplier) + (ulong)(scaledFraction >> 64) + ((ulong)scaledFraction >> 63);
        bytes = (ulong)total;
        return total > ulong.MaxValue ? ScalarStatus.OutOfRange : ScalarStatus.Ok;
    }

    private static ulong SuffixMultiplier(char suffix) => (suffix | 0x20) switch
    {
        'b' => 1,
        'k' => 1UL << 10,
        'm' => 1UL << 20,
        'g' => 1UL << 30,
        't' => 1UL << 40,
        'p' => 1UL << 50,
        'e' => 1UL << 60,
        _ => 0,
    };

    // 0.64 fixed point of the decimal digits after the point. Digits beyond the 19th cannot change a result of whole bytes.
    private static ulong ParseFraction(ReadOnlySpan<char> digits)
    {
        ulong numerator = 0;
        UInt128 denominator = 1;
        for (int i = 0; i < digits.Length && i < 19; i++)
        {
            numerator = (numerator * 10) + (ulong)(digits[i] - '0');
            denominator *= 10;
        }

        return (ulong)(((UInt128)numerator << 64) / denominator);
    }

    private static int SkipWhite(ReadOnlySpan<char> text)
    {
        int i = 0;
        while (i < text.Length && text[i] is ' ' or (>= '\t' and <= '\r'))
        {
            i++;
        }

        return i;
    }

    private static int ScanDigits(ReadOnlySpan<char> text, uint numberBase, ref ulong value, ref bool overflow)
    {
        int i = 0;
        for (; i < text.Length; i++)
        {
            uint digit = DigitValue(text[i]);
            if (digit >= numberBase)
            {
                break;
            }

            UInt128 next = ((UInt128)value * numberBase) + digit;
            overflow |= next > ulong.MaxValue;
            value = (ulong)next;
        }

        return i;
    }

    private static uint DigitValue(char c) => c switch
    {
        >= '0' and <= '9' => (uint)(c - '0'),
        >= 'a' and <= 'f' => (uint)(c - 'a' + 10),
        >= 'A' and <= 'F' => (uint)(c - 'A' + 10),
        _ => uint.MaxValue,
    };

    private static ScalarStatus ParseMagnitude(ReadOnlySpan<char> text, out bool negative, out ulong value)
    {
        value = 0;
        int i = SkipWhite(text);
        negative = i < text.Length && text[i] == '-';
        if (i < text.Length && text[i] is '-' or '+')
        {
            i++;
        }

        uint numberBase = 10;
        if (i < text.Length && text[i] == '0')
        {
            numberBase = 8;
            if (i + 2 < text.Length && text[i + 1] is 'x' or 'X' && char.IsAsciiHexDigit(text[i + 2]))
            {
                numberBase = 16;
                i += 2;
            }
        }

        bool overflow = false;
        int digits = ScanDigits(text[i..], numberBase, ref value, ref overflow);
        if (digits == 0 || i + digits < text.Length)
        {
            return ScalarStatus.Invalid;
        }

        return overflow ? ScalarStatus.OutOfRange : ScalarStatus.Ok;
    }
}
