using Vmm.Block.Backend;
using Vmm.Block.Exports;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block;

/// <summary>
/// The end of the block layer with the process: what was written reaches the files, images are left clean, persistent bitmaps are stored.
/// </summary>
public static class BlockTeardown
{
    /// <summary>
    /// Turns clients of exports away, ends jobs by force and closes all nodes. The guest is stopped; errors stay untold, there is nobody left to
    /// mend them. Main loop.
    /// </summary>
    public static async IoTask RunAsync(BlockGraph graph, BlockBackends backends, BlockExports exports, JobManager jobs)
    {
        // Before requests are held back, which those of clients would wait for.
        await exports.CloseAllAsync();

        // Limits do not hold in a drained section, which does not end any more.
        await graph.StandStillAsync();
        await jobs.CancelAllAsync();
        await graph.CloseAllAsync(backends.All);
    }
}
