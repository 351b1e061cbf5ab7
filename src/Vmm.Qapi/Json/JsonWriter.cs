using System.Buffers;
using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace Vmm.Qapi;

/// <summary>
/// Writes JSON as QEMU's monitors do into a growing buffer: ", " and ": " between tokens (or four-space indentation when pretty), everything
/// outside printable ASCII as \uXXXX. The caller keeps the nesting balanced. Not synchronised; reusable through <see cref="Reset"/>.
/// </summary>
public sealed class JsonWriter
{
    private const int KeepCapacity = 16 * 1024;
    private readonly bool _pretty;
    private readonly int _initialDepth;
    private byte[] _buffer = [];
    private int _count;
    private int _depth;
    private bool _needComma;
    private bool _afterName;

    /// <summary>Creates an empty writer.</summary>
    /// <param name="pretty">Indent as -qmp-pretty does.</param>
    /// <param name="initialDepth">Nesting depth of the value that is written, for values that are later placed inside others.</param>
    public JsonWriter(bool pretty = false, int initialDepth = 0)
    {
        _pretty = pretty;
        _initialDepth = initialDepth;
        _depth = initialDepth;
    }

    /// <summary>The bytes written since the last reset.</summary>
    public ReadOnlySpan<byte> WrittenSpan => _buffer.AsSpan(0, _count);

    /// <summary>The bytes written since the last reset.</summary>
    public ReadOnlyMemory<byte> WrittenMemory => _buffer.AsMemory(0, _count);

    /// <summary>Number of bytes written since the last reset.</summary>
    public int WrittenCount => _count;

    /// <summary>Whether values are indented.</summary>
    public bool IsPretty => _pretty;

    /// <summary>Forgets everything written; a buffer that has become large is given back.</summary>
    public void Reset()
    {
        if (_buffer.Length > KeepCapacity)
        {
            _buffer = [];
        }

        _count = 0;
        _depth = _initialDepth;
        _needComma = false;
        _afterName = false;
    }

    /// <summary>Begins an object.</summary>
    public void WriteStartObject() => Open((byte)'{');

    /// <summary>Ends an object.</summary>
    public void WriteEndObject() => Close((byte)'}');

    /// <summary>Begins an array.</summary>
    public void WriteStartArray() => Open((byte)'[');

    /// <summary>Ends an array.</summary>
    public void WriteEndArray() => Close((byte)']');

    /// <summary>Writes a member name.</summary>
    public void WriteName(string name)
    {
        Separate();
        WriteQuoted(name);
        AfterName();
    }

    /// <summary>Writes a member name that consists of printable ASCII without quote and backslash.</summary>
    public void WriteName(ReadOnlySpan<byte> plainAscii)
    {
        Separate();
        Span<byte> span = Reserve(plainAscii.Length + 4);
        span[0] = (byte)'"';
        plainAscii.CopyTo(span[1..]);
        span[plainAscii.Length + 1] = (byte)'"';
        _count += plainAscii.Length + 2;
        AfterName();
    }

    /// <summary>Writes a string; lone surrogates become U+FFFD.</summary>
    public void WriteString(string value)
    {
        Separate();
        WriteQuoted(value);
    }

    /// <summary>Writes a string of printable ASCII without quote and backslash, such as an enum value.</summary>
    public void WriteAscii(ReadOnlySpan<byte> plainAscii)
    {
        Separate();
        Span<byte> span = Reserve(plainAscii.Length + 2);
        span[0] = (byte)'"';
        plainAscii.CopyTo(span[1..]);
        span[plainAscii.Length + 1] = (byte)'"';
        _count += plainAscii.Length + 2;
    }

    /// <summary>Writes a string given as UTF-8; invalid sequences become U+FFFD as QEMU replaces them.</summary>
    public void WriteUtf8String(ReadOnlySpan<byte> utf8)
    {
        Separate();
        Append((byte)'"');
        while (!utf8.IsEmpty)
        {
            int codepoint = ModifiedUtf8.Decode(utf8, out int length);
            WriteEscaped(codepoint < 0 ? 0xFFFD : codepoint);
            utf8 = utf8[length..];
        }

        Append((byte)'"');
    }

    /// <summary>Writes an integer.</summary>
    public void WriteNumber(long value)
    {
        Separate();
        Utf8Formatter.TryFormat(value, Reserve(20), out int written);
        _count += written;
    }

