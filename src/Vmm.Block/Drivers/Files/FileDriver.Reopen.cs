using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Files;

/// <content>Another descriptor for other options.</content>
public sealed partial class FileDriver
{
    /// <inheritdoc/>
    public override bool IsChangeable(string option) => option is "drop-cache" or "x-check-cache-dropped";

    /// <inheritdoc/>
    public override bool IsResettable(string option) => option == "x-check-cache-dropped";

    /// <inheritdoc/>
    public override IoTask<ReopenStep?> PrepareReopenAsync(BlockdevOptions options, NodeOptions common)
    {
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

        return new(new Descriptor(this, fd, isWritable));
    }

    private sealed class Descriptor(FileDriver driver, SafeFd? fd, bool isWritable) : ReopenStep
    {
        public override IoTask CommitAsync()
        {
            if (fd is not null)
            {
                // Locks belong to the descriptor, and nobody else can have come between: the old one keeps them until it is closed.
                FileLocks.Copy(fd.Fd, driver._locks);
                driver._fd.Dispose();
                driver._fd = fd;
                driver._isWritable = isWritable;
                driver._triesInline = !driver.Node.Options.IsDirect;
                driver._isCached = driver._isRegular && driver._triesInline;
            }

            return IoTask.CompletedTask;
        }

        public override IoTask AbortAsync()
        {
            fd?.Dispose();
            return IoTask.CompletedTask;
        }
    }
}
