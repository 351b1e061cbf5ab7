using Vmm.EventLoop;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>
/// All monitors of the program: their sessions, the order in which commands of several sessions run (one at a time), and the broadcast of
/// events with their rate limits. Home: the main loop, except <see cref="Emit"/>.
/// </summary>
public sealed class MonitorCore : IEventEmitter
{
    private readonly List<MonitorSession> _sessions = [];
    private readonly Dictionary<(string Name, string? Key), EventThrottle> _throttles = [];
    private readonly JsonWriter _compactEvent = new();
    private readonly JsonWriter _prettyEvent = new(pretty: true);
    private readonly Action<HmpTable>? _fillHumanTable;
    private HmpTable? _humanTable;
    private HmpDispatcher? _dispatcher;
    private bool _dispatching;
    private Task? _running;
    private int _nextSession;

    /// <summary>Creates the core without any monitor.</summary>
    /// <param name="loop">The main loop.</param>
    /// <param name="version">What the greeting announces.</param>
    /// <param name="table">Commands and events.</param>
    /// <param name="eventClock">The clock of rate limits: realtime, or virtual under the qtest accelerator.</param>
    /// <param name="fillHumanTable">Registers the HMP commands when one is first used.</param>
    public MonitorCore(
        EventLoop.EventLoop loop,
        MonitorVersion version,
        CommandTable table,
        ClockType eventClock = ClockType.Realtime,
        Action<HmpTable>? fillHumanTable = null)
    {
        Loop = loop;
        Version = version;
        Table = table;
        EventClock = eventClock;
        _fillHumanTable = fillHumanTable;
    }

    /// <summary>The main loop.</summary>
    public EventLoop.EventLoop Loop { get; }

    /// <summary>Commands and events.</summary>
    public CommandTable Table { get; }

    /// <summary>The HMP commands; registered on first use.</summary>
    public HmpTable HumanTable
    {
        get
        {
            if (_humanTable == null)
            {
                _humanTable = new HmpTable();
                _fillHumanTable?.Invoke(_humanTable);
            }

            return _humanTable;
        }
    }

    /// <summary>What the greeting announces.</summary>
    public MonitorVersion Version { get; }

    /// <summary>The monitors in the order in which they were added.</summary>
    public IReadOnlyList<MonitorSession> Sessions => _sessions;

    /// <summary>Whether the machine is not created yet, so that only some commands are permitted.</summary>
    public bool IsPreconfig { get; set; }

    /// <summary>The process is about to end: events are still told, commands are not run any more.</summary>
    public bool IsEnding { get; set; }

    /// <summary>Whether a vCPU of that index exists.</summary>
    public Func<int, bool> CpuExists { get; set; } = static _ => false;

    /// <summary>The value of a register of a vCPU (-1: the first) for expressions such as "$rax"; null for an unknown one.</summary>
    public Func<int, string, long?> ReadRegister { get; set; } = static (_, _) => null;

    /// <summary>The clock of rate limits.</summary>
    public ClockType EventClock { get; }

    /// <summary>
    /// Parses "key=value,..." of HMP commands such as device_add, given the name of the option list ("device"); throws
    /// <see cref="QapiException"/>.
    /// </summary>
    public Func<string, string, QDict> ParseOptions { get; set; } =
        static (list, _) => throw new QapiException($"There is no option group '{list}'");

    /// <summary>Runs HMP command lines.</summary>
    public HmpDispatcher Dispatcher => _dispatcher ??= new HmpDispatcher(this);

    /// <summary>Called when the last connected client is gone.</summary>
    public Action? LastClientGone { get; set; }

