using System.Runtime.InteropServices;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Files;

/// <summary>Makes files of the host, on a worker thread. One use.</summary>
internal sealed class FileCreation(BlockdevCreateOptionsFile options) : LoopWork
{
    private const ulong DefaultExtentHint = 1 << 20;
    private const uint GetFlags = 0x80086601;
    private const uint SetFlags = 0x40086602;
    private const uint GetAttributes = 0x801c581f;
    private const uint SetAttributes = 0x401c5820;
    private const uint NoCopyOnWrite = 0x00800000;
    private const uint ExtentSizeFlag = 0x00000800;
    private const int ZeroBytes = 1 << 20;

    private QapiException? _error;

    /// <summary>Makes the file, or empties one that is there.</summary>
    /// <exception cref="QapiException">It cannot be made; what there was before may be gone.</exception>
    internal async IoTask CreateAsync(LoopWorkers workers)
    {
        await RunAsync(workers);
        if (_error is not null)
        {
            throw _error;
        }
    }

    /// <inheritdoc/>
    protected override long Execute()
    {
        try
        {
            Make();
        }
        catch (QapiException e)
        {
            _error = e;
        }

        return 0;
    }

    private void Make()
    {
        FileDriver.Check(
            Libc.Open(options.Filename, Libc.O_RDWR | Libc.O_CREAT | Libc.O_CLOEXEC, 0x1A4, out SafeFd file),
            $"Could not create '{options.Filename}'");
        using (file)
        {
            FileLocks.Acquire(
                file.Fd,
                options.Filename,
                default,
                new FileLocks.Locks(BlockPermissions.Write | BlockPermissions.Resize, BlockPermissions.Resize));
            FileDriver.Check(Libc.FTruncate(file.Fd, 0), "Could not resize file");
            Hint(file.Fd);
            Grow(file.Fd);
        }
    }

    // Not every file system knows these; the file is good without them.
    private void Hint(int fd)
    {
        if (options.Nocow ?? false)
        {
            long flags = 0;
            if (Libc.Ioctl(fd, GetFlags, ref flags) >= 0)
            {
                flags |= NoCopyOnWrite;
                _ = Libc.Ioctl(fd, SetFlags, ref flags);
            }
        }

        ulong hint = options.ExtentSizeHint ?? DefaultExtentHint;
        ExtendedAttributes attributes = default;
        if (hint is > 0 and <= uint.MaxValue && Libc.Ioctl(fd, GetAttributes, ref attributes) >= 0)
        {
            attributes.Flags |= ExtentSizeFlag;
            attributes.ExtentSize = (uint)hint;
            _ = Libc.Ioctl(fd, SetAttributes, ref attributes);
        }
    }

    private void Grow(int fd)
    {
        long size = unchecked((long)options.Size);
        switch (options.Preallocation ?? PreallocationOption.Off)
        {
            case PreallocationOption.Metadata:
                throw new QapiException("Unsupported preallocation mode: metadata");
            case PreallocationOption.Falloc when size != 0:
                FileDriver.Check(Libc.FAllocate(fd, 0, 0, size), "Could not preallocate data for the new file");
                break;
            case PreallocationOption.Full:
                FileDriver.Check(Libc.FTruncate(fd, size), "Could not resize file");
                Fill(fd, size);
                break;
            default:
                FileDriver.Check(Libc.FTruncate(fd, size), "Could not resize file");
                break;
        }
    }

    private static void Fill(int fd, long size)
    {
        using NativeBuffer zeroes = new((int)Math.Min(Math.Max(size, 1), ZeroBytes), zeroed: true);
        for (long offset = 0; offset < size;)
        {
            long written = Libc.PWrite(fd, zeroes.Address, (nuint)Math.Min(zeroes.Length, size - offset), offset);
            if (written < 0)
            {
                throw new QapiException("Could not write zeros for preallocation: " + BlockResult.Text((int)written));
            }

            offset += written;
        }

        FileDriver.Check(Libc.FSync(fd), "Could not flush file to disk");
    }

    // struct fsxattr of linux/fs.h.
    [StructLayout(LayoutKind.Sequential, Size = 28)]
    private struct ExtendedAttributes
    {
        public uint Flags;
        public uint ExtentSize;
    }
}
