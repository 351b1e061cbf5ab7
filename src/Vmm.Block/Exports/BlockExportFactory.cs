using Vmm.Block.Backend;
using Vmm.Block.Bitmaps;
using Vmm.Block.Exports.VhostUser;
using Vmm.Block.Graph;
using Vmm.Block.Nbd;
using Vmm.Block.Qmp;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Sockets;
using Vmm.ObjectModel.Tls;
using Vmm.Qapi;
using Vmm.Qapi.Options;
using Vmm.Qapi.Types;

namespace Vmm.Block.Exports;

/// <summary>Makes exports and the NBD server as options say. Errors are in QEMU's words. Home: main loop.</summary>
public sealed class BlockExportFactory
{
    private const int Backlog = 128;

    private readonly BlockGraph _graph;
    private readonly Func<string, QomObject?> _objects;

    /// <summary>No exports.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="objects">Finds an operator's object by its id.</param>
    public BlockExportFactory(BlockGraph graph, Func<string, QomObject?> objects)
    {
        _graph = graph;
        _objects = objects;
        Exports = new BlockExports(graph);
    }

    /// <summary>The exports.</summary>
    public BlockExports Exports { get; }

    /// <summary>The NBD server; null when it does not run.</summary>
    public NbdServer? Server { get; private set; }

    /// <summary>Starts the NBD server.</summary>
    /// <param name="address">Where it listens.</param>
    /// <param name="tlsCredentials">Id of an object with TLS credentials; null for none.</param>
    /// <param name="authorization">Id of the object that decides which clients of TLS are let in; null for all.</param>
    /// <param name="maxConnections">Most connections at a time; 0 for any number.</param>
    /// <param name="session">The monitor whose descriptors an address may name.</param>
    public void StartServer(SocketAddressLegacy address, string? tlsCredentials, string? authorization, uint maxConnections, IMonitorSession? session)
    {
        if (Server is not null)
        {
            throw new QapiException("NBD server already running");
        }

        List<SafeFd> sockets = SocketEndpoints.Listen(address, name => SocketEndpoints.FindFd(session, name), Backlog);
        TlsSetup? tls = null;
        try
        {
            // Who may connect is asked only of those who have shown a certificate: without TLS there is nobody to ask about.
            tls = tlsCredentials is null
                ? null
                : new TlsSetup(TlsCredentials.Find(_objects, tlsCredentials, isServer: true), new TlsPeerPolicy(_objects, null, authorization));
        }
        catch (QapiException)
        {
            sockets.ForEach(static s => s.Dispose());
            throw;
        }

        StartServer(sockets, maxConnections, tls);
    }

    /// <summary>Starts the NBD server on listening, non-blocking sockets; without any it serves what <see cref="NbdServer.Serve"/> is given.</summary>
    public void StartServer(List<SafeFd> sockets, uint maxConnections, TlsSetup? tls = null) =>
        Server = new NbdServer(_graph, Exports, sockets, maxConnections, tls);

    /// <summary>Ends all NBD exports and the server.</summary>
    public async IoTask StopServerAsync()
    {
        NbdServer server = RequireServer();
        Server = null;
        server.Dispose();
        await Exports.CloseAllAsync(BlockExportType.Nbd);
    }

    /// <summary>The server.</summary>
    /// <exception cref="QapiException">It does not run.</exception>
    public NbdServer RequireServer() => Server ?? throw new QapiException("NBD server not running");

