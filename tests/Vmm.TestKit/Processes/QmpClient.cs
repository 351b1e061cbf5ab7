using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace Vmm.TestKit.Processes;

/// <summary>
/// A QMP client as small as a test needs: one socket, blocking reads with a deadline, events kept until asked for. It reads what
/// QEMU and we write, and keeps the raw lines so that tests can compare bytes.
/// </summary>
public sealed class QmpClient : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);
    private readonly Socket _socket;
    private readonly byte[] _chunk = new byte[65536];
    private readonly List<byte> _pending = [];
    private int _scanned;
    private int _nextId;

    /// <summary>Speaks over a connected socket.</summary>
    public QmpClient(Socket socket) => _socket = socket;

    /// <summary>Events that arrived and were not taken yet.</summary>
    public List<JsonObject> Events { get; } = [];

    /// <summary>The underlying socket.</summary>
    public Socket Socket => _socket;

    /// <summary>Connects to a unix socket, waiting for it to appear while <paramref name="alive"/> holds.</summary>
    public static QmpClient Connect(string path, Func<bool>? alive = null)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                socket.Connect(new UnixDomainSocketEndPoint(path));
                return new QmpClient(socket);
            }
            catch (SocketException) when (Stopwatch.GetElapsedTime(start) < s_patience && (alive?.Invoke() ?? true))
            {
                socket.Dispose();
                Thread.Yield();
                SpinWait.SpinUntil(() => File.Exists(path), 5);
            }
        }
    }

    /// <summary>Reads the greeting and leaves negotiation mode; <paramref name="oob"/> enables out-of-band commands.</summary>
    public JsonObject Negotiate(bool oob = false)
    {
        JsonObject greeting = ReadMessage();
        JsonObject? arguments = oob ? new JsonObject { ["enable"] = new JsonArray("oob") } : null;
        Execute("qmp_capabilities", arguments);
        return greeting;
    }

    /// <summary>Sends text as it is.</summary>
    public void SendRaw(string text) => SendRaw(Encoding.UTF8.GetBytes(text));

    /// <summary>Sends bytes as they are.</summary>
    public void SendRaw(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            bytes = bytes[_socket.Send(bytes)..];
        }
    }

    /// <summary>Runs a command and returns its value; a QMP error becomes a <see cref="QmpErrorException"/>.</summary>
    public JsonNode? Execute(string command, JsonObject? arguments = null)
    {
        JsonObject reply = ExecuteRaw(command, arguments);
        return reply["error"] is JsonObject error
            ? throw new QmpErrorException((string)error["class"]!, (string)error["desc"]!)
            : reply["return"];
    }

    /// <summary>Runs a command with arguments given as JSON text.</summary>
    public JsonNode? Execute(string command, string argumentsJson) => Execute(command, (JsonObject)JsonNode.Parse(argumentsJson)!);

    /// <summary>Runs a command through the human monitor and returns what it printed.</summary>
    public string Human(string line) => (string)Execute("human-monitor-command", new JsonObject { ["command-line"] = line })!;

    /// <summary>Runs a command and returns the whole reply.</summary>
    public JsonObject ExecuteRaw(string command, JsonObject? arguments = null)
    {
        int id = ++_nextId;
        JsonObject request = new() { ["execute"] = command, ["id"] = id };
        if (arguments is not null)
        {
            request["arguments"] = arguments;
        }

        SendRaw(request.ToJsonString());
        while (true)
        {
            JsonObject message = ReadMessage();
            if (message.ContainsKey("event"))
            {
                Events.Add(message);
            }
            else if (message["id"] is JsonValue got && got.TryGetValue(out int n) && n == id)
            {
                return message;
            }
        }
    }

    /// <summary>Waits for an event of that name (one that arrived already counts) and takes it.</summary>
    public JsonObject WaitEvent(string name)
    {
        while (true)
        {
            for (int i = 0; i < Events.Count; i++)
            {
                if ((string?)Events[i]["event"] == name)
                {
                    JsonObject found = Events[i];
                    Events.RemoveAt(i);
                    return found;
                }
            }

            JsonObject message = ReadMessage();
            if (message.ContainsKey("event"))
            {
                Events.Add(message);
            }
        }
    }

    /// <summary>Next message, events included.</summary>
    public JsonObject ReadMessage() => (JsonObject)JsonNode.Parse(ReadLine() ?? throw new EndOfStreamException("the monitor closed the connection"))!;

    /// <summary>Next line without its CR LF; null at the end of the stream. A bare LF does not end a line, as for libvirt.</summary>
    public string? ReadLine()
    {
        while (true)
        {
            for (; _scanned + 1 < _pending.Count; _scanned++)
            {
                if (_pending[_scanned] == '\r' && _pending[_scanned + 1] == '\n')
                {
                    string line = Encoding.UTF8.GetString([.. _pending[.._scanned]]);
                    _pending.RemoveRange(0, _scanned + 2);
                    _scanned = 0;
                    return line;
                }
            }

            int n = ReceiveSome();
            if (n == 0)
            {
                return null;
            }

            _pending.AddRange(_chunk.AsSpan(0, n));
        }
    }

    /// <summary>Waits until the other side closes; what came before is dropped.</summary>
    public void WaitClosed()
    {
        while (ReceiveSome() != 0)
        {
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private int ReceiveSome()
    {
        if (!_socket.Poll(s_patience, SelectMode.SelectRead))
        {
            throw new TimeoutException($"nothing came for {s_patience.TotalSeconds} s; pending: {Encoding.UTF8.GetString([.. _pending])}");
        }

        try
        {
            return _socket.Receive(_chunk);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            return 0;
        }
    }
}

/// <summary>A QMP error reply.</summary>
public sealed class QmpErrorException(string errorClass, string desc) : Exception($"{errorClass}: {desc}")
{
    /// <summary>Error class.</summary>
    public string ErrorClass { get; } = errorClass;

    /// <summary>Error text.</summary>
    public string Desc { get; } = desc;
}
