using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>The header of a VDI image. Reading it is a pure function that fails with <see cref="QapiException"/> alone.</summary>
/// <param name="Size">Bytes of the disk.</param>
/// <param name="MapOffset">Where the map of blocks is.</param>
/// <param name="DataOffset">Where block 0 is.</param>
/// <param name="Blocks">Entries of the map.</param>
internal sealed record VdiHeader(long Size, uint MapOffset, uint DataOffset, uint Blocks)
{
    internal const int Bytes = 512;
    internal const int BlockBytes = 1 << 20;

    private const uint Signature = 0xbeda107f;
    private const uint MaxBlocks = 0x1fffff80;

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) => head.Length >= Bytes && new HeaderReader(head).Le32(0x40) == Signature ? 100 : 0;

    /// <summary>Reads a header.</summary>
    /// <exception cref="QapiException">It is not one that can be used.</exception>
    internal static VdiHeader Parse(ReadOnlySpan<byte> bytes)
    {
        HeaderReader reader = new(bytes);
        ulong size = reader.Le64(0x170);
        const ulong MaxSize = (ulong)MaxBlocks * BlockBytes;
        Check(size <= MaxSize, $"Unsupported VDI image size (size is 0x{size:x}, max supported is 0x{MaxSize:x})");
        size = (size + 511) & ~511UL;
        uint signature = reader.Le32(0x40);
        Check(signature == Signature, $"Image not in VDI format (bad signature {signature:x8})");
        uint version = reader.Le32(0x44);
        Check(version == 0x10001, $"unsupported VDI image (version {version >> 16}.{version & 0xffff})");
        uint map = reader.Le32(0x154);
        Check(map % 512 == 0, $"unsupported VDI image (unaligned block map offset 0x{map:x})");
        uint data = reader.Le32(0x158);
        Check(data % 512 == 0, $"unsupported VDI image (unaligned data offset 0x{data:x})");
        uint sector = reader.Le32(0x168);
        Check(sector == 512, $"unsupported VDI image (sector size {sector} is not 512)");
        uint block = reader.Le32(0x178);
        Check(block == BlockBytes, $"unsupported VDI image (block size {block} is not {BlockBytes})");
        uint blocks = reader.Le32(0x180);
        ulong room = (ulong)blocks * BlockBytes;
        Check(size <= room, $"unsupported VDI image (disk size {size}, image bitmap has room for {room})");
        Check(reader.IsZero(0x1a8, 16), "unsupported VDI image (non-NULL link UUID)");
        Check(reader.IsZero(0x1b8, 16), "unsupported VDI image (non-NULL parent UUID)");
        Check(blocks <= MaxBlocks, $"unsupported VDI image (too many blocks {blocks}, max is {MaxBlocks})");
        return new VdiHeader((long)size, map, data, blocks);
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }
}

/// <summary>VDI images of VirtualBox, dynamic and static.</summary>
public sealed class VdiDriver : MappedImageDriver
{
    private const uint FirstSpecial = 0xfffffffe;

    private VdiHeader? _header;
    private PagedTable? _map;

    /// <inheritdoc/>
    public override string FormatName => "vdi";

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _map?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override int ClusterBytes => VdiHeader.BlockBytes;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        image.IsDirty = false;
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] bytes = new byte[VdiHeader.Bytes];
        Check(await ReadBytesAsync(ImageFile, 0, bytes), "Could not read image header");
        _header = VdiHeader.Parse(bytes);
        _map = new PagedTable(ImageFile, _header.MapOffset, 4, isBigEndian: false);
        Size = _header.Size;
    }

    private protected override async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        var (result, block) = await _map!.GetAsync(offset / VdiHeader.BlockBytes);
        long within = offset % VdiHeader.BlockBytes;
        bytes = Math.Min(bytes, VdiHeader.BlockBytes - within);
        return (result, block >= FirstSpecial
            ? new ImageExtent(ImageKind.Hole, bytes)
            : new ImageExtent(ImageKind.Data, bytes, ImageFile, _header!.DataOffset + ((long)block * VdiHeader.BlockBytes) + within));
    }
}
