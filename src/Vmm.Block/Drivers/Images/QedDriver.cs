using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>The header of a QED image (specification: docs/interop/qed_spec of QEMU). Pure; fails with <see cref="QapiException"/> alone.</summary>
internal sealed record QedHeader
{
    internal const int Bytes = 64;

    private const ulong BackingFile = 1;
    private const ulong NeedCheck = 2;
    private const ulong BackingIsRaw = 4;

    internal int ClusterBytes { get; private init; }

    /// <summary>Clusters of a table.</summary>
    internal int TableClusters { get; private init; }

    /// <summary>Clusters of the header.</summary>
    internal uint HeaderClusters { get; private init; }

    internal ulong Features { get; private init; }

    internal ulong L1Offset { get; private init; }

    internal long Size { get; private init; }

    internal uint BackingOffset { get; private init; }

    internal uint BackingBytes { get; private init; }

    internal bool HasBacking => (Features & BackingFile) != 0;

    internal bool IsBackingRaw => (Features & BackingIsRaw) != 0;

    internal bool IsDirty => (Features & NeedCheck) != 0;

    /// <summary>Entries of a table.</summary>
    internal long TableEntries => (long)ClusterBytes * TableClusters / 8;

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) => head.Length >= Bytes && head.StartsWith("QED\0"u8) ? 100 : 0;

    /// <summary>Reads a header.</summary>
    /// <param name="bytes">The first bytes.</param>
    /// <param name="fileBytes">Bytes of the file.</param>
    /// <exception cref="QapiException">It is not one that can be used.</exception>
    internal static QedHeader Parse(ReadOnlySpan<byte> bytes, long fileBytes)
    {
        HeaderReader reader = new(bytes);
        Check(reader.Has(0, "QED\0"u8), "Image not in QED format");
        ulong features = reader.Le64(16);
        const ulong Known = BackingFile | NeedCheck | BackingIsRaw;
        Check((features & ~Known) == 0, $"Unsupported QED features: {features & ~Known:x}");
        uint cluster = reader.Le32(4);
        Check(uint.IsPow2(cluster) && cluster is >= 4096 and <= 64 << 20, "QED cluster size is invalid");
        uint table = reader.Le32(8);
        Check(uint.IsPow2(table) && table is >= 1 and <= 16, "QED table size is invalid");
        QedHeader header = new()
        {
            ClusterBytes = (int)cluster,
            TableClusters = (int)table,
            HeaderClusters = reader.Le32(12),
            Features = features,
            L1Offset = reader.Le64(40),
            BackingOffset = reader.Le32(56),
            BackingBytes = reader.Le32(60),
        };
        ulong size = reader.Le64(48);
        UInt128 max = (UInt128)header.TableEntries * (ulong)header.TableEntries * cluster;
        Check(size % 512 == 0 && size <= max && size <= long.MaxValue - (1L << 30), "QED image size is invalid");
        Check(header.IsTable(header.L1Offset, fileBytes), "QED table offset is invalid");
        Check(header.HeaderClusters <= uint.MaxValue / cluster, "QED header size is too large");
        Check(
            !header.HasBacking || (ulong)header.BackingOffset + header.BackingBytes <= (ulong)cluster * header.HeaderClusters,
            "QED backing filename offset is invalid");
        return header with { Size = (long)size };
    }

    /// <summary>True when a table can be there.</summary>
    internal bool IsTable(ulong offset, long fileBytes)
    {
        ulong last = offset + ((ulong)(TableClusters - 1) * (uint)ClusterBytes);
        return last >= offset && IsCluster(offset, fileBytes) && IsCluster(last, fileBytes);
    }

    /// <summary>True when a cluster can be there.</summary>
    internal bool IsCluster(ulong offset, long fileBytes)
    {
        ulong end = (ulong)fileBytes & ~((ulong)ClusterBytes - 1);
        return (offset & ((ulong)ClusterBytes - 1)) == 0 && offset >= (ulong)HeaderClusters * (uint)ClusterBytes && offset < end;
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }
}

/// <summary>QED images, with backing files.</summary>
public sealed class QedDriver(BlockdevOptionsGenericCowFormat options) : MappedImageDriver
{
    private const int MaxNameBytes = 1023;

    private QedHeader? _header;
    private PagedTable? _tables;
    private string? _backingName;

    private protected override string? BackingName => _backingName;

    /// <inheritdoc/>
    public override string FormatName => "qed";

    /// <inheritdoc/>
    public override bool SupportsBacking => true;

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _tables?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override int ClusterBytes => _header!.ClusterBytes;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        image.IsDirty = _header!.IsDirty;
        image.BackingFile = _backingName;
        image.BackingFormat = _header.HasBacking && _header.IsBackingRaw ? "raw" : null;
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] bytes = new byte[QedHeader.Bytes];
        Check(await ReadBytesAsync(ImageFile, 0, bytes), "Failed to read QED header");
        _header = QedHeader.Parse(bytes, ImageFile.Length);
        Size = _header.Size;
        _tables = new PagedTable(ImageFile, 0, 8, isBigEndian: false);
        if (_header.HasBacking)
        {
            byte[] name = new byte[Math.Min(_header.BackingBytes, MaxNameBytes)];
            if (_header.BackingBytes > MaxNameBytes)
            {
                throw new QapiException("Failed to read backing filename");
            }

            Check(await ReadBytesAsync(ImageFile, _header.BackingOffset, name), "Failed to read backing filename");
            _backingName = new HeaderReader(name).Text(0, name.Length);
            if (options.Backing is null)
            {
                AutoBacking = await Node.Graph.OpenBackingAsync(Node, _backingName, _header.IsBackingRaw ? "raw" : null);
            }
        }
    }

    private protected override async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        QedHeader header = _header!;
        long within = offset % header.ClusterBytes;
        long cluster = offset / header.ClusterBytes;
        bytes = Math.Min(bytes, header.ClusterBytes - within);
        var (result, table) = await _tables!.GetAsync((long)(header.L1Offset / 8) + (cluster / header.TableEntries));
        if (result < 0 || table == 0)
        {
            return (result, new ImageExtent(ImageKind.Hole, bytes));
        }

        if (!header.IsTable(table, ImageFile.Length))
        {
            return (BlockResult.Invalid, default);
        }

        (result, ulong place) = await _tables.GetAsync((long)(table / 8) + (cluster % header.TableEntries));
        if (result < 0 || place <= 1)
        {
            return (result, new ImageExtent(place == 0 ? ImageKind.Hole : ImageKind.Zero, bytes));
        }

        return header.IsCluster(place, ImageFile.Length)
            ? (0, new ImageExtent(ImageKind.Data, bytes, ImageFile, (long)place + within))
            : (BlockResult.Invalid, default);
    }
}
