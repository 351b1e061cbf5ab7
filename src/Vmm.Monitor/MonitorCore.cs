using System.Runtime.InteropServices;
using Vmm.EventLoop;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>What the greeting and query-version say.</summary>
/// <param name="Major">Version of the interface.</param>
/// <param name="Minor">Version of the interface.</param>
/// <param name="Micro">Version of the interface.</param>
/// <param name="Package">Who built it.</param>
public sealed record MonitorVersion(int Major, int Minor, int Micro, string Package);

/// <summary>
/// What all monitors of a process share: the command tables, the list of sessions, the delivery of events. Home: the main loop;
/// <see cref="Emit"/> may be called on any thread.
/// </summary>
public sealed class MonitorCore : IEventEmitter, IDisposable
{
    private readonly EventLoop.EventLoop _loop;
    private readonly ClockType _eventClock;
    private readonly List<QmpSession> _sessions = [];
    private readonly Dictionary<(string Event, string? Key), Throttle> _throttles = [];
    private readonly JsonWriter _compact = new();

    /// <summary>A core without sessions.</summary>
    /// <param name="loop">The main loop.</param>
    /// <param name="version">Version to announce.</param>
    /// <param name="table">Commands and events.</param>
    /// <param name="eventClock">Clock of the rate limits: realtime, or virtual under qtest.</param>
    public MonitorCore(EventLoop.EventLoop loop, MonitorVersion version, CommandTable table, ClockType eventClock = ClockType.Realtime)
    {
        _loop = loop;
        Version = version;
        Table = table;
        _eventClock = eventClock;
    }

    /// <summary>Version announced.</summary>
    public MonitorVersion Version { get; }

    /// <summary>Commands and events.</summary>
    public CommandTable Table { get; }

    /// <summary>Human monitor commands.</summary>
    public HmpTable HumanTable { get; } = new();

    /// <summary>True between <c>-preconfig</c> and x-exit-preconfig: only commands that allow it run.</summary>
    public bool IsPreconfig { get; set; }

    /// <summary>Open QMP sessions.</summary>
    public IReadOnlyList<QmpSession> Sessions => _sessions;

    /// <summary>Called when the last client has gone: unused fd sets can be dropped.</summary>
    public Action? LastClientGone { get; set; }

    internal EventLoop.EventLoop Loop => _loop;

    /// <summary>True while any client is connected.</summary>
    public bool HasClients
    {
        get
        {
            foreach (QmpSession session in _sessions)
            {
                if (session.IsConnected)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <inheritdoc/>
    public void Emit(IQmpEvent qmpEvent)
    {
        // The timestamp is that of the event, not that of its delivery.
        long nowNs = _loop.Clocks.NowNs(ClockType.Host);
        if (_loop.IsHomeThread)
        {
            Deliver(qmpEvent, nowNs);
        }
        else
        {
            _loop.Post(static s => s.Core.Deliver(s.Event, s.NowNs), (Core: this, Event: qmpEvent, NowNs: nowNs));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Throttle throttle in _throttles.Values)
        {
            throttle.Timer.Dispose();
        }

        _throttles.Clear();
    }

    internal void Add(QmpSession session) => _sessions.Add(session);

    internal void Remove(QmpSession session) => _sessions.Remove(session);

    internal void ClientGone()
    {
        if (!HasClients)
        {
            LastClientGone?.Invoke();
        }
    }

    private void Deliver(IQmpEvent qmpEvent, long nowNs)
    {
        QmpEventInfo info = qmpEvent.Info;
        if (info.RateLimitMs == 0)
        {
            Send(qmpEvent, nowNs);
            return;
        }

        (string, string?) key = (info.Name, qmpEvent.RateKey);
        if (_throttles.TryGetValue(key, out Throttle? throttle))
        {
            // Within the interval the latest one wins and goes out when the interval ends.
            throttle.Pending = qmpEvent;
            throttle.PendingNs = nowNs;
            return;
        }

        Send(qmpEvent, nowNs);
        throttle = new Throttle();
        throttle.Timer = _loop.CreateTimer(_eventClock, () => IntervalEnded(key, throttle, info));
        throttle.Timer.ArmAfter(info.RateLimitMs * 1_000_000L);
        _throttles.Add(key, throttle);
    }

    private void IntervalEnded((string, string?) key, Throttle throttle, QmpEventInfo info)
    {
        if (throttle.Pending is { } pending)
        {
            throttle.Pending = null;
            Send(pending, throttle.PendingNs);
            throttle.Timer.ArmAfter(info.RateLimitMs * 1_000_000L);
        }
        else
        {
            _throttles.Remove(key);
            throttle.Timer.Dispose();
        }
    }

    private void Send(IQmpEvent qmpEvent, long nowNs)
    {
        bool written = false;
        for (int i = 0; i < _sessions.Count; i++)
        {
            QmpSession session = _sessions[i];
            if (!session.WantsEvents)
            {
                continue;
            }

            if (session.IsPretty)
            {
                JsonWriter pretty = new(pretty: true);
                WriteEvent(pretty, qmpEvent, nowNs);
                session.SendEvent(pretty.WrittenSpan);
                continue;
            }

            if (!written)
            {
                _compact.Reset();
                WriteEvent(_compact, qmpEvent, nowNs);
                written = true;
            }

            session.SendEvent(_compact.WrittenSpan);
        }
    }

    private static void WriteEvent(JsonWriter writer, IQmpEvent qmpEvent, long nowNs)
    {
        writer.WriteStartObject();
        writer.WriteName("timestamp"u8);
        writer.WriteStartObject();
        writer.WriteName("seconds"u8);
        writer.WriteNumber(nowNs / 1_000_000_000);
        writer.WriteName("microseconds"u8);
        writer.WriteNumber(nowNs % 1_000_000_000 / 1000);
        writer.WriteEndObject();
        writer.WriteName("event"u8);
        writer.WriteString(qmpEvent.Info.Name);
        if (qmpEvent.Info.HasData)
        {
            writer.WriteName("data"u8);
            qmpEvent.QapiWrite(writer);
        }

        writer.WriteEndObject();
    }

    private sealed class Throttle
    {
        public IQmpEvent? Pending;
        public long PendingNs;
        public LoopTimer Timer = null!;
    }
}
