namespace Vmm.EventLoop.Tasks;

/// <summary>Waiting for a task where no loop runs yet: at start, in tools and tests.</summary>
public static class IoTaskRunner
{
    /// <summary>Runs rounds of the loop, whose home is the calling thread, until the task is complete. Returns its result or throws what it threw.</summary>
    public static T RunUntil<T>(this EventLoop loop, IoTask<T> task)
    {
        while (!task.IsCompleted)
        {
            loop.RunOnce(block: true);
        }

        return task.GetAwaiter().GetResult();
    }

    /// <summary>As <see cref="RunUntil{T}(EventLoop, IoTask{T})"/>, without result.</summary>
    public static void RunUntil(this EventLoop loop, IoTask task)
    {
        while (!task.IsCompleted)
        {
            loop.RunOnce(block: true);
        }

        task.GetAwaiter().GetResult();
    }

    /// <summary>As <see cref="RunUntil{T}(EventLoop, IoTask{T})"/>, for a command's task.</summary>
    public static void RunUntil(this EventLoop loop, Task task)
    {
        while (!task.IsCompleted)
        {
            loop.RunOnce(block: true);
        }

        task.GetAwaiter().GetResult();
    }
}
