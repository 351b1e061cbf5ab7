using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <summary>
/// A stream socket: a server that serves one client at a time (further ones wait in the kernel's queue), or a client that connects once or
/// again and again. Descriptors that arrive over a unix socket belong to the bytes they came with: those of a message replace untaken ones
/// of earlier messages.
/// </summary>
public sealed partial class SocketChardev : BackendChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Socket;

    private const int Backlog = 1;

    // Fixed configuration.
    private readonly ChardevSocket _options;
    private readonly bool _isServer;
    private SocketAddressLegacy _address;

    // Runtime.
    private readonly WriteWaiters _waiters = new();
    private readonly List<SafeFd> _receivedFds = [];
    private readonly List<SafeFd> _newFds = [];
    private List<SafeFd> _listeners = [];
    private FdWatch[] _listenWatches = [];
    private ListenerFile _socketFile;
    private SafeFd? _connection;
    private MediumWatch? _watch;
    private bool _isUnix;

    // Per connection protocol state.
    private TelnetDecoder _telnet;
    private WebSocketLink? _webSocket;
    private bool _pendingTelnetByte;

    /// <summary>Listens or connects as the options say; a client without reconnect is connected when this returns.</summary>
    /// <exception cref="QapiException">The options contradict each other, or the socket cannot be had.</exception>
    /// <param name="host">What back ends need of the process.</param>
    /// <param name="label">The id.</param>
    /// <param name="options">What to be.</param>
    /// <param name="connection">The connection, where it was made already; taken over.</param>
    /// <param name="fds">Finds descriptors by name.</param>
    internal SocketChardev(ChardevHost host, string label, ChardevSocket options, SafeFd? connection, Func<string, SafeFd> fds)
        : base(host)
    {
        Label = label;
        _options = options;
        _address = options.Addr;
        _isServer = options.Server ?? true;
        _tlsSetup = Validate(host, options, _isServer);
        Filename = DisconnectedName();
        if (_isServer)
        {
            _listeners = SocketEndpoints.Listen(_address, fds, Backlog);
            _address = SocketEndpoints.LocalAddress(_listeners[0]);
            _socketFile = ListenerFile.Of(_listeners[0]);
            Filename = DisconnectedName();
            _listenWatches = new FdWatch[_listeners.Count];
            for (int i = 0; i < _listeners.Count; i++)
            {
                SafeFd listener = _listeners[i];
                _listenWatches[i] = host.Loop.Watch(listener.Fd, FdEvents.Readable, _ => Accept(listener));
            }

            if (options.Wait == true)
            {
                try
                {
                    WaitForClient();
                }
                catch
                {
                    Close();
                    throw;
                }
            }
        }
        else if (options.Reconnect > 0)
        {
            _reconnect = host.Loop.CreateTimer(ClockType.Realtime, BeginReconnect);
            BeginReconnect();
        }
        else
        {
            Attach(connection ?? SocketEndpoints.Connect(_address, fds));
        }
    }

    /// <inheritdoc/>
    internal override int WriteFd => IsOpen ? _connection!.Fd : -1;

    /// <summary>Address of the first listening socket, or the one given.</summary>
    internal SocketAddressLegacy Address => _address;

    private bool IsTelnet => _isServer && _options.Telnet == true;

    /// <inheritdoc/>
    public override void UpdateHandler(CharFrontend frontend) => UpdateInterest();

    /// <inheritdoc/>
    public override void AcceptInput() => UpdateInterest();

    /// <inheritdoc/>
    public override bool WatchWritable(Action writable)
    {
        if (_connection is null)
        {
            return false;
        }

        _waiters.Add(writable);
        UpdateInterest();
        return true;
    }

    /// <inheritdoc/>
    public override SafeFd? TakeReceivedFd()
    {
        if (_receivedFds.Count == 0)
        {
            return null;
        }

        SafeFd fd = _receivedFds[0];
        _receivedFds.RemoveAt(0);
        return fd;
    }

    /// <summary>Shuts the connection down; the loop then finds that the other side has gone.</summary>
    internal void Cut()
    {
        if (_connection is { } connection)
        {
            Libc.Shutdown(connection.Fd, Libc.SHUT_RDWR);
        }
    }

    /// <inheritdoc/>
    private protected override int WriteMedium(ReadOnlySpan<byte> data)
    {
        if (_connection is null || !IsOpen)
        {
            return data.Length;
        }

        return IsTelnet ? WriteTelnet(data) : WriteRaw(data);
    }

    /// <inheritdoc/>
    private protected override void Close()
    {
        CloseConnection();
        _reconnect?.Dispose();
        StopConnecting();
        foreach (FdWatch watch in _listenWatches)
        {
            watch.Dispose();
        }

        _socketFile.Remove();
        foreach (SafeFd listener in _listeners)
        {
            listener.Dispose();
        }

        _listeners = [];
        _listenWatches = [];
    }

    // Before anything else runs, so the loop is not turning yet, or is to stand still until somebody comes.
    private void WaitForClient()
    {
        Host.Report("info: QEMU waiting for connection on: " + Filename);
        Span<PollFd> waiting = stackalloc PollFd[_listeners.Count + 1];
        while (_connection is null)
        {
            for (int i = 0; i < _listeners.Count; i++)
            {
                waiting[i] = new PollFd { fd = _listeners[i].Fd, events = Libc.POLLIN };
            }

            waiting[^1] = new PollFd { fd = Host.InterruptFd, events = Libc.POLLIN };
            Libc.Poll(waiting, -1);
            if (waiting[^1].revents != 0)
            {
                throw new QapiException("Interrupted while waiting for a connection on " + Filename);
            }

            for (int i = 0; i < _listeners.Count && _connection is null; i++)
            {
                if (waiting[i].revents != 0)
                {
                    Accept(_listeners[i]);
                }
            }
        }
    }

    private void Accept(SafeFd listener)
    {
        if (_connection is null && Libc.Accept(listener.Fd, Libc.SOCK_NONBLOCK, out SafeFd connection) == Errno.OK)
        {
            Attach(connection);
        }
    }

    private void Attach(SafeFd connection)
    {
        connection.SetNonBlocking(true);
        _connection = connection;
        Libc.GetSockName(connection.Fd, out SockAddr local);
        _isUnix = local.Family == Libc.AF_UNIX;
        if (_options.Nodelay == true && !_isUnix)
        {
            Libc.SetSockOpt(connection.Fd, Libc.IPPROTO_TCP, Libc.TCP_NODELAY, 1);
        }

        SetListening(false);
        _watch = new MediumWatch(Host.Loop, connection.Fd, OnConnection);
        _telnet = default;
        _pendingTelnetByte = false;
        if (_tlsSetup is null)
        {
            Agree();
        }
        else
        {
            BeginTls(connection);
        }
    }

    // The bytes of the stream can be had, encrypted or not.
    private void Agree()
    {
        Libc.GetSockName(_connection!.Fd, out SockAddr local);
        Filename = ConnectedName(local);
        if (_options.Websocket == true)
        {
            _webSocket = new WebSocketLink(SendBytes, Host.Loop.Clocks);
            UpdateInterest();
        }
        else
        {
            Open();
        }
    }

    // The connection stands and, for a websocket, is agreed upon.
    private void Open()
    {
        if (IsTelnet)
        {
            WriteRaw(TelnetDecoder.Greeting);
        }

        SendEvent(ChardevEvent.Opened);
        UpdateInterest();
    }

    private void SetListening(bool on)
    {
        foreach (FdWatch watch in _listenWatches)
        {
            watch.Interest = on ? FdEvents.Readable : FdEvents.None;
        }
    }

    private void UpdateInterest()
    {
        if (_watch is { } watch)
        {
            bool handshaking = IsTlsPending || _webSocket is { IsEstablished: false };
            bool receive = IsOpen && MayReceive() > 0;
            bool write = _waiters.Any || _webSocket is { HasOutput: true } || _tls is { HasOutput: true };
            watch.Want(handshaking || receive, write, hangup: true);
            if (receive || _webSocket is { IsEstablished: false })
            {
                ResumeTls();
            }
        }
    }

    private void OnConnection(FdEvents ready)
    {
        MediumWatch? watch = _watch;
        if ((ready & FdEvents.Writable) != 0)
        {
            _tls?.Flush();
            _webSocket?.Flush();
            _waiters.Wake();
        }

        if (ReferenceEquals(watch, _watch) && (ready & (FdEvents.Readable | FdEvents.HangUp | FdEvents.Error)) != 0)
        {
            bool gone = (ready & (FdEvents.HangUp | FdEvents.Error)) != 0;
            if (!ReadOnce(gone))
            {
                Disconnect();
                return;
            }
        }

        if (ReferenceEquals(watch, _watch))
        {
            UpdateInterest();
        }
    }

    // False: the connection is over.
    private bool ReadOnce(bool gone)
    {
        if (IsTlsPending)
        {
            return GoOnWithTls();
        }

        if (_webSocket is { IsEstablished: false } link)
        {
            return Handshake(link);
        }

        int limit = MayReceive();
        if (limit <= 0)
        {
            // What the peer sent before it went is kept for a front end that is only busy; without one there is nobody to keep it for.
            return !gone || Frontend?.Handler is not null;
        }

        byte[] buffer = TakeReadBuffer();
        bool goOn = ReadInto(buffer.AsSpan(0, limit));
        ReturnReadBuffer(buffer);
        return goOn;
    }

    private bool ReadInto(Span<byte> buffer)
    {
        int fd = _connection!.Fd;
        int n = _tls is not null ? ReadTls(buffer)
            : _isUnix ? Libc.RecvWithFds(fd, buffer, _newFds, Libc.MSG_DONTWAIT) : Libc.Recv(fd, buffer, Libc.MSG_DONTWAIT);
        if (n == -(int)Errno.EAGAIN)
        {
            return true;
        }

        if (n <= 0)
        {
            return false;
        }

        if (_newFds.Count > 0)
        {
            DropReceivedFds();
            _receivedFds.AddRange(_newFds);
            _newFds.Clear();
        }

        if (_webSocket is not null)
        {
            return ProcessFrames(_webSocket, buffer[..n]);
        }

        ProcessData(buffer[..n]);
        return true;
    }

    // Only the request is taken out of the socket: frames behind it are read as far as the front end takes them, like all others.
    private bool Handshake(WebSocketLink link)
    {
        byte[] buffer = new byte[WebSocketHandshake.MaxRequest];
        if (_tls is not null)
        {
            return HandshakeOverTls(link, buffer);
        }

        int fd = _connection!.Fd;
        int n = Libc.Recv(fd, buffer, Libc.MSG_DONTWAIT | Libc.MSG_PEEK);
        if (n <= 0)
        {
            return n == -(int)Errno.EAGAIN;
        }

        bool goOn = link.Handshake(buffer.AsSpan(0, n), out int used);
        Libc.Recv(fd, buffer.AsSpan(0, used), Libc.MSG_DONTWAIT);
        if (goOn && link.IsEstablished)
        {
            Open();
        }

        return goOn;
    }

    private bool ProcessFrames(WebSocketLink link, Span<byte> data)
    {
        while (!data.IsEmpty && ReferenceEquals(link, _webSocket))
        {
            WebSocketStatus status = link.Receive(data, out int consumed, out int payload);
            ProcessData(data[..payload]);
            data = data[consumed..];
            if (status == WebSocketStatus.Error)
            {
                return false;
            }
        }

        return true;
    }

    private void ProcessData(Span<byte> data)
    {
        if (IsTelnet)
        {
            data = data[.._telnet.Decode(data, out int breaks)];
            for (; breaks > 0; breaks--)
            {
                SendEvent(ChardevEvent.Break);
            }
        }

        if (!data.IsEmpty)
        {
            Deliver(data);
        }
    }

    private int WriteRaw(ReadOnlySpan<byte> data)
    {
        if (_webSocket is not null)
        {
            return _webSocket.Write(data);
        }

        int n = SendBytes(data);
        return n >= 0 ? n : n == -(int)Errno.EAGAIN ? 0 : data.Length;
    }

    private int SendBytes(ReadOnlySpan<byte> data) => _tls is null ? Libc.Send(_connection!.Fd, data, Libc.MSG_DONTWAIT) : WriteTls(data);

    // A 0xFF in the data is doubled (RFC 854); one of the pair may have to wait for room.
    private int WriteTelnet(ReadOnlySpan<byte> data)
    {
        ReadOnlySpan<byte> pair = [0xFF, 0xFF];
        if (_pendingTelnetByte)
        {
            if (WriteRaw(pair[..1]) == 0)
            {
                return 0;
            }

            _pendingTelnetByte = false;
        }

        int taken = 0;
        while (taken < data.Length)
        {
            int special = data[taken..].IndexOf((byte)0xFF);
            bool escape = special == 0;
            ReadOnlySpan<byte> part = escape ? pair : special > 0 ? data.Slice(taken, special) : data[taken..];
            int n = WriteRaw(part);
            _pendingTelnetByte = escape && n == 1;
            taken += escape ? Math.Min(n, 1) : n;
            if (n < part.Length)
            {
                return taken;
            }
        }

        return taken;
    }

    private void Disconnect()
    {
        bool wasOpen = IsOpen;
        CloseConnection();
        Filename = DisconnectedName();
        if (wasOpen)
        {
            SendEvent(ChardevEvent.Closed);
        }

        _waiters.Wake();
        if (!IsDisposed)
        {
            SetListening(true);
            ScheduleReconnect();
        }
    }

    private void CloseConnection()
    {
        _watch?.Dispose();
        _watch = null;
        EndTls();
        _connection?.Dispose();
        _connection = null;
        _webSocket = null;
        DropReceivedFds();
    }

    private void DropReceivedFds()
    {
        foreach (SafeFd fd in _receivedFds)
        {
            fd.Dispose();
        }

        _receivedFds.Clear();
    }
}
