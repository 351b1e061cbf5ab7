using System.Buffers.Binary;
using System.Numerics;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>Structures of VHDX images (specification: MS-VHDX). Pure functions that fail with <see cref="QapiException"/> alone.</summary>
internal static class VhdxFormat
{
    internal const int HeaderBytes = 4096;
    internal const int RegionTableBytes = 64 << 10;
    internal const int MetadataTableBytes = 64 << 10;
    internal const int LogSectorBytes = 4096;
    internal const long Header1 = 64 << 10;
    internal const long Header2 = 128 << 10;
    internal const long Regions1 = 192 << 10;

    internal static readonly Guid BatRegion = new("2dc27766-f623-4200-9d64-115e9bfd4a08");
    internal static readonly Guid MetadataRegion = new("8b7ca206-4790-4b9a-b8fe-575f050f886e");
    internal static readonly Guid FileParameters = new("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
    internal static readonly Guid DiskSize = new("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
    internal static readonly Guid LogicalSector = new("8141bf1d-a96f-4709-ba47-f233a8faab5f");
    internal static readonly Guid PhysicalSector = new("cda348c7-445d-4471-9cc9-e9885251c556");

    private const int MaxEntries = 2047;

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) => head.StartsWith("vhdxfile"u8) ? 100 : 0;

    /// <summary>A sum is right: CRC-32C over the bytes with the sum itself, at 4, as zero.</summary>
    internal static bool HasSum(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        for (int i = 0; i < bytes.Length; i++)
        {
            crc = BitOperations.Crc32C(crc, i is >= 4 and < 8 ? (byte)0 : bytes[i]);
        }

        return bytes.Length >= 8 && ~crc == BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
    }

    /// <summary>True for a header that can be used.</summary>
    internal static bool IsHeader(ReadOnlySpan<byte> bytes) => bytes.StartsWith("head"u8) && HasSum(bytes) && new HeaderReader(bytes).Le16(66) == 1;

    /// <summary>Where a region is, by a region table.</summary>
    /// <exception cref="QapiException">The table is not one.</exception>
    internal static (long Offset, uint Bytes)? FindRegion(ReadOnlySpan<byte> table, Guid region)
    {
        HeaderReader reader = new(table);
        uint count = reader.Le32(8);
        if (!reader.Has(0, "regi"u8) || !HasSum(table) || count > MaxEntries)
        {
            throw new QapiException("Region table is not valid");
        }

        (long, uint)? found = null;
        for (int i = 0; i < count; i++)
        {
            int at = 16 + (32 * i);
            Guid id = new(table.Slice(at, 16));
            if (id == region)
            {
                long offset = (long)reader.Le64(at + 16);
                uint bytes = reader.Le32(at + 24);
                if (found is not null || offset < 1 << 20 || offset % (1 << 20) != 0 || offset > long.MaxValue - uint.MaxValue)
                {
                    throw new QapiException("Region table is not valid");
                }

                found = (offset, bytes);
            }
            else if (id != BatRegion && id != MetadataRegion && (reader.Le32(at + 28) & 1) != 0)
            {
                throw new QapiException("Region table has a required region that is not known");
            }
        }

        return found;
    }

    /// <summary>Where an item is in the metadata region, by its table; 0 for nowhere.</summary>
    /// <exception cref="QapiException">The table is not one.</exception>
    internal static uint FindItem(ReadOnlySpan<byte> table, Guid item)
    {
        HeaderReader reader = new(table);
        int count = reader.Le16(10);
        if (!reader.Has(0, "metadata"u8) || count > MaxEntries)
        {
            throw new QapiException("Metadata table is not valid");
        }

        for (int i = 0; i < count; i++)
        {
            int at = 32 + (32 * i);
            if (at + 32 <= table.Length && new Guid(table.Slice(at, 16)) == item)
            {
                return reader.Le32(at + 16);
            }
        }

        return 0;
    }
}

/// <summary>The layout of a VHDX disk. Made by a pure function that fails with <see cref="QapiException"/> alone.</summary>
/// <param name="Size">Bytes of the disk.</param>
/// <param name="BlockBytes">Bytes of a block.</param>
/// <param name="ChunkRatio">Blocks for which there is one sector bitmap.</param>
internal sealed record VhdxLayout(long Size, uint BlockBytes, long ChunkRatio)
{
    private const uint MinBlock = 1 << 20;
    private const uint MaxBlock = 256 << 20;
    private const ulong MaxSize = 64UL << 40;

