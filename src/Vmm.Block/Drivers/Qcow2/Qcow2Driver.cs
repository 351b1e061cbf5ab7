using Vmm.Block.Drivers.Crypto;
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
    private const long DefaultCleanSeconds = 600;

    private static readonly Qcow2Header s_noHeader = new();

    private BlockdevOptionsQcow2 _options;
    private readonly LoopWorkers _workers;
    private readonly LoopMutex _lock = new();
    private readonly Qcow2Limbo _limbo = new();
    private readonly Stack<Qcow2CodecWork> _codecs = new();
    private Qcow2File _file = null!;
    private Qcow2Mapping _mapping = null!;
    private BlockEdge _dataEdge = null!;
    private LoopTimer? _cleaner;
    private long _cleanNs;
    private bool _isLazy;
    private bool _isFailed;
    private string? _autoBacking;

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
    public override bool IsEjected => _isFailed;

    /// <inheritdoc/>
    public override string? ExactFilename => IsBackingOverridden || _options.Encrypt is not null ? null : FileName;

    /// <inheritdoc/>
    public override string? FileName => Node.File!.Node.Driver.ExactFilename;

    /// <inheritdoc/>
    public override bool IsBackingOverridden =>
        Node.Backing is { } backing ? backing.Node.Filename != AutoBackingName : !string.IsNullOrEmpty(Header.BackingFile);

    // What the image itself leads to: known where it was opened that way.
    private string? AutoBackingName => _autoBacking
        ?? (string.IsNullOrEmpty(Header.BackingFile) ? null : ImageNames.TryResolve(Header.BackingFile, FileName));

    /// <inheritdoc/>
    public override bool SupportsCompression => true;

    private Qcow2Header Header => _metadata?.Header ?? s_noHeader;

    private BlockNode Data => _dataEdge.Node;

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(Header.Size);

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        BlockEdge file = Node.File!;
        _file = new Qcow2File(file);
        _dataEdge = file;
        Qcow2Header header = Qcow2Header.Parse(await ReadFirstClusterAsync(), !Node.IsReadOnly);
        if (!Qcow2CodecWork.IsAvailable(header.Compression))
        {
            throw new QapiException($"The library for compression type '{header.Compression.ToString().ToLowerInvariant()}' is not installed");
        }

        CheckEncryption(header, _options.Encrypt);
        await LoadTablesAsync(header);
        ApplyOptions();
        await OpenCryptoAsync();
        await OpenDataFileAsync(file);
        await ReadSnapshotsAsync();
        await MapSnapshotsAsync();
        await LoadBitmapsAsync();
        if (!Node.IsReadOnly)
        {
            await PrepareForWritesAsync();
        }

        await OpenBackingAsync();
    }

    /// <inheritdoc/>
    public override async IoTask CloseAsync()
    {
        _cleaner?.Dispose();
        _crypto?.Dispose();
        if (_metadata?.Refcounts is null)
        {
            return;
        }

        if (!Node.IsReadOnly && !_isFailed)
        {
            await _lock.EnterAsync();

            try
            {
                await StoreBitmapsAsync();
            }
            catch (QapiException exception)
            {
                // They stay marked as in use.
                Node.Graph.Warn($"Lost persistent bitmaps during inactivation of node '{Node.Name}': {exception.Desc}");
            }

            // A failure leaves clusters that are counted too often, and the mark of stale refcounts.
            await _metadata.CleanAsync();
            _lock.Exit();
        }

        _metadata.Dispose();
        while (_codecs.TryPop(out Qcow2CodecWork? codec))
        {
            codec.Dispose();
        }

        while (_copyBuffers.TryPop(out NativeBuffer? buffer))
        {
            buffer.Dispose();
        }
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits)
    {
        limits.RequestAlignment = _crypto is null ? 1 : LuksHeader.SectorBytes;
        limits.WriteZeroesAlignment = 1 << _mapping.SubclusterBits;
        limits.DiscardAlignment = Header.ClusterBytes;
        limits.MaxTransfer = 0;
    }

    private static void Check(int result, string what)
    {
        if (result < 0)
        {
            throw new QapiException($"{what}: {BlockResult.Text(result)}");
        }
    }

    private async IoTask LoadTablesAsync(Qcow2Header header)
    {
        Qcow2CacheSizes sizes = Qcow2CacheSizes.For(_options, header);
        Qcow2Table table = new(header.RefcountTableClusters * (header.ClusterBytes / 8));
        Qcow2Table l1 = new(header.L1Entries);
        await _file.DebugAsync(BlkdebugEvent.ReftableLoad);
        Check(await _file.ReadTableAsync(header.RefcountTableOffset, table), "Could not initialize refcount handling");
        Check(await _file.ReadTableAsync(header.L1Offset, l1), "Could not read L1 table");
        Qcow2Metadata metadata = new(_file, header) { OnCorruption = ReportFatal };
        (Qcow2Cache slices, Qcow2Cache blocks) = MakeCaches(metadata, sizes);
        _mapping = new Qcow2Mapping(header, l1, slices);
        metadata.Mapping = _mapping;
        metadata.Refcounts = new Qcow2Refcounts(metadata, header, table, blocks, _limbo)
        {
            NeverUsed = (_file.Length + header.ClusterBytes - 1) >> header.ClusterBits,
        };
        _limbo.OnReleased = metadata.Refcounts.SearchFrom;
        _metadata = metadata;
        metadata.Map.Protected = _options.OverlapCheck?.ToStructures() ?? Qcow2Structures.Cached;
        metadata.FindMetadataClusters();
    }

    private (Qcow2Cache Slices, Qcow2Cache Blocks) MakeCaches(Qcow2Metadata metadata, in Qcow2CacheSizes sizes)
    {
        Qcow2Cache slices = new(_file, sizes.L2Entries, sizes.L2EntryBytes, metadata.WriteAsync)
        {
            CheckPlace = (offset, bytes) => metadata.CheckOverlap(offset, bytes, Qcow2Structures.ActiveL2),
        };
        Qcow2Cache blocks = new(_file, sizes.RefcountEntries, metadata.Header.ClusterBytes, metadata.WriteRefcountsAsync)
        {
            CheckPlace = (offset, bytes) => metadata.CheckOverlap(offset, bytes, Qcow2Structures.RefcountBlock),
            OnLoad = BlkdebugEvent.RefblockLoad,
            OnWrite = BlkdebugEvent.RefblockUpdatePart,
        };
        return (slices, blocks);
    }

    private void ApplyOptions()
    {
        _metadata.PassesDiscard[(int)Qcow2FreeReason.Request] = _options.PassDiscardRequest ?? Node.Options.Discard == DiscardMode.Unmap;
        _metadata.PassesDiscard[(int)Qcow2FreeReason.Snapshot] = _options.PassDiscardSnapshot ?? true;
        _metadata.PassesDiscard[(int)Qcow2FreeReason.Other] = _options.PassDiscardOther ?? false;
        _isLazy = _options.LazyRefcounts ?? (Header.Compatible & Qcow2Compatible.LazyRefcounts) != 0;
        if (_isLazy && Header.Version < 3)
        {
            throw new QapiException("Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
        }

        long interval = _options.CacheCleanInterval ?? DefaultCleanSeconds;
        if (interval is < 0 or > uint.MaxValue)
        {
            throw new QapiException("Cache clean interval too big");
        }

        if (interval == 0)
        {
            _cleaner?.Dispose();
            _cleaner = null;
        }
        else
        {
            _cleanNs = interval * 1_000_000_000;
            StartCleaner();
        }
    }

    // Memory of tables that nobody has used for a while is given back.
    private void StartCleaner()
    {
        _cleaner?.Dispose();
        _cleaner = Node.Loop.CreateTimer(ClockType.Virtual, OnCleanTimer);
        _cleaner.ArmAfter(_cleanNs);
    }

    private void OnCleanTimer()
    {
        if (!_lock.IsHeld)
        {
            _mapping.Slices.Clean();
            _metadata.Refcounts.Blocks.Clean();
        }

        _cleaner!.ArmAfter(_cleanNs);
    }

    /// <inheritdoc/>
    public override void OnLoopChanged()
    {
        if (_cleaner is not null)
        {
            StartCleaner();
        }
    }

    /// <summary>What another program has left behind is put right before the first write.</summary>
    private async IoTask PrepareForWritesAsync()
    {
        Qcow2Autoclear kept = Header.Autoclear & (Qcow2Autoclear.DataFileRaw | Qcow2Autoclear.Bitmaps);
        if (Header.Autoclear != kept)
        {
            // What is not known is not kept up to date: the bits that vouch for it go.
            Check(await _metadata.WriteHeaderAsync(Header with { Autoclear = kept }), "Could not update qcow2 header");
        }

        if (_metadata.IsMarkedDirty)
        {
            await RepairDirtyAsync();
        }

        await MarkBitmapsInUseAsync();
    }

    private void ReportFatal(string message, long offset, long bytes) => Corrupt(isFatal: true, offset, bytes, message);

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
        if (!Header.HasDataFile)
        {
            if (_options.DataFile is not null)
            {
                throw new QapiException("'data-file' can only be set for images with an external data file");
            }

            return;
        }

        if (_options.DataFile is null)
        {
            string name = Header.DataFile ?? throw new QapiException("'data-file' is required for this image");
            BlockNode data = await Node.Graph.OpenFileNodeAsync(name, Node.Options.ForChild(ChildRole.Data, isFormat: true));
            await Node.Graph.AttachOpenedAsync(Node, data, "data-file", ChildRole.Data);
        }

        _dataEdge = Node.FindChild("data-file")!;

        // The image itself has metadata only.
        file.Role = ChildRole.Metadata | ChildRole.Primary;
    }

    private async IoTask OpenBackingAsync()
    {
        if (_options.Backing is null)
        {
            _autoBacking = await Node.Graph.OpenBackingAsync(Node, Header.BackingFile, Header.BackingFormat);
        }
    }
}
