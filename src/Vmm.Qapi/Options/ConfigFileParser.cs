namespace Vmm.Qapi.Options;

/// <summary>One group of a configuration file.</summary>
/// <param name="Name">Group name, such as "chardev".</param>
/// <param name="Id">The quoted id after the name, or null.</param>
/// <param name="Values">The assignments in order; of a repeated name the last value.</param>
/// <param name="Line">Line number, from 1, of the last assignment read when the group ended; 0 when the file has had none so far.</param>
public sealed record ConfigGroup(string Name, string? Id, QDict Values, int Line);

/// <summary>
/// Reads configuration files: [group] or [group "id"], then lines of the form name = "value". Pure function; throws nothing but
/// <see cref="ConfigFileException"/>.
/// </summary>
public static class ConfigFileParser
{
    private const int MaxName = 63;
    private const int MaxValue = 1023;

    /// <summary>Reads a whole file.</summary>
    /// <exception cref="ConfigFileException">A line is neither a comment, a group nor an assignment within a group.</exception>
    public static IEnumerable<ConfigGroup> Parse(string text)
    {
        string name = "";
        string? id = null;
        QDict? values = null;
        int lineNumber = 0;
        int assignmentLine = 0;
        for (int start = 0; start < text.Length;)
        {
            int end = text.IndexOf('\n', start);
            string line = end < 0 ? text[start..] : text[start..end];
            start = end < 0 ? text.Length : end + 1;
            lineNumber++;
            if (line.Length == 0 || line[0] == '#')
            {
                continue;
            }

            if (line[0] == '[' && TryReadGroup(line, out string newName, out string? newId))
            {
                if (values != null)
                {
                    yield return new ConfigGroup(name, id, values, assignmentLine);
                }

                name = newName;
                id = newId;
                values = [];
                continue;
            }

            assignmentLine = lineNumber;
            if (!TryReadAssignment(line, out string key, out string value))
            {
                throw new ConfigFileException("parse error", lineNumber);
            }

            if (values == null)
            {
                throw new ConfigFileException("no group defined", lineNumber);
            }

            values[key] = value;
        }

        if (values != null)
        {
            yield return new ConfigGroup(name, id, values, assignmentLine);
        }
    }

    private static bool TryReadGroup(string line, out string name, out string? id)
    {
        id = null;
        int i = 1;
        while (i < line.Length && i - 1 < MaxName && !char.IsWhiteSpace(line[i]))
        {
            i++;
        }

        name = line[1..i];
        int quote = SkipWhite(line, i);
        if (name.Length > 0 && quote > i && quote < line.Length && line[quote] == '"')
        {
            int idEnd = quote + 1;
            while (idEnd < line.Length && idEnd - quote - 1 < MaxName && line[idEnd] != '"')
            {
                idEnd++;
            }

            if (idEnd > quote + 1)
            {
                id = line[(quote + 1)..idEnd];
                return true;
            }
        }

        int close = line.IndexOf(']', 1);
        close = close < 0 ? line.Length : close;
        name = line[1..Math.Min(close, MaxName + 1)];
        return name.Length > 0;
    }

    // A name runs up to white space, so that "name=x" without a space is a name without value.
    private static bool TryReadAssignment(string line, out string key, out string value)
    {
        value = "";
        int start = SkipWhite(line, 0);
        int i = start;
        while (i < line.Length && i - start < MaxName && !char.IsWhiteSpace(line[i]))
        {
            i++;
        }

        key = line[start..i];
        if (key.Length == 0)
        {
            return false;
        }

        i = SkipWhite(line, i);
        if (i < line.Length && line[i] == '=')
        {
            i = SkipWhite(line, i + 1);
            if (i < line.Length && line[i] == '"')
            {
                int end = i + 1;
                while (end < line.Length && end - i - 1 < MaxValue && line[end] != '"')
                {
                    end++;
                }

                value = line[(i + 1)..end];
            }
        }

        return true;
    }

    private static int SkipWhite(string line, int i)
    {
        while (i < line.Length && char.IsWhiteSpace(line[i]))
        {
            i++;
        }

        return i;
    }
}

/// <summary>A configuration file that cannot be read as one.</summary>
public sealed class ConfigFileException : Exception
{
    /// <summary>Describes the fault.</summary>
    public ConfigFileException(string message, int line)
        : base(message) => Line = line;

    /// <summary>Line number from 1.</summary>
    public int Line { get; }
}