    /// <summary>Makes an export.</summary>
    /// <param name="options">Which.</param>
    /// <param name="session">The monitor whose descriptors an address may name.</param>
    public async IoTask AddAsync(BlockExportOptions options, IMonitorSession? session = null)
    {
        if (!OptionErrors.IsIdentifier(options.Id))
        {
            throw new QapiException("Invalid block export id");
        }

        if (Exports.Find(options.Id) is not null)
        {
            throw new QapiException($"Block export id '{options.Id}' is already in use");
        }

        BlockNode node = _graph.Lookup(null, options.NodeName);
        bool isWritable = options.Writable ?? false;
        if (isWritable && node.IsReadOnly)
        {
            throw new QapiException("Cannot export read-only node as writable");
        }

        IOThreadObject? thread = null;
        if (options.Iothread is { } iothread)
        {
            thread = _objects(iothread) as IOThreadObject
                ?? throw new QapiException($"iothread \"{iothread}\" not found");
        }

        BlockBackend backend = new(_graph, "") { IsWriteCacheEnabled = !(options.Writethrough ?? false) };
        backend.SetPermissions(BlockPermissions.ConsistentRead | (isWritable ? BlockPermissions.Write : 0), BlockPermissions.All);
        backend.Insert(node);
        try
        {
            await MoveAsync(backend, node, thread, options.FixedIothread ?? false);
            Exports.Add(options.Type == BlockExportType.Nbd
                ? MakeNbd(options, options.Nbd!, backend, node, isWritable)
                : MakeVhostUser(options, backend, session));
        }
        catch (QapiException)
        {
            backend.Remove();
            throw;
        }
    }

    private static async Task MoveAsync(BlockBackend backend, BlockNode node, IOThreadObject? thread, bool isFixed)
    {
        if (thread is null)
        {
            return;
        }

        try
        {
            await backend.SetLoopAsync(thread.Thread.Loop);
        }
        catch (QapiException) when (!isFixed)
        {
            // Other users keep the node where it is, which serves as well.
        }
    }

    private VhostUserExport MakeVhostUser(BlockExportOptions options, BlockBackend backend, IMonitorSession? session)
    {
        VhostUserExport.Check(options);
        SocketAddress address = options.VhostUserBlk!.Addr;
        if (address.Type == SocketAddressType.Inet)
        {
            throw new QapiException("Only socket address types 'unix' and 'fd' are supported");
        }

        SafeFd listener = SocketEndpoints.Listen(address.ToLegacy(), name => SocketEndpoints.FindFd(session, name), Backlog)[0];
        return new VhostUserExport(options, backend, _graph.MainLoop, listener);
    }

    private NbdExport MakeNbd(BlockExportOptions options, BlockExportOptionsNbd nbd, BlockBackend backend, BlockNode node, bool isWritable)
    {
        NbdServer server = RequireServer();
        string name = nbd.Name ?? options.NodeName;
        if (NbdWire.ByteCount(name) > NbdLimits.MaxString)
        {
            throw new QapiException($"export name '{name}' too long");
        }

        if (nbd.Description is { } description && NbdWire.ByteCount(description) > NbdLimits.MaxString)
        {
            throw new QapiException($"description '{description}' too long");
        }

        if (server.Find(name) is not null)
        {
            throw new QapiException($"NBD server already has export named '{name}'");
        }

        List<DirtyBitmap> bitmaps = [];
        foreach (BlockDirtyBitmapOrStr item in nbd.Bitmaps ?? [])
        {
            bitmaps.Add(FindBitmap(node, item, isWritable));
        }

        return new NbdExport(options.Id, backend, name, nbd.Description, isWritable, nbd.AllocationDepth ?? false, bitmaps);
    }

    private DirtyBitmap FindBitmap(BlockNode node, BlockDirtyBitmapOrStr item, bool isWritable)
    {
        DirtyBitmap? found = null;
        if (item.External is { } external)
        {
            BlockNode other = _graph.Lookup(null, external.Node);
            found = other.FindBitmap(external.Name)
                ?? throw new QapiException($"Bitmap '{external.Name}' is not found in node '{external.Node}'");
        }
        else
        {
            for (BlockNode? at = node; at is not null && found is null; at = at.FilteredOrBacking)
            {
                found = at.FindBitmap(item.Local!);
            }
        }

        if (found is null)
        {
            throw new QapiException($"Bitmap '{item.Local}' is not found");
        }

        found.CheckUsable(allowInconsistent: false);
        if (!isWritable && !found.Node.IsReadOnly && found.IsEnabled)
        {
            throw new QapiException($"Enabled bitmap '{found.Name}' incompatible with readonly export");
        }

        return found;
    }
}
