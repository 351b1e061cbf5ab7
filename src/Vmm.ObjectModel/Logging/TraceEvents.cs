namespace Vmm.ObjectModel.Logging;

/// <summary>
/// A point in the program that can be watched at run time. Declared once, as a static field of the feature; costs a load and a branch while
/// it is off: <c>if (s_event.IsEnabled) s_event.Write($"...")</c>. Any thread.
/// </summary>
public sealed class TraceEvent
{
    private volatile bool _enabled;

    /// <summary>Declares an event, off.</summary>
    /// <param name="name">Lower case with underscores, unique in the program.</param>
    public TraceEvent(string name) => Name = name;

    /// <summary>Name.</summary>
    public string Name { get; }

    /// <summary>Whether the event is written.</summary>
    public bool IsEnabled
    {
        get => _enabled;
        set => _enabled = value;
    }

    /// <summary>Writes the event with its arguments; nothing while it is off.</summary>
    public void Write(string arguments)
    {
        if (_enabled)
        {
            MachineLog.Sink?.WriteTrace(Name, arguments);
        }
    }
}

/// <summary>
/// All trace events by name. Features hand in their lists as functions, which are called when somebody first asks for events; until then the
/// registry costs nothing. Home: main loop.
/// </summary>
public sealed class TraceEventRegistry
{
    private readonly List<Func<IReadOnlyList<TraceEvent>>> _catalogs = [];
    private List<TraceEvent>? _events;

    /// <summary>All events by name in ordinal order.</summary>
    public IReadOnlyList<TraceEvent> Events
    {
        get
        {
            if (_events == null)
            {
                _events = [];
                foreach (Func<IReadOnlyList<TraceEvent>> catalog in _catalogs)
                {
                    _events.AddRange(catalog());
                }

                _events.Sort(static (a, b) => string.CompareOrdinal(a.Name, b.Name));
            }

            return _events;
        }
    }

    /// <summary>Adds a feature's events.</summary>
    public void AddCatalog(Func<IReadOnlyList<TraceEvent>> catalog)
    {
        _catalogs.Add(catalog);
        _events = null;
    }

    /// <summary>Whether a text is a pattern rather than a name.</summary>
    public static bool IsPattern(string text) => text.Contains('*') || text.Contains('?');

    /// <summary>The event of that name, or null.</summary>
    public TraceEvent? Find(string name)
    {
        foreach (TraceEvent trace in Events)
        {
            if (trace.Name == name)
            {
                return trace;
            }
        }

        return null;
    }

    /// <summary>The events that a pattern matches: * is any run of characters, ? is one.</summary>
    public List<TraceEvent> Match(string pattern)
    {
        var matches = new List<TraceEvent>();
        foreach (TraceEvent trace in Events)
        {
            if (Matches(pattern, trace.Name))
            {
                matches.Add(trace);
            }
        }

        return matches;
    }

    /// <summary>Switches the events that a name or pattern matches.</summary>
    /// <returns>False when it is a name and there is no such event.</returns>
    public bool Switch(string pattern, bool enable)
    {
        List<TraceEvent> matches = Match(pattern);
        foreach (TraceEvent trace in matches)
        {
            trace.IsEnabled = enable;
        }

        return matches.Count > 0 || IsPattern(pattern);
    }

    /// <summary>Whether a pattern matches a whole name. Linear in the product of the lengths at worst.</summary>
    public static bool Matches(ReadOnlySpan<char> pattern, ReadOnlySpan<char> name)
    {
        int p = 0;
        int n = 0;
        int star = -1;
        int resume = 0;
        while (n < name.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                star = p++;
                resume = n;
            }
            else if (p < pattern.Length && (pattern[p] == '?' || pattern[p] == name[n]))
            {
                p++;
                n++;
            }
            else if (star >= 0)
            {
                p = star + 1;
                n = ++resume;
            }
            else
            {
                return false;
            }
        }

        while (p < pattern.Length && pattern[p] == '*')
        {
            p++;
        }

        return p == pattern.Length;
    }
}
