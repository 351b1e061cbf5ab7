using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>Capabilities that a client can enable.</summary>
[QapiEnum]
[QapiName("QMPCapability")]
public enum QmpCapability
{
    /// <summary>Commands may be executed out of band.</summary>
    Oob,
}

/// <summary>The name of a command.</summary>
[QapiStruct]
public sealed partial record CommandInfo
{
    /// <summary>The name.</summary>
    public required string Name { get; init; }
}

/// <summary>The name of an event.</summary>
[QapiStruct]
public sealed partial record EventInfo
{
    /// <summary>The name.</summary>
    public required string Name { get; init; }
}

/// <summary>The commands about the monitor itself.</summary>
public sealed class MonitorCommands(MonitorCore core)
{
    /// <summary>Ends capabilities negotiation and enables the named capabilities.</summary>
    [QmpCommand("qmp_capabilities", ArgsType = "enable:q?", AllowPreconfig = true, Since = "0.13")]
    public static void Capabilities(QmpCapability[]? enable, IMonitorSession session)
    {
        if (session is QmpSession qmp)
        {
            qmp.Negotiate(enable ?? []);
        }
    }

    /// <summary>Returns the version of the interface and of the program.</summary>
    [QmpCommand("query-version", AllowPreconfig = true, Since = "0.14")]
    public VersionInfo QueryVersion() => core.Version.ToWire();

    /// <summary>Returns the names of all commands.</summary>
    [QmpCommand("query-commands", AllowPreconfig = true, Since = "0.14")]
    public List<CommandInfo> QueryCommands()
    {
        var list = new List<CommandInfo>(core.Table.Count);
        foreach (CommandEntry command in core.Table.Commands)
        {
            list.Add(new CommandInfo { Name = command.Name });
        }

        return list;
    }

    /// <summary>Returns the names of all events.</summary>
    [QmpCommand("query-events", Since = "1.2")]
    public List<EventInfo> QueryEvents()
    {
        var list = new List<EventInfo>(core.Table.Events.Count);
        foreach (QmpEventInfo info in core.Table.Events)
        {
            list.Add(new EventInfo { Name = info.Name });
        }

        return list;
    }

    /// <summary>Returns the schema of all commands and events.</summary>
    [QmpCommand("query-qmp-schema", AllowPreconfig = true, Since = "2.5", RetSchema = typeof(SchemaInfo[]))]
    public void QuerySchema(JsonWriter result)
    {
        ReadOnlySpan<byte> schema = core.Table.SchemaJson.Span;
        if (result.IsPretty)
        {
            result.WriteValue(QValue.Parse(schema));
        }
        else
        {
            result.WriteRaw(schema);
        }
    }
}
