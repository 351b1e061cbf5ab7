using Vmm.Qapi;

namespace Vmm.Monitor.Qmp;

/// <summary>Optional abilities of a QMP session.</summary>
[QapiEnum]
public enum QMPCapability
{
    /// <summary>Out-of-band execution.</summary>
    Oob,
}

/// <summary>Three-part version number.</summary>
[QapiStruct]
public sealed partial record VersionTriple
{
    /// <summary>Major.</summary>
    public required int Major { get; init; }

    /// <summary>Minor.</summary>
    public required int Minor { get; init; }

    /// <summary>Micro.</summary>
    public required int Micro { get; init; }
}

/// <summary>Version of the program.</summary>
[QapiStruct]
public sealed partial record VersionInfo
{
    /// <summary>Version of the interface.</summary>
    public required VersionTriple Qemu { get; init; }

    /// <summary>Who built it.</summary>
    public required string Package { get; init; }
}

/// <summary>Name of a command.</summary>
[QapiStruct]
public sealed partial record CommandInfo
{
    /// <summary>Wire name.</summary>
    public required string Name { get; init; }
}

/// <summary>Name of an event.</summary>
[QapiStruct]
public sealed partial record EventInfo
{
    /// <summary>Wire name.</summary>
    public required string Name { get; init; }
}

/// <summary>The commands that are about the monitor itself.</summary>
public sealed class MonitorCommands(MonitorCore core)
{
    /// <summary>Ends negotiation mode and enables the capabilities asked for.</summary>
    [QmpCommand("qmp_capabilities", ArgsType = "enable:q?", AllowPreconfig = true, Since = "0.13")]
    public static void QmpCapabilities(IMonitorSession session, List<QMPCapability>? enable = null)
    {
        if (session is not QmpSession qmp)
        {
            return;
        }

        if (qmp.IsNegotiated)
        {
            throw new QapiException(QapiErrorClass.CommandNotFound, "Capabilities negotiation is already complete, command ignored");
        }

        bool oob = enable is { Count: > 0 };
        if (oob && !qmp.OffersOob)
        {
            throw new QapiException("Capability 'oob' not available");
        }

        qmp.CompleteNegotiation(oob);
    }

    /// <summary>Version of the program.</summary>
    [QmpCommand("query-version", AllowPreconfig = true, Since = "0.14")]
    public VersionInfo QueryVersion() => new()
    {
        Qemu = new VersionTriple { Major = core.Version.Major, Minor = core.Version.Minor, Micro = core.Version.Micro },
        Package = core.Version.Package,
    };

    /// <summary>Names of all commands.</summary>
    [QmpCommand("query-commands", AllowPreconfig = true, Since = "0.14")]
    public List<CommandInfo> QueryCommands()
    {
        List<CommandInfo> all = new(core.Table.Count);
        foreach (CommandEntry entry in core.Table.Commands)
        {
            all.Add(new CommandInfo { Name = entry.Name });
        }

        all.Sort(static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        return all;
    }

    /// <summary>Names of all events.</summary>
    [QmpCommand("query-events", AllowPreconfig = true, Since = "1.2")]
    public List<EventInfo> QueryEvents()
    {
        List<EventInfo> all = new(core.Table.Events.Count);
        foreach (QmpEventInfo info in core.Table.Events)
        {
            all.Add(new EventInfo { Name = info.Name });
        }

        all.Sort(static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        return all;
    }
}
