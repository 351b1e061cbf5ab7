using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>The header of a cloop image, version 2. Pure; fails with <see cref="QapiException"/> alone.</summary>
/// <param name="BlockBytes">Bytes of a block.</param>
/// <param name="Blocks">Number of blocks.</param>
internal sealed record CloopHeader(uint BlockBytes, uint Blocks)
{
    internal const int Bytes = 136;

    private const uint MaxBlockBytes = 64 << 20;
    private const uint MaxOffsetBytes = 512 << 20;

    private static ReadOnlySpan<byte> Magic => "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"u8;

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) => !head.IsEmpty && Magic[..Math.Min(Magic.Length, head.Length)].SequenceEqual(head[..Math.Min(Magic.Length, head.Length)]) ? 2 : 0;

    /// <summary>Reads a header.</summary>
    /// <exception cref="QapiException">It is not one that can be used.</exception>
    internal static CloopHeader Parse(ReadOnlySpan<byte> bytes)
    {
        HeaderReader reader = new(bytes);
        uint block = reader.Be32(128);
        Check(block % 512 == 0, $"block_size {block} must be a multiple of 512");
        Check(block != 0, "block_size cannot be zero");
        Check(block <= MaxBlockBytes, $"block_size {block} must be {MaxBlockBytes >> 20} MB or less");
        uint blocks = reader.Be32(132);
        const uint MaxBlocks = (uint.MaxValue - 8) / 8;
        Check(blocks <= MaxBlocks, $"n_blocks {blocks} must be {MaxBlocks} or less");
        Check((blocks + 1) * 8 <= MaxOffsetBytes, "image requires too many offsets, try increasing block size");
        return new CloopHeader(block, blocks);
    }

    /// <summary>Checks where a block is.</summary>
    /// <exception cref="QapiException">It cannot be there.</exception>
    internal void CheckBlock(long index, ulong start, ulong end)
    {
        Check(end >= start, $"offsets not monotonically increasing at index {index}, image file is corrupt");
        Check(end - start <= 2UL * BlockBytes, $"invalid compressed block size at index {index}, image file is corrupt");
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }
}

/// <summary>Compressed images of the cloop module. QEMU as well only reads them.</summary>
public sealed class CloopDriver(LoopWorkers workers) : MappedImageDriver
{
    private CloopHeader? _header;
    private PagedTable? _offsets;
    private PackedBlocks? _blocks;

    /// <inheritdoc/>
    public override string FormatName => "cloop";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    protected override string ReadOnlyReason => "Image is read-only";

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _offsets?.Dispose();
        _blocks?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] bytes = new byte[CloopHeader.Bytes];
        Check(await ReadBytesAsync(ImageFile, 0, bytes), "Could not read image header");
        _header = CloopHeader.Parse(bytes);
        _offsets = new PagedTable(ImageFile, CloopHeader.Bytes, 8, isBigEndian: true);
        _blocks = new PackedBlocks(ImageFile, workers);
        await CheckOffsetsAsync();
        Size = (long)_header.Blocks * _header.BlockBytes;
    }

    private protected override IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        long block = _header!.BlockBytes;
        return new((0, new ImageExtent(ImageKind.Packed, Math.Min(bytes, block - (offset % block)), ImageFile)));
    }

    private protected override async IoTask<int> ReadPackedAsync(long offset, ImageExtent extent, IoVectors data)
    {
        long block = offset / _header!.BlockBytes;
        var (result, start) = await _offsets!.GetAsync(block);
        (int second, ulong end) = await _offsets.GetAsync(block + 1);
        if (result < 0 || second < 0)
        {
            return Math.Min(result, second);
        }

        if (end < start || end - start > 2UL * _header.BlockBytes || end > long.MaxValue)
        {
            return Graph.BlockResult.Io;
        }

        return await _blocks!.ReadAsync(
            (long)start, (int)(end - start), (int)_header.BlockBytes, (int)(offset % _header.BlockBytes), data, isWhole: true);
    }

    // What the file has no room for is zero, which is an error after anything else.
    private async IoTask CheckOffsetsAsync()
    {
        long inFile = Math.Max(ImageFile.Length - CloopHeader.Bytes, 0) / 8;
        ulong before = 0;
        for (long i = 0; i <= Math.Min(_header!.Blocks, inFile); i++)
        {
            var (result, offset) = await _offsets!.GetAsync(i);
            Check(result, "Could not read block offsets");
            if (i > 0)
            {
                _header.CheckBlock(i, before, offset);
            }

            before = offset;
        }
    }
}
