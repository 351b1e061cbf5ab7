using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Images;

/// <summary>
/// Reads zlib streams of an image, one at a time, on worker threads; the block that was read last stays in memory. Home: the node's loop.
/// </summary>
/// <param name="file">The node that has the streams.</param>
/// <param name="workers">Threads.</param>
internal sealed class PackedBlocks(BlockNode file, LoopWorkers workers) : IDisposable
{
    private readonly LoopMutex _lock = new();
    private readonly InflateWork _work = new();
    private NativeBuffer? _packed;
    private long _current = -1;
    private int _currentBytes;

    /// <inheritdoc/>
    public void Dispose()
    {
        _work.Dispose();
        _packed?.Dispose();
    }

    /// <summary>Reads a part of a block.</summary>
    /// <param name="place">Where its stream is.</param>
    /// <param name="packedBytes">Bytes of the stream, or of what is read to find its end.</param>
    /// <param name="blockBytes">Bytes of the block.</param>
    /// <param name="within">First byte of the part.</param>
    /// <param name="data">The part.</param>
    /// <param name="isWhole">A stream that gives less than the block is an error; else the rest is zero.</param>
    internal async IoTask<int> ReadAsync(long place, int packedBytes, int blockBytes, int within, IoVectors data, bool isWhole)
    {
        await _lock.EnterAsync();
        int result = 0;
        if (_current != place || _currentBytes != blockBytes)
        {
            result = await LoadAsync(place, packedBytes, blockBytes);
            if (result >= 0 && isWhole && _work.Written < blockBytes)
            {
                _current = -1;
                result = BlockResult.Io;
            }
        }

        if (result >= 0)
        {
            data.CopyFrom(0, _work.Block!.Span.Slice(within, (int)data.Size));
        }

        _lock.Exit();
        return result;
    }

    private static void Ensure(ref NativeBuffer? buffer, int bytes)
    {
        if (buffer is null || buffer.Length < bytes)
        {
            buffer?.Dispose();
            buffer = new NativeBuffer(bytes);
        }
    }

    private async IoTask<int> LoadAsync(long place, int packedBytes, int blockBytes)
    {
        _current = -1;
        Ensure(ref _packed, Math.Max(packedBytes, 1));
        _work.Reserve(blockBytes);
        IoVectors packed = IoVectors.Rent(_packed!.Vector(0, packedBytes));
        int result = await file.ReadAsync(place, packed);
        packed.Return();
        if (result < 0)
        {
            return result;
        }

        _work.Source = _packed;
        _work.SourceBytes = packedBytes;
        _work.BlockBytes = blockBytes;
        result = (int)await _work.RunAsync(workers);
        if (result >= 0)
        {
            _current = place;
            _currentBytes = blockBytes;
        }

        return result;
    }

    private sealed class InflateWork : LoopWork, IDisposable
    {
        private readonly RawDeflate _inflate = new(RawDeflate.ZlibWindow);

        internal NativeBuffer? Block { get; private set; }

        internal NativeBuffer? Source { get; set; }

        internal int SourceBytes { get; set; }

        internal int BlockBytes { get; set; }

        internal int Written { get; private set; }

        public void Dispose()
        {
            _inflate.Dispose();
            Block?.Dispose();
        }

        internal void Reserve(int bytes)
        {
            if (Block is null || Block.Length < bytes)
            {
                Block?.Dispose();
                Block = new NativeBuffer(bytes);
            }
        }

        protected override long Execute()
        {
            Span<byte> block = Block!.Span[..BlockBytes];
            CodecResult result = _inflate.Decompress(Source!.Span[..SourceBytes], block, out int written);
            Written = written;
            block[written..].Clear();
            return result == CodecResult.Ok ? 0 : BlockResult.Io;
        }
    }
}
