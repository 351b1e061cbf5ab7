using System.Buffers;
using System.Runtime.InteropServices;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>
/// One QMP monitor: greeting, negotiation, requests in, responses and events out (docs/interop/qmp-spec of QEMU 7.2). Commands run inside
/// the callback that brings their last byte; a command that completes later holds back those behind it, but not out-of-band ones.
/// Home: the main loop.
/// </summary>
/// <remarks>
/// Memory is bounded against clients: at most <see cref="MaxQueued"/> requests wait, the transport's window limits unread input, and
/// a client that does not read stops being served at <see cref="OutputLimit"/> bytes and is sent no further event at four times that.
/// </remarks>
public sealed class QmpSession : IMonitorSession, IDisposable
{
    /// <summary>Requests that may wait behind a running one.</summary>
    public const int MaxQueued = 8;

    /// <summary>Unread output in bytes at which no further request is taken.</summary>
    public const int OutputLimit = 1 << 20;

    private readonly MonitorCore _core;
    private readonly IMonitorTransport _transport;
    private readonly Queue<QValue> _queue = new();
    private readonly Dictionary<string, SafeHandle> _fds = [];
    private readonly JsonWriter _message;
    private JsonWriter _result;
    private JsonStreamParser _parser = new();
    private bool _negotiated;
    private bool _oobEnabled;
    private bool _busy;
    private bool _pumping;
    private bool _flushNeeded;
    private int _connection;

    /// <summary>A session that waits for its transport to open.</summary>
    /// <param name="core">What all monitors share.</param>
    /// <param name="transport">Carrier of the bytes.</param>
    /// <param name="name">Id of the monitor; null for none.</param>
    /// <param name="pretty">Indented output.</param>
    /// <param name="offerOob">Offer out-of-band execution (not on multiplexed character devices).</param>
    public QmpSession(MonitorCore core, IMonitorTransport transport, string? name = null, bool pretty = false, bool offerOob = true)
    {
        _core = core;
        _transport = transport;
        Name = name;
        IsPretty = pretty;
        OffersOob = offerOob;
        _message = new JsonWriter(pretty);
        _result = new JsonWriter(pretty, initialDepth: 1);
        core.Add(this);
    }

    /// <summary>The byte streams.</summary>
    public MonitorPipe Pipe { get; } = new();

    /// <inheritdoc/>
    public string? Name { get; }

    /// <inheritdoc/>
    public bool IsHmp => false;

    /// <inheritdoc/>
    public int CpuIndex { get; set; } = -1;

    /// <summary>Output is indented.</summary>
    public bool IsPretty { get; }

    /// <summary>Out-of-band execution is offered in the greeting.</summary>
    public bool OffersOob { get; }

    /// <summary>Out-of-band execution was negotiated.</summary>
    public bool OobEnabled => _oobEnabled;

    /// <summary>A client is connected.</summary>
    public bool IsConnected { get; private set; }

    /// <summary>Negotiation is complete.</summary>
    public bool IsNegotiated => _negotiated;

    /// <summary>How many bytes the transport may deliver now; 0 while the session holds back.</summary>
    public int CanReceive => IsSuspended ? 0 : Pipe.CanReceive;

    internal bool WantsEvents => IsConnected && _negotiated;

    private bool IsSuspended => _queue.Count >= MaxQueued || Pipe.OutputPending >= OutputLimit;

    /// <summary>A client connected: everything starts anew with the greeting.</summary>
    public void Opened()
    {
        ResetConnection();
        IsConnected = true;
        _message.Reset();
        _message.WriteStartObject();
        _message.WriteName("QMP"u8);
        _message.WriteStartObject();
        _message.WriteName("version"u8);
        WriteVersion(_message, _core.Version);
        _message.WriteName("capabilities"u8);
        _message.WriteStartArray();
        if (OffersOob)
        {
            _message.WriteString("oob");
        }

        _message.WriteEndArray();
        _message.WriteEndObject();
        _message.WriteEndObject();
        SendMessage();
        Flush();
    }

    /// <summary>The client is gone: a running command completes unheard, waiting ones are dropped.</summary>
    public void Closed()
    {
        if (IsConnected)
        {
            IsConnected = false;
            ResetConnection();
            _core.ClientGone();
        }
    }

    /// <summary>Takes received bytes and runs what they complete.</summary>
    public void Receive(ReadOnlySpan<byte> data)
    {
        Pipe.Receive(data);
        Pump();
    }

    /// <summary>The transport took output: goes on if that was what the session waited for.</summary>
    public void OutputTaken()
    {
        if (Pipe.InputPending > 0 && !IsSuspended)
        {
            Pump();
        }

        if (!IsSuspended)
        {
            _transport.InputResumed();
        }
    }

    /// <inheritdoc/>
    public SafeHandle? TakeReceivedFd() => _transport.TakeReceivedFd();

