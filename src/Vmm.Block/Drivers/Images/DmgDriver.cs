using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>
/// Disk images of macOS (UDIF): chunks that are stored as they are, as zlib streams, or not at all. Chunks of other compressions are I/O
/// errors, of which the operator is warned. QEMU as well only reads them.
/// </summary>
public sealed class DmgDriver(LoopWorkers workers) : MappedImageDriver
{
    private DmgChunks _chunks = new();
    private PackedBlocks? _blocks;

    /// <inheritdoc/>
    public override string FormatName => "dmg";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    protected override string ReadOnlyReason => "Image is read-only";

    /// <summary>Likelihood that a file of this name is an image, 0 to 100: its contents begin with anything.</summary>
    internal static int Probe(string? filename) => filename is not null && filename.EndsWith(".dmg", StringComparison.Ordinal) ? 2 : 0;

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _blocks?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        long length = (ImageFile.Length + 511) / 512 * 512;
        if (length < DmgTrailer.Bytes)
        {
            throw new QapiException("dmg file must be at least 512 bytes long");
        }

        long from = Math.Max(length - DmgTrailer.SearchFrom, 0);
        byte[] end = new byte[Math.Max(length - from, DmgTrailer.SearchFrom)];
        Check(await ReadBytesAsync(ImageFile, from, end.AsMemory(0, (int)(length - from))), "Failed while reading UDIF trailer");
        int at = DmgTrailer.Find(end);
        if (at < 0)
        {
            throw new QapiException("Could not locate UDIF trailer in dmg file");
        }

        CheckValid(DmgTrailer.TryParse(end.AsSpan(at), from + at, out DmgTrailer trailer));
        bool hasResources = trailer.ResourceBytes != 0;
        byte[] tables = new byte[hasResources ? trailer.ResourceBytes : trailer.XmlBytes];
        Check(await ReadBytesAsync(ImageFile, hasResources ? trailer.Resources : trailer.Xml, tables), "Could not read tables");
        bool isRead = hasResources ? _chunks.TryReadResources(tables, trailer.DataFork) : _chunks.TryReadPropertyList(tables, trailer.DataFork);
        if (_chunks.Complaint is { } complaint)
        {
            Node.Graph.Announce(complaint + "\n");
        }

        CheckValid(isRead);
        foreach (DmgChunkType type in _chunks.Unreadable)
        {
            Node.Graph.Warn(type switch
            {
                DmgChunkType.Bzip2 => "dmg-bzip2 module is missing, accessing bzip2 compressed blocks will result in I/O errors",
                DmgChunkType.Lzfse => "dmg-lzfse module is missing, accessing lzfse compressed blocks will result in I/O errors",
                _ => $"Image contains chunks of unknown type {(uint)type:x}, accessing them will result in I/O errors",
            });
        }

        Size = trailer.Sectors * 512;
        _blocks = new PackedBlocks(ImageFile, workers);
    }

    private protected override IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        DmgChunk chunk = _chunks.Find(offset / 512);
        long within = offset - (chunk.Sector * 512);
        long length = Math.Min(bytes, (chunk.Sectors * 512) - within);
        if (chunk.IsZero)
        {
            return new((0, new ImageExtent(ImageKind.Zero, length)));
        }

        // A chunk that is stored as it is must be there as a whole, or it is read as one that can not be.
        bool isData = chunk.Type == DmgChunkType.Raw && chunk.Bytes == chunk.Sectors * 512 && IsInFile(chunk);
        return new((0, isData
            ? new ImageExtent(ImageKind.Data, length, ImageFile, chunk.Offset + within)
            : new ImageExtent(ImageKind.Packed, length, ImageFile)));
    }

    private protected override IoTask<int> ReadPackedAsync(long offset, ImageExtent extent, IoVectors data)
    {
        DmgChunk chunk = _chunks.Find(offset / 512);
        return chunk.Type == DmgChunkType.Zlib && IsInFile(chunk)
            ? _blocks!.ReadAsync(
                chunk.Offset, (int)chunk.Bytes, (int)chunk.Sectors * 512, (int)(offset - (chunk.Sector * 512)), data, isWhole: true)
            : new(BlockResult.Io);
    }

    private bool IsInFile(DmgChunk chunk) => chunk.Bytes > 0 && chunk.Offset >= 0 && chunk.Offset <= ImageFile.Length - chunk.Bytes;

    private void CheckValid(bool isValid)
    {
        if (!isValid)
        {
            throw new QapiException($"Could not open '{ImageFile.Filename}': Invalid argument");
        }
    }
}
