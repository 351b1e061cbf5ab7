using System.Buffers.Text;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace Vmm.Qapi;

public sealed partial class JsonStreamParser
{
    private JsonReadResult Accept(Token token, ReadOnlySpan<byte> raw)
    {
        switch (token)
        {
            case Token.OpenBrace:
                _braces++;
                break;
            case Token.CloseBrace:
                _braces--;
                break;
            case Token.OpenBracket:
                _brackets++;
                break;
            case Token.CloseBracket:
                _brackets--;
                break;
        }

        if (_tokenBytes + raw.Length + 1 > MaxTokenBytes)
        {
            return Fail("JSON token size limit exceeded");
        }

        if (_tokens + 1 > MaxTokens)
        {
            return Fail("JSON token count limit exceeded");
        }

        if (_braces + _brackets > MaxNesting)
        {
            return Fail("JSON nesting depth limit exceeded");
        }

        _tokens++;
        _tokenBytes += raw.Length;
        if (_error == null)
        {
            Build(token, raw);
        }

        if ((_braces > 0 || _brackets > 0) && _braces >= 0 && _brackets >= 0)
        {
            return JsonReadResult.NeedMoreInput;
        }

        if (_error == null && _result != null)
        {
            return JsonReadResult.Value;
        }

        SetError("premature EOI");
        _result = null;
        return JsonReadResult.Error;
    }

    private void Build(Token token, ReadOnlySpan<byte> raw)
    {
        if (_stack.Count == 0)
        {
            BuildValue(token, raw);
            return;
        }

        ref Frame frame = ref CollectionsMarshal.AsSpan(_stack)[^1];
        switch (frame.Expect)
        {
            case Expect.ListFirst when token == Token.CloseBracket:
            case Expect.ListNext when token == Token.CloseBracket:
            case Expect.DictFirst when token == Token.CloseBrace:
            case Expect.DictNext when token == Token.CloseBrace:
                QValue closed = frame.Dict ?? (QValue)frame.List!;
                _stack.RemoveAt(_stack.Count - 1);
                Complete(closed);
                break;
            case Expect.ListNext when token == Token.Comma:
                frame.Expect = Expect.ListValue;
                break;
            case Expect.ListNext:
                SetError("expected separator in list");
                break;
            case Expect.DictNext when token == Token.Comma:
                frame.Expect = Expect.DictKey;
                break;
            case Expect.DictNext:
                SetError("expected separator in dict");
                break;
            case Expect.DictColon when token == Token.Colon:
                frame.Expect = Expect.DictValue;
                break;
            case Expect.DictColon:
                SetError("missing : in object pair");
                break;
            default:
                BuildValue(token, raw);
                break;
        }
    }

    private void BuildValue(Token token, ReadOnlySpan<byte> raw)
    {
        switch (token)
        {
            case Token.OpenBrace:
                _stack.Add(new Frame { Dict = new QDict(), Expect = Expect.DictFirst });
                break;
            case Token.OpenBracket:
                _stack.Add(new Frame { List = [], Expect = Expect.ListFirst });
                break;
            case Token.String:
                if (Decode(raw) is { } text)
                {
                    Complete(new QString(text), text);
                }

                break;
            case Token.Integer:
                Complete(ParseInteger(raw));
                break;
            case Token.Float:
                Complete(ParseFloat(raw));
                break;
            case Token.Keyword when raw.SequenceEqual("true"u8):
                Complete(QBool.True);
                break;
            case Token.Keyword when raw.SequenceEqual("false"u8):
                Complete(QBool.False);
                break;
            case Token.Keyword when raw.SequenceEqual("null"u8):
                Complete(QNull.Instance);
                break;
            case Token.Keyword:
                SetError("invalid keyword '" + Text(raw) + "'");
                break;
            default:
                SetError("expecting value");
                break;
        }
    }

    private void Complete(QValue value, string? text = null)
    {
        if (_stack.Count == 0)
        {
            _result = value;
            return;
        }

        ref Frame frame = ref CollectionsMarshal.AsSpan(_stack)[^1];
        switch (frame.Expect)
        {
            case Expect.ListFirst or Expect.ListValue:
                frame.List!.Add(value);
                frame.Expect = Expect.ListNext;
                break;
            case Expect.DictFirst or Expect.DictKey:
                if (text == null)
                {
                    SetError("key is not a string in object");
                    break;
                }

                frame.Key = text;
                frame.Expect = Expect.DictColon;
                break;
            default:
                if (!frame.Dict!.TryAdd(frame.Key!, value))
                {
                    SetError("duplicate key");
                }

                frame.Expect = Expect.DictNext;
                break;
        }
    }

    private static QNum ParseInteger(ReadOnlySpan<byte> raw)
    {
        if (Utf8Parser.TryParse(raw, out long signed, out int used) && used == raw.Length)
        {
            return QNum.From(signed);
        }

        return Utf8Parser.TryParse(raw, out ulong unsigned, out used) && used == raw.Length ? QNum.From(unsigned) : ParseFloat(raw);
    }

