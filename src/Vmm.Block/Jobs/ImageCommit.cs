using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>Puts what an image has into its backing file and empties the image, at once and without a job. Home: main loop.</summary>
internal static class ImageCommit
{
    private const int BufferBytes = 1 << 20;

    /// <summary>Commits an image. With the graph's <see cref="BlockGraph.Changing"/> held. Nobody writes the image meanwhile: they wait.</summary>
    /// <returns>0 or a negative errno: ENOTSUP without backing file, EBUSY when a job uses one of both, EACCES when the backing file cannot be written.</returns>
    internal static async IoTask<int> RunAsync(BlockGraph graph, BlockNode top)
    {
        if (top.Driver.IsFilter || top.Backing?.Node is not { } below)
        {
            return BlockResult.NotSupported;
        }

        if (top.JobInUse is not null || below.JobInUse is not null)
        {
            return -(int)Errno.EBUSY;
        }

        bool wasReadOnly = below.IsReadOnly;
        try
        {
            await graph.SetReadOnlyAsync(below, false);
        }
        catch (QapiException)
        {
            return -(int)Errno.EACCES;
        }

        await top.DrainAsync();
        int result;
        try
        {
            result = await CommitAsync(graph, top, below);
        }
        catch (QapiException)
        {
            // Somebody else does not let the backing file be written, or it cannot grow.
            result = -(int)Errno.EPERM;
        }
        finally
        {
            top.DrainEnd();
        }

        if (wasReadOnly)
        {
            await graph.SetReadOnlyAsync(below, true);
        }

        return result;
    }

    private static async IoTask<int> CommitAsync(BlockGraph graph, BlockNode top, BlockNode below)
    {
        BlockBackend source = new(graph, "");
        BlockBackend target = new(graph, "");
        BlockNode filter = await graph.InsertFilterAsync(new CommitTopDriver(), null, top);
        int result;
        try
        {
            source.SetPermissions(BlockPermissions.ConsistentRead | (top.IsReadOnly ? 0 : BlockPermissions.WriteUnchanged), BlockPermissions.All);
            target.SetPermissions(BlockPermissions.Write | BlockPermissions.Resize, BlockPermissions.All);
            source.Insert(top);
            target.Insert(below);
            await top.Loop.SwitchTo();
            result = await CopyAsync(top, below);
        }
        finally
        {
            await graph.MainLoop.SwitchTo();
            source.Remove();
            target.Remove();
            await graph.RemoveFilterAsync(filter);
        }

        return result;
    }

    private static async IoTask<int> CopyAsync(BlockNode top, BlockNode below)
    {
        if (top.Length > below.Length)
        {
            await below.TruncateAsync(top.Length);
        }

        using NativeBuffer buffer = new(BufferBytes);
        int result = 0;
        for (long offset = 0; offset < top.Length && result >= 0;)
        {
            BlockStatus status = await top.StatusAsync(offset, Math.Min(BufferBytes, top.Length - offset), wantZero: false);
            result = status.Result;
            if (result >= 0 && (status.Flags & BlockStatusFlags.Allocated) != 0)
            {
                IoVectors data = IoVectors.Rent(buffer.Vector(0, (int)status.Bytes));
                result = await top.ReadAsync(offset, data);
                result = result < 0 ? result : await below.WriteAsync(offset, data);
                data.Return();
            }

            offset += Math.Max(status.Bytes, 0);
        }

        // What the image gives up is in the backing file before.
        result = result < 0 ? result : await below.FlushAsync();
        if (result >= 0)
        {
            result = top.IsReadOnly ? BlockResult.NotSupported : await top.Driver.MakeEmptyAsync();
            result = result == BlockResult.NotSupported ? 0 : result;
        }

        return result < 0 ? result : await top.FlushAsync();
    }
}
