using System.Buffers.Binary;
using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>What a new image is to be.</summary>
public sealed record Qcow2CreateOptions
{
    /// <summary>Bytes of the disk.</summary>
    public required long Size { get; init; }

    /// <summary>Version of the format, 2 or 3.</summary>
    public int Version { get; init; } = 3;

    /// <summary>Bytes of a cluster; 0 for the default of 64 KiB.</summary>
    public long ClusterBytes { get; init; } = 65536;

    /// <summary>Width of refcounts.</summary>
    public long RefcountBits { get; init; } = 16;

    /// <summary>Refcounts may be stale while the image is open.</summary>
    public bool LazyRefcounts { get; init; }

    /// <summary>Clusters have 32 subclusters.</summary>
    public bool ExtendedL2 { get; init; }

    /// <summary>How clusters are compressed: "zlib" or "zstd".</summary>
    public string CompressionType { get; init; } = "zlib";

    /// <summary>Name of the backing file.</summary>
    public string? BackingFile { get; init; }

    /// <summary>Its format.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>Name of the external data file, as the image will say it.</summary>
    public string? DataFileName { get; init; }

    /// <summary>The data file is a raw image by itself.</summary>
    public bool DataFileRaw { get; init; }

    /// <summary>LUKS header with key slots, for an image that is encrypted; null for others.</summary>
    public byte[]? CryptoHeader { get; init; }

    /// <summary>Space that is made at once.</summary>
    public PreallocMode Preallocation { get; init; }
}

/// <summary>Makes images. Main loop.</summary>
public static class Qcow2Creator
{
    /// <summary>Turns a file into an empty image.</summary>
    /// <param name="graph">The graph of the nodes.</param>
    /// <param name="file">The file, writable; what it has is lost.</param>
    /// <param name="options">What the image is to be.</param>
    /// <param name="dataFile">The external data file; null for none.</param>
    /// <exception cref="QapiException">The options contradict each other, or the file cannot be written.</exception>
    public static async IoTask CreateAsync(BlockGraph graph, BlockNode file, Qcow2CreateOptions options, BlockNode? dataFile = null)
    {
        Validate(options, dataFile is not null);
        await WriteEmptyAsync(graph, file, EmptyHeader(options, dataFile is not null));
        BlockdevOptions open = new()
        {
            Driver = BlockdevDriver.Qcow2,
            Discard = DiscardMode.Ignore,
            Qcow2 = new BlockdevOptionsQcow2
            {
                File = new BlockdevRef { Reference = file.Name },
                DataFile = dataFile is null ? null : new BlockdevRef { Reference = dataFile.Name },
                Backing = new BlockdevRefOrNull { Null = QNull.Instance },
                LazyRefcounts = false,
            },
        };
        BlockNode node = await graph.OpenAsync(open);
        BlockBackend user = new(graph, "");
        try
        {
            user.SetPermissions(BlockPermissions.Write | BlockPermissions.Resize, BlockPermissions.All);
            user.Insert(node);
            if (options.CryptoHeader is { } header)
            {
                await ((Qcow2Driver)node.Driver).InstallCryptoAsync(header);
            }

            await ResizeAsync(node, options);
        }
        finally
        {
            user.Remove();
            await graph.CloseIfUnusedAsync(node);
        }
    }

    private static async IoTask ResizeAsync(BlockNode node, Qcow2CreateOptions options)
    {
        try
        {
            await node.TruncateAsync(options.Size, prealloc: options.Preallocation);
        }
        catch (QapiException e)
        {
            throw new QapiException(e.ErrorClass, "Could not resize image: " + e.Desc, e.Hint);
        }
    }

    private static async IoTask WriteEmptyAsync(BlockGraph graph, BlockNode file, Qcow2Header header)
    {
        BlockBackend user = new(graph, "");
        user.SetPermissions(BlockPermissions.Write | BlockPermissions.Resize, BlockPermissions.All);
        user.Insert(file);
        try
        {
            byte[] image = EmptyImage(header);
            await file.TruncateAsync(0);
            Qcow2File target = new(user.RootEdge!);
            int result = await target.WriteBytesAsync(0, image);
            if (result < 0)
            {
                throw new QapiException("Could not write qcow2 header: " + BlockResult.Text(result));
            }
        }
        finally
        {
            user.Remove();
        }
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }

