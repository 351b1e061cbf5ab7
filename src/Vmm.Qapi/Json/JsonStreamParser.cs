using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace Vmm.Qapi;

/// <summary>What <see cref="JsonStreamParser.Read"/> came to.</summary>
public enum JsonReadResult
{
    /// <summary>All input is consumed and no value has ended.</summary>
    NeedMoreInput,

    /// <summary>A value has ended.</summary>
    Value,

    /// <summary>The input is not JSON; the parser is ready for what follows.</summary>
    Error,
}

/// <summary>
/// Push parser for a stream of JSON values in the dialect that QEMU's monitors read: strings in double or single quotes, values without
/// separators between them, any split of the input. Values are built while tokens arrive, so time is linear and no token is kept.
/// An error inside an object or list is reported when its brackets balance; after a character that can start no token, everything up to the next
/// structural or control character is skipped. Not synchronised.
/// </summary>
public sealed partial class JsonStreamParser
{
    /// <summary>Sum of the sizes of the tokens of one value, in bytes.</summary>
    public const int MaxTokenBytes = 64 << 20;

    /// <summary>Number of tokens of one value.</summary>
    public const int MaxTokens = 2 << 20;

    /// <summary>Depth of nesting.</summary>
    public const int MaxNesting = 1024;

    private const int StringCacheSize = 128;
    private const int StringCacheMaxLength = 32;
    private const int KeepTokenCapacity = 4096;

    private readonly List<Frame> _stack = [];
    private readonly string?[] _strings = new string?[StringCacheSize];
    private LexState _lex;
    private byte[] _partial = [];
    private int _partialCount;
    private int _braces;
    private int _brackets;
    private int _tokens;
    private long _tokenBytes;
    private QapiException? _error;
    private QValue? _result;

    private enum LexState : byte
    {
        Start,
        Recovery,
        DoubleQuoted,
        DoubleQuotedEscape,
        SingleQuoted,
        SingleQuotedEscape,
        Keyword,
        Minus,
        Zero,
        Digits,
        Point,
        Fraction,
        Exponent,
        ExponentSign,
        ExponentDigits,
    }

    private enum Token : byte
    {
        OpenBrace,
        CloseBrace,
        OpenBracket,
        CloseBracket,
        Colon,
        Comma,
        Integer,
        Float,
        Keyword,
        String,
    }

    private enum Expect : byte
    {
        ListFirst,
        ListValue,
        ListNext,
        DictFirst,
        DictKey,
        DictColon,
        DictValue,
        DictNext,
    }

    /// <summary>Whether the input so far ends between two values.</summary>
    public bool IsIdle => _lex is LexState.Start or LexState.Recovery && _tokens == 0;

    /// <summary>Consumes input up to the end of one value or error, whichever comes first.</summary>
    /// <param name="input">The bytes that follow those consumed before.</param>
    /// <param name="consumed">How many of them were taken.</param>
    /// <param name="value">The value, for <see cref="JsonReadResult.Value"/>.</param>
    /// <param name="error">The error as it goes on the wire, for <see cref="JsonReadResult.Error"/>.</param>
    public JsonReadResult Read(ReadOnlySpan<byte> input, out int consumed, out QValue? value, out QapiException? error)
    {
        int position = 0;
        int tokenStart = 0;
        JsonReadResult result = JsonReadResult.NeedMoreInput;
        while (position < input.Length && result == JsonReadResult.NeedMoreInput)
        {
            if (_lex is LexState.DoubleQuoted or LexState.SingleQuoted)
            {
                position += PlainRun(input[position..], _lex == LexState.DoubleQuoted ? (byte)'"' : (byte)'\'');
                if (position >= input.Length)
                {
                    break;
                }
            }

            byte c = input[position];
            LexState next = Step(c, out Token token, out bool tokenEnds, out bool lookahead, out bool stray);
            if (!lookahead)
            {
                position++;
            }

            if (stray)
            {
                result = Fail("JSON parse error, stray '" + Text(Raw(input[tokenStart..position])) + "'");
                ClearPartial();
                tokenStart = position;
            }
            else if (tokenEnds)
            {
                result = Accept(token, Raw(input[tokenStart..position]));
                ClearPartial();
                tokenStart = position;
            }
            else if (next is LexState.Start or LexState.Recovery)
            {
                tokenStart = position;
            }

            _lex = next;
        }

        int pending = position - tokenStart;
        if (result == JsonReadResult.NeedMoreInput && _lex is not (LexState.Start or LexState.Recovery) && pending > 0)
        {
            int room = MaxTokenBytes - _partialCount;
            if (pending > room)
            {
                // The token is cut where it exceeds the limit; what follows is read as if nothing had preceded it.
                position = tokenStart + room + 1;
                result = Fail("JSON token size limit exceeded");
                ClearPartial();
                _lex = LexState.Start;
            }
            else
            {
                Keep(input.Slice(tokenStart, pending));
            }
        }

        consumed = position;
        value = _result;
        error = result == JsonReadResult.Error ? _error : null;
        if (result != JsonReadResult.NeedMoreInput)
        {
            ResetValue();
        }

        return result;
    }

