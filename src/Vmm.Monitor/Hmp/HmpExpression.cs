using System.Globalization;

namespace Vmm.Monitor;

/// <summary>A line cannot be understood; the text is what the terminal shows.</summary>
internal sealed class HmpParseException(string message) : Exception(message);

/// <summary>
/// Integer expressions of HMP arguments: + and - bind weakest, then &amp; | ^, then * / %, then unary + - ~, parentheses, 'c',
/// $register and C numbers. All arithmetic is on 64 bits and wraps.
/// </summary>
internal ref struct HmpExpression
{
    private const int MaxDepth = 256;

    private readonly ReadOnlySpan<char> _text;
    private readonly Func<string, long?> _readRegister;
    private int _position;
    private int _depth;

    private HmpExpression(ReadOnlySpan<char> text, Func<string, long?> readRegister)
    {
        _text = text;
        _readRegister = readRegister;
    }

    private readonly char Current => _position < _text.Length ? _text[_position] : '\0';

    /// <summary>Evaluates the expression at the start of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="readRegister">Gives the value of a register, or null for an unknown one.</param>
    /// <param name="length">How much of the text belongs to the expression, white space after it included.</param>
    /// <exception cref="HmpParseException">There is no expression.</exception>
    public static long Evaluate(ReadOnlySpan<char> text, Func<string, long?> readRegister, out int length)
    {
        var expression = new HmpExpression(text, readRegister);
        expression.SkipSpaces();
        long value = expression.Sum();
        length = expression._position;
        return value;
    }

    private void SkipSpaces()
    {
        while (char.IsWhiteSpace(Current))
        {
            _position++;
        }
    }

    private void Next()
    {
        if (_position < _text.Length)
        {
            _position++;
            SkipSpaces();
        }
    }

    private long Sum()
    {
        long value = Logic();
        while (Current is '+' or '-')
        {
            char op = Current;
            Next();
            long right = Logic();
            value = op == '+' ? unchecked(value + right) : unchecked(value - right);
        }

        return value;
    }

    private long Logic()
    {
        long value = Product();
        while (Current is '&' or '|' or '^')
        {
            char op = Current;
            Next();
            long right = Product();
            value = op == '&' ? value & right : op == '|' ? value | right : value ^ right;
        }

        return value;
    }

    private long Product()
    {
        long value = Unary();
        while (Current is '*' or '/' or '%')
        {
            char op = Current;
            Next();
            long right = Unary();
            if (op == '*')
            {
                value = unchecked(value * right);
                continue;
            }

            if (right == 0)
            {
                throw new HmpParseException("division by zero");
            }

            // The one quotient that does not fit would trap.
            value = right == -1 ? (op == '/' ? unchecked(-value) : 0) : op == '/' ? value / right : value % right;
        }

        return value;
    }

    private long Unary()
    {
        if (++_depth > MaxDepth)
        {
            throw new HmpParseException("expression is nested too deeply");
        }

        long value = Operand();
        _depth--;
        return value;
    }

    private long Operand()
    {
        switch (Current)
        {
            case '+':
                Next();
                return Unary();
            case '-':
                Next();
                return unchecked(-Unary());
            case '~':
                Next();
                return ~Unary();
            case '(':
                Next();
                long inner = Sum();
                if (Current != ')')
                {
                    throw new HmpParseException("')' expected");
                }

                Next();
                return inner;
            case '\'':
                return Character();
            case '$':
                return Register();
            case '\0':
                throw new HmpParseException("unexpected end of expression");
            default:
                return Number();
        }
    }

    private long Character()
    {
        _position++;
        char c = Current;
        if (c == '\0')
        {
            throw new HmpParseException("character constant expected");
        }

        _position++;
        if (Current != '\'')
        {
            throw new HmpParseException("missing terminating ' character");
        }

        Next();
        return c;
    }

    private long Register()
    {
        int start = ++_position;
        while (char.IsAsciiLetterOrDigit(Current) || Current is '_' or '.')
        {
            _position++;
        }

        string name = _text[start.._position].ToString();
        SkipSpaces();
        return _readRegister(name) ?? throw new HmpParseException("unknown register");
    }

    private long Number()
    {
        int radix = 10;
        if (Current == '0' && _position + 2 < _text.Length && (_text[_position + 1] | 0x20) == 'x'
            && char.IsAsciiHexDigit(_text[_position + 2]))
        {
            radix = 16;
            _position += 2;
        }
        else if (Current == '0')
        {
            radix = 8;
        }

        int start = _position;
        ulong value = 0;
        bool overflow = false;
        while (Digit(Current) is var digit && digit < radix)
        {
            overflow |= value > (ulong.MaxValue - (ulong)digit) / (ulong)radix;
            value = unchecked((value * (ulong)radix) + (ulong)digit);
            _position++;
        }

        if (overflow)
        {
            throw new HmpParseException("number too large");
        }

        if (_position == start)
        {
            throw new HmpParseException(string.Create(CultureInfo.InvariantCulture, $"invalid char '{Current}' in expression"));
        }

        SkipSpaces();
        return unchecked((long)value);
    }

    private static int Digit(char c) => c switch
    {
        >= '0' and <= '9' => c - '0',
        >= 'a' and <= 'f' => c - 'a' + 10,
        >= 'A' and <= 'F' => c - 'A' + 10,
        _ => 99,
    };
}
