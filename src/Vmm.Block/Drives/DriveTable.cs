using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Throttling;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Drives;

/// <summary>The drives: back ends with names, made from the options of -drive and of what is short for it. Main loop.</summary>
public sealed class DriveTable(BlockGraph graph, BlockBackends backends, ThrottleGroups groups)
{
    private readonly List<Drive> _drives = [];

    /// <summary>The drives, oldest first.</summary>
    public IReadOnlyList<Drive> All => _drives;

    /// <summary>What a drive is connected to that does not say it.</summary>
    public DriveInterface DefaultInterface { get; set; }

    /// <summary>Units of a bus of the default interface; null for the usual number, 0 for any.</summary>
    public int? UnitsPerDefaultBus { get; set; }

    /// <summary>The drive at a place; null when there is none.</summary>
    public Drive? Find(DriveInterface type, int bus, int unit) =>
        _drives.Find(d => d.Interface == type && d.Bus == bus && d.Unit == unit);

    /// <summary>The drive of a back end; null when it is none.</summary>
    public Drive? Find(BlockBackend backend) => _drives.Find(d => d.Backend == backend);

    /// <summary>Forgets a drive and closes what only it uses.</summary>
    public void Remove(Drive drive)
    {
        _drives.Remove(drive);
        drive.Backend.LeaveGroup(groups);
        backends.Remove(drive.Backend);
    }

    /// <summary>Takes a drive from the operator: its medium goes at once, its back end when its device goes. With <see cref="BlockGraph.Changing"/> held.</summary>
    public async IoTask DetachAsync(Drive drive)
    {
        BlockBackend backend = drive.Backend;
        if (backend.Root is { } node)
        {
            await node.DrainAsync();
            backend.LeaveGroup(groups);
            backend.Remove();
            node.DrainEnd();
            await graph.CloseIfUnusedAsync(node);
        }

        _drives.Remove(drive);
        backend.Name = "";
        if (backend.Device is null)
        {
            backend.LeaveGroup(groups);
            backends.Remove(backend);
        }
        else
        {
            // Requests of the device must not stop the machine from now on.
            backend.SetErrorPolicy(BlockErrorPolicy.Report, BlockErrorPolicy.Report);
        }
    }

    /// <summary>Makes a drive. With <see cref="BlockGraph.Changing"/> held.</summary>
    /// <param name="flat">The options as given: text, names with dots, the id under "id".</param>
    /// <param name="location">The option, for messages.</param>
    /// <exception cref="QapiException">The options are wrong, or the image cannot be opened; nothing is left of it.</exception>
    public async IoTask<Drive> AddAsync(QDict flat, string? location)
    {
        DriveOptions options = new(flat);
        bool isReadOnly = options.TakeBool("read-only") ?? false;
        bool copiesOnRead = options.TakeBool("copy-on-read") ?? false;
        int bus = options.TakeInt("bus") ?? 0;
        int unit = options.TakeInt("unit") ?? -1;
        int index = options.TakeInt("index") ?? -1;
        string? media = options.Take("media");
        bool isCd = media == "cdrom";
        if (media is not (null or "disk" or "cdrom"))
        {
            throw new QapiException($"'{media}' invalid media");
        }

        isReadOnly |= isCd;
        if (isReadOnly && copiesOnRead)
        {
            graph.Warn("disabling copy-on-read on read-only drive");
            copiesOnRead = false;
        }

        DriveInterface type = options.Take("if") is { } name ? DriveInterfaces.Parse(name) : DefaultInterface;
        (bus, unit) = Place(type, bus, unit, index);
        string? file = options.Take("file");
        BlockErrorPolicy? onWrite = TakePolicy(options, type, isRead: false);
        BlockErrorPolicy? onRead = TakePolicy(options, type, isRead: true);
        string id = options.Take("id") ?? MakeId(type, bus, unit, isCd);
        BlockBackend backend = await MakeAsync(options, id, file, isReadOnly, copiesOnRead);
        backend.SetErrorPolicy(onRead ?? BlockErrorPolicy.Auto, onWrite ?? BlockErrorPolicy.Auto);
        Drive drive = new(type, bus, unit, backend, location);
        _drives.Add(drive);
        return drive;
    }

    /// <summary>The first free place, or the one that was asked for if it is free.</summary>
    private (int Bus, int Unit) Place(DriveInterface type, int bus, int unit, int index)
    {
        int units = UnitsPerBus(type);
        if (index != -1)
        {
            if (bus != 0 || unit != -1)
            {
                throw new QapiException("index cannot be used with bus and unit");
            }

            (bus, unit) = units == 0 ? (0, index) : (index / units, index % units);
        }

        if (unit == -1)
        {
            unit = 0;
            while (Find(type, bus, unit) is not null)
            {
                unit++;
                if (units != 0 && unit >= units)
                {
                    unit -= units;
                    bus++;
                }
            }
        }

        if (units != 0 && unit >= units)
        {
            throw new QapiException($"unit {unit} too big (max is {units - 1})");
        }

        return Find(type, bus, unit) is null
            ? (bus, unit)
            : throw new QapiException($"drive with bus={bus}, unit={unit} (index={index}) exists");
    }