    /// <summary>Writes an integer.</summary>
    public void WriteNumber(ulong value)
    {
        Separate();
        Utf8Formatter.TryFormat(value, Reserve(20), out int written);
        _count += written;
    }

    /// <summary>Writes an integer.</summary>
    public void WriteNumber(int value) => WriteNumber((long)value);

    /// <summary>Writes an integer.</summary>
    public void WriteNumber(uint value) => WriteNumber((long)value);

    /// <summary>Writes a number with 17 significant digits, as C's %.17g does.</summary>
    public void WriteNumber(double value)
    {
        Separate();
        foreach (char c in CFormat.G17(value))
        {
            Append((byte)c);
        }
    }

    /// <summary>Writes true or false.</summary>
    public void WriteBool(bool value)
    {
        Separate();
        AppendSpan(value ? "true"u8 : "false"u8);
    }

    /// <summary>Writes null.</summary>
    public void WriteNull()
    {
        Separate();
        AppendSpan("null"u8);
    }

    /// <summary>Writes a value of the run-time model.</summary>
    public void WriteValue(QValue value) => value.WriteTo(this);

    /// <summary>Writes the text of one complete JSON value as it is.</summary>
    public void WriteRaw(ReadOnlySpan<byte> json)
    {
        Separate();
        AppendSpan(json);
    }

    /// <summary>Appends bytes that are not part of a JSON value, such as the end of a line.</summary>
    public void WriteLiteral(ReadOnlySpan<byte> bytes) => AppendSpan(bytes);

    /// <summary>Everything written, as text.</summary>
    public override string ToString() => Encoding.UTF8.GetString(WrittenSpan);

    private void Open(byte bracket)
    {
        Separate();
        Append(bracket);
        _depth++;
        _needComma = false;
    }

    private void Close(byte bracket)
    {
        _depth--;
        if (_pretty)
        {
            NewLine();
        }

        Append(bracket);
        _needComma = _depth > _initialDepth;
    }

    private void Separate()
    {
        if (_afterName)
        {
            _afterName = false;
            return;
        }

        if (_needComma)
        {
            Append((byte)',');
        }

        if (_depth > _initialDepth)
        {
            if (_pretty)
            {
                NewLine();
            }
            else if (_needComma)
            {
                Append((byte)' ');
            }
        }

        _needComma = _depth > _initialDepth;
    }

    private void AfterName()
    {
        AppendSpan(": "u8);
        _afterName = true;
        _needComma = true;
    }

    private void NewLine()
    {
        int indent = 4 * _depth;
        Span<byte> span = Reserve(indent + 1);
        span[0] = (byte)'\n';
        span.Slice(1, indent).Fill((byte)' ');
        _count += indent + 1;
    }

    private void WriteQuoted(string value)
    {
        Append((byte)'"');
        ReadOnlySpan<char> rest = value;
        while (!rest.IsEmpty)
        {
            int plain = 0;
            while (plain < rest.Length && IsPlain(rest[plain]))
            {
                plain++;
            }

            if (plain > 0)
            {
                Ascii.FromUtf16(rest[..plain], Reserve(plain), out _);
                _count += plain;
                rest = rest[plain..];
                continue;
            }

            Rune.DecodeFromUtf16(rest, out Rune rune, out int consumed);
            WriteEscaped(rune.Value);
            rest = rest[consumed..];
        }

        Append((byte)'"');
    }

    private static bool IsPlain(char c) => c is >= ' ' and < (char)0x7F and not '"' and not '\\';

    private void WriteEscaped(int codepoint)
    {
        switch (codepoint)
        {
            case '"':
                AppendSpan("\\\""u8);
                break;
            case '\\':
                AppendSpan("\\\\"u8);
                break;
            case '\b':
                AppendSpan("\\b"u8);
                break;
            case '\f':
                AppendSpan("\\f"u8);
                break;
            case '\n':
                AppendSpan("\\n"u8);
                break;
            case '\r':
                AppendSpan("\\r"u8);
                break;
            case '\t':
                AppendSpan("\\t"u8);
                break;
            case >= ' ' and < 0x7F:
                Append((byte)codepoint);
                break;
            case > 0xFFFF:
                WriteUnicodeEscape(0xD800 | ((codepoint - 0x10000) >> 10));
                WriteUnicodeEscape(0xDC00 | ((codepoint - 0x10000) & 0x3FF));
                break;
            default:
                WriteUnicodeEscape(codepoint);
                break;
        }
    }

