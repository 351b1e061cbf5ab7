using System.Diagnostics.CodeAnalysis;

namespace Vmm.Qapi;

/// <summary>The output and state that an HMP command works with. Home: the main loop.</summary>
public abstract class HmpContext
{
    /// <summary>The monitor from which the command comes.</summary>
    public abstract IMonitorSession Session { get; }

    /// <summary>Index of the selected vCPU; -1 when none was selected.</summary>
    public int MonCpuIndex
    {
        get => Session.CpuIndex;
        set => Session.CpuIndex = value;
    }

    /// <summary>Prints text; '\n' becomes the terminal's line end.</summary>
    public abstract void Print(ReadOnlySpan<char> text);

    /// <summary>Prints text; '\n' becomes the terminal's line end.</summary>
    public void Print(string text) => Print(text.AsSpan());

    /// <summary>Prints a line.</summary>
    public void PrintLine(string text)
    {
        Print(text.AsSpan());
        Print("\n".AsSpan());
    }

    /// <summary>Prints an error as HMP shows it: "Error: " and the message, then the hint.</summary>
    public void PrintError(QapiException error)
    {
        PrintLine("Error: " + error.Desc);
        if (error.Hint is { } hint)
        {
            Print(hint);
        }
    }
}

/// <summary>A format argument such as "/8xb".</summary>
/// <param name="Count">Number of items, 1 unless given.</param>
/// <param name="Format">'x', 'd', 'u', 'o', 'c' or 'i'.</param>
/// <param name="Size">Item size in bytes: 1, 2, 4 or 8; 0 for 'i' without a size, -1 where the address size is meant.</param>
public readonly record struct HmpFormat(int Count, char Format, int Size)
{
    /// <summary>The form in which a format travels among the arguments.</summary>
    public QDict ToValue() => new() { ["count"] = Count, ["format"] = Format.ToString(), ["size"] = Size };

    /// <summary>The inverse of <see cref="ToValue"/>.</summary>
    public static HmpFormat FromValue(QValue value)
    {
        var dict = (QDict)value;
        return new HmpFormat((int)(dict.GetInt64("count") ?? 1), dict.GetString("format")![0], (int)(dict.GetInt64("size") ?? -1));
    }
}

/// <summary>Runs an HMP command with its parsed arguments.</summary>
public delegate ValueTask HmpInvoker(HmpContext context, QDict args);

/// <summary>One HMP command. Made by generated code from <see cref="HmpCommandAttribute"/>.</summary>
public sealed class HmpEntry
{
    /// <summary>Name with aliases after '|', without the group.</summary>
    public required string Names { get; init; }

    /// <summary>The command this is a sub-command of ("info"), or empty.</summary>
    public string Group { get; init; } = "";

    /// <summary>Declared arguments.</summary>
    public string ArgsType { get; init; } = "";

    /// <summary>Arguments as the help text shows them.</summary>
    public string Params { get; init; } = "";

    /// <summary>One line of help.</summary>
    public string Help { get; init; } = "";

    /// <summary>May be run before the machine is created.</summary>
    public bool AllowPreconfig { get; init; }

    /// <summary>Runs the command.</summary>
    public required HmpInvoker Invoke { get; init; }

    /// <summary>Whether a word is the name or one of the aliases.</summary>
    public bool Matches(ReadOnlySpan<char> word)
    {
        ReadOnlySpan<char> names = Names;
        foreach (Range range in names.Split('|'))
        {
            if (names[range].SequenceEqual(word))
            {
                return true;
            }
        }

        return false;
    }
}

/// <summary>The HMP commands of the program. Filled by generated code the first time a terminal or human-monitor-command needs it.</summary>
public sealed class HmpTable
{
    private readonly List<HmpEntry> _entries = [];

    /// <summary>The commands in the order of registration.</summary>
    public IReadOnlyList<HmpEntry> Entries => _entries;

    /// <summary>Adds a command.</summary>
    public void Add(HmpEntry entry) => _entries.Add(entry);

    /// <summary>Finds a command by name or alias within a group ("" for the top level).</summary>
    public bool TryGet(string group, ReadOnlySpan<char> word, [NotNullWhen(true)] out HmpEntry? entry)
    {
        foreach (HmpEntry candidate in _entries)
        {
            if (candidate.Group == group && candidate.Matches(word))
            {
                entry = candidate;
                return true;
            }
        }

        entry = null;
        return false;
    }
}
