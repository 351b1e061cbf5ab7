using System.Diagnostics.CodeAnalysis;

namespace Vmm.Qapi;

/// <summary>Runs a command: reads the arguments, calls the handler and writes the bare result value.</summary>
/// <exception cref="QapiException">The arguments or the request are refused (thrown, or carried by the task).</exception>
public delegate ValueTask CommandInvoker(QDict args, IMonitorSession session, JsonWriter result);

/// <summary>One command of the table. Made by generated code from <see cref="QmpCommandAttribute"/>.</summary>
public sealed class CommandEntry
{
    /// <summary>Name on the wire.</summary>
    public required string Name { get; init; }

    /// <summary>Declared parameters: comma separated name:letter, '?' for optional.</summary>
    public string ArgsType { get; init; } = "";

    /// <summary>May be run out of band.</summary>
    public bool AllowOob { get; init; }

    /// <summary>May be run before the machine is created.</summary>
    public bool AllowPreconfig { get; init; }

    /// <summary>Whether a success is answered.</summary>
    public bool SuccessResponse { get; init; } = true;

    /// <summary>Version of the interface in which the command appeared.</summary>
    public string Since { get; init; } = "";

    /// <summary>What the command does, one paragraph.</summary>
    public string Doc { get; init; } = "";

    /// <summary>Introspected features.</summary>
    public string[] Features { get; init; } = [];

    /// <summary>Runs the command.</summary>
    public required CommandInvoker Invoke { get; init; }

    /// <summary>Schema of the arguments object; null for a command without arguments.</summary>
    public Func<SchemaType>? ArgSchema { get; init; }

    /// <summary>Schema of the result; null for a command without result.</summary>
    public Func<SchemaType>? RetSchema { get; init; }

    /// <summary>A disabled command answers "The command NAME has been disabled for this instance" with the reason.</summary>
    public string? DisabledReason { get; init; }
}

/// <summary>The commands and events of the program. Filled at start by the generated catalogues; read on the main loop.</summary>
public sealed class CommandTable
{
    private readonly Dictionary<string, CommandEntry> _commands = new(256);
    private readonly List<QmpEventInfo> _events = [];
    private byte[]? _schema;

    /// <summary>The commands in the order of registration.</summary>
    public IReadOnlyCollection<CommandEntry> Commands => _commands.Values;

    /// <summary>The events in the order of registration.</summary>
    public IReadOnlyList<QmpEventInfo> Events => _events;

    /// <summary>Number of commands.</summary>
    public int Count => _commands.Count;

    /// <summary>Adds a command.</summary>
    /// <exception cref="InvalidOperationException">A command of that name exists: two features claim it.</exception>
    public void Add(CommandEntry entry)
    {
        if (!_commands.TryAdd(entry.Name, entry))
        {
            throw new InvalidOperationException("command registered twice: " + entry.Name);
        }

        _schema = null;
    }

    /// <summary>Adds an event that some feature emits.</summary>
    public void AddEvent(QmpEventInfo info)
    {
        _events.Add(info);
        _schema = null;
    }

    /// <summary>Takes a command away, for features that are absent at run time.</summary>
    public bool Remove(string name)
    {
        _schema = null;
        return _commands.Remove(name);
    }

    /// <summary>Finds a command by its exact name.</summary>
    public bool TryGet(string name, [NotNullWhen(true)] out CommandEntry? entry) => _commands.TryGetValue(name, out entry);

    /// <summary>The result of query-qmp-schema as compact JSON; built on first use and kept until the table changes.</summary>
    public ReadOnlyMemory<byte> SchemaJson => _schema ??= QapiSchemaBuilder.Build(this);
}
