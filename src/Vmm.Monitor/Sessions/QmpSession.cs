using System.Runtime.InteropServices;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>
/// A QMP conversation: greeting, capabilities negotiation, commands in order, commands out of band beside them, events. Input is taken in
/// chunks of any size; answers to everything in a chunk leave in one write. A client that does not read its answers is not served further
/// commands. Home: the main loop.
/// </summary>
public sealed partial class QmpSession : MonitorSession
{
    /// <summary>In-band requests that are read before the first of them is answered, with the oob capability; without it, one.</summary>
    public const int MaxQueuedRequests = 8;

    /// <summary>Unread output in bytes beyond which no further command is run.</summary>
    public const int OutputLimit = 128 * 1024;

    /// <summary>Unread output in bytes beyond which events are discarded.</summary>
    public const int EventLimit = 4 * 1024 * 1024;

    private static readonly QDict s_noArguments = new();

    private readonly Queue<QmpRequest> _queue = new();
    private readonly Queue<(long Chunk, SafeHandle Fd)> _receivedFds = new();
    private readonly JsonWriter _message;
    private readonly JsonWriter _result;
    private readonly bool _pretty;
    private readonly bool _oobSupported;
    private JsonStreamParser _parser = new();
    private byte[] _held = [];
    private int _heldStart;
    private int _heldEnd;
    private bool _consuming;
    private bool _oobEnabled;
    private int _connection;
    private long _chunk;
    private long _requestStart;
    private QmpRequest _current;

    internal QmpSession(MonitorCore core, IMonitorChannel channel, string? name, bool pretty, bool oobSupported)
        : base(core, channel, name)
    {
        _pretty = pretty;
        _oobSupported = oobSupported;
        _message = new JsonWriter(pretty);
        _result = new JsonWriter(pretty, initialDepth: 1);
    }

    /// <inheritdoc/>
    public override bool IsHmp => false;

    /// <summary>Whether capabilities are negotiated: before, only qmp_capabilities is understood and no events are sent.</summary>
    public bool IsNegotiated { get; private set; }

    /// <summary>Whether messages are indented.</summary>
    public bool IsPretty => _pretty;

    /// <inheritdoc/>
    public override int CanReceive => MustWait || _heldEnd > _heldStart ? 0 : ReceiveLimit;

    internal bool HasRequests => _queue.Count > 0 && Output.Pending <= OutputLimit;

    private bool MustWait => _queue.Count >= (_oobEnabled ? MaxQueuedRequests : 1) || Output.Pending > OutputLimit;

    /// <summary>Ends the negotiation.</summary>
    /// <exception cref="QapiException">It is over already, or a capability is not offered.</exception>
    internal void Negotiate(IReadOnlyList<QmpCapability> enable)
    {
        if (IsNegotiated)
        {
            throw new QapiException(
                QapiErrorClass.CommandNotFound, "Capabilities negotiation is already complete, command ignored");
        }

        foreach (QmpCapability capability in enable)
        {
            if (!_oobSupported)
            {
                throw new QapiException($"Capability '{capability.ToWire()}' not available");
            }

            _oobEnabled = true;
        }

        IsNegotiated = true;
    }

    /// <inheritdoc/>
    public override void Receive(ReadOnlySpan<byte> data)
    {
        _chunk++;
        while (Channel.TakeReceivedFd() is { } fd)
        {
            _receivedFds.Enqueue((_chunk, fd));
        }

        if (_heldEnd > _heldStart || MustWait || _consuming)
        {
            Hold(data);
            return;
        }

        ReadOnlySpan<byte> rest = Consume(data);
        Hold(rest);
    }

    /// <inheritdoc/>
    public override SafeHandle? TakeReceivedFd()
    {
        DropFdsBefore(_current.FirstChunk);
        return _receivedFds.TryPeek(out (long Chunk, SafeHandle Fd) oldest) && oldest.Chunk <= _current.LastChunk
            ? _receivedFds.Dequeue().Fd
            : null;
    }

    /// <summary>Sends the text of an event, given in the session's form without line end.</summary>
    internal void SendEvent(ReadOnlySpan<byte> message)
    {
        if (IsOpen && IsNegotiated && Output.Pending + message.Length <= EventLimit)
        {
            Output.Append(message);
            Output.Append("\r\n"u8);
            if (!_consuming)
            {
                Flush();
            }
        }
    }

