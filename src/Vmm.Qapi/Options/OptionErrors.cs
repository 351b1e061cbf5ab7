namespace Vmm.Qapi.Options;

/// <summary>The errors that several readers of option text share.</summary>
public static class OptionErrors
{
    /// <summary>An id that is not an identifier.</summary>
    public static QapiException BadIdentifier(string parameter = "id") => new(
        QapiErrorClass.GenericError,
        $"Parameter '{parameter}' expects an identifier",
        "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.");

    /// <summary>Text that is not a size.</summary>
    public static QapiException BadSize(string parameter) => new(
        QapiErrorClass.GenericError,
        $"Parameter '{parameter}' expects a non-negative number below 2^64",
        "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.");

    /// <summary>What to warn with when a hexadecimal size carries a suffix.</summary>
    public static string HexSuffixWarning(string text) => $"Using a multiplier suffix on hex numbers is deprecated: {text}";

    /// <summary>Whether a text can be an id: a letter, then letters, digits, '-', '.' and '_'.</summary>
    public static bool IsIdentifier(ReadOnlySpan<char> id)
    {
        if (id.Length == 0 || !char.IsAsciiLetter(id[0]))
        {
            return false;
        }

        foreach (char c in id[1..])
        {
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('-' or '.' or '_'))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Whether a value asks for help instead of being one.</summary>
    public static bool IsHelp(ReadOnlySpan<char> value) => value is "help" or "?";

    /// <summary>Checks the text of one parameter against its type.</summary>
    /// <exception cref="QapiException">The text is not a value of that type.</exception>
    public static void CheckValue(string name, string value, OptionType type, IOptionDiagnostics diagnostics)
    {
        switch (type)
        {
            case OptionType.Boolean:
                ParseBool(name, value);
                break;
            case OptionType.Number:
                ParseNumber(name, value);
                break;
            case OptionType.Size:
                ParseSize(name, value, diagnostics);
                break;
        }
    }

    /// <summary>Reads a boolean.</summary>
    /// <exception cref="QapiException">The text is not a boolean.</exception>
    public static bool ParseBool(string name, string text) => OptionScalars.TryParseBool(text, out bool value)
        ? value
        : throw QapiException.InvalidParameterValue(name, "'on' or 'off'");

    /// <summary>Reads an unsigned number; a negative one wraps.</summary>
    /// <exception cref="QapiException">The text is not a number or does not fit in 64 bits.</exception>
    public static ulong ParseNumber(string name, string text) => OptionScalars.TryParseUInt64(text, out ulong value) switch
    {
        ScalarStatus.Ok => value,
        ScalarStatus.OutOfRange => throw new QapiException($"Value '{text}' is too large for parameter '{name}'"),
        _ => throw QapiException.InvalidParameterValue(name, "a number"),
    };

    /// <summary>Reads a size in bytes.</summary>
    /// <exception cref="QapiException">The text is not a size or does not fit in 64 bits.</exception>
    public static ulong ParseSize(string name, string text, IOptionDiagnostics diagnostics)
    {
        ScalarStatus status = OptionScalars.TryParseSize(text, out ulong value, out bool hexSuffix);
        if (hexSuffix)
        {
            diagnostics.Warning(HexSuffixWarning(text));
        }

        return status switch
        {
            ScalarStatus.Ok => value,
            ScalarStatus.OutOfRange => throw new QapiException($"Value '{text}' is out of range for parameter '{name}'"),
            _ => throw BadSize(name),
        };
    }
}
