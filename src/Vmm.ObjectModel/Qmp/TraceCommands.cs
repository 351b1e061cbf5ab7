using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Logging;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Whether a trace event is written.</summary>
[QapiEnum]
public enum TraceEventState
{
    /// <summary>It cannot be.</summary>
    Unavailable,

    /// <summary>No.</summary>
    Disabled,

    /// <summary>Yes.</summary>
    Enabled,
}

/// <summary>A trace event.</summary>
[QapiStruct]
public sealed partial record TraceEventInfo
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Whether it is written.</summary>
    public required TraceEventState State { get; init; }

    /// <summary>True when it can be switched for each vCPU; never here.</summary>
    public required bool Vcpu { get; init; }
}

/// <summary>Commands on trace events.</summary>
public sealed class TraceCommands(TraceEventRegistry registry, Func<IAccelerator?> accelerator)
{
    /// <summary>Tells the state of the trace events that a name or pattern matches.</summary>
    [QmpCommand("trace-event-get-state", ArgsType = "name:s,vcpu:i?", Since = "2.2")]
    public List<TraceEventInfo> TraceEventGetState(string name, int? vcpu)
    {
        var result = new List<TraceEventInfo>();
        foreach (TraceEvent trace in Select(name, vcpu))
        {
            result.Add(new TraceEventInfo
            {
                Name = trace.Name,
                State = trace.IsEnabled ? TraceEventState.Enabled : TraceEventState.Disabled,
                Vcpu = false,
            });
        }

        return result;
    }

    /// <summary>Switches the trace events that a name or pattern matches.</summary>
    [QmpCommand("trace-event-set-state", ArgsType = "name:s,enable:b,ignore-unavailable:b?,vcpu:i?", Since = "2.2")]
    public void TraceEventSetState(string name, bool enable, bool? ignoreUnavailable, int? vcpu)
    {
        // Every event that exists can be switched, so there is nothing to ignore.
        foreach (TraceEvent trace in Select(name, vcpu))
        {
            trace.IsEnabled = enable;
        }
    }

    /// <summary>Switches trace events.</summary>
    [HmpCommand(
        "trace-event",
        ArgsType = "name:s,option:b,vcpu:i?",
        Params = "name on|off [vcpu]",
        Help = "changes status of a specific trace event (vcpu: vCPU to set, default is all)")]
    public void HmpTraceEvent(HmpContext context, string name, bool option, int? vcpu)
    {
        try
        {
            TraceEventSetState(name, option, true, vcpu);
        }
        catch (QapiException e)
        {
            context.PrintLine(e.Desc);
        }
    }

    /// <summary>Lists trace events.</summary>
    [HmpCommand(
        "info trace-events",
        ArgsType = "name:s?,vcpu:i?",
        Params = "[name] [vcpu]",
        Help = "show available trace-events & their state (name: event name pattern; vcpu: vCPU to query, default is any)")]
    public void InfoTraceEvents(HmpContext context, string? name, int? vcpu)
    {
        try
        {
            foreach (TraceEvent trace in Select(name ?? "*", vcpu))
            {
                context.PrintLine($"{trace.Name} : state {(trace.IsEnabled ? 1 : 0)}");
            }
        }
        catch (QapiException e)
        {
            context.PrintLine(e.Desc);
        }
    }

    private List<TraceEvent> Select(string name, int? vcpu)
    {
        if (vcpu is { } index && (index < 0 || index >= (accelerator()?.Vcpus.Count ?? 0)))
        {
            throw new QapiException($"invalid vCPU index {index}");
        }

        List<TraceEvent> matches = registry.Match(name);
        if (TraceEventRegistry.IsPattern(name))
        {
            return vcpu is null ? matches : [];
        }

        if (matches.Count == 0)
        {
            throw new QapiException($"unknown event \"{name}\"");
        }

        return vcpu is null ? matches : throw new QapiException($"event \"{name}\" is not vCPU-specific");
    }
}
