using System.Globalization;
using Vmm.Block.Backend;
using Vmm.Block.Drives;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Qmp;

/// <summary>Commands that make and delete nodes. Home: main loop.</summary>
public sealed class BlockdevCommands(BlockGraph graph, BlockBackends backends)
{
    /// <summary>Makes a node. The options come as they are or, from old clients, in "options".</summary>
    [QmpCommand("blockdev-add", ArgsType = "options:q,properties:O", ArgsSchema = typeof(BlockdevOptions), AllowPreconfig = true, Since = "2.9")]
    public async Task BlockdevAdd([QapiRelaxed] QValue? options, QDict properties, IMonitorSession session)
    {
        if (options is not null)
        {
            await AddNestedAsync(options, properties, session);
            return;
        }

        BlockdevOptions read = BlockdevOptions.QapiRead(properties, new QapiReader(), null);
        if (read.NodeName is null)
        {
            throw new QapiException("'node-name' must be specified for the root node");
        }

        await AddNodeAsync(read, session);
    }

    /// <summary>Gives nodes other options and children, all of them or none.</summary>
    [QmpCommand("blockdev-reopen", ArgsType = "options:q", AllowPreconfig = true, Since = "6.1")]
    public async Task BlockdevReopen(IReadOnlyList<BlockdevOptions> options) => await graph.ChangeAsync(() => graph.ReopenAsync(options));

    /// <summary>Deletes a node that nobody uses.</summary>
    [QmpCommand("blockdev-del", ArgsType = "node-name:s", AllowPreconfig = true, Since = "2.9")]
    public async Task BlockdevDel(string nodeName) => await graph.ChangeAsync(() =>
    {
        BlockNode node = graph.Find(nodeName) ?? throw new QapiException($"Failed to find node with node-name='{nodeName}'");
        foreach (BlockEdge edge in node.Parents)
        {
            if (edge.Parent is BlockBackend)
            {
                throw new QapiException($"Node {node.Name} is in use");
            }
        }

        node.CheckNotInUse();
        if (!graph.IsMonitorOwned(node))
        {
            throw new QapiException($"Node {node.Name} is not owned by the monitor");
        }

        return graph.DeleteAsync(node);
    });

    /// <summary>Deletes a node, or a back end that was added as one, as old clients ask for it.</summary>
    [QmpCommand("x-blockdev-del", ArgsType = "id:s?,node-name:s?", AllowPreconfig = true, Since = "2.5")]
    public async Task OldBlockdevDel(string? id, string? nodeName)
    {
        if (id is not null && nodeName is not null)
        {
            throw new QapiException("Only one of id and node-name must be specified");
        }

        if (id is null && nodeName is null)
        {
            throw new QapiException("No block device specified");
        }

        await graph.ChangeAsync(async () =>
        {
            if (id is null)
            {
                BlockNode node = graph.Find(nodeName!) ?? throw new QapiException($"Cannot find node {nodeName}");
                foreach (BlockEdge edge in node.Parents)
                {
                    if (edge.Parent is BlockBackend user)
                    {
                        throw new QapiException($"Node {nodeName} is in use by {user.Name}");
                    }
                }

                node.CheckNotInUse();
                if (!graph.IsMonitorOwned(node))
                {
                    throw new QapiException($"Node {nodeName} is not owned by the monitor");
                }

                await graph.DeleteAsync(node);
                return;
            }

            BlockBackend backend = backends.Find(id) ?? throw new QapiException($"Cannot find block backend {id}");
            if (backend.IsDrive)
            {
                throw new QapiException("Deleting block backend added with drive-add is not supported");
            }

            if (backend.Device is not null)
            {
                throw new QapiException($"Block backend {id} is in use");
            }

            backend.Root?.CheckNotInUse();
            backends.Remove(backend);
        });
    }

    // The form of version 2.6, whose clients may name a user of the node as well, or nothing else.
    private async Task AddNestedAsync(QValue given, QDict beside, IMonitorSession session)
    {
        if (given is not QDict options)
        {
            throw QapiException.InvalidParameterType("options", "object");
        }

        foreach (KeyValuePair<string, QValue> other in beside)
        {
            throw QapiException.UnexpectedParameter(other.Key);
        }

        options = options.Clone();
        if (options.ContainsKey("id"))
        {
            await graph.ChangeAsync(() => AddBackendAsync(options));
            return;
        }

        TakeWriteBack(options);
        BlockdevOptions read = BlockdevOptions.QapiRead(options, new QapiReader(), null);
        if (read.NodeName is null)
        {
            throw new QapiException("'id' and/or 'node-name' need to be specified for the root node");
        }

        await AddNodeAsync(read, session);
    }

