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
        option is "lazy-refcounts" or "pass-discard-request" or "pass-discard-snapshot" or "pass-discard-other" or "cache-clean-interval"
            or "overlap-check" or "cache-size" or "l2-cache-size" or "l2-cache-entry-size" or "refcount-cache-size" or "encrypt";

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

        CheckEncryption(Header, wanted.Encrypt);
        Qcow2CacheSizes sizes = Qcow2CacheSizes.For(wanted, Header);
        bool hasOtherSizes = sizes != Qcow2CacheSizes.For(_options, Header);
        if (hasOtherSizes && !Node.IsReadOnly && !_isFailed)
        {
            await _lock.EnterAsync();
            int written = await _metadata.WriteAsync();
            written = written < 0 || !_metadata.Refcounts.Blocks.IsDirty ? written : await _metadata.WriteRefcountsAsync();
            _lock.Exit();
            Check(written, "Could not write metadata");
        }

        if (common.IsReadOnly && !Node.IsReadOnly && !_isFailed)
        {
            // Nothing can be written later: the image is as one that is closed.
            await SuspendWritesAsync();
        }

        return new Change(this, wanted, hasOtherSizes ? sizes : null, wasReadOnly: Node.IsReadOnly);
    }

    private sealed class Change(Qcow2Driver driver, BlockdevOptionsQcow2 options, Qcow2CacheSizes? sizes, bool wasReadOnly) : ReopenStep
    {
        public override async IoTask CommitAsync()
        {
            driver._options = options;
            driver.ApplyOptions();
            driver._metadata.Map.Protected = options.OverlapCheck?.ToStructures() ?? Qcow2Structures.Cached;
            if (sizes is { } wanted && !driver._mapping.Slices.IsDirty && !driver._metadata.Refcounts.Blocks.IsDirty)
            {
                (Qcow2Cache slices, Qcow2Cache blocks) = driver.MakeCaches(driver._metadata, wanted);
                driver._mapping.Replace(slices);
                driver._metadata.Refcounts.Blocks.Dispose();
                driver._metadata.Refcounts.Blocks = blocks;
            }

            if (driver.Node.Backing is { } backing && backing.Node.Filename != driver.AutoBackingName)
            {
                driver._autoBacking = null;
            }

            if (wasReadOnly && !driver.Node.IsReadOnly)
            {
                await driver.PrepareForWritesAsync();
            }
        }

        public override async IoTask AbortAsync()
        {
            if (!driver.Node.IsReadOnly && !driver._isFailed)
            {
                await driver.MarkBitmapsInUseAsync();
            }
        }
    }
}
