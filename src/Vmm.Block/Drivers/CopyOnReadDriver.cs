using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>A filter whose reads have the image below keep what it got from its backing files.</summary>
public sealed class CopyOnReadDriver : FilterDriver
{
    private readonly string? _bottomName;
    private BlockNode? _bottom;

    /// <summary>A filter as an operator wants it.</summary>
    public CopyOnReadDriver(BlockdevOptionsCor options) => _bottomName = options.Bottom;

    /// <summary>A filter for contents that come from above or out of a node of the chain.</summary>
    public CopyOnReadDriver(BlockNode bottom) => _bottom = bottom;

    /// <inheritdoc/>
    public override string FormatName => "copy-on-read";

    /// <inheritdoc/>
    public override bool CanReopen => false;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => base.SupportedWriteFlags | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => base.SupportedZeroFlags | BlockRequestFlags.MayUnmap | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override IoTask OpenAsync()
    {
        if (_bottomName is null)
        {
            return IoTask.CompletedTask;
        }

        _bottom = Node.Graph.Find(_bottomName) ?? throw new QapiException($"Bottom node '{_bottomName}' not found");
        if (_bottom.Driver.IsFilter)
        {
            throw new QapiException($"Bottom node '{_bottomName}' is a filter");
        }

        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        if (_bottom is null)
        {
            return await Child.ReadAsync(offset, data, flags | BlockRequestFlags.CopyOnRead);
        }

        long bytes = data.Size;
        for (long done = 0; done < bytes;)
        {
            BlockStatus status = await Child.StatusAboveAsync(_bottom.FilteredOrBacking, offset + done, bytes - done, wantZero: false);
            long part = status.Result < 0 || status.Bytes == 0 ? bytes - done : status.Bytes;
            bool isWanted = (status.Flags & BlockStatusFlags.Allocated) != 0;
            IoVectors slice = IoVectors.RentSlice(data, done, part);
            int result = await Child.ReadAsync(offset + done, slice, isWanted ? flags | BlockRequestFlags.CopyOnRead : flags);
            slice.Return();
            if (result < 0)
            {
                return result;
            }

            done += part;
        }

        return 0;
    }

    /// <inheritdoc/>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared)
    {
        (BlockPermissions own, BlockPermissions others) = base.ChildPermissions(child, needed, shared);

        // What is copied is written without changing anything.
        return (own | BlockPermissions.WriteUnchanged, others);
    }
}