    /// <inheritdoc/>
    public void AddNamedFd(string name, SafeHandle fd)
    {
        if (_fds.Remove(name, out SafeHandle? old))
        {
            old.Dispose();
        }

        _fds.Add(name, fd);
    }

    /// <inheritdoc/>
    public bool CloseNamedFd(string name)
    {
        if (!_fds.Remove(name, out SafeHandle? fd))
        {
            return false;
        }

        fd.Dispose();
        return true;
    }

    /// <inheritdoc/>
    public SafeHandle? TakeNamedFd(string name) => _fds.Remove(name, out SafeHandle? fd) ? fd : null;

    /// <inheritdoc/>
    public void Dispose()
    {
        Closed();
        _core.Remove(this);
        foreach (SafeHandle fd in _fds.Values)
        {
            fd.Dispose();
        }

        _fds.Clear();
    }

    /// <summary>Ends negotiation mode; called by qmp_capabilities.</summary>
    internal void CompleteNegotiation(bool oob)
    {
        _oobEnabled = oob;
        _negotiated = true;
    }

    /// <summary>Sends an event that is serialized already.</summary>
    internal void SendEvent(ReadOnlySpan<byte> json)
    {
        if (Pipe.OutputPending >= 4L * OutputLimit)
        {
            return;
        }

        Pipe.Write(json);
        Pipe.Write("\r\n"u8);
        if (_pumping)
        {
            _flushNeeded = true;
        }
        else
        {
            Flush();
        }
    }

    internal static void WriteVersion(JsonWriter writer, MonitorVersion version)
    {
        writer.WriteStartObject();
        writer.WriteName("qemu"u8);
        writer.WriteStartObject();
        writer.WriteName("micro"u8);
        writer.WriteNumber(version.Micro);
        writer.WriteName("minor"u8);
        writer.WriteNumber(version.Minor);
        writer.WriteName("major"u8);
        writer.WriteNumber(version.Major);
        writer.WriteEndObject();
        writer.WriteName("package"u8);
        writer.WriteString(version.Package);
        writer.WriteEndObject();
    }

    private void ResetConnection()
    {
        _connection++;
        _parser = new JsonStreamParser();
        _queue.Clear();
        _negotiated = false;
        _oobEnabled = false;
        _flushNeeded = false;
        if (!_pumping)
        {
            Pipe.Clear();
        }
    }

    /// <summary>Parses and runs what has arrived, until input ends or the session must hold back.</summary>
    private void Pump()
    {
        if (_pumping)
        {
            // A command's own I/O brought more bytes: the outer call sees them.
            return;
        }

        _pumping = true;
        int connection = _connection;
        try
        {
            while (connection == _connection && !IsSuspended && Pipe.TryReadInput(out ReadOnlySequence<byte> data))
            {
                long consumed = 0;
                foreach (ReadOnlyMemory<byte> segment in data)
                {
                    consumed += Parse(segment.Span, connection);
                    if (connection != _connection || IsSuspended)
                    {
                        break;
                    }
                }

                Pipe.AdvanceInput(data, connection == _connection ? consumed : data.Length);
            }
        }
        finally
        {
            _pumping = false;
        }

        if (connection != _connection && !IsConnected)
        {
            Pipe.Clear();
        }

        if (_flushNeeded)
        {
            Flush();
        }
    }

    private int Parse(ReadOnlySpan<byte> bytes, int connection)
    {
        int total = 0;
        while (total < bytes.Length && connection == _connection && !IsSuspended)
        {
            JsonReadResult result = _parser.Read(bytes[total..], out int used, out QValue? value, out QapiException? error);
            total += used;
            switch (result)
            {
                case JsonReadResult.Value:
                    Handle(value!);
                    break;
                case JsonReadResult.Error:
                    WriteError(error!, null);
                    break;
                default:
                    return total;
            }
        }

        return total;
    }

    private void Handle(QValue request)
    {
        if (request is QDict dict && dict.ContainsKey("exec-oob") && !dict.ContainsKey("execute"))
        {
            Execute(request, outOfBand: true);
        }
        else if (_busy || _queue.Count > 0)
        {
            _queue.Enqueue(request);
        }
        else
        {
            Execute(request, outOfBand: false);
        }
    }

    private void Execute(QValue request, bool outOfBand)
    {
        QDict? dict = request as QDict;
        QValue? id = null;
        dict?.TryGetValue("id", out id);
        CommandEntry entry;
        QDict arguments;
        try
        {
            entry = Check(dict, out arguments);
        }
        catch (QapiException e)
        {
            WriteError(e, id);
            return;
        }

        JsonWriter result = _result;
        result.Reset();
        ValueTask running;
        try
        {
            running = entry.Invoke(arguments, this, result);
        }
        catch (QapiException e)
        {
            WriteError(e, id);
            return;
        }

        if (running.IsCompleted)
        {
            Finish(running, entry, result, id);
            return;
        }

        // The result writer belongs to the running command from here on.
        _result = new JsonWriter(IsPretty, initialDepth: 1);
        if (!outOfBand)
        {
            _busy = true;
        }

        int connection = _connection;
        System.Runtime.CompilerServices.ValueTaskAwaiter awaiter = running.GetAwaiter();
        awaiter.UnsafeOnCompleted(() => _core.Loop.RunOrPost(() => CompleteLater(running, entry, result, id, connection, outOfBand)));
    }

