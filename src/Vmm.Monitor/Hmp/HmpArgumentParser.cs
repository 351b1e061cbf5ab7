using System.Globalization;
using System.Text;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>The format that memory dumps and prints use when none is given: that of the one before.</summary>
internal sealed class HmpFormatDefaults
{
    public char Format { get; set; } = 'x';

    public int Size { get; set; } = 4;
}

/// <summary>Reads the arguments of one HMP command line into a dictionary, as its args_type says.</summary>
internal ref struct HmpArgumentParser
{
    private readonly ReadOnlySpan<char> _text;
    private readonly HmpEntry _entry;
    private readonly MonitorCore _core;
    private readonly int _cpuIndex;
    private readonly HmpFormatDefaults _defaults;
    private readonly QDict _arguments;
    private int _position;

    private HmpArgumentParser(ReadOnlySpan<char> text, HmpEntry entry, MonitorCore core, int cpuIndex, HmpFormatDefaults defaults)
    {
        _text = text;
        _entry = entry;
        _core = core;
        _cpuIndex = cpuIndex;
        _defaults = defaults;
        _arguments = new QDict();
    }

    private readonly char Current => Peek(0);

    /// <summary>Parses the text after the command's name.</summary>
    /// <exception cref="HmpParseException">The text does not fit the declaration.</exception>
    /// <exception cref="QapiException">An option list is malformed.</exception>
    public static QDict Parse(ReadOnlySpan<char> text, HmpEntry entry, MonitorCore core, int cpuIndex, HmpFormatDefaults defaults)
    {
        var parser = new HmpArgumentParser(text, entry, core, cpuIndex, defaults);
        ReadOnlySpan<char> types = entry.ArgsType;
        while (!types.IsEmpty)
        {
            int comma = types.IndexOf(',');
            ReadOnlySpan<char> part = comma < 0 ? types : types[..comma];
            types = comma < 0 ? [] : types[(comma + 1)..];
            int colon = part.IndexOf(':');
            parser.Argument(part[..colon].ToString(), part[(colon + 1)..], types);
        }

        parser.SkipSpaces();
        return parser.Current == '\0'
            ? parser._arguments
            : throw new HmpParseException(entry.Names + ": extraneous characters at the end of line");
    }

    private readonly char Peek(int offset) => _position + offset < _text.Length ? _text[_position + offset] : '\0';

    private void SkipSpaces()
    {
        while (char.IsWhiteSpace(Current))
        {
            _position++;
        }
    }

    private void Argument(string key, ReadOnlySpan<char> type, ReadOnlySpan<char> following)
    {
        bool optional = type.EndsWith("?");
        if (type[0] != '-')
        {
            SkipSpaces();
            if (optional && Current == '\0')
            {
                return;
            }
        }

        switch (type[0])
        {
            case 'F' or 'B' or 's':
                string expected = type[0] == 'F' ? "filename" : type[0] == 'B' ? "block device name" : "string";
                _arguments[key] = Word() ?? throw new HmpParseException($"{_entry.Names}: {expected} expected");
                break;
            case 'O':
                if (Current != '\0')
                {
                    string options = Word() ?? throw new HmpParseException($"{_entry.Names}: string expected");
                    foreach (KeyValuePair<string, QValue> option in _core.ParseOptions(key, options))
                    {
                        _arguments[option.Key] = option.Value;
                    }
                }

                break;
            case '/':
                _arguments[key] = Format().ToValue();
                break;
            case 'i' or 'l' or 'M':
                Integer(key, type);
                break;
            case 'o':
                _arguments[key] = Size();
                break;
            case 'T':
                _arguments[key] = Seconds();
                break;
            case 'b':
                _arguments[key] = OnOff();
                break;
            case '-':
                Flag(key, type[1], following);
                break;
            case 'S':
                if (Current == '\0')
                {
                    throw new HmpParseException($"{_entry.Names}: string expected");
                }

                _arguments[key] = _text[_position..].ToString();
                _position = _text.Length;
                break;
            default:
                throw new InvalidOperationException("unknown argument letter in " + _entry.ArgsType);
        }
    }

    private string? Word()
    {
        SkipSpaces();
        if (Current == '\0')
        {
            return null;
        }

        if (Current != '"')
        {
            int start = _position;
            while (Current != '\0' && !char.IsWhiteSpace(Current))
            {
                _position++;
            }

            return _text[start.._position].ToString();
        }

        _position++;
        var text = new StringBuilder();
        while (Current is not ('\0' or '"'))
        {
            char c = Current;
            _position++;
            if (c == '\\')
            {
                c = Current;
                _position++;
                c = c switch
                {
                    'n' => '\n',
                    'r' => '\r',
                    '\\' or '\'' or '"' => c,
                    _ => '\0',
                };
                if (c == '\0')
                {
                    return null;
                }
            }

            text.Append(c);
        }

        if (Current != '"')
        {
            return null;
        }

        _position++;
        return text.ToString();
    }

    private HmpFormat Format()
    {
        if (Current != '/')
        {
            return new HmpFormat(1, _defaults.Format, _defaults.Format == 'i' ? -1 : _defaults.Size);
        }

        _position++;
        int count = 1;
        if (char.IsAsciiDigit(Current))
        {
            count = 0;
            while (char.IsAsciiDigit(Current))
            {
                count = unchecked((count * 10) + (Current - '0'));
                _position++;
            }
        }

        char format = '\0';
        int size = -1;
        while (Current is 'o' or 'd' or 'u' or 'x' or 'i' or 'c' or 'b' or 'h' or 'w' or 'g' or 'L')
        {
            switch (Current)
            {
                case 'b':
                    size = 1;
                    break;
                case 'h':
                    size = 2;
                    break;
                case 'w':
                    size = 4;
                    break;
                case 'g' or 'L':
                    size = 8;
                    break;
                default:
                    format = Current;
                    break;
            }

            _position++;
        }

        if (Current != '\0' && !char.IsWhiteSpace(Current))
        {
            throw new HmpParseException($"invalid char in format: '{Current}'");
        }

        format = format == '\0' ? _defaults.Format : format;
        if (format != 'i')
        {
            size = size < 0 ? _defaults.Size : size;
            _defaults.Size = size;
        }

        _defaults.Format = format;
        return new HmpFormat(count, format, size);
    }

    private void Integer(string key, ReadOnlySpan<char> type)
    {
        if (type.EndsWith("."))
        {
            // An argument that is introduced by a dot.
            if (Current != '.')
            {
                return;
            }

            _position++;
            SkipSpaces();
        }

        MonitorCore core = _core;
        int cpuIndex = _cpuIndex;
        long value = HmpExpression.Evaluate(_text[_position..], name => core.ReadRegister(cpuIndex, name), out int length);
        _position += length;
        if (type[0] == 'i' && value >> 32 != 0)
        {
            throw new HmpParseException($"'{_entry.Names}' has failed: integer is for 32-bit values");
        }

        if (type[0] == 'M')
        {
            value = value >= 0 ? unchecked(value << 20) : throw new HmpParseException("enter a positive value");
        }

        _arguments[key] = value;
    }

    private long Size()
    {
        int start = _position;
        while (char.IsAsciiDigit(Current) || Current == '.')
        {
            _position++;
        }

        int shift = char.ToUpperInvariant(Current) switch
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
        ReadOnlySpan<char> digits = _text[start.._position];
        if (shift >= 0)
        {
            _position++;
        }

        bool valid = decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number);
        decimal factor = 1L << (shift < 0 ? 20 : shift);
        return valid && number <= long.MaxValue / factor ? (long)(number * factor) : throw new HmpParseException("invalid size");
    }

    private double Seconds()
    {
        int start = _position;
        while (char.IsAsciiDigit(Current) || Current is '.' or '+' or '-' || (Current is 'e' or 'E' && _position > start))
        {
            _position++;
        }

        if (!double.TryParse(_text[start.._position], NumberStyles.Float, CultureInfo.InvariantCulture, out double value))
        {
            throw new HmpParseException("Number expected");
        }

        if (!double.IsFinite(value))
        {
            throw new HmpParseException("Bad number");
        }

        double divisor = Peek(1) != 's' ? 1 : Current switch
        {
            'm' => 1e3,
            'u' => 1e6,
            'n' => 1e9,
            _ => 1,
        };
        _position += divisor > 1 ? 2 : 0;
        return Current == '\0' || char.IsWhiteSpace(Current) ? value / divisor : throw new HmpParseException("Unknown unit suffix");
    }

    private bool OnOff()
    {
        int start = _position;
        while (Current != '\0' && !char.IsWhiteSpace(Current))
        {
            _position++;
        }

        return _text[start.._position] switch
        {
            "on" => true,
            "off" => false,
            _ => throw new HmpParseException("Expected 'on' or 'off'"),
        };
    }

    private void Flag(string key, char letter, ReadOnlySpan<char> following)
    {
        int before = _position;
        SkipSpaces();
        if (Current != '-')
        {
            return;
        }

        char given = Peek(1);
        if (given == letter)
        {
            _position += 2;
            _arguments[key] = true;
            return;
        }

        // It may be the flag of an argument that is declared later.
        bool later = false;
        foreach (Range range in following.Split(','))
        {
            later |= following[range].EndsWith(":-" + given);
        }

        if (!later)
        {
            throw new HmpParseException($"{_entry.Names}: unsupported option -{given}");
        }

        _position = before;
    }
}
