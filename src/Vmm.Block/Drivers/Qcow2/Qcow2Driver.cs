using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>
/// qcow2 images, versions 2 and 3 (specification: docs/interop/qcow2 of QEMU). The mapping of guest offsets to places
/// (<see cref="Qcow2Mapping"/>) is apart from the requests, which look up and then read or write. A lookup that finds its tables in memory
/// needs no lock; whatever loads or changes metadata holds the image's lock.
/// </summary>
public sealed partial class Qcow2Driver : BlockDriver
{
    private readonly BlockdevOptionsQcow2 _options;
    private readonly LoopWorkers _workers;
    private readonly LoopMutex _lock = new();
    private readonly Qcow2Limbo _limbo = new();
    private readonly Stack<Qcow2CodecWork> _codecs = new();
    private Qcow2Header _header = new();
    private Qcow2File _file = null!;
    private Qcow2Mapping _mapping = null!;
    private BlockEdge _dataEdge = null!;
    private bool _isFailed;

    /// <summary>An image.</summary>
    public Qcow2Driver(BlockdevOptionsQcow2 options, LoopWorkers workers)
    {
        _options = options;
        _workers = workers;
    }

    /// <inheritdoc/>
    public override string FormatName => "qcow2";

    /// <inheritdoc/>
    public override bool IsFormat => true;

    /// <inheritdoc/>
    public override bool SupportsBacking => true;

    /// <inheritdoc/>
    public override string? ExactFilename => Node.File!.Node.Driver.ExactFilename;

    private BlockNode Data => _dataEdge.Node;

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(_header.Size);

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        BlockEdge file = Node.File!;
        _file = new Qcow2File(file);
        _header = Qcow2Header.Parse(await ReadFirstClusterAsync(), !Node.IsReadOnly);
        if (!Qcow2CodecWork.IsAvailable(_header.Compression))
        {
            throw new QapiException($"The library for compression type '{_header.Compression.ToString().ToLowerInvariant()}' is not installed");
        }

        Qcow2CacheSizes sizes = Qcow2CacheSizes.For(_options, _header);
        ulong[] l1 = new ulong[_header.L1Entries];
        Check(await _file.ReadTableAsync(_header.L1Offset, l1), "Could not read L1 table");
        Qcow2Cache slices = new(_file, sizes.L2Entries, sizes.L2EntryBytes, static () => new(BlockResult.Io));
        _mapping = new Qcow2Mapping(_header, l1, slices);
        await OpenDataFileAsync(file);
        await OpenBackingAsync();
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _mapping?.Slices.Dispose();
        while (_codecs.TryPop(out Qcow2CodecWork? codec))
        {
            codec.Dispose();
        }

        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits)
    {
        limits.RequestAlignment = 1;
        limits.WriteZeroesAlignment = 1 << _mapping.SubclusterBits;
        limits.DiscardAlignment = _header.ClusterBytes;
        limits.MaxTransfer = 0;
    }

    private static void Check(int result, string what)
    {
        if (result < 0)
        {
            throw new QapiException($"{what}: {BlockResult.Text(result)}");
        }
    }

    private async IoTask<byte[]> ReadFirstClusterAsync()
    {
        byte[] head = new byte[512];
        Check(await _file.ReadBytesAsync(0, head), "Could not read qcow2 header");
        byte[] cluster = new byte[Qcow2Header.FirstClusterBytes(head)];
        Check(await _file.ReadBytesAsync(0, cluster), "Could not read qcow2 header");
        return cluster;
    }

    private async IoTask OpenDataFileAsync(BlockEdge file)
    {
        _dataEdge = file;
        if (!_header.HasDataFile)
        {
            if (_options.DataFile is not null)
            {
                throw new QapiException("'data-file' can only be set for images with an external data file");
            }

            return;
        }

        if (_options.DataFile is null)
        {
            string name = _header.DataFile ?? throw new QapiException("'data-file' is required for this image");
            BlockNode data = await Node.Graph.OpenFileNodeAsync(name, Node.Options.ForChild(ChildRole.Data, isFormat: true));
            await Node.Graph.AttachOpenedAsync(Node, data, "data-file", ChildRole.Data);
        }

        _dataEdge = Node.FindChild("data-file")!;

        // The image itself has metadata only.
        file.Role = ChildRole.Metadata | ChildRole.Primary;
    }

    private async IoTask OpenBackingAsync()
    {
        if (_options.Backing is not null || string.IsNullOrEmpty(_header.BackingFile))
        {
            return;
        }

        try
        {
            string name = ImageNames.Resolve(_header.BackingFile, ExactFilename);
            BlockNode backing = await Node.Graph.OpenImageAsync(
                name, _header.BackingFormat, Node.Options.ForChild(ChildRole.Cow, isFormat: true));
            await Node.Graph.AttachOpenedAsync(Node, backing, "backing", ChildRole.Cow);
        }
        catch (QapiException e)
        {
            throw new QapiException(e.ErrorClass, "Could not open backing file: " + e.Desc, e.Hint);
        }
    }
}
