using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Files;

/// <content>Another descriptor for other options.</content>
public sealed partial class FileDriver
{
    /// <inheritdoc/>
    public override bool IsChangeable(string option) => option == "aio";

    /// <inheritdoc/>
    public override IoTask<ReopenStep?> PrepareReopenAsync(BlockdevOptions options, NodeOptions common)
    {
        AioMode? aio = (_isDevice ? options.HostDevice : options.File)!.Aio;
        if ((aio ?? common.Aio) == AioMode.IoUring)
        {
            throw new QapiException("aio=io_uring was specified, but is not supported in this build.");
        }

        SafeFd? fd = null;
        bool isWritable = !common.IsReadOnly;
        if (isWritable != _isWritable || common.IsDirect != Node.Options.IsDirect)
        {
            Errno errno = _fdSets.Open(_filename, Flags(isWritable, common.IsDirect), out fd);
            if (errno != Errno.OK)
            {
                throw new QapiException($"Could not reopen file: {errno.Message()}");
            }
        }

        return new(new Descriptor(this, fd, isWritable, aio));
    }

    private sealed class Descriptor(FileDriver driver, SafeFd? fd, bool isWritable, AioMode? aio) : ReopenStep
    {
        public override IoTask CommitAsync()
        {
            driver._aio = aio;
            if (fd is not null)
            {
                // Locks belong to the descriptor, and nobody else can have come between: the old one keeps them until it is closed.
                FileLocks.Copy(fd.Fd, driver._locks);
                driver._fd.Dispose();
                driver._fd = fd;
                driver._isWritable = isWritable;
                driver._triesInline = !driver.Node.Options.IsDirect;
            }

            return IoTask.CompletedTask;
        }

        public override void Abort() => fd?.Dispose();
    }
}
