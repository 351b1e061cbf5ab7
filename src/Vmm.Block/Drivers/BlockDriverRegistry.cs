using Vmm.Block.Drivers.Files;
using Vmm.Block.Drivers.Http;
using Vmm.Block.Drivers.Nbd;
using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Throttling;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Fds;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>A child that options define.</summary>
/// <param name="Name">Its name in the parent.</param>
/// <param name="Role">What it is to the parent.</param>
/// <param name="Reference">The node.</param>
public readonly record struct ChildDefinition(string Name, ChildRole Role, BlockdevRef Reference);

/// <summary>How much a file looks like an image of a format.</summary>
/// <param name="head">The first 2048 bytes of the file, or all of it.</param>
/// <param name="name">The file's name, where it has one.</param>
/// <returns>0 for not at all, to 100 for certainly.</returns>
public delegate int ImageProbe(ReadOnlySpan<byte> head, string? name);

/// <summary>A driver that options can name.</summary>
public sealed class BlockDriverInfo
{
    /// <summary>The driver of a node with these options.</summary>
    public required Func<BlockdevOptions, BlockDriver> Create { get; init; }

    /// <summary>The children that these options define, in the order in which they are opened.</summary>
    public Func<BlockdevOptions, IReadOnlyList<ChildDefinition>> Children { get; init; } = static _ => [];

    /// <summary>Makes an image; null where the driver does not. With <see cref="BlockGraph.Changing"/> held.</summary>
    public Func<BlockGraph, BlockdevCreateOptions, IoTask>? CreateImage { get; init; }

    /// <summary>Stored options of an open image can be changed.</summary>
    public bool CanAmend { get; init; }

    /// <summary>For image formats that can be told by their contents.</summary>
    public ImageProbe? Probe { get; init; }

    /// <summary>Has contents of its own, as opposed to formats and filters, which show those of a child called "file".</summary>
    public bool IsProtocol { get; init; }

    /// <summary>Cannot do without a child called "file".</summary>
    public bool NeedsFile { get; init; }

    /// <summary>Cannot do without a file name.</summary>
    public bool NeedsFilename { get; init; }

    /// <summary>What file names begin with, before a colon, that the driver opens.</summary>
    public IReadOnlyList<string> Protocols { get; init; } = [];

    /// <summary>Puts what a file name says into options. Without it names are paths.</summary>
    public Action<string, QDict>? ParseName { get; init; }

    /// <summary>Makes options in the spelling of old those of today.</summary>
    public Action<QDict>? Normalise { get; init; }
}

/// <summary>The drivers that there are. Filled before the first node is opened.</summary>
public sealed partial class BlockDriverRegistry
{
    private static readonly string[] s_file = ["file"];
    private static readonly string[] s_hostCdrom = ["host_cdrom"];
    private static readonly string[] s_hostDevice = ["host_device"];
    private static readonly string[] s_nbd = ["nbd", "nbd+tcp", "nbd+unix"];

    private readonly Dictionary<BlockdevDriver, BlockDriverInfo> _drivers = [];

