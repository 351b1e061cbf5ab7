using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Other options for an open image.</content>
public sealed partial class Qcow2Driver
{
    /// <inheritdoc/>
    public override bool IsChangeable(string option) =>
        option is "lazy-refcounts" or "pass-discard-request" or "pass-discard-snapshot" or "pass-discard-other" or "cache-clean-interval";

    /// <inheritdoc/>
    public override async IoTask<ReopenStep?> PrepareReopenAsync(BlockdevOptions options, NodeOptions common)
    {
        BlockdevOptionsQcow2 wanted = options.Qcow2!;
        if ((wanted.LazyRefcounts ?? false) && Header.Version < 3)
        {
            throw new QapiException("Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
        }

        if (wanted.CacheCleanInterval is < 0 or > uint.MaxValue)
        {
            throw new QapiException("Cache clean interval too big");
        }

        if (common.IsReadOnly && !Node.IsReadOnly && !_isFailed)
        {
            // Nothing can be written later: the image is as one that is closed.
            await _lock.EnterAsync();
            int result = await _metadata.CleanAsync();
            _lock.Exit();
            Check(result, "Could not write metadata");
        }

        return new Change(this, wanted, wasReadOnly: Node.IsReadOnly);
    }

    private sealed class Change(Qcow2Driver driver, BlockdevOptionsQcow2 options, bool wasReadOnly) : ReopenStep
    {
        public override async IoTask CommitAsync()
        {
            driver._options = options;
            driver.ApplyOptions();
            if (driver.Node.Backing is { } backing && backing.Node.Filename != driver.AutoBackingName)
            {
                driver._autoBacking = null;
            }

            if (wasReadOnly && !driver.Node.IsReadOnly)
            {
                await driver.PrepareForWritesAsync();
            }
        }
    }
}
