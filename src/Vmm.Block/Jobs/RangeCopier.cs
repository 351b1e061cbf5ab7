using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Jobs;

/// <summary>
/// Copies ranges of a node to another one, several at a time: zeroes as zeroes, data through a buffer of its own for each. Home: the source's
/// loop. Disposed when nothing is under way.
/// </summary>
/// <param name="source">What is read, with what is below it.</param>
/// <param name="target">What is written.</param>
/// <param name="zeroFlags">How zeroes are written.</param>
internal sealed class RangeCopier(BlockNode source, BlockNode target, BlockRequestFlags zeroFlags) : IDisposable
{
    /// <summary>Bytes of a range that is worth a request of its own.</summary>
    internal const int MaxBytes = 1 << 20;

    /// <summary>Bytes of the longest range of zeroes that is written at once: others wait for it.</summary>
    internal const long MaxZeroes = 1 << 30;

    private readonly Stack<NativeBuffer> _buffers = new();

    /// <summary>Most bytes that are read at once.</summary>
    internal int BufferBytes { get; init; } = MaxBytes;

    /// <summary>Zeroes are not written where the target reads as zeroes already. Only for targets that are never put above other images.</summary>
    internal bool SkipsZeroes { get; set; }

    /// <summary>The range that was copied last has nothing but zeroes; more of them may follow.</summary>
    internal bool WasZero { get; private set; }

    /// <summary>Copies a range.</summary>
    /// <param name="offset">Where it begins in both.</param>
    /// <param name="bytes">How long it is.</param>
    /// <param name="compressed">Bytes of a cluster of the target, each of which is compressed and fits the buffer; 0 for plain writes.</param>
    /// <returns>0 or a negative errno, and whether a read has failed.</returns>
    internal async IoTask<(int Result, bool IsRead)> CopyAsync(long offset, long bytes, int compressed = 0)
    {
        NativeBuffer buffer = _buffers.TryPop(out NativeBuffer? free) ? free : new NativeBuffer(BufferBytes);
        int result = 0;
        bool isRead = false;
        bool isZero = true;
        for (long done = 0; done < bytes && result >= 0;)
        {
            isRead = true;
            BlockStatus status = await source.StatusAboveAsync(null, offset + done, bytes - done);
            long part = status.Result < 0 || status.Bytes == 0 ? bytes - done : status.Bytes;
            if (status.Result >= 0 && (status.Flags & BlockStatusFlags.Zero) != 0)
            {
                isRead = false;
                result = await WriteZeroesAsync(offset + done, part);
            }
            else
            {
                isZero = false;
                part = compressed > 0 ? Math.Min(bytes - done, compressed) : Math.Min(part, BufferBytes);
                IoVectors data = IoVectors.Rent(buffer.Vector(0, (int)part));
                result = await source.ReadAsync(offset + done, data);
                if (result >= 0)
                {
                    isRead = false;
                    result = compressed > 0
                        ? await target.WriteCompressedAsync(offset + done, data)
                        : await target.WriteAsync(offset + done, data);
                }

                data.Return();
            }

            done += part;
        }

        _buffers.Push(buffer);
        WasZero = isZero;
        return (result, isRead);
    }

    /// <summary>Bytes of zeroes with which a range of the source begins, in whole pieces.</summary>
    /// <param name="offset">Where it begins.</param>
    /// <param name="bytes">How long it is.</param>
    /// <param name="piece">A power of two.</param>
    internal async IoTask<long> CountZeroesAsync(long offset, long bytes, long piece)
    {
        BlockStatus status = await source.StatusAboveAsync(null, offset, bytes);
        WasZero = status.Result >= 0 && (status.Flags & BlockStatusFlags.Zero) != 0 && status.Bytes >= MaxBytes;
        return !WasZero ? 0 : status.Bytes >= bytes ? bytes : status.Bytes & -piece;
    }

    /// <summary>Writes zeroes to the target: 0 or a negative errno.</summary>
    internal async IoTask<int> WriteZeroesAsync(long offset, long bytes)
    {
        while (SkipsZeroes && bytes > 0)
        {
            BlockStatus status = await target.StatusAboveAsync(null, offset, bytes);
            if (status.Result < 0 || (status.Flags & BlockStatusFlags.Zero) == 0 || status.Bytes <= 0)
            {
                break;
            }

            offset += status.Bytes;
            bytes -= Math.Min(bytes, status.Bytes);
        }

        return bytes == 0 ? 0 : await target.WriteZeroesAsync(offset, bytes, zeroFlags);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_buffers.TryPop(out NativeBuffer? buffer))
        {
            buffer.Dispose();
        }
    }
}