    /// <summary>Entries that the table of blocks must have.</summary>
    internal long Entries => IndexOf(Math.Max((Size + BlockBytes - 1) / BlockBytes, 1) - 1) + 1;

    /// <summary>Puts the items of the metadata together.</summary>
    /// <exception cref="QapiException">They contradict each other.</exception>
    internal static VhdxLayout Create(uint blockBytes, uint flags, ulong size, uint sectorBytes)
    {
        Check(uint.IsPow2(blockBytes) && blockBytes is >= MinBlock and <= MaxBlock, "Invalid block size");
        Check((flags & 2) == 0, "Differencing images are not supported");
        Check(sectorBytes == 512, "Unsupported logical sector size");
        Check(size % 512 == 0 && size <= MaxSize, "Invalid disk size");
        return new VhdxLayout((long)size, blockBytes, (1L << 23) * sectorBytes / blockBytes);
    }

    /// <summary>The entry of a block; each chunk of blocks has one more for its bitmap.</summary>
    internal long IndexOf(long block) => block + (block / ChunkRatio);

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }
}

/// <summary>VHDX images of Hyper-V, fixed and dynamic.</summary>
public sealed class VhdxDriver : MappedImageDriver
{
    private const long MaxLogPasses = 16;

    private const int FullyPresent = 6;
    private const int PartiallyPresent = 7;

    private VhdxLayout? _layout;
    private PagedTable? _table;

