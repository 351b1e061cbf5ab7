using Vmm.Interop;

namespace Vmm.Dump.Kdump;

/// <summary>Compresses pages. One thread at a time.</summary>
internal abstract class PageCompressor : IDisposable
{
    /// <summary>A compressor; null when the system lacks its library.</summary>
    internal static PageCompressor? Create(KdumpCompression compression) => compression switch
    {
        KdumpCompression.Zlib when RawDeflate.IsAvailable => new ZlibCompressor(),
        KdumpCompression.Lzo when Lzo.IsAvailable => new LzoCompressor(),
        KdumpCompression.Snappy when Snappy.IsAvailable => new SnappyCompressor(),
        _ => null,
    };

    /// <summary>The system has the library.</summary>
    internal static bool IsAvailable(KdumpCompression compression) => compression switch
    {
        KdumpCompression.Zlib => RawDeflate.IsAvailable,
        KdumpCompression.Lzo => Lzo.IsAvailable,
        _ => Snappy.IsAvailable,
    };

    /// <summary>Compresses a page to fewer bytes than it has.</summary>
    /// <param name="page">The page.</param>
    /// <param name="output">At least <see cref="OutputBytes"/>.</param>
    /// <returns>Bytes of output; 0 when the page does not get smaller.</returns>
    internal abstract int Compress(ReadOnlySpan<byte> page, Span<byte> output);

    /// <summary>What a compressor may write of a page that does not get smaller.</summary>
    internal const int OutputBytes = 3 * KdumpLayout.BlockBytes / 2;

    /// <inheritdoc/>
    public virtual void Dispose()
    {
    }

    private sealed class ZlibCompressor : PageCompressor
    {
        // Hash tables with twice as many entries as a page has bytes.
        private const int MemoryLevel = 6;

        private readonly RawDeflate _deflate = new(RawDeflate.ZlibWindow, RawDeflate.FastestLevel, MemoryLevel);

        private readonly NoiseDetector _noise = new();

        // With room for less than the page it stops as soon as it is known not to get smaller.
        internal override int Compress(ReadOnlySpan<byte> page, Span<byte> output) =>
            !_noise.IsNoise(page) && _deflate.Compress(page, output[..(page.Length - 1)], out int written) == CodecResult.Ok ? written : 0;

        public override void Dispose() => _deflate.Dispose();
    }

    private sealed class LzoCompressor : PageCompressor
    {
        private readonly Lzo _lzo = new();

        internal override int Compress(ReadOnlySpan<byte> page, Span<byte> output) =>
            _lzo.Compress(page, output, out int written) == CodecResult.Ok && written < page.Length ? written : 0;

        public override void Dispose() => _lzo.Dispose();
    }

    private sealed class SnappyCompressor : PageCompressor
    {
        internal override int Compress(ReadOnlySpan<byte> page, Span<byte> output) =>
            Snappy.Compress(page, output, out int written) == CodecResult.Ok && written < page.Length ? written : 0;
    }
}
