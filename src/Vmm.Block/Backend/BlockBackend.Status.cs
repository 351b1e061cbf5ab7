using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Backend;

/// <content>What ranges of the medium hold.</content>
public sealed partial class BlockBackend
{
    /// <summary>What is known about the beginning of a range, over the whole chain. Behind the end there are zeroes.</summary>
    public async IoTask<BlockStatus> StatusAsync(long offset, long bytes)
    {
        await EnterAsync();
        BlockStatus status = _root is { } root
            ? await root.Node.StatusAboveAsync(null, offset, bytes)
            : BlockStatus.Error(BlockResult.NoMedium);
        Leave();
        return status.Bytes == 0 ? new BlockStatus(BlockStatusFlags.Zero | BlockStatusFlags.Eof, bytes) : status;
    }

    /// <summary>
    /// How deep in the chain of backing files the contents of the beginning of a range are.
    /// </summary>
    /// <returns>The depth, 1 for the node at the top, 0 where no node has them, or a negative errno; and for how many bytes that is so.</returns>
    public async IoTask<(int Depth, long Bytes)> DepthAsync(long offset, long bytes)
    {
        await EnterAsync();
        int depth = 0;
        int found = _root is null ? BlockResult.NoMedium : 0;
        long top = 0;
        for (BlockNode? node = _root?.Node; node is not null && found == 0; node = node.FilteredOrBacking)
        {
            // Filters show what is below them and count for nothing.
            if (node.Driver.IsFilter)
            {
                continue;
            }

            depth++;
            BlockStatus status = await node.StatusAsync(offset, bytes, wantZero: false);
            if (status.Result < 0)
            {
                found = status.Result;
            }
            else if (status.Bytes == 0)
            {
                // A backing file that is too short: those above have the zeroes behind its end.
                found = depth == 1 ? 0 : depth;
                break;
            }
            else
            {
                bytes = Math.Min(bytes, status.Bytes);
                top = bytes;
                found = (status.Flags & BlockStatusFlags.Allocated) != 0 ? depth : 0;
            }
        }

        Leave();
        return (found, top == 0 ? bytes : top);
    }
}
