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
    /// <summary>Bytes of the longest range.</summary>
    internal const int MaxBytes = 1 << 20;

    private readonly Stack<NativeBuffer> _buffers = new();

    /// <summary>Copies a range.</summary>
    /// <param name="offset">Where it begins in both.</param>
    /// <param name="bytes">At most <see cref="MaxBytes"/>.</param>
    /// <param name="compressed">Bytes of a cluster of the target, each of which is compressed; 0 for plain writes.</param>
    /// <returns>0 or a negative errno, and whether a read has failed.</returns>
    internal async IoTask<(int Result, bool IsRead)> CopyAsync(long offset, long bytes, int compressed = 0)
    {
        NativeBuffer buffer = _buffers.TryPop(out NativeBuffer? free) ? free : new NativeBuffer(MaxBytes);
        int result = 0;
        bool isRead = false;
        for (long done = 0; done < bytes && result >= 0;)
        {
            isRead = true;
            BlockStatus status = await source.StatusAboveAsync(null, offset + done, bytes - done);
            long part = status.Result < 0 || status.Bytes == 0 ? bytes - done : status.Bytes;
            if (status.Result >= 0 && (status.Flags & BlockStatusFlags.Zero) != 0)
            {
                isRead = false;
                result = await target.WriteZeroesAsync(offset + done, part, zeroFlags);
            }
            else
            {
                part = compressed > 0 ? Math.Min(bytes - done, compressed) : part;
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
        return (result, isRead);
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
