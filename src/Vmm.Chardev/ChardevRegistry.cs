using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qmp;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <summary>The back ends of the process, children of <c>/chardevs</c>. Home: the main loop.</summary>
public sealed partial class ChardevRegistry
{
    private readonly ChardevHost _host;
    private readonly QomObject _container;
    private readonly WireOrderedTable<Chardev> _chardevs = new();
    private bool _machineReady;

    /// <summary>An empty registry.</summary>
    /// <param name="host">What back ends need of the process.</param>
    /// <param name="container">The object <c>/chardevs</c>.</param>
    public ChardevRegistry(ChardevHost host, QomObject container)
    {
        _host = host;
        _container = container;
    }

    /// <summary>The escape key of multiplexers made from now on (-echr).</summary>
    public byte EscapeKey { get; set; } = 1;

    /// <summary>All back ends, in the order in which query-chardev shows them.</summary>
    public List<Chardev> All()
    {
        var result = new List<Chardev>(_chardevs.Count);
        for (int i = -1; _chardevs.MoveNext(ref i, out Chardev? chardev);)
        {
            result.Add(chardev);
        }

        result.Reverse();
        return result;
    }

    /// <summary>The back end of that id; null for none.</summary>
    public Chardev? Find(string id) => _chardevs.TryGetValue(id, out Chardev? chardev) ? chardev : null;

    /// <summary>Makes a back end for chardev-add.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="backend">Kind and options.</param>
    /// <param name="session">The calling monitor, whose named descriptors an address of type fd means; null: descriptor numbers.</param>
    /// <exception cref="QapiException">Failed to add chardev 'ID': reason; Chardev with id 'ID' already exists.</exception>
    public Chardev Add(string id, ChardevBackend backend, IMonitorSession? session) => Add(id, backend, session, null);

    /// <summary>As <see cref="Add(string, ChardevBackend, IMonitorSession?)"/>, but the loop goes on while a client connects.</summary>
    public async ValueTask<Chardev> AddAsync(string id, ChardevBackend backend, IMonitorSession? session)
    {
        CheckUnused(id);
        return Add(id, backend, session, await ConnectAhead(id, backend).ConfigureAwait(true));
    }

    /// <summary>Removes a back end that no front end holds.</summary>
    /// <exception cref="QapiException">Chardev 'ID' not found; Chardev 'ID' is busy.</exception>
    public void Remove(string id)
    {
        Chardev chardev = Find(id) ?? throw new QapiException($"Chardev '{id}' not found");
        if (chardev.IsBusy)
        {
            throw new QapiException($"Chardev '{id}' is busy");
        }

        Delete(id, chardev);
    }

    /// <summary>Exchanges a back end under its front end, if that can cope.</summary>
    /// <exception cref="QapiException">No such back end, the front end refuses, or the new one cannot be made; the old one is kept.</exception>
    public Chardev Change(string id, ChardevBackend backend, IMonitorSession? session) => Change(id, backend, session, null);

    /// <summary>As <see cref="Change(string, ChardevBackend, IMonitorSession?)"/>, but the loop goes on while a client connects.</summary>
    public async ValueTask<Chardev> ChangeAsync(string id, ChardevBackend backend, IMonitorSession? session)
    {
        CheckChange(id);
        return Change(id, backend, session, await ConnectAhead(id, backend).ConfigureAwait(true));
    }

    private Chardev Change(string id, ChardevBackend backend, IMonitorSession? session, SafeFd? connection)
    {
        using SafeFd? unused = connection;
        CheckChange(id);
        Chardev old = Find(id)!;
        if (old.Frontend is not { } frontend)
        {
            Delete(id, old);
            return Add(id, backend, session, connection);
        }

        ICharHandler handler = frontend.Handler!;
        Chardev replacement = CreateForCommand(id, backend, session, connection);
        frontend.Rebind(replacement);
        Delete(id, old);
        Insert(id, replacement);
        handler.OnBackendChanged();
        return replacement;
    }

    /// <summary>Sends a break to the front end of a back end.</summary>
    /// <exception cref="QapiException">Chardev 'ID' not found.</exception>
    public void SendBreak(string id) => (Find(id) ?? throw new QapiException($"Chardev '{id}' not found")).SendBreakToFrontend();

    /// <summary>The machine is built: front ends behind multiplexers hear that they are connected.</summary>
    public void MachineReady()
    {
        if (!_machineReady)
        {
            _machineReady = true;
            foreach (Chardev chardev in All())
            {
                (chardev as MuxChardev)?.MachineReady();
            }
        }
    }

    /// <summary>Closes every back end, multiplexers first; the terminal gets its mode back. At the end of the process.</summary>
    public void Close()
    {
        List<Chardev> all = All();
        foreach (Chardev chardev in all)
        {
            (chardev as MuxChardev)?.Dispose();
        }

        foreach (Chardev chardev in all)
        {
            (chardev as BackendChardev)?.Dispose();
        }
    }

    /// <summary>The process was continued by job control (SIGCONT): the terminal is put back into our mode.</summary>
    public static void ProcessContinued() => StdioChardev.Reapply();

    private Chardev Add(string id, ChardevBackend backend, IMonitorSession? session, SafeFd? connection)
    {
        using SafeFd? unused = connection;
        CheckUnused(id);
        return Insert(id, CreateForCommand(id, backend, session, connection));
    }