    // Names of descriptors are those of the monitor from which the options come.
    private async Task AddNodeAsync(BlockdevOptions options, IMonitorSession session) => await graph.ChangeAsync(async () =>
    {
        Func<string, SafeFd> before = graph.DriverRegistry.FindFd;
        graph.DriverRegistry.FindFd = name => SocketEndpoints.FindFd(session, name);
        try
        {
            graph.AddMonitorOwned(await graph.OpenAsync(options));
        }
        finally
        {
            graph.DriverRegistry.FindFd = before;
        }
    });

    // Every node had a write cache that could be off. What is on today as well need not be said; the rest cannot be had.
    private static void TakeWriteBack(QDict options)
    {
        foreach (KeyValuePair<string, QValue> option in options)
        {
            if (option.Value is not QDict child)
            {
                continue;
            }

            if (option.Key == "cache" && child.TryGetValue("writeback", out QValue? on) && on is QBool { Value: true })
            {
                child.Remove("writeback");
            }

            TakeWriteBack(child);
        }
    }

    // What today are a node and its user was one thing.
    private async IoTask AddBackendAsync(QDict options)
    {
        string id = TakeText(options, "id")!;
        BlockErrorPolicy onRead = TakeText(options, "rerror") is { } r ? DriveOptions.ParsePolicy(r, isRead: true) : BlockErrorPolicy.Auto;
        BlockErrorPolicy onWrite = TakeText(options, "werror") is { } w ? DriveOptions.ParsePolicy(w, isRead: false) : BlockErrorPolicy.Auto;
        bool countsInvalid = TakeBool(options, "stats-account-invalid") ?? true;
        bool countsFailed = TakeBool(options, "stats-account-failed") ?? true;
        IReadOnlyList<long> intervals = TakeIntervals(options);
        bool isWriteBack = true;
        if (options.GetDict("cache") is { } cache)
        {
            isWriteBack = TakeBool(cache, "writeback") ?? true;
        }

        TakeWriteBack(options);
        AioMode? aio = TakeText(options, "aio") switch
        {
            null => null,
            "threads" => AioMode.Threads,
            "native" => AioMode.Native,
            _ => throw new QapiException("invalid aio option"),
        };
        if (!OptionErrors.IsIdentifier(id))
        {
            throw OptionErrors.BadIdentifier();
        }

        if (backends.Find(id) is not null)
        {
            throw new QapiException($"Duplicate ID '{id}' for drive");
        }

        BlockdevOptions read = BlockdevOptions.QapiRead(options, new QapiReader(), null);
        BlockNode node = await graph.OpenAsync(read, new NodeOptions { Aio = aio });
        BlockBackend? backend = null;
        try
        {
            if (graph.Find(id) is not null)
            {
                throw new QapiException($"Device name '{id}' conflicts with an existing node name");
            }

            backend = backends.Add(id);
            backend.SetPermissions(BlockPermissions.ConsistentRead, BlockPermissions.All);
            backend.Insert(node);
        }
        catch (QapiException)
        {
            if (backend is not null)
            {
                backends.Remove(backend);
            }

            await graph.CloseIfUnusedAsync(node);
            throw;
        }

        backend.IsWriteCacheEnabled = isWriteBack;
        backend.Accounting.CountsInvalid = countsInvalid;
        backend.Accounting.CountsFailed = countsFailed;
        backend.Accounting.SetIntervals(intervals);
        backend.SetErrorPolicy(onRead, onWrite);
    }

    private static IReadOnlyList<long> TakeIntervals(QDict options)
    {
        if (!options.Remove("stats-intervals", out QValue? value))
        {
            return [];
        }

        List<string> intervals = [];
        foreach (QValue interval in value as QList ?? throw QapiException.InvalidParameterType("options.stats-intervals", "array"))
        {
            if (interval is not QNum number || !number.TryGetInt64(out long seconds))
            {
                throw QapiException.InvalidParameterType("options.stats-intervals", "integer");
            }

            intervals.Add(seconds.ToString(CultureInfo.InvariantCulture));
        }

        return DriveOptions.ReadIntervals(intervals);
    }

    private static string? TakeText(QDict options, string name) => options.Remove(name, out QValue? value)
        ? value is QString text ? text.Value : throw QapiException.InvalidParameterType("options." + name, "string")
        : null;

    private static bool? TakeBool(QDict options, string name) => options.Remove(name, out QValue? value)
        ? value is QBool flag ? flag.Value : throw QapiException.InvalidParameterType("options." + name, "boolean")
        : null;
}