    private void WriteUnicodeEscape(int unit)
    {
        Span<byte> span = Reserve(6);
        span[0] = (byte)'\\';
        span[1] = (byte)'u';
        Utf8Formatter.TryFormat((uint)unit, span[2..], out _, new StandardFormat('X', 4));
        _count += 6;
    }

    private void Append(byte value)
    {
        Reserve(1)[0] = value;
        _count++;
    }

    private void AppendSpan(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Reserve(bytes.Length));
        _count += bytes.Length;
    }

    private Span<byte> Reserve(int size)
    {
        if (_buffer.Length - _count < size)
        {
            Array.Resize(ref _buffer, Math.Max(256, Math.Max(_buffer.Length * 2, _count + size)));
        }

        return _buffer.AsSpan(_count);
    }
}

/// <summary>Number formatting as C's printf does it.</summary>
public static class CFormat
{
    /// <summary>printf's %.17g.</summary>
    public static string G17(double value)
    {
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? (double.IsNegative(value) ? "-nan" : "nan") : value > 0 ? "inf" : "-inf";
        }

        // "d.dddddddddddddddde+xxx": the digits are exact, only the layout differs from C's.
        string scientific = value.ToString("e16", CultureInfo.InvariantCulture);
        int e = scientific.IndexOf('e');
        int exponent = int.Parse(scientific.AsSpan(e + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        string sign = scientific[0] == '-' ? "-" : "";
        string digits = scientific[sign.Length] + scientific.Substring(sign.Length + 2, e - sign.Length - 2);
        digits = digits.TrimEnd('0');
        if (digits.Length == 0)
        {
            return sign + "0";
        }

        if (exponent is < -4 or >= 17)
        {
            string mantissa = digits.Length > 1 ? digits[..1] + "." + digits[1..] : digits;
            string absolute = Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture);
            return sign + mantissa + (exponent < 0 ? "e-" : "e+") + absolute;
        }

        if (exponent < 0)
        {
            return sign + "0." + new string('0', -exponent - 1) + digits;
        }

        return digits.Length > exponent + 1
            ? sign + digits[..(exponent + 1)] + "." + digits[(exponent + 1)..]
            : sign + digits.PadRight(exponent + 1, '0');
    }
}

/// <summary>UTF-8 with U+0000 as C0 80, without surrogates and noncharacters.</summary>
public static class ModifiedUtf8
{
    /// <summary>
    /// Decodes the sequence at the start of a non-empty span.
    /// </summary>
    /// <param name="utf8">The bytes.</param>
    /// <param name="length">Number of bytes that belong to the sequence or to the invalid bytes to be replaced together.</param>
    /// <returns>The code point, or -1 for an invalid sequence.</returns>
    public static int Decode(ReadOnlySpan<byte> utf8, out int length)
    {
        int first = utf8[0];
        length = 1;
        if (first < 0x80)
        {
            return first == 0 ? -1 : first;
        }

        int size = first switch
        {
            >= 0xC0 and < 0xE0 => 2,
            >= 0xE0 and < 0xF0 => 3,
            >= 0xF0 and < 0xF8 => 4,
            >= 0xF8 and < 0xFC => 5,
            >= 0xFC and < 0xFE => 6,
            _ => 1,
        };
        if (size == 1)
        {
            return -1;
        }

        int codepoint = first & ((1 << (7 - size)) - 1);
        while (length < size)
        {
            if (length >= utf8.Length || (utf8[length] & 0xC0) != 0x80)
            {
                return -1;
            }

            codepoint = (codepoint << 6) | (utf8[length] & 0x3F);
            length++;
        }

        ReadOnlySpan<int> smallest = [0, 0, 0x80, 0x800, 0x10000, 0x200000, 0x4000000];
        bool overlong = codepoint < smallest[size] && !(codepoint == 0 && size == 2);
        return overlong || !IsValid(codepoint) ? -1 : codepoint;
    }

    /// <summary>Whether a code point may occur in a JSON string on the wire.</summary>
    public static bool IsValid(int codepoint) => codepoint is >= 0 and <= 0x10FFFF
        && codepoint is not (>= 0xD800 and <= 0xDFFF)
        && codepoint is not (>= 0xFDD0 and <= 0xFDEF)
        && (codepoint & 0xFFFE) != 0xFFFE;
}
