using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Graph;

/// <content>Requests: what is checked, aligned, split and tracked for all drivers. Home loop. Results are 0 or a negative errno.</content>
public sealed partial class BlockNode
{
    private readonly TrackedRequests _tracked = new();
    private readonly LoopMutex _flushing = new();
    private long _writeGeneration;
    private long _flushedGeneration;

    /// <summary>Offset above which the next write is reported; 0 for none.</summary>
    public long WriteThreshold { get; set; }

    /// <summary>End of the highest write so far, in bytes.</summary>
    public long WriteHighestOffset { get; private set; }

    /// <summary>Reads all of <paramref name="data"/>; what lies behind the end of the node reads as zeroes.</summary>
    public async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags = BlockRequestFlags.None)
    {
        long bytes = data.Size;
        if (CheckRange(offset, bytes) is < 0 and int error)
        {
            return error;
        }

        if (bytes == 0)
        {
            return 0;
        }

        BeginRequest();
        TrackedRequest request = _tracked.Begin(TrackedKind.Read, offset, bytes);
        int result = 0;
        if (CopiesOnRead || (flags & BlockRequestFlags.CopyOnRead) != 0)
        {
            result = await CopyUpAsync(request, offset, bytes);
            flags &= ~BlockRequestFlags.CopyOnRead;
        }

        if (result < 0)
        {
            // Nothing more to do.
        }
        else if (IsAligned(offset, bytes))
        {
            await _tracked.WaitAsync(request);
            result = await ReadAlignedAsync(offset, data, flags);
        }
        else
        {
            result = await ReadPaddedAsync(request, offset, data, flags);
        }

        _tracked.End(request);
        EndRequest();
        return result;
    }

    /// <summary>Writes all of <paramref name="data"/>.</summary>
    public async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags = BlockRequestFlags.None)
    {
        long bytes = data.Size;
        if (CheckWrite(offset, bytes) is < 0 and int error)
        {
            return error;
        }

        if (bytes == 0)
        {
            return 0;
        }

        BeginRequest();
        TrackedRequest request = _tracked.Begin(TrackedKind.Write, offset, bytes);
        int result;
        if (!IsAligned(offset, bytes))
        {
            result = await WritePaddedAsync(request, offset, data, flags);
        }
        else if (await EnterWriteAsync(request, flags))
        {
            result = await WriteAlignedAsync(offset, data, flags);
        }
        else
        {
            result = -(int)Errno.EBUSY;
        }

        _tracked.End(request);
        EndRequest();
        return result;
    }

    /// <summary>Makes a range read as zeroes.</summary>
    public async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags = BlockRequestFlags.None)
    {
        if (CheckWrite(offset, bytes) is < 0 and int error)
        {
            return error;
        }

        if (bytes == 0)
        {
            return 0;
        }

        if (Options.Discard != DiscardMode.Unmap)
        {
            flags &= ~BlockRequestFlags.MayUnmap;
        }

        BeginRequest();
        TrackedRequest request = _tracked.Begin(TrackedKind.Write, offset, bytes);
        int result;
        if (!IsAligned(offset, bytes))
        {
            result = await ZeroPaddedAsync(request, offset, bytes, flags);
        }
        else if (await EnterWriteAsync(request, flags))
        {
            result = await ZeroAlignedAsync(offset, bytes, flags);
        }
        else
        {
            result = -(int)Errno.EBUSY;
        }

        _tracked.End(request);
        EndRequest();
        return result;
    }

    /// <summary>Writes compressed clusters, for drivers that have them; an empty list ends the image.</summary>
    public async IoTask<int> WriteCompressedAsync(long offset, IoVectors data)
    {
        if (CheckWrite(offset, data.Size) is < 0 and int error)
        {
            return error;
        }

        BeginRequest();
        TrackedRequest request = _tracked.Begin(TrackedKind.Write, offset, data.Size);
        await _tracked.WaitAsync(request);
        int result = await Driver.WriteCompressedAsync(offset, data);
        FinishWrite(offset, data.Size, result);
        _tracked.End(request);
        EndRequest();
        return result;
    }

    /// <summary>Forgets a range, if the node was opened with discard=unmap; success is no promise.</summary>
    public async IoTask<int> DiscardAsync(long offset, long bytes)
    {
        if (CheckWrite(offset, bytes) is < 0 and int error)
        {
            return error;
        }

        if (Options.Discard != DiscardMode.Unmap || bytes == 0)
        {
            return 0;
        }

        BeginRequest();
        TrackedRequest request = _tracked.Begin(TrackedKind.Discard, offset, bytes);
        await _tracked.WaitAsync(request);
        int result = await DiscardTrackedAsync(offset, bytes);
        MarkDirty(offset, bytes);
        _writeGeneration++;
        _tracked.End(request);
        EndRequest();
        return result;
    }

    /// <summary>Puts everything that was written before on stable storage.</summary>
    public async IoTask<int> FlushAsync()
    {
        BeginRequest();
        await _flushing.EnterAsync();
        long generation = _writeGeneration;
        BlockNode? below = Primary?.Node;
        if (below is not null)
        {
            await below.DebugAsync(BlkdebugEvent.FlushToOs);
        }

        int result = await Driver.FlushToOsAsync();
        if (result >= 0 && !Options.IsNoFlush)
        {
            if (below is not null && generation != _flushedGeneration)
            {
                await below.DebugAsync(BlkdebugEvent.FlushToDisk);
            }

            if (generation != _flushedGeneration)
            {
                result = await Driver.FlushToDiskAsync();
            }

            for (int i = 0; i < _children.Count && result >= 0; i++)
            {
                // Children that are never written through this node have nothing of ours.
                BlockEdge child = _children[i];
                if ((child.Permissions & (BlockPermissions.Write | BlockPermissions.WriteUnchanged)) != 0 && Driver.Flushes(child))
                {
                    result = await child.Node.FlushAsync();
                }
            }

            if (result >= 0)
            {
                _flushedGeneration = generation;
            }
        }

        _flushing.Exit();
        EndRequest();
        return result;
    }

    private bool IsAligned(long offset, long bytes) => ((offset | bytes) & (_limits.RequestAlignment - 1)) == 0;

    private static int CheckRange(long offset, long bytes) =>
        offset < 0 || bytes < 0 || offset > long.MaxValue - bytes - (1 << 30) ? BlockResult.Io : 0;

    private int CheckWrite(long offset, long bytes) =>
        IsReadOnly ? -(int)Errno.EPERM : CheckRange(offset, bytes);

    /// <summary>Waits for those in the way; false when the request does not want to wait and would have to.</summary>
    private async IoTask<bool> EnterWriteAsync(TrackedRequest request, BlockRequestFlags flags)
    {
        if ((flags & BlockRequestFlags.Serialising) != 0)
        {
            _tracked.MakeSerialising(request, _limits.RequestAlignment);
            if ((flags & BlockRequestFlags.NoWait) != 0 && _tracked.HasConflict(request))
            {
                return false;
            }
        }

        await _tracked.WaitAsync(request);
        return true;
    }

    private async IoTask<int> ReadAlignedAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        long bytes = data.Size;
        if (offset + bytes <= Length && (_limits.MaxTransfer == 0 || bytes <= _limits.MaxTransfer))
        {
            return await Driver.ReadAsync(offset, data, flags);
        }

        // The last block of the node may be a part of one only.
        long end = AlignUp(Length);
        long inside = Math.Clamp(end - offset, 0, bytes);
        long done = 0;
        int result = 0;
        while (done < inside && result >= 0)
        {
            long part = Math.Min(inside - done, _limits.MaxTransfer == 0 ? BlockResult.MaxRequestBytes : _limits.MaxTransfer);
            IoVectors slice = IoVectors.RentSlice(data, done, part);
            result = await Driver.ReadAsync(offset + done, slice, flags);
            slice.Return();
            done += part;
        }

        if (result >= 0 && inside < bytes)
        {
            data.Fill(inside, bytes - inside, 0);
        }

        return result;
    }

    private async IoTask<int> WriteAlignedAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        long bytes = data.Size;
        int result;
        CheckThreshold(offset + bytes);
        await DebugAsync(BlkdebugEvent.Pwritev);
        if (Options.DetectZeroes != DetectZeroesMode.Off && data.IsZero(0, bytes))
        {
            result = await ZeroUntrackedAsync(offset, bytes, flags | (Options.DetectZeroes == DetectZeroesMode.Unmap && Options.Discard == DiscardMode.Unmap ? BlockRequestFlags.MayUnmap : 0));
        }
        else
        {
            result = await WriteDriverAsync(offset, data, flags);
        }

        await DebugAsync(BlkdebugEvent.PwritevDone);
        FinishWrite(offset, bytes, result);
        return result;
    }

    /// <summary>The driver's write, in parts that it takes, with a flush where it does not know force-unit-access.</summary>
    private async IoTask<int> WriteDriverAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        BlockRequestFlags passed = flags & Driver.SupportedWriteFlags;
        int max = _limits.MaxTransfer == 0 ? BlockResult.MaxRequestBytes : _limits.MaxTransfer;
        int result;
        if (data.Size <= max)
        {
            result = await Driver.WriteAsync(offset, data, passed);
        }
        else
        {
            result = 0;
            for (long done = 0; done < data.Size && result >= 0;)
            {
                long part = Math.Min(data.Size - done, max);
                IoVectors slice = IoVectors.RentSlice(data, done, part);
                result = await Driver.WriteAsync(offset + done, slice, passed);
                slice.Return();
                done += part;
            }
        }

        if (result >= 0 && ((flags & ~passed) & BlockRequestFlags.Fua) != 0)
        {
            _writeGeneration++;
            result = await FlushAsync();
        }

        return result;
    }

    private async IoTask<int> ZeroAlignedAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        CheckThreshold(offset + bytes);
        await DebugAsync(BlkdebugEvent.PwritevZero);
        int result = await ZeroUntrackedAsync(offset, bytes, flags);
        await DebugAsync(BlkdebugEvent.PwritevDone);
        FinishWrite(offset, bytes, result);
        return result;
    }

    /// <summary>Zeroes by the driver where it can, else by writing them.</summary>
    private async IoTask<int> ZeroUntrackedAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        int align = Math.Max(Math.Max(_limits.WriteZeroesAlignment, _limits.RequestAlignment), 1);
        long maxZero = _limits.MaxWriteZeroes == 0 ? long.MaxValue & ~(align - 1L) : Math.Max(_limits.MaxWriteZeroes / align * align, align);
        bool needsFlush = false;
        int result = 0;
        while (bytes > 0 && result >= 0)
        {
            long part = bytes;
            long head = offset & (align - 1);
            bool isWhole = head == 0 && bytes >= align;
            if (head != 0)
            {
                part = Math.Min(bytes, align - head);
            }
            else if (isWhole)
            {
                part = Math.Min(bytes / align * align, maxZero);
            }

            result = await Driver.WriteZeroesAsync(offset, part, flags & (Driver.SupportedZeroFlags | BlockRequestFlags.NoFallback));
            needsFlush |= result >= 0 && (flags & BlockRequestFlags.Fua) != 0 && (Driver.SupportedZeroFlags & BlockRequestFlags.Fua) == 0;
            if (result == BlockResult.NotSupported && (flags & BlockRequestFlags.NoFallback) == 0)
            {
                part = Math.Min(part, ZeroMemory.MaxBytes);
                IoVectors zeroes = ZeroMemory.Rent(part);
                result = await WriteDriverAsync(offset, zeroes, flags & ~BlockRequestFlags.MayUnmap);
                zeroes.Return();
            }

            offset += part;
            bytes -= part;
        }

        if (result >= 0 && needsFlush)
        {
            _writeGeneration++;
            result = await FlushAsync();
        }

        return result;
    }

    private async IoTask<int> DiscardTrackedAsync(long offset, long bytes)
    {
        int align = Math.Max(Math.Max(_limits.DiscardAlignment, _limits.RequestAlignment), 1);
        long max = _limits.MaxDiscard == 0 ? long.MaxValue & ~(align - 1L) : Math.Max(_limits.MaxDiscard / align * align, align);
        while (bytes > 0)
        {
            long head = offset & (align - 1);
            long part = head != 0 ? Math.Min(bytes, align - head) : bytes < align ? bytes : Math.Min(bytes / align * align, max);

            // What is no whole block of the driver may be left alone.
            int result = await Driver.DiscardAsync(offset, part);
            if (result < 0 && result != BlockResult.NotSupported)
            {
                return result;
            }

            offset += part;
            bytes -= part;
        }

        return 0;
    }

    private void FinishWrite(long offset, long bytes, int result)
    {
        _writeGeneration++;
        if (result >= 0)
        {
            long end = offset + bytes;
            WriteHighestOffset = Math.Max(WriteHighestOffset, end);
            if (end > Length)
            {
                SetLength(end);
            }
        }

        // A write that failed may have written a part.
        MarkDirty(offset, bytes);
    }

    private long AlignUp(long value)
    {
        long mask = _limits.RequestAlignment - 1;
        return (value + mask) & ~mask;
    }
}

/// <summary>Zeroes for requests that must write them: one block of memory, repeated.</summary>
internal static class ZeroMemory
{
    private const int BlockBytes = 64 << 10;

    private static NativeBuffer? s_block;

    /// <summary>Longest list.</summary>
    internal const long MaxBytes = 1024L * BlockBytes;

    internal static IoVectors Rent(long bytes)
    {
        NativeBuffer block = Volatile.Read(ref s_block) ?? Create();
        IoVectors list = IoVectors.Rent();
        for (; bytes > 0; bytes -= BlockBytes)
        {
            list.Add(block.Vector(0, (int)Math.Min(bytes, BlockBytes)));
        }

        return list;
    }

    private static NativeBuffer Create()
    {
        NativeBuffer block = new(BlockBytes, zeroed: true);
        return Interlocked.CompareExchange(ref s_block, block, null) ?? block;
    }
}
