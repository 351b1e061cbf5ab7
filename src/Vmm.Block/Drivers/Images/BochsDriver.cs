using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>The header of a growing image of Bochs. Pure; fails with <see cref="QapiException"/> alone.</summary>
/// <param name="Size">Bytes of the disk.</param>
/// <param name="CatalogOffset">Where the catalog is.</param>
/// <param name="Entries">Its entries.</param>
/// <param name="BitmapSectors">Sectors of the bitmap before each extent.</param>
/// <param name="ExtentBytes">Bytes of an extent.</param>
internal sealed record BochsHeader(long Size, uint CatalogOffset, uint Entries, long BitmapSectors, uint ExtentBytes)
{
    internal const int Bytes = 512;

    private const uint Version1 = 0x00010000;
    private const uint Version2 = 0x00020000;
    private const uint MaxEntries = 0x100000;
    private const uint MaxExtentBytes = 0x800000;

    /// <summary>Where the extents begin.</summary>
    internal long DataOffset => CatalogOffset + (4L * Entries);

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) => head.Length >= Bytes && IsImage(new HeaderReader(head)) ? 100 : 0;

    /// <summary>Reads a header.</summary>
    /// <exception cref="QapiException">It is not one that can be used.</exception>
    internal static BochsHeader Parse(ReadOnlySpan<byte> bytes)
    {
        HeaderReader reader = new(bytes);
        Check(IsImage(reader), "Image not in Bochs format");
        ulong sectors = reader.Le64(reader.Le32(64) == Version1 ? 84 : 88) / 512;
        uint entries = reader.Le32(72);
        Check(entries <= MaxEntries, "Catalog size is too large");
        uint extent = reader.Le32(80);
        Check(extent >= 512, "Extent size must be at least 512");
        Check(uint.IsPow2(extent), $"Extent size {extent} is not a power of two");
        Check(extent <= MaxExtentBytes, $"Extent size {extent} is too large");
        Check(entries >= (sectors + (extent / 512) - 1) / (extent / 512), "Catalog size is too small for this disk size");
        return new BochsHeader((long)sectors * 512, reader.Le32(68), entries, 1 + (((long)reader.Le32(76) - 1) / 512), extent);
    }

    private static bool IsImage(in HeaderReader reader) =>
        reader.Text(0, 32) == "Bochs Virtual HD Image" && reader.Text(32, 16) == "Redolog" && reader.Text(48, 16) == "Growing"
        && reader.Le32(64) is Version1 or Version2;

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }
}

/// <summary>Growing images of Bochs. QEMU as well only reads them.</summary>
public sealed class BochsDriver : MappedImageDriver
{
    private const uint Unused = 0xffffffff;

    private BochsHeader? _header;
    private PagedTable? _catalog;

    /// <inheritdoc/>
    public override string FormatName => "bochs";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    protected override string ReadOnlyReason => "Image is read-only";

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _catalog?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] bytes = new byte[BochsHeader.Bytes];
        Check(await ReadBytesAsync(ImageFile, 0, bytes), "Could not read image header");
        _header = BochsHeader.Parse(bytes);
        _catalog = new PagedTable(ImageFile, _header.CatalogOffset, 4, isBigEndian: false);
        Size = _header.Size;
    }

    private protected override async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        var (result, number) = await _catalog!.GetAsync(offset / _header!.ExtentBytes);
        if (result < 0 || number == Unused)
        {
            return (result, new ImageExtent(ImageKind.Hole, Math.Min(bytes, _header.ExtentBytes - (offset % _header.ExtentBytes))));
        }

        long bitmap = _header.DataOffset + (512L * (long)number * ((_header.ExtentBytes / 512) + _header.BitmapSectors));
        long sector = offset % _header.ExtentBytes / 512;
        byte[] bits = new byte[1];
        result = await ReadBytesAsync(ImageFile, bitmap + (sector / 8), bits);
        bytes = Math.Min(bytes, 512);
        return (result, (bits[0] >> (int)(sector % 8) & 1) == 0
            ? new ImageExtent(ImageKind.Hole, bytes)
            : new ImageExtent(ImageKind.Data, bytes, ImageFile, bitmap + (512 * (_header.BitmapSectors + sector))));
    }
}
