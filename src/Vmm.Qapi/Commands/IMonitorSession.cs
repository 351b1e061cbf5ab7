using System.Runtime.InteropServices;

namespace Vmm.Qapi;

/// <summary>The monitor from which a command comes. Home: the main loop.</summary>
public interface IMonitorSession
{
    /// <summary>Id of the monitor, null when it has none.</summary>
    string? Name { get; }

    /// <summary>Whether the command came through an HMP terminal (or human-monitor-command).</summary>
    bool IsHmp { get; }

    /// <summary>Index of the vCPU that "cpu" selected in this monitor; -1 when none was.</summary>
    int CpuIndex { get; set; }

    /// <summary>
    /// Takes the oldest descriptor that arrived together with the bytes of the current command; null when there is none. The caller owns it.
    /// </summary>
    SafeHandle? TakeReceivedFd();

    /// <summary>Stores a descriptor under a name; an older one of that name is closed.</summary>
    void AddNamedFd(string name, SafeHandle fd);

    /// <summary>Closes a named descriptor; false when there is none of that name.</summary>
    bool CloseNamedFd(string name);

    /// <summary>Takes a named descriptor out of the store; null when there is none of that name. The caller owns it.</summary>
    SafeHandle? TakeNamedFd(string name);
}

/// <summary>Sends events to every monitor that has completed negotiation. May be called on any thread; delivery is on the main loop.</summary>
public interface IEventEmitter
{
    /// <summary>Sends an event, subject to its rate limit.</summary>
    void Emit(IQmpEvent qmpEvent);
}

/// <summary>An event; implemented by the generator for records with <see cref="QmpEventAttribute"/>.</summary>
public interface IQmpEvent
{
    /// <summary>What the event's type declares.</summary>
    QmpEventInfo Info { get; }

    /// <summary>Value by which events of this type are rate limited separately; null when the type has no such member.</summary>
    string? RateKey { get; }

    /// <summary>Writes the data object.</summary>
    void QapiWrite(JsonWriter writer);
}

/// <summary>The declaration of an event.</summary>
/// <param name="Name">Name on the wire.</param>
/// <param name="RateLimitMs">Minimum distance of two events in milliseconds; 0 for none.</param>
/// <param name="HasData">Whether the event carries a data object.</param>
/// <param name="Data">Schema of the data object, built when asked for.</param>
/// <param name="Features">Introspected features.</param>
/// <param name="Doc">What the event means.</param>
public sealed record QmpEventInfo(string Name, int RateLimitMs, bool HasData, Func<SchemaObject> Data, string[] Features, string Doc);