    private protected override void Opened()
    {
        _connection++;
        IsNegotiated = false;
        _oobEnabled = false;
        JsonWriter w = _message;
        w.Reset();
        w.WriteStartObject();
        w.WriteName("QMP"u8);
        w.WriteStartObject();
        w.WriteName("version"u8);
        Core.Version.ToWire().QapiWrite(w);
        w.WriteName("capabilities"u8);
        w.WriteStartArray();
        if (_oobSupported)
        {
            w.WriteAscii("oob"u8);
        }

        w.WriteEndArray();
        w.WriteEndObject();
        w.WriteEndObject();
        Send();
        Flush();
    }

    private protected override void Closed()
    {
        _connection++;
        IsNegotiated = false;
        _oobEnabled = false;
        _parser = new JsonStreamParser();
        _queue.Clear();
        _heldStart = 0;
        _heldEnd = 0;
        _requestStart = _chunk + 1;
        DropFdsBefore(long.MaxValue);
    }

    private protected override void Drained()
    {
        Core.Dispatch();
        ContinueInput();
    }

    /// <summary>Consumes held input when there is room for requests again, then lets the channel deliver.</summary>
    internal void ContinueInput()
    {
        if (_consuming)
        {
            return;
        }

        if (_heldEnd > _heldStart && !MustWait)
        {
            byte[] held = _held;
            ReadOnlySpan<byte> rest = Consume(held.AsSpan(_heldStart, _heldEnd - _heldStart));
            if (ReferenceEquals(held, _held) && _heldEnd > _heldStart)
            {
                _heldStart = _heldEnd - rest.Length;
            }
        }

        if (_heldEnd == _heldStart)
        {
            _held = _held.Length > ReceiveLimit ? [] : _held;
            _heldStart = 0;
            _heldEnd = 0;
            if (!MustWait && IsOpen)
            {
                Channel.ResumeInput();
            }
        }
    }

    private ReadOnlySpan<byte> Consume(ReadOnlySpan<byte> data)
    {
        int left;
        do
        {
            // Where the answers leave at once, what they held up goes on: nobody else would ask for it.
            left = data.Length;
            data = ConsumeUntilHeldUp(data);
        }
        while (!data.IsEmpty && data.Length < left && !MustWait);

        return data;
    }

    private ReadOnlySpan<byte> ConsumeUntilHeldUp(ReadOnlySpan<byte> data)
    {
        _consuming = true;
        int connection = _connection;
        while (!data.IsEmpty && !MustWait)
        {
            JsonReadResult read = _parser.Read(data, out int consumed, out QValue? value, out QapiException? error);
            data = data[consumed..];
            if (read == JsonReadResult.NeedMoreInput)
            {
                break;
            }

            Accept(new QmpRequest(value, error, _requestStart, _chunk));
            if (connection != _connection)
            {
                data = default;
                break;
            }

            _requestStart = _chunk;
        }

        _consuming = false;
        Flush();
        return data;
    }

    private void Accept(in QmpRequest request)
    {
        if (Core.IsEnding)
        {
            return;
        }

        if (request.IsOutOfBand)
        {
            ExecuteOutOfBand(request);
            return;
        }

        _queue.Enqueue(request);
        Core.Dispatch();
    }

    private void Hold(ReadOnlySpan<byte> data)
    {
        if (data.IsEmpty)
        {
            return;
        }

        int pending = _heldEnd - _heldStart;
        if (_held.Length - _heldEnd < data.Length)
        {
            var larger = new byte[pending + data.Length];
            _held.AsSpan(_heldStart, pending).CopyTo(larger);
            _held = larger;
            _heldStart = 0;
            _heldEnd = pending;
        }

        data.CopyTo(_held.AsSpan(_heldEnd));
        _heldEnd += data.Length;
    }

    private void DropFdsBefore(long chunk)
    {
        while (_receivedFds.TryPeek(out (long Chunk, SafeHandle Fd) oldest) && oldest.Chunk < chunk)
        {
            _receivedFds.Dequeue().Fd.Dispose();
        }
    }
}
