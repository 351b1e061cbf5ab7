using System.Text;

namespace Vmm.Machines.Qtest;

/// <summary>Splits a request into words, which exactly one blank separates, and reads numbers as C literals.</summary>
internal ref struct QtestWords(ReadOnlySpan<byte> line)
{
    private ReadOnlySpan<byte> _rest = line;

    /// <summary>True when no word is left.</summary>
    public readonly bool IsAtEnd => _rest.IsEmpty;

    /// <summary>The next word; empty when there is none.</summary>
    public ReadOnlySpan<byte> Next()
    {
        int blank = _rest.IndexOf((byte)' ');
        ReadOnlySpan<byte> word = blank < 0 ? _rest : _rest[..blank];
        _rest = blank < 0 ? default : _rest[(blank + 1)..];
        return word;
    }

    /// <summary>The next word as text.</summary>
    public string NextString() => Encoding.UTF8.GetString(Next());

    /// <summary>The next word as an unsigned number: decimal, 0x hexadecimal or 0 octal; a minus sign negates modulo 2^64.</summary>
    public bool TryUnsigned(out ulong value)
    {
        ReadOnlySpan<byte> word = Next();
        bool negative = !word.IsEmpty && word[0] == '-';
        if (!TryParse(negative ? word[1..] : word, out value))
        {
            return false;
        }

        value = negative ? unchecked(0 - value) : value;
        return true;
    }

    /// <summary>The next word as a signed number.</summary>
    public bool TrySigned(out long value)
    {
        ReadOnlySpan<byte> word = Next();
        bool negative = !word.IsEmpty && word[0] == '-';
        bool ok = TryParse(negative ? word[1..] : word, out ulong magnitude);
        value = negative ? unchecked(-(long)magnitude) : (long)magnitude;
        return ok && (negative ? magnitude <= 1ul << 63 : magnitude <= long.MaxValue);
    }

    private static bool TryParse(ReadOnlySpan<byte> digits, out ulong value)
    {
        value = 0;
        uint radix = 10;
        if (digits.Length > 2 && digits[0] == '0' && (digits[1] | 0x20) == 'x')
        {
            radix = 16;
            digits = digits[2..];
        }
        else if (digits.Length > 1 && digits[0] == '0')
        {
            radix = 8;
            digits = digits[1..];
        }

        if (digits.IsEmpty)
        {
            return false;
        }

        foreach (byte c in digits)
        {
            uint digit = c switch
            {
                >= (byte)'0' and <= (byte)'9' => (uint)(c - '0'),
                >= (byte)'a' and <= (byte)'f' => (uint)(c - 'a' + 10),
                >= (byte)'A' and <= (byte)'F' => (uint)(c - 'A' + 10),
                _ => 99,
            };
            if (digit >= radix || Math.BigMul(value, radix, out ulong low) != 0 || low + digit < low)
            {
                return false;
            }

            value = low + digit;
        }

        return true;
    }
}