    /// <summary>The built-in drivers.</summary>
    /// <param name="fdSets">For file names below /dev/fdset.</param>
    /// <param name="workers">For calls on files.</param>
    /// <param name="groups">For throttle filters.</param>
    public BlockDriverRegistry(FdSets fdSets, LoopWorkers workers, ThrottleGroups groups)
    {
        Add(BlockdevDriver.CopyBeforeWrite, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = static o => new CopyBeforeWriteDriver(o.CopyBeforeWrite!),
            Children = static o =>
            [
                new ChildDefinition("file", ChildRole.Filtered | ChildRole.Primary, o.CopyBeforeWrite!.File),
                new ChildDefinition("target", ChildRole.Data, o.CopyBeforeWrite.Target),
            ],
        });
        Add(BlockdevDriver.CopyOnRead, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = static o => new CopyOnReadDriver(o.CopyOnRead!),
            Children = static o => [new ChildDefinition("file", ChildRole.Filtered | ChildRole.Primary, o.CopyOnRead!.File)],
        });
        Add(BlockdevDriver.File, new BlockDriverInfo { IsProtocol = true, NeedsFilename = true, Protocols = s_file, ParseName = ImageNames.ParsePath, Create = o => new FileDriver(o.File!, FileKind.Regular, fdSets, workers), CreateImage = (_, o) => new FileCreation(o.File!).CreateAsync(workers) });
        Add(BlockdevDriver.HostCdrom, new BlockDriverInfo { IsProtocol = true, NeedsFilename = true, Protocols = s_hostCdrom, ParseName = ImageNames.ParsePath, Create = o => new FileDriver(o.HostCdrom!, FileKind.Cdrom, fdSets, workers) });
        Add(BlockdevDriver.HostDevice, new BlockDriverInfo { IsProtocol = true, NeedsFilename = true, Protocols = s_hostDevice, ParseName = ImageNames.ParsePath, Create = o => new FileDriver(o.HostDevice!, FileKind.Device, fdSets, workers) });
        Add(BlockdevDriver.Http, new BlockDriverInfo { IsProtocol = true, Protocols = ["http"], ParseName = HttpDriver.ParseName, Create = o => new HttpDriver(o.Http!, workers, FindSecret) });
        Add(BlockdevDriver.Https, new BlockDriverInfo { IsProtocol = true, Protocols = ["https"], ParseName = HttpDriver.ParseName, Create = o => new HttpDriver(o.Https!, workers, FindSecret) });
        Add(BlockdevDriver.Nbd, new BlockDriverInfo { IsProtocol = true, Protocols = s_nbd, ParseName = NbdNames.Parse, Normalise = NbdNames.Normalise, Create = o => new NbdDriver(o.Nbd!, workers, FindObject, FindFd) });
        Add(BlockdevDriver.NullCo, new BlockDriverInfo { IsProtocol = true, Protocols = ["null-co"], ParseName = ImageNames.ParseNull, Create = static o => new NullDriver("null-co", o.NullCo!) });
        Add(BlockdevDriver.NullAio, new BlockDriverInfo { IsProtocol = true, Protocols = ["null-aio"], ParseName = ImageNames.ParseNull, Create = static o => new NullDriver("null-aio", o.NullAio!) });
        Add(BlockdevDriver.Qcow2, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = o => new Qcow2Driver(o.Qcow2!, workers) { FindSecret = FindSecret },
            Children = static o => Qcow2Children(o.Qcow2!),
            Probe = static (head, _) => Qcow2Header.Probe(head),
            CreateImage = (graph, o) => Qcow2Creation.CreateAsync(graph, o.Qcow2!, FindSecret, workers),
            CanAmend = true,
        });
        Add(BlockdevDriver.Raw, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = static o => new RawDriver(o.Raw!),
            Children = static o =>
            [
                new ChildDefinition(
                    "file",
                    o.Raw!.Offset is null && o.Raw.Size is null ? ChildRole.Filtered | ChildRole.Primary : ChildRole.Data | ChildRole.Primary,
                    o.Raw.File),
            ],
        });
        Add(BlockdevDriver.Throttle, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = o => new ThrottleDriver(o.Throttle!, groups),
            Children = static o => [new ChildDefinition("file", ChildRole.Filtered | ChildRole.Primary, o.Throttle!.File)],
        });
        AddFilters();
        AddImages(workers);
    }

    /// <summary>Adds a driver, or puts another one in its place.</summary>
    public void Add(BlockdevDriver driver, BlockDriverInfo info) => _drivers[driver] = info;

    /// <summary>The format that the beginning of a file looks most like; "raw" when it looks like nothing.</summary>
    public string Probe(ReadOnlySpan<byte> head, string? name)
    {
        int best = 0;
        BlockdevDriver found = BlockdevDriver.Raw;
        foreach ((BlockdevDriver driver, BlockDriverInfo info) in _drivers)
        {
            int score = info.Probe?.Invoke(head, name) ?? 0;
            if (score > best)
            {
                (best, found) = (score, driver);
            }
        }

        return found.ToWire();
    }

    /// <summary>The driver of that name.</summary>
    public BlockDriverInfo Find(BlockdevDriver driver) => _drivers[driver];

    /// <summary>The driver of that name; null when there is none.</summary>
    public BlockDriverInfo? TryFind(BlockdevDriver driver) => _drivers.GetValueOrDefault(driver);

    /// <summary>The names of all drivers, sorted.</summary>
    public IReadOnlyList<string> Names
    {
        get
        {
            List<string> names = [];
            foreach (BlockdevDriver driver in _drivers.Keys)
            {
                names.Add(driver.ToWire());
            }

            names.Sort(StringComparer.Ordinal);
            return names;
        }
    }

    /// <summary>The protocol that opens a file name.</summary>
    /// <param name="name">The name.</param>
    /// <param name="hasPrefix">What stands before a colon names the protocol; else all names are paths.</param>
    /// <exception cref="QapiException">There is no such protocol.</exception>
    public BlockdevDriver ProtocolOf(string name, bool hasPrefix)
    {
        if (!hasPrefix || !ImageNames.HasProtocol(name))
        {
            return !ImageNames.IsDevice(name) ? BlockdevDriver.File : FileDriver.IsCdrom(name) ? BlockdevDriver.HostCdrom : BlockdevDriver.HostDevice;
        }

        string protocol = name[..name.IndexOf(':')];
        foreach ((BlockdevDriver driver, BlockDriverInfo info) in _drivers)
        {
            foreach (string known in info.Protocols)
            {
                if (known == protocol)
                {
                    return driver;
                }
            }
        }

        throw new QapiException($"Unknown protocol '{protocol}'");
    }

    private static List<ChildDefinition> Qcow2Children(BlockdevOptionsQcow2 options)
    {
        List<ChildDefinition> children = [new ChildDefinition("file", ChildRole.Image, options.File)];
        if (options.DataFile is { } data)
        {
            children.Add(new ChildDefinition("data-file", ChildRole.Data, data));
        }

        if (options.Backing?.ToRef() is { } backing)
        {
            children.Add(new ChildDefinition("backing", ChildRole.Cow, backing));
        }

        return children;
    }
}
