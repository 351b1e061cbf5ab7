using Vmm.Interop;

namespace Vmm.EventLoop.Tests;

public sealed class ThreadTests
{
    [Test]
    public void An_io_thread_has_its_name_loop_and_end()
    {
        IOThread thread = new("disk0", new Clocks());
        Assert.That(File.ReadAllText($"/proc/self/task/{thread.ThreadId}/comm"), Is.EqualTo("IO disk0\n"));
        Assert.That(thread.Loop.IsHomeThread, Is.False);
        int calls = 0;
        for (int i = 0; i < 1000; i++)
        {
            thread.Loop.Post(() => calls++);
        }

        thread.Stop();
        Assert.That(calls, Is.EqualTo(1000));
        thread.Dispose();
    }

    [Test]
    public void Each_schedule_from_many_threads_is_followed_by_a_call()
    {
        using IOThread thread = new("io", new Clocks());
        int requested = 0;
        int served = -1;
        BottomHalf bottomHalf = thread.Loop.CreateBottomHalf(() => Volatile.Write(ref served, Volatile.Read(ref requested)));
        Thread[] writers = new Thread[3];
        for (int i = 0; i < writers.Length; i++)
        {
            writers[i] = new Thread(() =>
            {
                for (int j = 0; j < 20_000; j++)
                {
                    Interlocked.Increment(ref requested);
                    bottomHalf.Schedule();
                }
            });
            writers[i].Start();
        }

        Array.ForEach(writers, static writer => writer.Join());
        using ManualResetEventSlim flushed = new(false);
        thread.Loop.Post(flushed.Set);
        flushed.Wait();
        Assert.That(Volatile.Read(ref served), Is.EqualTo(60_000));
    }

    [Test]
    public void Polling_time_adapts()
    {
        using EventLoop loop = new("poll", new Clocks()) { PollMaxNs = 32768 };
        loop.AdaptPolling(20_000);
        Assert.That(loop.PollNs, Is.EqualTo(4000));
        loop.AdaptPolling(20_000);
        Assert.That(loop.PollNs, Is.EqualTo(8000));
        loop.AdaptPolling(7_000);
        Assert.That(loop.PollNs, Is.EqualTo(8000));
        loop.PollGrow = 10;
        loop.AdaptPolling(30_000);
        Assert.That(loop.PollNs, Is.EqualTo(32768));
        loop.PollShrink = 4;
        loop.AdaptPolling(1_000_000);
        Assert.That(loop.PollNs, Is.EqualTo(8192));
        loop.PollShrink = 0;
        loop.AdaptPolling(1_000_000);
        Assert.That(loop.PollNs, Is.Zero);
    }

    [Test]
    public void A_poll_source_is_served_without_its_descriptor()
    {
        using EventLoop loop = new("poll", new Clocks()) { PollMaxNs = long.MaxValue / 4, PollGrow = long.MaxValue };
        loop.Bind();
        loop.AdaptPolling(1);
        loop.AdaptPolling(5000);
        Assert.That(loop.PollNs, Is.EqualTo(long.MaxValue / 4));
        using EventFd fd = EventFd.Create();
        CountingSource source = new();
        int calls = 0;
        using FdWatch watch = loop.Watch(fd.Fd, FdEvents.Readable, _ => calls++, source);

        // The source has something to do at its third look; the descriptor never becomes readable.
        Assert.That(loop.RunOnce(block: true));
        Assert.That(calls, Is.EqualTo(1));
        Assert.That(source.Balance, Is.Zero);
    }

    [Test]
    public void The_lock_excludes_and_is_not_starved()
    {
        MachineLock machineLock = new();
        bool isStopped = false;
        long counter = 0;
        Thread[] spinners = new Thread[2];
        for (int i = 0; i < spinners.Length; i++)
        {
            spinners[i] = new Thread(() =>
            {
                while (!Volatile.Read(ref isStopped))
                {
                    machineLock.Enter();
                    counter++;
                    machineLock.Exit();
                }
            });
            spinners[i].Start();
        }

        // Comes to its end only if the spinners let this thread in again and again.
        long mine = 0;
        for (int i = 0; i < 500; i++)
        {
            machineLock.Enter();
            counter++;
            mine++;
            machineLock.Exit();
            Thread.Yield();
        }

        Volatile.Write(ref isStopped, true);
        Array.ForEach(spinners, static spinner => spinner.Join());
        Assert.That(counter, Is.GreaterThanOrEqualTo(mine));
        Assert.That(machineLock.TryEnter());
        Assert.That(machineLock.IsHeldByCurrentThread);
        machineLock.Exit();
        Assert.That(machineLock.Exit, Throws.InvalidOperationException);
        Assert.That(machineLock.AssertHeld, Throws.InvalidOperationException);
    }

    [Test]
    public void The_lock_counts_right_under_contention()
    {
        MachineLock machineLock = new();
        long counter = 0;
        Thread[] threads = new Thread[4];
        for (int i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(() =>
            {
                for (int j = 0; j < 20_000; j++)
                {
                    machineLock.Enter();
                    counter++;
                    machineLock.Exit();
                }
            });
            threads[i].Start();
        }

        Array.ForEach(threads, static thread => thread.Join());
        Assert.That(counter, Is.EqualTo(80_000));
    }

    [Test]
    public void A_pool_runs_calls_on_at_most_its_threads_and_cancels_the_rest()
    {
        WorkerPool pool = new(2);
        using SemaphoreSlim gate = new(0);
        using CountdownEvent running = new(2);
        Task<int>[] tasks = new Task<int>[3];
        for (int i = 0; i < tasks.Length; i++)
        {
            int value = i;
            tasks[i] = pool.RunAsync(() =>
            {
                running.Signal();
                gate.Wait();
                return value;
            });
        }

        running.Wait();
        pool.Dispose();
        Assert.That(() => pool.RunAsync(static () => 1), Throws.TypeOf<ObjectDisposedException>());
        gate.Release(2);
        Assert.That(tasks[2].IsCanceled);
        Assert.That(Task.WhenAll(tasks[0], tasks[1]).GetAwaiter().GetResult(), Is.EqualTo(new[] { 0, 1 }));
    }

    private sealed class CountingSource : IPollSource
    {
        private int _looks;

        internal int Balance { get; private set; }

        public void PollBegin() => Balance++;

        public bool Poll() => ++_looks == 3;

        public void PollEnd() => Balance--;
    }
}