    /// <summary>Tells that no input follows: an unfinished token or value becomes a value or an error.</summary>
    public JsonReadResult End(out QValue? value, out QapiException? error)
    {
        JsonReadResult result = JsonReadResult.NeedMoreInput;
        LexState state = _lex;
        _lex = LexState.Start;
        if (state is not (LexState.Start or LexState.Recovery))
        {
            Token token = state switch
            {
                LexState.Keyword => Token.Keyword,
                LexState.Fraction or LexState.ExponentDigits => Token.Float,
                _ => Token.Integer,
            };
            bool complete = state is LexState.Keyword or LexState.Zero or LexState.Digits or LexState.Fraction or LexState.ExponentDigits;
            result = complete
                ? Accept(token, _partial.AsSpan(0, _partialCount))
                : Fail("JSON parse error, stray '" + Text(_partial.AsSpan(0, _partialCount)) + "'");
            ClearPartial();
        }

        if (result == JsonReadResult.NeedMoreInput && _tokens > 0)
        {
            SetError("premature EOI");
            result = JsonReadResult.Error;
        }

        value = _result;
        error = result == JsonReadResult.Error ? _error : null;
        ResetValue();
        return result;
    }

    /// <summary>Parses text that must be exactly one value.</summary>
    /// <exception cref="QapiException">It is not.</exception>
    public static QValue ParseSingle(ReadOnlySpan<byte> json)
    {
        var parser = new JsonStreamParser();
        QValue? single = null;
        while (true)
        {
            JsonReadResult result = parser.Read(json, out int consumed, out QValue? value, out QapiException? error);
            json = json[consumed..];
            if (result == JsonReadResult.NeedMoreInput)
            {
                result = parser.End(out value, out error);
                if (result == JsonReadResult.NeedMoreInput)
                {
                    return single ?? throw new QapiException("Expecting a JSON value");
                }
            }

            if (single != null)
            {
                throw new QapiException("Expecting at most one JSON value");
            }

            if (error != null)
            {
                throw error;
            }

            single = value;
        }
    }

    /// <summary>Parses text that must be exactly one value.</summary>
    /// <exception cref="QapiException">It is not.</exception>
    public static QValue ParseSingle(string json) => ParseSingle(Encoding.UTF8.GetBytes(json));

    private static int PlainRun(ReadOnlySpan<byte> input, byte quote)
    {
        int end = input.IndexOfAny(quote, (byte)'\\');
        ReadOnlySpan<byte> run = end < 0 ? input : input[..end];
        int special = run.IndexOfAnyExceptInRange((byte)0x20, (byte)0xFD);
        return special < 0 ? run.Length : special;
    }

