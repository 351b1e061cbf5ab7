using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Files;

/// <summary>What a worker does to a file.</summary>
internal enum FileOperation
{
    Read,
    Write,
    Flush,
    Discard,
    Zero,
    ZeroUnmap,
    SeekData,
}

/// <summary>A blocking call on a file, reused by its driver. The result is a count, an offset or a negative errno.</summary>
internal sealed class FileRequest : LoopWork
{
    internal FileOperation Operation;
    internal int Fd;
    internal long Offset;
    internal long Bytes;
    internal IoVectors? Data;

    // Memory or length does not keep to O_DIRECT's alignment: the data goes through a buffer.
    internal int BounceAlignment;

    /// <summary>For <see cref="FileOperation.SeekData"/>: the range from Offset on is data; else a hole.</summary>
    internal bool IsData;

    /// <summary>For <see cref="FileOperation.SeekData"/>: where the range ends.</summary>
    internal long RangeEnd;

    /// <summary>For a <see cref="FileWriter"/>: completed on the loop with <see cref="Result"/>.</summary>
    internal readonly IoCompletion<int> Done = new();

    /// <summary>What <see cref="Perform"/> returned, on its way to the loop.</summary>
    internal long Result;

    /// <inheritdoc/>
    protected override long Execute() => Perform();

    /// <summary>The call. Worker thread.</summary>
    internal long Perform()
    {
        try
        {
            return Operation switch
            {
                FileOperation.Read => BounceAlignment != 0 ? Bounce(isWrite: false) : ReadAll(Data!),
                FileOperation.Write => BounceAlignment != 0 ? Bounce(isWrite: true) : WriteAll(Data!),
                FileOperation.Flush => -(long)Libc.FDataSync(Fd),
                FileOperation.Discard => -(long)Retry(Libc.FALLOC_FL_PUNCH_HOLE | Libc.FALLOC_FL_KEEP_SIZE),
                FileOperation.Zero => Zero(),
                FileOperation.ZeroUnmap => ZeroUnmap(),
                _ => SeekData(),
            };
        }
        catch (OutOfMemoryException)
        {
            return -(long)Errno.ENOMEM;
        }
    }

    private long ReadAll(IoVectors data)
    {
        long done = 0;
        ReadOnlySpan<IoVec> items = data.Items;
        IoVectors? rest = null;
        while (done < data.Size)
        {
            long count = Libc.PReadV(Fd, Batch(items), Offset + done);
            if (count == -(long)Errno.EINTR)
            {
                continue;
            }

            if (count < 0)
            {
                return count;
            }

            if (count == 0)
            {
                // Behind the end of the file, where another program has made it shorter.
                data.Fill(done, data.Size - done, 0);
                break;
            }

            done += count;
            items = Rest(data, done, ref rest);
        }

        return 0;
    }

    private long WriteAll(IoVectors data)
    {
        long done = 0;
        ReadOnlySpan<IoVec> items = data.Items;
        IoVectors? rest = null;
        while (done < data.Size)
        {
            long count = Libc.PWriteV(Fd, Batch(items), Offset + done);
            if (count == -(long)Errno.EINTR)
            {
                continue;
            }

            if (count < 0)
            {
                return count;
            }

            if (count == 0)
            {
                return -(long)Errno.ENOSPC;
            }

            done += count;
            items = Rest(data, done, ref rest);
        }

        return 0;
    }

    // IOV_MAX.
    private static ReadOnlySpan<IoVec> Batch(ReadOnlySpan<IoVec> items) => items.Length > 1024 ? items[..1024] : items;

    private static ReadOnlySpan<IoVec> Rest(IoVectors data, long done, scoped ref IoVectors? rest)
    {
        if (done == data.Size)
        {
            return default;
        }

        rest ??= new IoVectors();
        rest.Clear();
        rest.AddSlice(data, done, data.Size - done);
        return rest.Items;
    }

    private long Bounce(bool isWrite)
    {
        using NativeBuffer buffer = new(checked((int)Data!.Size), Math.Max(BounceAlignment, 4096));
        IoVectors flat = new();
        flat.Add(buffer, 0, buffer.Length);
        if (isWrite)
        {
            Data.CopyTo(0, buffer.Span);
            return WriteAll(flat);
        }

        long result = ReadAll(flat);
        if (result >= 0)
        {
            Data.CopyFrom(0, buffer.Span);
        }

        return result;
    }

    private long Zero()
    {
        Errno errno = Retry(Libc.FALLOC_FL_ZERO_RANGE);
        if (errno is not (Errno.EOPNOTSUPP or Errno.EINVAL))
        {
            return -(long)errno;
        }

        // A hole that is allocated again is what a zeroed range would be.
        errno = Retry(Libc.FALLOC_FL_PUNCH_HOLE | Libc.FALLOC_FL_KEEP_SIZE);
        if (errno == Errno.OK)
        {
            errno = Retry(0);
        }

        return errno is Errno.EINVAL ? -(long)Errno.EOPNOTSUPP : -(long)errno;
    }

    private long ZeroUnmap()
    {
        // A hole does not make a file longer.
        if (Libc.FStat(Fd, out FileStatus status) == Errno.OK && status.IsRegular && Offset + Bytes <= status.st_size
            && Retry(Libc.FALLOC_FL_PUNCH_HOLE | Libc.FALLOC_FL_KEEP_SIZE) == Errno.OK)
        {
            return 0;
        }

        return Zero();
    }

    private Errno Retry(int mode)
    {
        Errno errno;
        do
        {
            errno = Libc.FAllocate(Fd, mode, Offset, Bytes);
        }
        while (errno == Errno.EINTR);
        return errno == Errno.ENODEV ? Errno.EOPNOTSUPP : errno;
    }

    // Where data and holes are; a file system that does not know has data only.
    private long SeekData()
    {
        long data = Libc.LSeek(Fd, Offset, Libc.SEEK_DATA);
        if (data == -(long)Errno.ENXIO)
        {
            IsData = false;
            RangeEnd = long.MaxValue;
            return 0;
        }

        if (data < 0)
        {
            IsData = true;
            RangeEnd = long.MaxValue;
            return 0;
        }

        if (data > Offset)
        {
            IsData = false;
            RangeEnd = data;
            return 0;
        }

        long hole = Libc.LSeek(Fd, Offset, Libc.SEEK_HOLE);
        IsData = true;
        RangeEnd = hole <= Offset ? long.MaxValue : hole;
        return 0;
    }
}