    /// <summary>Whether any client is connected.</summary>
    public bool HasClients
    {
        get
        {
            foreach (MonitorSession session in _sessions)
            {
                if (session.IsOpen)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>Adds a QMP monitor.</summary>
    /// <param name="channel">Its stream.</param>
    /// <param name="name">Its id.</param>
    /// <param name="pretty">Indent messages.</param>
    /// <param name="oob">Offer the oob capability; a multiplexed stream does not.</param>
    public QmpSession AddQmp(IMonitorChannel channel, string? name = null, bool pretty = false, bool oob = true)
    {
        var session = new QmpSession(this, channel, name, pretty, oob);
        Add(session);
        return session;
    }

    /// <summary>Adds a human monitor.</summary>
    /// <param name="channel">Its terminal.</param>
    /// <param name="name">Its id.</param>
    public HmpSession AddHmp(IMonitorChannel channel, string? name = null)
    {
        var session = new HmpSession(this, channel, name);
        Add(session);
        return session;
    }

    /// <summary>Takes a monitor away and closes the descriptors it holds.</summary>
    public void Remove(MonitorSession session)
    {
        if (_sessions.Remove(session))
        {
            session.Stop();
        }
    }

    /// <summary>Writes what monitors have buffered, as far as it goes without blocking. Before the process ends.</summary>
    public void FlushAll()
    {
        foreach (MonitorSession session in _sessions)
        {
            session.Flush();
        }
    }

    /// <inheritdoc/>
    public void Emit(IQmpEvent qmpEvent)
    {
        long timestampNs = Loop.Clocks.NowNs(ClockType.Host);
        if (Loop.IsHomeThread)
        {
            Emit(qmpEvent, timestampNs);
        }
        else
        {
            Loop.Post(() => Emit(qmpEvent, timestampNs));
        }
    }

    internal void Add(MonitorSession session)
    {
        _sessions.Add(session);
        session.Start();
    }

    internal void SessionClosed()
    {
        if (!HasClients)
        {
            LastClientGone?.Invoke();
        }
    }

    /// <summary>Runs queued requests, one at a time over all sessions, sessions taking turns.</summary>
    internal void Dispatch()
    {
        if (_dispatching || _running != null || IsEnding)
        {
            return;
        }

        _dispatching = true;
        while (NextSession() is { } session)
        {
            Task? running = session.ExecuteNext();
            if (running != null)
            {
                _running = AwaitRequest(running, session);
                if (!_running.IsCompleted)
                {
                    break;
                }

                _running = null;
            }
            else
            {
                session.EndRequest();
            }
        }

        _dispatching = false;
    }

    private async Task AwaitRequest(Task running, QmpSession session)
    {
        // The continuation must not run inside Dispatch: it is the one that clears the running request.
        await running.ConfigureAwait(true);
        await Loop.SwitchTo();
        _running = null;
        session.EndRequest();
        Dispatch();
    }

    private QmpSession? NextSession()
    {
        int count = _sessions.Count;
        for (int i = 0; i < count; i++)
        {
            int index = (_nextSession + i) % count;
            if (_sessions[index] is QmpSession { HasRequests: true } session)
            {
                _nextSession = index + 1;
                return session;
            }
        }

        return null;
    }

    private void Emit(IQmpEvent qmpEvent, long timestampNs)
    {
        QmpEventInfo info = qmpEvent.Info;
        if (info.RateLimitMs == 0)
        {
            Broadcast(qmpEvent, timestampNs);
            return;
        }

        (string, string?) key = (info.Name, qmpEvent.RateKey);
        if (_throttles.TryGetValue(key, out EventThrottle? throttle))
        {
            throttle.Postpone(qmpEvent, timestampNs);
            return;
        }

        Broadcast(qmpEvent, timestampNs);
        _throttles.Add(key, new EventThrottle(this, info.RateLimitMs, () => _throttles.Remove(key)));
    }

    internal void Broadcast(IQmpEvent qmpEvent, long timestampNs)
    {
        bool compact = false;
        bool pretty = false;
        for (int i = 0; i < _sessions.Count; i++)
        {
            if (_sessions[i] is not QmpSession { IsNegotiated: true } session)
            {
                continue;
            }

            JsonWriter writer = session.IsPretty ? _prettyEvent : _compactEvent;
            ref bool written = ref session.IsPretty ? ref pretty : ref compact;
            if (!written)
            {
                written = true;
                Write(writer, qmpEvent, timestampNs);
            }

            session.SendEvent(writer.WrittenSpan);
        }
    }

    private static void Write(JsonWriter w, IQmpEvent qmpEvent, long timestampNs)
    {
        QmpEventInfo info = qmpEvent.Info;
        w.Reset();
        w.WriteStartObject();
        w.WriteName("timestamp"u8);
        w.WriteStartObject();
        w.WriteName("seconds"u8);
        w.WriteNumber(timestampNs / 1_000_000_000);
        w.WriteName("microseconds"u8);
        w.WriteNumber(timestampNs / 1000 % 1_000_000);
        w.WriteEndObject();
        w.WriteName("event"u8);
        w.WriteString(info.Name);
        if (info.HasData)
        {
            w.WriteName("data"u8);
            qmpEvent.QapiWrite(w);
        }

        w.WriteEndObject();
    }
}
