using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>The footer of a VHD image (specification: Virtual Hard Disk Image Format, 1.0). Pure; fails with <see cref="QapiException"/> alone.</summary>
/// <param name="Size">Bytes of the disk.</param>
/// <param name="TableHeaderOffset">Where the header of a dynamic image is.</param>
internal sealed record VpcFooter(long Size, long TableHeaderOffset)
{
    internal const int Bytes = 512;
    internal const uint Fixed = 2;

    private const long MaxGeometrySectors = 65535L * 16 * 255;

    /// <summary>True when the bytes look like a footer.</summary>
    internal static bool IsFooter(ReadOnlySpan<byte> bytes) => bytes.StartsWith("conectix"u8);

    /// <summary>The kind of disk that a footer names.</summary>
    internal static uint Kind(ReadOnlySpan<byte> bytes) => new HeaderReader(bytes).Be32(60);

    /// <summary>Reads a footer.</summary>
    /// <exception cref="QapiException">Its sum is wrong.</exception>
    internal static VpcFooter Parse(ReadOnlySpan<byte> bytes)
    {
        HeaderReader reader = new(bytes);
        uint sum = 0;
        for (int i = 0; i < Bytes; i++)
        {
            sum += i is >= 64 and < 68 ? 0u : reader.U8(i);
        }

        if (~sum != reader.Be32(64))
        {
            throw new QapiException("Incorrect header checksum");
        }

        // Programs that write their disk's geometry as the truth are the exception of an exception.
        long sectors = (long)reader.Be16(56) * reader.U8(58) * reader.U8(59);
        ReadOnlySpan<byte> creator = bytes[28..32];
        bool trustsSize = creator.SequenceEqual("win "u8) || creator.SequenceEqual("qem2"u8) || creator.SequenceEqual("d2v "u8)
            || creator.SequenceEqual("tap\0"u8) || creator.SequenceEqual("CTXS"u8);
        if (trustsSize || sectors == MaxGeometrySectors)
        {
            sectors = (long)(reader.Be64(48) / 512);
        }

        return new VpcFooter(sectors * 512, (long)(reader.Be64(16) & long.MaxValue));
    }
}

/// <summary>The header of a dynamic VHD image. Pure; fails with <see cref="QapiException"/> alone.</summary>
/// <param name="TableOffset">Where the table of blocks is.</param>
/// <param name="Entries">Its entries.</param>
/// <param name="BlockBytes">Bytes of a block.</param>
/// <param name="BitmapBytes">Bytes before the data of a block.</param>
internal sealed record VpcTable(long TableOffset, uint Entries, uint BlockBytes, int BitmapBytes)
{
    internal const int HeaderBytes = 1024;

    /// <summary>Reads a header.</summary>
    /// <param name="bytes">The header.</param>
    /// <param name="size">Bytes of the disk.</param>
    /// <exception cref="QapiException">It is not one that can be used.</exception>
    internal static VpcTable Parse(ReadOnlySpan<byte> bytes, long size)
    {
        HeaderReader reader = new(bytes);
        Check(reader.Has(0, "cxsparse"u8), "Invalid header magic");
        uint block = reader.Be32(32);
        Check(uint.IsPow2(block) && block >= 512, $"Invalid block size {block}");
        uint entries = reader.Be32(28);
        Check((ulong)size / block <= uint.MaxValue, "Too many blocks");
        Check((ulong)block * entries >= (ulong)size, "Page table too small");
        Check(entries <= int.MaxValue / 4, $"Max Table Entries too large ({entries})");
        int bitmap = (int)(((block / (8 * 512)) + 511) & ~511u);
        return new VpcTable((long)(reader.Be64(16) & long.MaxValue), entries, block, bitmap);
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }
}

/// <summary>VHD images of Virtual PC, fixed and dynamic.</summary>
public sealed class VpcDriver : MappedImageDriver
{
    private const uint Unused = 0xffffffff;

    private VpcTable? _table;
    private PagedTable? _blocks;

    /// <inheritdoc/>
    public override string FormatName => "vpc";

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _blocks?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override int ClusterBytes => (int)(_table?.BlockBytes ?? 0);

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        image.IsDirty = false;
    }

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100; a fixed image cannot be told from a raw one.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) => VpcFooter.IsFooter(head) ? 100 : 0;

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] bytes = new byte[VpcFooter.Bytes];
        Check(await ReadBytesAsync(ImageFile, 0, bytes), "Unable to read VHD header");
        bool isFixed = !VpcFooter.IsFooter(bytes);
        if (isFixed)
        {
            if (ImageFile.Length < VpcFooter.Bytes)
            {
                throw new QapiException("File too small for a VHD header");
            }

            Check(await ReadBytesAsync(ImageFile, ImageFile.Length - VpcFooter.Bytes, bytes), "Unable to read VHD header");
            if (!VpcFooter.IsFooter(bytes) || VpcFooter.Kind(bytes) != VpcFooter.Fixed)
            {
                throw new QapiException("invalid VPC image");
            }
        }

        VpcFooter footer = VpcFooter.Parse(bytes);
        Size = footer.Size;
        if (!isFixed)
        {
            byte[] header = new byte[VpcTable.HeaderBytes];
            Check(await ReadBytesAsync(ImageFile, footer.TableHeaderOffset, header), "Error reading dynamic VHD header");
            _table = VpcTable.Parse(header, Size);
            _blocks = new PagedTable(ImageFile, _table.TableOffset, 4, isBigEndian: true);
            await CheckEndAsync();
        }
    }

    private protected override async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        if (_table is null)
        {
            return (0, new ImageExtent(ImageKind.Data, bytes, ImageFile, offset));
        }

        var (result, place) = await _blocks!.GetAsync(offset / _table.BlockBytes);
        long within = offset % _table.BlockBytes;
        bytes = Math.Min(bytes, _table.BlockBytes - within);
        return (result, place == Unused
            ? new ImageExtent(ImageKind.Hole, bytes)
            : new ImageExtent(ImageKind.Data, bytes, ImageFile, ((long)place * 512) + _table.BitmapBytes + within));
    }

    // Of a table that is longer than its file only the part that is there says something.
    private async IoTask CheckEndAsync()
    {
        long entries = Math.Min(_table!.Entries, Math.Max(ImageFile.Length - _table.TableOffset, 0) / 4);
        long end = _table.TableOffset + ((4L * _table.Entries + 511) & ~511L);
        for (long i = 0; i < entries; i++)
        {
            var (result, place) = await _blocks!.GetAsync(i);
            Check(result, "Error reading pagetable");
            if (place != Unused)
            {
                end = Math.Max(end, ((long)place * 512) + _table.BitmapBytes + _table.BlockBytes);
            }
        }

        if (end > ImageFile.Length)
        {
            throw new QapiException("block-vpc: free_data_block_offset points after the end of file. The image has been truncated.");
        }
    }
}
