namespace Vmm.Dump;

/// <summary>Threads that share the work of one dump.</summary>
internal static class DumpThreads
{
    private const int StackBytes = 256 << 10;

    /// <summary>Runs <paramref name="work"/> on so many threads, of which the caller is one, and returns when all have ended.</summary>
    /// <remarks>The first exception ends all and is thrown again here.</remarks>
    internal static void Run(int count, DumpProgress progress, Action work)
    {
        Exception? failure = null;
        var others = new Thread[count - 1];
        for (int i = 0; i < others.Length; i++)
        {
            others[i] = new Thread(Guarded, StackBytes) { IsBackground = true, Name = "dump" };
            others[i].Start();
        }

        Guarded();
        foreach (Thread other in others)
        {
            other.Join();
        }

        if (failure is not null)
        {
            throw failure;
        }

        void Guarded()
        {
            try
            {
                work();
            }
            catch (Exception exception)
            {
                Interlocked.CompareExchange(ref failure, exception, null);
                progress.Cancel();
            }
        }
    }
}