    private static QNum ParseFloat(ReadOnlySpan<byte> raw) =>
        QNum.From(double.Parse(raw, NumberStyles.Float, CultureInfo.InvariantCulture));

    /// <summary>The text of a string token with its quotes; null after an error.</summary>
    private string? Decode(ReadOnlySpan<byte> raw)
    {
        ReadOnlySpan<byte> body = raw[1..^1];
        if (body.Length <= StringCacheMaxLength && Ascii.IsValid(body) && !body.Contains((byte)'\\'))
        {
            return Intern(body);
        }

        return body.Contains((byte)'\\') || !IsPlainUtf8(body) ? DecodeSlowly(raw) : Encoding.UTF8.GetString(body);
    }

    private static bool IsPlainUtf8(ReadOnlySpan<byte> body)
    {
        if (Ascii.IsValid(body))
        {
            return true;
        }

        while (!body.IsEmpty)
        {
            int ascii = body.IndexOfAnyInRange((byte)0x80, (byte)0xFF);
            if (ascii < 0)
            {
                return true;
            }

            body = body[ascii..];
            if (ModifiedUtf8.Decode(body, out int length) <= 0)
            {
                return false;
            }

            body = body[length..];
        }

        return true;
    }

    private string? DecodeSlowly(ReadOnlySpan<byte> raw)
    {
        // Every escape is longer than what it stands for, and UTF-16 never has more units than UTF-8 has bytes.
        char[] units = System.Buffers.ArrayPool<char>.Shared.Rent(raw.Length);
        int count = 0;
        int i = 1;
        while (i < raw.Length - 1)
        {
            byte c = raw[i];
            int codepoint;
            if (c == '\\')
            {
                codepoint = DecodeEscape(raw, ref i);
            }
            else
            {
                codepoint = ModifiedUtf8.Decode(raw[i..^1], out int length);
                i += length;
                if (codepoint < 0)
                {
                    SetError("invalid UTF-8 sequence in string");
                }
            }

            if (codepoint < 0)
            {
                System.Buffers.ArrayPool<char>.Shared.Return(units);
                return null;
            }

            count += new Rune(codepoint).EncodeToUtf16(units.AsSpan(count));
        }

        string text = new(units, 0, count);
        System.Buffers.ArrayPool<char>.Shared.Return(units);
        return text;
    }

    private int DecodeEscape(ReadOnlySpan<byte> raw, ref int i)
    {
        byte c = raw[i + 1];
        i += 2;
        switch (c)
        {
            case (byte)'"' or (byte)'\'' or (byte)'\\' or (byte)'/':
                return c;
            case (byte)'b':
                return '\b';
            case (byte)'f':
                return '\f';
            case (byte)'n':
                return '\n';
            case (byte)'r':
                return '\r';
            case (byte)'t':
                return '\t';
            case (byte)'u':
                int start = i;
                int codepoint = HexUnit(raw, ref i);
                if (codepoint is >= 0xD800 and <= 0xDBFF && i + 1 < raw.Length && raw[i] == '\\' && raw[i + 1] == 'u')
                {
                    i += 2;
                    int low = HexUnit(raw, ref i);
                    codepoint = low is >= 0xDC00 and <= 0xDFFF ? 0x10000 + ((codepoint & 0x3FF) << 10) + (low & 0x3FF) : -1;
                }

                if (ModifiedUtf8.IsValid(codepoint))
                {
                    return codepoint;
                }

                SetError("\\u" + Text(raw.Slice(start, Math.Min(4, raw.Length - start))) + " is not a valid Unicode character");
                return -1;
            default:
                SetError("invalid escape sequence in string");
                return -1;
        }
    }

    private static int HexUnit(ReadOnlySpan<byte> raw, ref int i)
    {
        int unit = 0;
        for (int n = 0; n < 4; n++)
        {
            int digit = i >= raw.Length ? -1 : raw[i] switch
            {
                >= (byte)'0' and <= (byte)'9' => raw[i] - '0',
                >= (byte)'a' and <= (byte)'f' => raw[i] - 'a' + 10,
                >= (byte)'A' and <= (byte)'F' => raw[i] - 'A' + 10,
                _ => -1,
            };
            if (digit < 0)
            {
                return -1;
            }

            unit = (unit << 4) | digit;
            i++;
        }

        return unit;
    }

    private string Intern(ReadOnlySpan<byte> ascii)
    {
        if (ascii.IsEmpty)
        {
            return "";
        }

        uint hash = 2166136261;
        foreach (byte b in ascii)
        {
            hash = (hash ^ b) * 16777619;
        }

        ref string? slot = ref _strings[(hash ^ (hash >> 15)) % StringCacheSize];
        if (slot == null || !Ascii.Equals(ascii, slot))
        {
            slot = Encoding.ASCII.GetString(ascii);
        }

        return slot;
    }
}
