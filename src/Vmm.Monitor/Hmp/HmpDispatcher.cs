using System.Text;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>Runs HMP command lines: finds the command or sub-command, reads its arguments, shows its errors. Home: the main loop.</summary>
public sealed class HmpDispatcher(MonitorCore core)
{
    private readonly HmpFormatDefaults _formatDefaults = new();

    /// <summary>Runs a line. Whatever goes wrong is shown in the context.</summary>
    public ValueTask Execute(HmpContext context, string line)
    {
        HmpEntry? entry = Find(context, line, out int end);
        if (entry == null)
        {
            return default;
        }

        try
        {
            QDict arguments = HmpArgumentParser.Parse(line.AsSpan(end), entry, core, context.Session.CpuIndex, _formatDefaults);
            ValueTask running = entry.Invoke(context, arguments);
            if (!running.IsCompletedSuccessfully)
            {
                return Finish(context, running);
            }

            running.GetAwaiter().GetResult();
        }
        catch (HmpParseException error)
        {
            context.PrintLine(error.Message);
            context.PrintLine($"Try \"help {line.AsSpan(0, end).TrimEnd()}\" for more information");
        }
        catch (QapiException error)
        {
            context.PrintError(error);
        }

        return default;
    }

    /// <summary>Shows help: all commands, or the named command, or all sub-commands of the named group.</summary>
    public void Help(HmpContext context, string? topic)
    {
        string[] words = topic?.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries) ?? [];
        string group = "";
        for (int i = 0; i < words.Length; i++)
        {
            if (!core.HumanTable.TryGet(group, words[i], out HmpEntry? entry) || !IsAvailable(entry))
            {
                context.PrintLine($"unknown command: '{string.Join(' ', words[..(i + 1)])}'");
                return;
            }

            if (!HasSubcommands(entry))
            {
                PrintHelp(context, entry);
                return;
            }

            group = entry.Names;
        }

        foreach (HmpEntry entry in Sorted(group))
        {
            PrintHelp(context, entry);
        }
    }

    /// <summary>The names that can follow in a line up to the cursor, each once, sorted, and how much of them is there already.</summary>
    public List<string> Complete(string line, out int typed)
    {
        List<string> words = [.. line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)];
        if (line.Length == 0 || char.IsWhiteSpace(line[^1]))
        {
            words.Add("");
        }

        string group = "";
        int i = 0;
        while (i < words.Count - 1)
        {
            if (!core.HumanTable.TryGet(group, words[i], out HmpEntry? entry) || !IsAvailable(entry))
            {
                typed = 0;
                return [];
            }

            bool isHelp = group.Length == 0 && entry.Matches("help");
            if (!HasSubcommands(entry) && !isHelp)
            {
                typed = 0;
                return [];
            }

            group = isHelp ? "" : entry.Names;
            i++;
        }

        string prefix = words[i];
        typed = prefix.Length;
        var names = new SortedSet<string>(StringComparer.Ordinal);
        foreach (HmpEntry entry in core.HumanTable.Entries)
        {
            if (entry.Group != group || !IsAvailable(entry))
            {
                continue;
            }

            foreach (string name in entry.Names.Split('|'))
            {
                if (name.StartsWith(prefix, StringComparison.Ordinal))
                {
                    names.Add(name);
                }
            }
        }

        return [.. names];
    }

    private static async ValueTask Finish(HmpContext context, ValueTask running)
    {
        try
        {
            await running.ConfigureAwait(true);
        }
        catch (QapiException error)
        {
            context.PrintError(error);
        }
    }

    private static void PrintHelp(HmpContext context, HmpEntry entry)
    {
        string group = entry.Group.Length > 0 ? entry.Group + " " : "";
        context.PrintLine($"{group}{entry.Names} {entry.Params} -- {entry.Help}");
    }

    private bool IsAvailable(HmpEntry entry) => !core.IsPreconfig || entry.AllowPreconfig;

    private bool HasSubcommands(HmpEntry entry)
    {
        foreach (HmpEntry candidate in core.HumanTable.Entries)
        {
            if (candidate.Group.Length > 0 && candidate.Group == entry.Names)
            {
                return true;
            }
        }

        return false;
    }

    private List<HmpEntry> Sorted(string group)
    {
        var entries = new List<HmpEntry>();
        foreach (HmpEntry entry in core.HumanTable.Entries)
        {
            if (entry.Group == group && IsAvailable(entry))
            {
                entries.Add(entry);
            }
        }

        entries.Sort(static (a, b) => string.CompareOrdinal(a.Names, b.Names));
        return entries;
    }

    private HmpEntry? Find(HmpContext context, string line, out int end)
    {
        string group = "";
        end = 0;
        while (true)
        {
            int start = end;
            while (start < line.Length && char.IsWhiteSpace(line[start]))
            {
                start++;
            }

            if (start == line.Length)
            {
                return null;
            }

            end = start;
            while (end < line.Length && line[end] != '/' && !char.IsWhiteSpace(line[end]))
            {
                end++;
            }

            if (!core.HumanTable.TryGet(group, line.AsSpan(start, end - start), out HmpEntry? entry))
            {
                context.PrintLine($"unknown command: '{line.AsSpan(0, end)}'");
                return null;
            }

            if (!IsAvailable(entry))
            {
                context.PrintLine(
                    $"Command '{line.AsSpan(0, end)}' not available with -preconfig until machine initialization has completed.");
                return null;
            }

            if (!HasSubcommands(entry) || line.AsSpan(end).IsWhiteSpace())
            {
                return entry;
            }

            group = entry.Names;
        }
    }
}

/// <summary>An HMP context that collects its output, with the line ends of a terminal.</summary>
internal sealed class CapturedHmpContext(IMonitorSession session) : HmpContext
{
    private readonly StringBuilder _text = new();

    public override IMonitorSession Session { get; } = session;

    public override void Print(ReadOnlySpan<char> text)
    {
        foreach (char c in text)
        {
            if (c == '\n')
            {
                _text.Append('\r');
            }

            _text.Append(c);
        }
    }

    public override string ToString() => _text.ToString();
}