    private void CompleteLater(ValueTask running, CommandEntry entry, JsonWriter result, QValue? id, int connection, bool outOfBand)
    {
        if (!outOfBand)
        {
            _busy = false;
        }

        if (connection == _connection)
        {
            Finish(running, entry, result, id);
        }
        else
        {
            Observe(running);
        }

        while (!_busy && _queue.TryDequeue(out QValue? next))
        {
            Execute(next, outOfBand: false);
        }

        if (_flushNeeded && !_pumping)
        {
            Flush();
        }

        OutputTaken();
    }

    private static void Observe(ValueTask task)
    {
        try
        {
            task.GetAwaiter().GetResult();
        }
        catch (QapiException)
        {
            // The client that asked has gone; there is nobody to tell.
        }
    }

    private void Finish(ValueTask done, CommandEntry entry, JsonWriter result, QValue? id)
    {
        try
        {
            done.GetAwaiter().GetResult();
        }
        catch (QapiException e)
        {
            WriteError(e, id);
            return;
        }

        if (!entry.SuccessResponse)
        {
            return;
        }

        _message.Reset();
        _message.WriteStartObject();
        _message.WriteName("return"u8);
        if (result.WrittenCount == 0)
        {
            _message.WriteStartObject();
            _message.WriteEndObject();
        }
        else
        {
            _message.WriteRaw(result.WrittenSpan);
        }

        if (id is not null)
        {
            _message.WriteName("id"u8);
            _message.WriteValue(id);
        }

        _message.WriteEndObject();
        SendMessage();
    }

    private CommandEntry Check(QDict? dict, out QDict arguments)
    {
        if (dict is null)
        {
            throw new QapiException("QMP input must be a JSON object");
        }

        string? command = null;
        string? key = null;
        QDict? given = null;
        foreach (KeyValuePair<string, QValue> member in dict)
        {
            switch (member.Key)
            {
                case "execute":
                case "exec-oob" when _oobEnabled:
                    if (member.Value is not QString text)
                    {
                        throw new QapiException($"QMP input member '{member.Key}' must be a string");
                    }

                    if (command is not null)
                    {
                        throw new QapiException($"QMP input member '{member.Key}' clashes with '{key}'");
                    }

                    key = member.Key;
                    command = text.Value;
                    break;
                case "arguments":
                    given = member.Value as QDict ?? throw new QapiException("QMP input member 'arguments' must be an object");
                    break;
                case "id":
                    break;
                default:
                    throw new QapiException($"QMP input member '{member.Key}' is unexpected");
            }
        }

        if (command is null)
        {
            throw new QapiException("QMP input lacks member 'execute'");
        }

        arguments = given ?? [];
        if (!_negotiated && command != "qmp_capabilities")
        {
            throw new QapiException(QapiErrorClass.CommandNotFound, "Expecting capabilities negotiation with 'qmp_capabilities'");
        }

        if (!_core.Table.TryGet(command, out CommandEntry? entry))
        {
            throw QapiException.CommandNotFound(command);
        }

        if (entry.DisabledReason is { } reason)
        {
            throw new QapiException(QapiErrorClass.CommandNotFound, $"The command {command} has been disabled{(reason.Length > 0 ? ": " : "")}{reason}");
        }

        if (key == "exec-oob" && !entry.AllowOob)
        {
            throw new QapiException($"The command {command} does not support OOB");
        }

        if (_core.IsPreconfig && !entry.AllowPreconfig)
        {
            throw new QapiException($"The command '{command}' is permitted only after machine initialization has completed");
        }

        return entry;
    }

    private void WriteError(QapiException error, QValue? id)
    {
        _message.Reset();
        _message.WriteStartObject();
        if (id is not null)
        {
            _message.WriteName("id"u8);
            _message.WriteValue(id);
        }

        _message.WriteName("error"u8);
        _message.WriteStartObject();
        _message.WriteName("class"u8);
        _message.WriteAscii(QapiException.WireName(error.ErrorClass));
        _message.WriteName("desc"u8);
        _message.WriteString(error.Desc);
        _message.WriteEndObject();
        _message.WriteEndObject();
        SendMessage();
    }

    private void SendMessage()
    {
        if (IsConnected)
        {
            Pipe.Write(_message.WrittenSpan);
            Pipe.Write("\r\n"u8);
            _flushNeeded = true;
        }
    }

    private void Flush()
    {
        _flushNeeded = false;
        Pipe.FlushOutput();
        _transport.OutputReady();
    }
}
