using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>Compresses and decompresses single clusters on worker threads. Reused. Home: the node's loop.</summary>
internal sealed class Qcow2CodecWork(Qcow2Compression method) : LoopWork, IDisposable
{
    private readonly RawDeflate? _deflate = method == Qcow2Compression.Zlib ? new RawDeflate() : null;

    /// <summary>The cluster is compressed; else decompressed.</summary>
    internal bool IsCompress { get; set; }

    /// <summary>The cluster.</summary>
    internal required NativeBuffer Cluster { get; init; }

    /// <summary>What it is compressed to: as long as the cluster and a sector.</summary>
    internal required NativeBuffer Packed { get; init; }

    /// <summary>Bytes of the compressed cluster.</summary>
    internal int PackedBytes { get; set; }

    /// <summary>The library that the method needs is there.</summary>
    internal static bool IsAvailable(Qcow2Compression method) =>
        method == Qcow2Compression.Zlib ? RawDeflate.IsAvailable : Zstandard.IsAvailable;

    /// <inheritdoc/>
    public void Dispose()
    {
        _deflate?.Dispose();
        Cluster.Dispose();
        Packed.Dispose();
    }

    /// <inheritdoc/>
    protected override long Execute()
    {
        if (!IsCompress)
        {
            ReadOnlySpan<byte> source = Packed.Span[..PackedBytes];
            CodecResult result = _deflate is not null ? _deflate.Decompress(source, Cluster.Span) : Zstandard.Decompress(source, Cluster.Span);
            return result == CodecResult.Ok ? 0 : -(long)Errno.EIO;
        }

        Span<byte> target = Packed.Span[..(Cluster.Length - 1)];
        CodecResult packed = _deflate is not null
            ? _deflate.Compress(Cluster.Span, target, out int written)
            : Zstandard.Compress(Cluster.Span, target, out written);
        PackedBytes = written;
        return packed switch
        {
            CodecResult.Ok => 0,
            CodecResult.NoSpace => -(long)Errno.ENOMEM,
            _ => -(long)Errno.EIO,
        };
    }
}