    /// <summary>Refuses options that contradict each other.</summary>
    internal static void Validate(Qcow2CreateOptions o, bool hasDataFile)
    {
        const string V3 = "compatibility level 1.1 and above (use version=v3 or greater)";
        Check((o.Size & 511) == 0, "Image size must be a multiple of 512 bytes");
        Check(
            long.IsPow2(o.ClusterBytes) && o.ClusterBytes is >= 512 and <= 2 << 20,
            $"Cluster size must be a power of two between {1 << Qcow2Format.MinClusterBits} and {1 << (Qcow2Format.MaxClusterBits - 10)}k");
        bool isV3 = o.Version >= 3;
        Check(!o.ExtendedL2 || isV3, $"Extended L2 entries are only supported with {V3}");
        Check(!o.ExtendedL2 || o.ClusterBytes >= 16384, "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
        Check(
            o.Preallocation == PreallocMode.Off || o.BackingFile is null || o.ExtendedL2,
            "Backing file and preallocation can only be used at the same time if extended_l2 is on");
        Check(o.BackingFormat is null || o.BackingFile is not null, "Backing format cannot be used without backing file");
        Check(!o.LazyRefcounts || isV3, $"Lazy refcounts only supported with {V3}");
        Check(long.IsPow2(o.RefcountBits) && o.RefcountBits is >= 1 and <= 64, "Refcount width must be a power of two and may not exceed 64 bits");
        Check(o.RefcountBits == 16 || isV3, "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)");
        Check(!o.DataFileRaw || hasDataFile, "data-file-raw requires data-file");
        Check(!o.DataFileRaw || o.BackingFile is null, "Backing file and data-file-raw cannot be used at the same time");
        Check(!hasDataFile || isV3, $"External data files are only supported with {V3}");
        Check(o.CompressionType is "zlib" or "zstd", $"Parameter 'compression-type' does not accept value '{o.CompressionType}'");
        Check(o.CompressionType == "zlib" || isV3, $"Non-zlib compression type is only supported with {V3}");
        Check(
            (o.BackingFile?.Length ?? 0) <= 1023,
            $"Could not assign backing file '{o.BackingFile}' with format '{o.BackingFormat ?? "(null)"}': Invalid argument");
    }

    private static Qcow2Header EmptyHeader(Qcow2CreateOptions o, bool hasDataFile)
    {
        bool isZstd = o.CompressionType == "zstd";
        int clusterBits = int.Log2((int)o.ClusterBytes);
        return new Qcow2Header
        {
            Version = o.Version,
            ClusterBits = clusterBits,
            RefcountOrder = int.Log2((int)o.RefcountBits),
            RefcountTableOffset = 1L << clusterBits,
            RefcountTableClusters = 1,
            L1Offset = 0,
            Incompatible = (hasDataFile ? Qcow2Incompatible.DataFile : 0) | (isZstd ? Qcow2Incompatible.Compression : 0)
                | (o.ExtendedL2 ? Qcow2Incompatible.ExtendedL2 : 0),
            Compatible = o.LazyRefcounts ? Qcow2Compatible.LazyRefcounts : 0,
            Autoclear = o.DataFileRaw ? Qcow2Autoclear.DataFileRaw : 0,
            Compression = isZstd ? Qcow2Compression.Zstd : Qcow2Compression.Zlib,
            BackingFile = o.BackingFile,
            BackingFormat = o.BackingFormat,
            DataFile = o.DataFileName,
        };
    }

    // Header, refcount table, refcount block.
    private static byte[] EmptyImage(Qcow2Header header)
    {
        byte[] first = header.TryWrite() ?? throw new QapiException("Could not write qcow2 header: " + BlockResult.Text(-(int)Errno.ENOSPC));
        byte[] image = new byte[3 * header.ClusterBytes];
        first.CopyTo(image, 0);
        BinaryPrimitives.WriteInt64BigEndian(image.AsSpan(header.ClusterBytes), 2L * header.ClusterBytes);
        for (int i = 0; i < 3; i++)
        {
            Qcow2Refcounts.Set(image.AsSpan(2 * header.ClusterBytes), i, header.RefcountOrder, 1);
        }

        return image;
    }
}
