using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <content>Writes that go to both sides at once, and targets that are backing files.</content>
public sealed partial class MirrorJob : IMirrorWriter
{
    private readonly RangeLock _ranges = new();

    /// <inheritdoc/>
    async IoTask IMirrorWriter.BeginAsync(long offset, long bytes)
    {
        (long start, long end) = Granules(offset, bytes);
        await _ranges.EnterAsync(start, end);
        _dirty.BeginCopied(offset, bytes);
    }

    /// <inheritdoc/>
    async IoTask IMirrorWriter.EndAsync(long offset, long bytes, IoVectors? data, bool isDiscard, int result)
    {
        int copied = result;
        if (result >= 0)
        {
            copied = isDiscard ? await _targetNode.DiscardAsync(offset, bytes)
                : data is null ? await _targetNode.WriteZeroesAsync(offset, bytes, _mirror.Unmaps ? BlockRequestFlags.MayUnmap : BlockRequestFlags.None)
                : await _targetNode.WriteAsync(offset, data);
        }

        // A granule of which a part is written stays to be copied, if it was.
        _dirty.EndCopied(offset, bytes, copied >= 0);
        if (result >= 0 && copied < 0)
        {
            // The guest's write counts all the same; the range is copied again, or the job ends.
            PostActiveError(copied);
        }

        (long start, long end) = Granules(offset, bytes);
        _ranges.Exit(start, end);
    }

    private void PostActiveError(int error) => Manager.Graph.MainLoop.RunOrPost(() => OnActiveError(error));

    private void OnActiveError(int error)
    {
        if (HandleError(_mirror.OnTargetError, isRead: false, error) == JobErrorAction.Report)
        {
            _result = error;
        }

        Kick();
    }

    private (long Start, long End) Granules(long offset, long bytes)
    {
        long mask = _mirror.Granularity - 1;
        return (offset & ~mask, (offset + bytes + mask) & ~mask);
    }

    // What is between source and target is neither consistent nor written by others while the target is written.
    private void UseIntermediate()
    {
        for (BlockNode? node = _source.FilteredOrBacking; node is not null && node != _targetNode; node = node.FilteredOrBacking)
        {
            bool showsTarget = node.SkipFilters == _targetNode.SkipFilters;
            Use(
                node,
                "intermediate node",
                BlockPermissions.None,
                BlockPermissions.WriteUnchanged | BlockPermissions.Write | (showsTarget ? BlockPermissions.ConsistentRead : 0));
        }

        BlockGraph.FreezeChain(_top, _targetNode);
        _isFrozen = true;
    }

    private void Unfreeze()
    {
        if (_isFrozen)
        {
            _isFrozen = false;
            BlockGraph.UnfreezeChain(_top, _targetNode);
        }
    }

    private async IoTask GrowTargetAsync()
    {
        await _source.Loop.SwitchTo();
        try
        {
            await _targetNode.TruncateAsync(_source.Length);
        }
        finally
        {
            await Manager.Graph.MainLoop.SwitchTo();
        }
    }
}