    private LexState Step(byte c, out Token token, out bool tokenEnds, out bool lookahead, out bool stray)
    {
        token = default;
        tokenEnds = false;
        lookahead = false;
        stray = false;
        bool digit = c is >= (byte)'0' and <= (byte)'9';
        switch (_lex)
        {
            case LexState.Start:
                switch (c)
                {
                    case (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n':
                        return LexState.Start;
                    case (byte)'"':
                        return LexState.DoubleQuoted;
                    case (byte)'\'':
                        return LexState.SingleQuoted;
                    case (byte)'{':
                        token = Token.OpenBrace;
                        break;
                    case (byte)'}':
                        token = Token.CloseBrace;
                        break;
                    case (byte)'[':
                        token = Token.OpenBracket;
                        break;
                    case (byte)']':
                        token = Token.CloseBracket;
                        break;
                    case (byte)':':
                        token = Token.Colon;
                        break;
                    case (byte)',':
                        token = Token.Comma;
                        break;
                    case (byte)'-':
                        return LexState.Minus;
                    case (byte)'0':
                        return LexState.Zero;
                    case >= (byte)'1' and <= (byte)'9':
                        return LexState.Digits;
                    case >= (byte)'a' and <= (byte)'z':
                        return LexState.Keyword;
                    default:
                        stray = true;
                        return LexState.Recovery;
                }

                tokenEnds = true;
                return LexState.Start;
            case LexState.Recovery:
                lookahead = c is < 0x20 or >= 0xFE or (byte)'{' or (byte)'}' or (byte)'[' or (byte)']' or (byte)':' or (byte)',';
                return lookahead ? LexState.Start : LexState.Recovery;
            case LexState.DoubleQuoted:
                return StepString(c, (byte)'"', LexState.DoubleQuotedEscape, out token, out tokenEnds, out stray);
            case LexState.SingleQuoted:
                return StepString(c, (byte)'\'', LexState.SingleQuotedEscape, out token, out tokenEnds, out stray);
            case LexState.DoubleQuotedEscape:
                stray = c is < 0x20 or >= 0xFE;
                return stray ? LexState.Recovery : LexState.DoubleQuoted;
            case LexState.SingleQuotedEscape:
                stray = c is < 0x20 or >= 0xFE;
                return stray ? LexState.Recovery : LexState.SingleQuoted;
            case LexState.Keyword:
                if (c is >= (byte)'a' and <= (byte)'z')
                {
                    return LexState.Keyword;
                }

                token = Token.Keyword;
                break;
            case LexState.Minus:
                stray = !digit;
                return stray ? LexState.Recovery : c == '0' ? LexState.Zero : LexState.Digits;
            case LexState.Zero or LexState.Digits:
                if (digit)
                {
                    stray = _lex == LexState.Zero;
                    return stray ? LexState.Recovery : LexState.Digits;
                }

                if (c == '.')
                {
                    return LexState.Point;
                }

                if (c is (byte)'e' or (byte)'E')
                {
                    return LexState.Exponent;
                }

                token = Token.Integer;
                break;
            case LexState.Point:
                stray = !digit;
                return stray ? LexState.Recovery : LexState.Fraction;
            case LexState.Fraction:
                if (digit)
                {
                    return LexState.Fraction;
                }

                if (c is (byte)'e' or (byte)'E')
                {
                    return LexState.Exponent;
                }

                token = Token.Float;
                break;
            case LexState.Exponent:
                if (c is (byte)'+' or (byte)'-')
                {
                    return LexState.ExponentSign;
                }

                stray = !digit;
                return stray ? LexState.Recovery : LexState.ExponentDigits;
            case LexState.ExponentSign:
                stray = !digit;
                return stray ? LexState.Recovery : LexState.ExponentDigits;
            default:
                if (digit)
                {
                    return LexState.ExponentDigits;
                }

                token = Token.Float;
                break;
        }

        tokenEnds = true;
        lookahead = true;
        return LexState.Start;
    }

    private static LexState StepString(byte c, byte quote, LexState escape, out Token token, out bool tokenEnds, out bool stray)
    {
        token = Token.String;
        tokenEnds = c == quote;
        stray = c is < 0x20 or >= 0xFE;
        return tokenEnds ? LexState.Start
            : stray ? LexState.Recovery
            : c == '\\' ? escape
            : quote == '"' ? LexState.DoubleQuoted : LexState.SingleQuoted;
    }

    private ReadOnlySpan<byte> Raw(ReadOnlySpan<byte> tail)
    {
        if (_partialCount == 0)
        {
            return tail;
        }

        Keep(tail);
        return _partial.AsSpan(0, _partialCount);
    }

    private void Keep(ReadOnlySpan<byte> bytes)
    {
        int needed = _partialCount + bytes.Length;
        if (_partial.Length < needed)
        {
            Array.Resize(ref _partial, Math.Max(needed, Math.Max(256, _partial.Length * 2)));
        }

        bytes.CopyTo(_partial.AsSpan(_partialCount));
        _partialCount = needed;
    }

    private void ClearPartial()
    {
        _partialCount = 0;
        if (_partial.Length > KeepTokenCapacity)
        {
            _partial = [];
        }
    }

    private void ResetValue()
    {
        _stack.Clear();
        _braces = 0;
        _brackets = 0;
        _tokens = 0;
        _tokenBytes = 0;
        _error = null;
        _result = null;
    }

    private JsonReadResult Fail(string desc)
    {
        _error = new QapiException(desc);
        _result = null;
        return JsonReadResult.Error;
    }

    private void SetError(string desc) => _error ??= new QapiException("JSON parse error, " + desc);

    // C strings end at the first NUL, and so does their text in QEMU's messages.
    private static string Text(ReadOnlySpan<byte> raw)
    {
        int nul = raw.IndexOf((byte)0);
        raw = nul >= 0 ? raw[..nul] : raw;
        var text = new StringBuilder(raw.Length);
        while (!raw.IsEmpty)
        {
            int codepoint = ModifiedUtf8.Decode(raw, out int length);
            text.Append(new Rune(codepoint < 0 ? 0xFFFD : codepoint).ToString());
            raw = raw[length..];
        }

        return text.ToString();
    }

    private struct Frame
    {
        public QDict? Dict;
        public QList? List;
        public string? Key;
        public Expect Expect;
    }
}
