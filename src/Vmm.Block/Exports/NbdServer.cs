using Vmm.Block.Graph;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Sockets;
using Vmm.ObjectModel.Tls;

namespace Vmm.Block.Exports;

/// <summary>
/// The NBD server of the process: it listens, negotiates on the main loop, and gives each connection over to the loop of its export. With as
/// many connections as allowed it does not accept more. Home: main loop.
/// </summary>
public sealed class NbdServer : IDisposable
{
    private const int MaxAcceptedPerTurn = 8;

    private readonly BlockGraph _graph;
    private readonly BlockExports _exports;
    private readonly List<SafeFd> _sockets;
    private readonly List<ListenerFile> _files;
    private readonly List<FdWatch> _watches = [];
    private readonly List<NbdConnection> _connections = [];
    private bool _isClosed;

    /// <summary>Serves on listening, non-blocking sockets.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="exports">What is served: those of type NBD.</param>
    /// <param name="sockets">The sockets, which the server closes.</param>
    /// <param name="maxConnections">Most connections at a time; 0 for any number.</param>
    /// <param name="tls">What is asked of clients, which must use TLS; null to serve without.</param>
    public NbdServer(BlockGraph graph, BlockExports exports, List<SafeFd> sockets, uint maxConnections, TlsSetup? tls = null)
    {
        Tls = tls;
        _graph = graph;
        _exports = exports;
        _sockets = sockets;
        _files = sockets.ConvertAll(ListenerFile.Of);
        MaxConnections = maxConnections;
        foreach (SafeFd socket in sockets)
        {
            _watches.Add(graph.MainLoop.Watch(socket.Fd, FdEvents.Readable, _ => Accept(socket)));
        }
    }

    /// <summary>Most connections at a time; 0 for any number.</summary>
    public uint MaxConnections { get; }

    /// <summary>Connections now.</summary>
    public int Connections => _connections.Count;

    internal TlsSetup? Tls { get; }

    internal EventLoop.EventLoop MainLoop => _graph.MainLoop;

    internal bool IsMultiConnection => MaxConnections != 1;

    /// <summary>The listening sockets.</summary>
    public IReadOnlyList<SafeFd> Sockets => _sockets;

    /// <summary>The export of that name; null when there is none.</summary>
    public NbdExport? Find(string name)
    {
        foreach (BlockExport export in _exports.All)
        {
            if (export is NbdExport nbd && nbd.Name == name && !nbd.IsShuttingDown)
            {
                return nbd;
            }
        }

        return null;
    }

    /// <summary>The names that LIST shows, newest first.</summary>
    internal IEnumerable<NbdExport> Listed
    {
        get
        {
            for (int i = _exports.All.Count - 1; i >= 0; i--)
            {
                if (_exports.All[i] is NbdExport { IsShuttingDown: false } nbd)
                {
                    yield return nbd;
                }
            }
        }
    }

    /// <summary>Stops listening and ends all connections.</summary>
    public void Dispose()
    {
        _isClosed = true;
        foreach (FdWatch watch in _watches)
        {
            watch.Dispose();
        }

        _files.ForEach(static f => f.Remove());
        foreach (SafeFd socket in _sockets)
        {
            socket.Dispose();
        }

        foreach (NbdConnection connection in _connections.ToArray())
        {
            connection.Abort();
        }
    }

    /// <summary>Serves a connected, non-blocking socket.</summary>
    public void Serve(SafeFd socket)
    {
        NbdConnection connection = new(this, socket);
        _connections.Add(connection);
        UpdateInterest();
        connection.RunAsync().Forget();
    }

    internal void OnEnded(NbdConnection connection)
    {
        _connections.Remove(connection);
        UpdateInterest();
    }

    private void Accept(SafeFd socket)
    {
        for (int i = 0; i < MaxAcceptedPerTurn && !_isClosed && !IsFull; i++)
        {
            if (Libc.Accept(socket.Fd, Libc.SOCK_NONBLOCK | Libc.SOCK_CLOEXEC, out SafeFd connection) != Errno.OK)
            {
                return;
            }

            // Small replies must not wait for the acknowledgement of the one before; other kinds of sockets refuse, which is as well.
            Libc.SetSockOpt(connection.Fd, Libc.IPPROTO_TCP, Libc.TCP_NODELAY, 1);
            Serve(connection);
        }
    }

    private bool IsFull => MaxConnections != 0 && _connections.Count >= MaxConnections;

    private void UpdateInterest()
    {
        if (_isClosed)
        {
            return;
        }

        foreach (FdWatch watch in _watches)
        {
            watch.Interest = IsFull ? FdEvents.None : FdEvents.Readable;
        }
    }
}
