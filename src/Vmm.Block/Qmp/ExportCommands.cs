using Vmm.Block.Exports;
using Vmm.Block.Graph;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Block.Qmp;

/// <summary>Exports and the NBD server. Home: main loop.</summary>
public sealed class ExportCommands
{
    private readonly BlockGraph _graph;
    private readonly BlockExportFactory _factory;

    /// <summary>Commands over a factory, whose exports say with events that they have ended.</summary>
    public ExportCommands(BlockGraph graph, BlockExportFactory factory, IEventEmitter events)
    {
        _graph = graph;
        _factory = factory;
        factory.Exports.OnDeleted = id => events.Emit(new BlockExportDeletedEvent(id));
    }

    /// <summary>Starts the NBD server.</summary>
    [QmpCommand("nbd-server-start", ArgsType = "addr:q,tls-creds:s?,tls-authz:s?,max-connections:i?", AllowPreconfig = true, Since = "1.3")]
    public void NbdServerStart(SocketAddressLegacy addr, string? tlsCreds, string? tlsAuthz, uint? maxConnections, IMonitorSession session) =>
        _factory.StartServer(addr, tlsCreds, tlsAuthz, maxConnections ?? 0, session);

    /// <summary>Exports a node by the name of its back end or its own.</summary>
    [QmpCommand("nbd-server-add", ArgsType = "device:B,writable:b?,name:s?,description:s?,bitmap:s?", AllowPreconfig = true, Since = "1.3")]
    [QapiFeature("deprecated")]
    public async Task NbdServerAdd(string device, bool? writable, string? name, string? description, string? bitmap)
    {
        string id = name ?? device;
        BlockNode node = _graph.Lookup(device, device);
        await AddAsync(new BlockExportOptions
        {
            Type = BlockExportType.Nbd,
            Id = id,
            NodeName = node.Name,
            Writable = writable == true && !node.IsReadOnly,
            Nbd = new BlockExportOptionsNbd
            {
                Name = id,
                Description = description,
                Bitmaps = bitmap is null ? null : [new BlockDirtyBitmapOrStr { Local = bitmap }],
            },
        });
    }

    /// <summary>Ends an NBD export.</summary>
    [QmpCommand("nbd-server-remove", ArgsType = "name:s,mode:s?", AllowPreconfig = true, Since = "2.12")]
    [QapiFeature("deprecated")]
    public void NbdServerRemove(string name, BlockExportRemoveMode? mode)
    {
        if (_factory.Exports.Find(name) is { Type: not BlockExportType.Nbd })
        {
            throw new QapiException($"Block export '{name}' is not an NBD export");
        }

        BlockExportDel(name, mode);
    }

    /// <summary>Stops the NBD server and ends its exports.</summary>
    [QmpCommand("nbd-server-stop", AllowPreconfig = true, Since = "1.3")]
    public async Task NbdServerStop() => await _factory.StopServerAsync();

    /// <summary>Makes an export.</summary>
    [QmpCommand("block-export-add", ArgsType = "options:O", ArgsSchema = typeof(BlockExportOptions), AllowPreconfig = true, Since = "5.2")]
    public Task BlockExportAdd(QDict options, IMonitorSession session) =>
        AddAsync(BlockExportOptions.QapiRead(options, new QapiReader(), null), session);

    /// <summary>Ends an export.</summary>
    [QmpCommand("block-export-del", ArgsType = "id:s,mode:s?", AllowPreconfig = true, Since = "5.2")]
    public void BlockExportDel(string id, BlockExportRemoveMode? mode)
    {
        BlockExport export = _factory.Exports.Find(id) ?? throw new QapiException($"Export '{id}' is not found");
        if (mode != BlockExportRemoveMode.Hard && export.NeedsForce)
        {
            throw new QapiException(
                QapiErrorClass.GenericError, $"export '{id}' still in use", "Use mode='hard' to force client disconnect");
        }

        export.ShutDown();
    }

    /// <summary>All exports, newest first.</summary>
    [QmpCommand("query-block-exports", AllowPreconfig = true, Since = "5.2")]
    public IReadOnlyList<BlockExportInfo> QueryBlockExports()
    {
        List<BlockExportInfo> result = [];
        for (int i = _factory.Exports.All.Count - 1; i >= 0; i--)
        {
            BlockExport export = _factory.Exports.All[i];
            result.Add(new BlockExportInfo
            {
                Id = export.Id,
                Type = export.Type,
                NodeName = export.Backend.Root?.Name ?? "",
                ShuttingDown = export.IsShuttingDown,
            });
        }

        return result;
    }

    private async Task AddAsync(BlockExportOptions options, IMonitorSession? session = null) =>
        await _graph.ChangeAsync(() => _factory.AddAsync(options, session));
}
