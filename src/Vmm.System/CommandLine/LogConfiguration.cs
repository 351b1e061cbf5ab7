using Vmm.ObjectModel.Logging;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>One switch of trace events.</summary>
/// <param name="Pattern">Name of an event, or a pattern with * for any run of characters.</param>
/// <param name="Enable">On or off.</param>
/// <param name="Location">Where it was given.</param>
public sealed record TraceSwitch(string Pattern, bool Enable, string? Location)
{
    /// <summary>Reads "name", "pat*" or "-name".</summary>
    public static TraceSwitch Parse(string text, string? location) =>
        text.StartsWith('-') ? new TraceSwitch(text[1..], false, location) : new TraceSwitch(text, true, location);
}

/// <summary>-D, -d and -trace.</summary>
/// <param name="File">Path of the log file ("%d" stands for the process id), or null for standard error.</param>
/// <param name="Items">What to log.</param>
/// <param name="Traces">Trace events to switch, in order.</param>
public sealed record LogConfiguration(string? File, LogItems Items, IReadOnlyList<TraceSwitch> Traces)
{
    /// <summary>Whether there is anything to log.</summary>
    public bool IsActive => Items != LogItems.None || Traces.Count > 0 || File != null;

    /// <summary>The list of items for people.</summary>
    /// <param name="command">What the items are an argument of: "-d " or "log ".</param>
    /// <param name="withNone">Whether "none" is one of them.</param>
    public static string ItemsHelp(string command, bool withNone) =>
        "Log items (comma separated):\n"
        + (withNone ? "none            remove all logs\n" : "")
        + "int             show interrupts/exceptions in short format\n"
        + "cpu_reset       show CPU state before CPU resets\n"
        + "unimp           log unimplemented functionality\n"
        + "guest_errors    log when the guest OS does something invalid (eg accessing a\nnon-existent register)\n"
        + "trace:PATTERN   enable trace events\n"
        + $"\nUse \"{command}trace:help\" to get a list of trace events.\n\n";

    /// <summary>Reads a comma separated list of items.</summary>
    /// <param name="text">"guest_errors,unimp", "all", "trace:pattern".</param>
    /// <param name="items">The items named.</param>
    /// <param name="traces">Takes the trace switches named.</param>
    /// <param name="traceHelp">Set when the list of trace events is asked for.</param>
    /// <returns>False when a name is unknown.</returns>
    public static bool TryParseItems(string text, out LogItems items, List<TraceSwitch> traces, out bool traceHelp)
    {
        items = LogItems.None;
        traceHelp = false;
        foreach (string item in text.Split(','))
        {
            if (item.StartsWith("trace:", StringComparison.Ordinal) && item.Length > 6)
            {
                traceHelp |= OptionErrors.IsHelp(item.AsSpan(6));
                traces.Add(TraceSwitch.Parse(item[6..], null));
                continue;
            }

            LogItems? known = Item(item);
            if (known == null)
            {
                return false;
            }

            items |= known.Value;
        }

        return true;
    }

    private static LogItems? Item(string name) => name switch
    {
        "all" => LogItems.All,
        "int" => LogItems.Interrupts,
        "unimp" => LogItems.Unimplemented,
        "guest_errors" => LogItems.GuestErrors,
        "cpu_reset" => LogItems.CpuReset,
        _ => null,
    };
}
