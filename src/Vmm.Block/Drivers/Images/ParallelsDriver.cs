using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>The header of a Parallels image (specification: docs/interop/parallels of QEMU). Pure; fails with <see cref="QapiException"/> alone.</summary>
/// <param name="Size">Bytes of the disk.</param>
/// <param name="ClusterBytes">Bytes of a cluster.</param>
/// <param name="UnitBytes">Bytes that an entry of the table counts in.</param>
/// <param name="Entries">Entries of the table.</param>
/// <param name="IsInUse">The image was not closed properly.</param>
internal sealed record ParallelsHeader(long Size, uint ClusterBytes, uint UnitBytes, uint Entries, bool IsInUse)
{
    internal const int Bytes = 64;

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) =>
        head.Length >= Bytes && (IsOld(head) || IsNew(head)) && new HeaderReader(head).Le32(16) == 2 ? 100 : 0;

    /// <summary>Reads a header.</summary>
    /// <exception cref="QapiException">It is not one that can be used.</exception>
    internal static ParallelsHeader Parse(ReadOnlySpan<byte> bytes)
    {
        HeaderReader reader = new(bytes);
        Check((IsOld(bytes) || IsNew(bytes)) && reader.Le32(16) == 2, "Image not in Parallels format");
        ulong sectors = reader.Le64(36);
        if (IsOld(bytes))
        {
            sectors &= uint.MaxValue;
        }

        uint tracks = reader.Le32(28);
        Check(tracks != 0, "Invalid image: Zero sectors per track");
        Check(tracks <= int.MaxValue / 513, "Invalid image: Too big cluster");
        uint entries = reader.Le32(32);
        Check(entries <= int.MaxValue / 4, "Catalog too large");
        Check(sectors <= (ulong)(long.MaxValue - (1L << 30)) / 512, "Image is too big");
        return new ParallelsHeader((long)sectors * 512, tracks * 512, IsOld(bytes) ? 512 : tracks * 512, entries, reader.Le32(44) == 0x746F6E59);
    }

    private static bool IsOld(ReadOnlySpan<byte> bytes) => bytes.StartsWith("WithoutFreeSpace"u8);

    private static bool IsNew(ReadOnlySpan<byte> bytes) => bytes.StartsWith("WithouFreSpacExt"u8);

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }
}

/// <summary>Expandable images of Parallels.</summary>
public sealed class ParallelsDriver : MappedImageDriver
{
    private ParallelsHeader? _header;
    private PagedTable? _table;

    /// <inheritdoc/>
    public override string FormatName => "parallels";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _table?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] bytes = new byte[ParallelsHeader.Bytes];
        Check(await ReadBytesAsync(ImageFile, 0, bytes), "Could not read image header");
        _header = ParallelsHeader.Parse(bytes);
        _table = new PagedTable(ImageFile, ParallelsHeader.Bytes, 4, isBigEndian: false);
        Size = _header.Size;
    }

    private protected override async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        long within = offset % _header!.ClusterBytes;
        long cluster = offset / _header.ClusterBytes;
        bytes = Math.Min(bytes, _header.ClusterBytes - within);
        if (cluster >= _header.Entries)
        {
            return (0, new ImageExtent(ImageKind.Hole, bytes));
        }

        var (result, place) = await _table!.GetAsync(cluster);
        return (result, place == 0
            ? new ImageExtent(ImageKind.Hole, bytes)
            : new ImageExtent(ImageKind.Data, bytes, ImageFile, ((long)place * _header.UnitBytes) + within));
    }
}