    /// <inheritdoc/>
    public override string FormatName => "vhdx";

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _table?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override int ClusterBytes => (int)_layout!.BlockBytes;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        image.IsDirty = false;
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] start = await ReadAsync(0, 8, "Could not read image header");
        if (VhdxFormat.Probe(start) == 0)
        {
            throw new QapiException("VHDX signature mismatch");
        }

        byte[] header = await ReadHeaderAsync();
        await CheckLogAsync(header);
        byte[] regions = await ReadAsync(VhdxFormat.Regions1, VhdxFormat.RegionTableBytes, "Could not read region table");
        var metadata = VhdxFormat.FindRegion(regions, VhdxFormat.MetadataRegion);
        var table = VhdxFormat.FindRegion(regions, VhdxFormat.BatRegion);
        if (metadata is null || table is null)
        {
            throw new QapiException("Region table is not valid");
        }

        _layout = await ReadLayoutAsync(metadata.Value.Offset);
        if (_layout.Entries * 8 > table.Value.Bytes)
        {
            throw new QapiException("Block allocation table is too small");
        }

        Size = _layout.Size;
        _table = new PagedTable(ImageFile, table.Value.Offset, 8, isBigEndian: false);
    }

    private protected override async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        long within = offset % _layout!.BlockBytes;
        bytes = Math.Min(bytes, _layout.BlockBytes - within);
        var (result, entry) = await _table!.GetAsync(_layout.IndexOf(offset / _layout.BlockBytes));
        if (result < 0)
        {
            return (result, default);
        }

        const ulong PlaceMask = ~0xfffffUL;
        return (int)(entry & 7) switch
        {
            FullyPresent => (entry & PlaceMask) <= long.MaxValue - uint.MaxValue
                ? (0, new ImageExtent(ImageKind.Data, bytes, ImageFile, (long)(entry & PlaceMask) + within))
                : (BlockResult.Io, default),
            PartiallyPresent => (BlockResult.Io, default),
            _ => (0, new ImageExtent(ImageKind.Zero, bytes)),
        };
    }

    private async IoTask<byte[]> ReadAsync(long offset, int length, string what)
    {
        byte[] bytes = new byte[length];
        Check(await ReadBytesAsync(ImageFile, offset, bytes), what);
        return bytes;
    }

    private async IoTask<byte[]> ReadHeaderAsync()
    {
        byte[] first = await ReadAsync(VhdxFormat.Header1, VhdxFormat.HeaderBytes, "Could not read image header");
        byte[] second = await ReadAsync(VhdxFormat.Header2, VhdxFormat.HeaderBytes, "Could not read image header");
        (bool hasFirst, bool hasSecond) = (VhdxFormat.IsHeader(first), VhdxFormat.IsHeader(second));
        if (!hasFirst && !hasSecond)
        {
            throw new QapiException("No valid VHDX header found");
        }

        bool isFirst = hasFirst && (!hasSecond || new HeaderReader(first).Le64(8) >= new HeaderReader(second).Le64(8));
        return isFirst ? first : second;
    }

    private async IoTask<VhdxLayout> ReadLayoutAsync(long metadata)
    {
        byte[] table = await ReadAsync(metadata, VhdxFormat.MetadataTableBytes, "Could not read metadata table");
        byte[] parameters = await ReadItemAsync(metadata, table, VhdxFormat.FileParameters, 8);
        byte[] size = await ReadItemAsync(metadata, table, VhdxFormat.DiskSize, 8);
        byte[] sector = await ReadItemAsync(metadata, table, VhdxFormat.LogicalSector, 4);
        await ReadItemAsync(metadata, table, VhdxFormat.PhysicalSector, 4);
        return VhdxLayout.Create(
            new HeaderReader(parameters).Le32(0), new HeaderReader(parameters).Le32(4), new HeaderReader(size).Le64(0), new HeaderReader(sector).Le32(0));
    }

    private async IoTask<byte[]> ReadItemAsync(long metadata, byte[] table, Guid item, int length)
    {
        uint offset = VhdxFormat.FindItem(table, item);
        return offset < VhdxFormat.MetadataTableBytes
            ? throw new QapiException("A required metadata item is missing")
            : await ReadAsync(metadata + offset, length, "Could not read metadata item");
    }

    // A header that names a log has entries in it that are newer than the tables. They are written by who opens the image for writing.
    private async IoTask CheckLogAsync(byte[] header)
    {
        Guid log = new(header.AsSpan(48, 16));
        if (log == Guid.Empty)
        {
            return;
        }

        uint bytes = new HeaderReader(header).Le32(68);
        long offset = (long)(new HeaderReader(header).Le64(72) & long.MaxValue);
        if (new HeaderReader(header).Le16(64) != 0 || offset < 1 << 20 || offset % (1 << 20) != 0 || bytes % (1 << 20) != 0)
        {
            throw new QapiException("The log of the image is not valid");
        }

        // Entries that overlap are no log; following each to its end could take as good as forever.
        long budget = MaxLogPasses * bytes;
        for (long at = 0; at < Math.Min(bytes, ImageFile.Length - offset); at += VhdxFormat.LogSectorBytes)
        {
            byte[] sector = await ReadAsync(offset + at, 64, "Could not read the log");
            HeaderReader entry = new(sector);
            uint length = entry.Le32(8);
            if (!entry.Has(0, "loge"u8) || new Guid(sector.AsSpan(32, 16)) != log || length % VhdxFormat.LogSectorBytes != 0
                || length == 0 || length > bytes)
            {
                continue;
            }

            budget -= length;
            if (budget < 0)
            {
                throw new QapiException("The log of the image is not valid");
            }

            if (await IsEntryValidAsync(offset, bytes, at, length))
            {
                string name = ExactFilename ?? "";
                throw new QapiException(
                    QapiErrorClass.GenericError,
                    $"VHDX image file '{name}' opened read-only, but contains a log that needs to be replayed",
                    $"To replay the log, run:\nqemu-img check -r all '{name}'");
            }
        }
    }

    private async IoTask<bool> IsEntryValidAsync(long log, uint logBytes, long at, uint length)
    {
        byte[] sector = new byte[VhdxFormat.LogSectorBytes];
        uint crc = uint.MaxValue;
        uint expected = 0;
        for (uint done = 0; done < length; done += VhdxFormat.LogSectorBytes)
        {
            Check(await ReadBytesAsync(ImageFile, log + ((at + done) % logBytes), sector), "Could not read the log");
            if (done == 0)
            {
                expected = new HeaderReader(sector).Le32(4);
                sector.AsSpan(4, 4).Clear();
            }

            foreach (byte b in sector)
            {
                crc = BitOperations.Crc32C(crc, b);
            }
        }

        return ~crc == expected;
    }
}
