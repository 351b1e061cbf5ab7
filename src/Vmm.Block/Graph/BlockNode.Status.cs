using Vmm.Block.Drivers;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>What ranges hold, and the size.</content>
public sealed partial class BlockNode
{
    // Ends of requests, aligned to anything, do not overflow.
    private const long MaxLength = long.MaxValue & ~((1L << 30) - 1);

    /// <summary>
    /// What is known about the beginning of a range, from this node alone: <see cref="BlockStatusFlags.Allocated"/> is not set where the
    /// contents come from the backing file. With <paramref name="wantZero"/> the file below is asked as well whether it has zeroes there.
    /// </summary>
    public async IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero = true)
    {
        if (CheckRange(offset, bytes) < 0)
        {
            return BlockStatus.Error(BlockResult.Io);
        }

        if (offset >= Length || bytes == 0)
        {
            return new BlockStatus(offset >= Length ? BlockStatusFlags.Eof : BlockStatusFlags.None, 0);
        }

        bytes = Math.Min(bytes, Length - offset);
        BeginRequest();
        int align = _limits.RequestAlignment;
        long start = offset & ~(long)(align - 1);
        long end = AlignUp(offset + bytes);
        BlockStatus status = await Driver.StatusAsync(start, end - start, wantZero);
        if (status.Result >= 0)
        {
            long head = offset - start;
            status = status with { Bytes = Math.Min(status.Bytes - head, bytes), MapOffset = status.MapOffset + head };
            status = await RefineAsync(status, wantZero);
            if (offset + status.Bytes >= Length)
            {
                status = status with { Flags = status.Flags | BlockStatusFlags.Eof };
            }
        }

        EndRequest();
        return status;
    }

    /// <summary>
    /// As <see cref="StatusAsync"/>, over the chain of backing files down to <paramref name="bottom"/>, exclusive (null: to its end). What no
    /// node of the chain has reads as zeroes.
    /// </summary>
    public async IoTask<BlockStatus> StatusAboveAsync(BlockNode? bottom, long offset, long bytes, bool wantZero = true)
    {
        BlockStatusFlags eof = 0;
        for (BlockNode? node = this; node is not null && node != bottom; node = node.FilteredOrBacking)
        {
            BlockStatus status = await node.StatusAsync(offset, bytes, wantZero);
            if (status.Result < 0)
            {
                return status;
            }

            if (node == this)
            {
                eof = status.Flags & BlockStatusFlags.Eof;
                if (status.Bytes == 0)
                {
                    return status;
                }
            }
            else if (status.Bytes == 0)
            {
                // Behind the end of a short backing file there are zeroes, which are this chain's own.
                return new BlockStatus(BlockStatusFlags.Zero | BlockStatusFlags.Allocated | eof, bytes);
            }

            bytes = Math.Min(bytes, status.Bytes);
            if ((status.Flags & BlockStatusFlags.Allocated) != 0)
            {
                return status with { Bytes = bytes, Flags = (status.Flags & ~BlockStatusFlags.Eof) | eof };
            }
        }

        BlockStatusFlags rest = bottom is null ? BlockStatusFlags.Zero : BlockStatusFlags.None;
        return new BlockStatus(rest | eof, bytes);
    }

    /// <summary>Sets the size; see <see cref="BlockDriver.TruncateAsync"/>. Home loop.</summary>
    public async IoTask TruncateAsync(long length, bool exact = true, PreallocMode prealloc = PreallocMode.Off, bool zeroed = false)
    {
        if (length < 0)
        {
            throw new QapiException("Image size cannot be negative");
        }

        if (length > MaxLength)
        {
            throw new QapiException($"offset({length}) exceeds maximum({MaxLength})");
        }

        if (IsReadOnly)
        {
            throw new QapiException("Image is read-only");
        }

        BeginRequest();
        long old = Length;
        TrackedRequest request = _tracked.Begin(TrackedKind.Truncate, Math.Min(old, length), Math.Abs(length - old));
        try
        {
            // What grows must not be written while it is made.
            if (length > old)
            {
                _tracked.MakeSerialising(request, _limits.RequestAlignment);
                await _tracked.WaitAsync(request);
            }

            await Driver.TruncateAsync(length, exact, prealloc, zeroed);
            long actual = await Driver.GetLengthAsync();
            if (actual < 0)
            {
                throw new QapiException("Could not refresh total sector count: " + BlockResult.Text((int)actual));
            }

            _writeGeneration++;
            SetLength(actual);
        }
        finally
        {
            _tracked.End(request);
            EndRequest();
        }
    }

    private async IoTask<BlockStatus> RefineAsync(BlockStatus status, bool wantZero)
    {
        if ((status.Flags & BlockStatusFlags.Raw) != 0 && status.File is { } raw)
        {
            return await raw.StatusAsync(status.MapOffset, status.Bytes, wantZero);
        }

        if ((status.Flags & (BlockStatusFlags.Data | BlockStatusFlags.Zero)) != 0)
        {
            status = status with { Flags = status.Flags | BlockStatusFlags.Allocated };
        }
        else if (Driver.SupportsBacking && Backing is null)
        {
            status = status with { Flags = status.Flags | BlockStatusFlags.Zero };
        }
        const BlockStatusFlags Below = BlockStatusFlags.Recurse | BlockStatusFlags.Data | BlockStatusFlags.OffsetValid;
        if (wantZero && (status.Flags & Below) == Below && status.File is { } file && file != this)
        {
            BlockStatus below = await file.StatusAsync(status.MapOffset, status.Bytes, wantZero);
            if (below.Result >= 0)
            {
                if (below.Bytes == 0)
                {
                    // Behind the end of the file: zeroes, for a format that allocated there.
                    return status with { Flags = status.Flags | BlockStatusFlags.Zero };
                }

                bool isZero = (below.Flags & BlockStatusFlags.Zero) != 0;
                return status with { Bytes = Math.Min(status.Bytes, below.Bytes), Flags = isZero ? status.Flags | BlockStatusFlags.Zero : status.Flags };
            }
        }

        return status;
    }
}
