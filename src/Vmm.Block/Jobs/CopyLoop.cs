using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Jobs;

/// <summary>A job that goes through an image once, from its begin to its end, and does something with the parts that need it.</summary>
public abstract class CopyLoop(JobManager manager, JobType type, JobSettings settings, BlockdevOnError onError) : Job(manager, type, settings)
{
    /// <summary>Longest part.</summary>
    protected const int ChunkBytes = 512 << 10;

    /// <summary>The image.</summary>
    protected abstract BlockNode Image { get; }

    /// <summary>Says whether the begin of a range needs work. Home loop of the image.</summary>
    /// <returns>A negative errno or 0, whether it does, and for how many bytes that holds.</returns>
    protected abstract IoTask<(int Result, bool IsWanted, long Bytes)> LookAsync(long offset, long bytes);

    /// <summary>Does the work for a part. Home loop of the image.</summary>
    /// <returns>A negative errno or 0, and whether a read has failed.</returns>
    protected abstract IoTask<(int Result, bool IsRead)> CopyAsync(long offset, long bytes);

    /// <summary>Goes through the image.</summary>
    protected async IoTask<int> LoopAsync(long length)
    {
        int first = 0;
        SetRemaining(length);
        long delay = 0;
        for (long offset = 0; offset < length;)
        {
            // Others get their turn even where nothing is to be done; the first are those that have started the job.
            await (delay > 0 ? DelayAsync(delay) : YieldAsync());
            await PausePointAsync();
            delay = 0;
            if (IsForced)
            {
                break;
            }

            await Image.Loop.SwitchTo();
            (int result, bool isWanted, long bytes) = await LookAsync(offset, Math.Min(ChunkBytes, length - offset));
            bool isRead = true;
            if (result >= 0 && isWanted)
            {
                (result, isRead) = await CopyAsync(offset, bytes);
            }

            await Manager.Graph.MainLoop.SwitchTo();
            if (result < 0)
            {
                JobErrorAction action = HandleError(onError, isRead, result);
                if (action == JobErrorAction.Stop)
                {
                    continue;
                }

                first = first < 0 ? first : result;
                if (action == JobErrorAction.Report)
                {
                    break;
                }
            }

            bytes = result < 0 && bytes <= 0 ? Math.Min(ChunkBytes, length - offset) : bytes;
            offset += bytes;
            Advance(bytes);
            delay = isWanted ? Account(bytes) : 0;
        }

        return first;
    }
}