    private string MakeId(DriveInterface type, int bus, int unit, bool isCd)
    {
        string media = type is DriveInterface.Ide or DriveInterface.Scsi ? isCd ? "-cd" : "-hd" : "";
        string name = DriveInterfaces.Name(type);
        return UnitsPerBus(type) > 0 ? $"{name}{bus}{media}{unit}" : $"{name}{media}{unit}";
    }

    private int UnitsPerBus(DriveInterface type) =>
        type == DefaultInterface && UnitsPerDefaultBus is { } units ? units : DriveInterfaces.UnitsPerBus(type);

    private static BlockErrorPolicy? TakePolicy(DriveOptions options, DriveInterface type, bool isRead)
    {
        string name = isRead ? "rerror" : "werror";
        if (options.Take(name) is not { } text)
        {
            return null;
        }

        if (type is not (DriveInterface.None or DriveInterface.Ide or DriveInterface.Scsi or DriveInterface.Virtio))
        {
            throw new QapiException($"{name} is not supported by this bus type");
        }

        return DriveOptions.ParsePolicy(text, isRead);
    }

    private async IoTask<BlockBackend> MakeAsync(DriveOptions options, string id, string? file, bool isReadOnly, bool copiesOnRead)
    {
        if (!OptionErrors.IsIdentifier(id))
        {
            throw OptionErrors.BadIdentifier();
        }

        if (backends.Find(id) is not null)
        {
            throw new QapiException($"Duplicate ID '{id}' for drive");
        }

        bool isSnapshot = options.TakeBool("snapshot") ?? false;
        bool countsInvalid = options.TakeBool("stats-account-invalid") ?? true;
        bool countsFailed = options.TakeBool("stats-account-failed") ?? true;
        bool isWriteBack = options.TakeBool("cache.writeback") ?? true;
        IReadOnlyList<string> intervals = options.TakeIntervals();
        AioMode? aio = options.TakeAio();
        (ThrottleConfig limits, string? group) = options.TakeLimits();
        DetectZeroesMode zeroes = ParseZeroes(options.Take("detect-zeroes"));
        if (options.Take("format") is { } format && !options.Rest.TryAdd("driver", format))
        {
            throw new QapiException("Cannot specify both 'driver' and 'format'");
        }

        BlockNode? node = null;
        if (!string.IsNullOrEmpty(file) || options.Rest.Count > 0)
        {
            node = await OpenAsync(options.Rest, string.IsNullOrEmpty(file) ? null : file, isReadOnly, isSnapshot, aio, zeroes);
            node.CopiesOnRead = copiesOnRead && !node.IsReadOnly;
        }

        if (graph.Find(id) is not null)
        {
            if (node is not null)
            {
                await graph.CloseIfUnusedAsync(node);
            }

            throw new QapiException($"Device name '{id}' conflicts with an existing node name");
        }

        return await FillAsync(id, node, backend =>
        {
            backend.IsWriteCacheEnabled = isWriteBack;
            backend.IsRootReadOnly = isReadOnly;
            backend.RootDetectZeroes = zeroes;
            backend.Accounting.CountsFailed = countsFailed;
            backend.Accounting.CountsInvalid = countsInvalid;
            if (node is not null)
            {
                backend.Accounting.SetIntervals(DriveOptions.ReadIntervals(intervals));
            }

            if (limits.IsEnabled)
            {
                backend.SetLimits(groups, group, id, limits);
            }
        });
    }

    private async IoTask<BlockBackend> FillAsync(string id, BlockNode? node, Action<BlockBackend> configure)
    {
        BlockBackend backend = backends.Add(id, isDrive: true);
        backend.SetPermissions(BlockPermissions.ConsistentRead, BlockPermissions.All);
        try
        {
            if (node is not null)
            {
                backend.Insert(node);
            }

            configure(backend);
            return backend;
        }
        catch (QapiException)
        {
            backends.Remove(backend);
            if (node is not null)
            {
                await graph.CloseIfUnusedAsync(node);
            }

            throw;
        }
    }

    private async IoTask<BlockNode> OpenAsync(
        QDict flat, string? file, bool isReadOnly, bool isSnapshot, AioMode? aio, DetectZeroesMode zeroes)
    {
        flat.TryAdd("cache.direct", "off");
        flat.TryAdd("cache.no-flush", "off");
        flat.TryAdd("read-only", DriveOptions.OnOff(isReadOnly || isSnapshot));
        flat.TryAdd("auto-read-only", "on");
        string? discard = flat.GetString("discard");
        QDict nested = KeyvalParser.Crumple(flat) as QDict ?? [];
        BlockNode node = await graph.OpenImageAsync(file, nested, new NodeOptions { Aio = aio });
        if (!isSnapshot)
        {
            // Of a drive this is no option of the node: it needs nothing of the others.
            node.Options = node.Options with { DetectZeroes = zeroes };
        }

        return isSnapshot ? await TemporaryOverlay.PutAboveAsync(graph, node, isReadOnly, discard, zeroes) : node;
    }

    private static DetectZeroesMode ParseZeroes(string? text) => text switch
    {
        null or "off" => DetectZeroesMode.Off,
        "on" => DetectZeroesMode.On,
        "unmap" => DetectZeroesMode.Unmap,
        _ => throw new QapiException($"invalid parameter value: {text}"),
    };
}