    private void CheckUnused(string id)
    {
        if (Find(id) is not null)
        {
            throw new QapiException($"Chardev with id '{id}' already exists");
        }
    }

    private void CheckChange(string id)
    {
        Chardev old = Find(id) ?? throw new QapiException($"Chardev '{id}' does not exist");
        if (old is MuxChardev)
        {
            throw new QapiException("Mux device hotswap not supported yet");
        }

        if (old.Frontend is { } frontend && (frontend.Handler is not { } handler || !handler.OnBackendChange()))
        {
            throw new QapiException("Chardev user does not support chardev hotswap");
        }
    }

    // What a client that does not try again connects to, unless it is somebody's descriptor. Until then it can be cut off.
    private async ValueTask<SafeFd?> ConnectAhead(string id, ChardevBackend backend)
    {
        if (backend.Socket is not { Server: false, Addr.Type: SocketAddressType.Inet or SocketAddressType.Unix } options
            || options.Reconnect > 0)
        {
            return null;
        }

        var connector = new SocketConnector(_host, options.Addr);
        YankInstance? pending = Find(id) is null ? YankInstance.OfChardev(id) : null;
        try
        {
            SocketChardev.Validate(_host, options, isServer: false);
            if (pending is not null)
            {
                _host.Yank.Add(pending, connector.Cut);
            }

            return await connector.ConnectAsync().ConfigureAwait(true);
        }
        catch (QapiException e)
        {
            throw Failed(id, e);
        }
        finally
        {
            if (pending is not null)
            {
                _host.Yank.Remove(pending);
            }
        }
    }

    private static QapiException Failed(string id, QapiException e) =>
        new(e.ErrorClass, $"Failed to add chardev '{id}': {e.Desc}", e.Hint);

    private Chardev CreateForCommand(string id, ChardevBackend backend, IMonitorSession? session, SafeFd? connection)
    {
        try
        {
            return Create(id, backend, session, connection);
        }
        catch (QapiException e)
        {
            throw Failed(id, e);
        }
    }

    private Chardev Create(string id, ChardevBackend backend, IMonitorSession? session, SafeFd? connection = null)
    {
        using SafeFd? log = OpenLog(backend.Common);
        BackendChardev chardev = backend.Type switch
        {
            ChardevBackendKind.File => new FileChardev(_host, backend.File!),
            ChardevBackendKind.Pipe => new PipeChardev(_host, backend.Pipe!),
            ChardevBackendKind.Socket => NewSocket(id, backend.Socket!, session, connection),
            ChardevBackendKind.Udp => new UdpChardev(_host, backend.Udp!),
            ChardevBackendKind.Pty => new PtyChardev(_host),
            ChardevBackendKind.Mux => NewMux(id, FindBase(backend.Mux!.Chardev)),
            ChardevBackendKind.Stdio => new StdioChardev(_host, backend.Stdio!),
            ChardevBackendKind.Ringbuf => new RingbufChardev(_host, backend.Ringbuf!, "ringbuf"),
            ChardevBackendKind.Memory => new MemoryChardev(_host, backend.Memory!),
            _ => new NullChardev(_host),
        };
        chardev.Label = id;
        if (log is not null && log.Dup(out SafeFd copy) == Errno.OK)
        {
            chardev.AttachLog(copy);
        }

        return chardev;
    }

    private SocketChardev NewSocket(string id, ChardevSocket options, IMonitorSession? session, SafeFd? connection)
    {
        SafeFd? copy = null;
        connection?.Dup(out copy);
        return new SocketChardev(_host, id, options, copy, name => SocketEndpoints.FindFd(session, name));
    }

    private MuxChardev NewMux(string id, Chardev baseBackend) => new(_host, baseBackend, _machineReady) { Label = id, Escape = EscapeKey };

    private Chardev FindBase(string id) => Find(id) ?? throw new QapiException($"mux: base chardev {id} not found");

    private SafeFd? OpenLog(ChardevCommon common)
    {
        if (common.Logfile is not { } path)
        {
            return null;
        }

        int flags = Libc.O_WRONLY | Libc.O_CREAT | (common.Logappend == true ? Libc.O_APPEND : Libc.O_TRUNC);
        Errno errno = _host.FdSets.Open(path, flags, out SafeFd log);
        if (errno == Errno.OK)
        {
            return log;
        }

        throw new QapiException(path.StartsWith("/dev/fdset/", StringComparison.Ordinal)
            ? $"Could not dup FD for {path} flags {flags:x}: {errno.Message()}"
            : $"Could not create '{path}': {errno.Message()}");
    }

    private Chardev Insert(string id, Chardev chardev)
    {
        try
        {
            _container.AddChild(id, chardev);
            _chardevs.TryAdd(id, chardev);
            if (chardev is SocketChardev socket)
            {
                _host.Yank.Add(YankInstance.OfChardev(id), socket.Cut);
            }

            return chardev;
        }
        catch
        {
            (chardev as IDisposable)?.Dispose();
            throw;
        }
    }

    private void Delete(string id, Chardev chardev)
    {
        _chardevs.Remove(id);
        _host.Yank.Remove(YankInstance.OfChardev(id));
        chardev.Unparent();
    }
}
