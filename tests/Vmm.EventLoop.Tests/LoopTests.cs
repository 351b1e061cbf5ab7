using Vmm.Interop;

namespace Vmm.EventLoop.Tests;

/// <summary>Loops that the test's own thread runs.</summary>
public sealed class LoopTests
{
    private Clocks _clocks = null!;
    private MachineLock _lock = null!;
    private EventLoop _loop = null!;

    [SetUp]
    public void CreateLoop()
    {
        _clocks = new Clocks();
        _lock = new MachineLock();
        _loop = new EventLoop("main", _clocks, _lock);
        _lock.Enter();
        _loop.Bind();
    }

    [TearDown]
    public void DestroyLoop()
    {
        _loop.Dispose();
        _lock.Exit();
    }

    [Test]
    public void Posts_run_in_order_under_the_lock()
    {
        List<string> seen = [];
        _loop.Post(() => seen.Add("a" + _lock.IsHeldByCurrentThread));
        _loop.Post(static list => list.Add("b"), seen);
        _loop.Post(() => _loop.Post(() => seen.Add("next round")));
        Assert.That(_loop.RunOnce(block: true));
        Assert.That(seen, Is.EqualTo(new[] { "aTrue", "b" }));
        Assert.That(_loop.RunOnce(block: true));
        Assert.That(seen[^1], Is.EqualTo("next round"));
        Assert.That(_loop.RunOnce(block: false), Is.False);
    }

    [Test]
    public void A_callback_that_waits_is_served_by_what_stands_behind_it()
    {
        List<string> seen = [];
        _loop.Post(() =>
        {
            for (int i = 0; i < 3 && seen.Count == 0; i++)
            {
                _loop.RunOnce(block: i > 0);
            }

            seen.Add("waited");
        });
        _loop.Post(() => seen.Add("behind"));
        _loop.Post(() => seen.Add("last"));
        _loop.RunOnce(block: true);
        Assert.That(seen, Is.EqualTo(new[] { "behind", "last", "waited" }));
        Assert.That(_loop.RunOnce(block: false), Is.False);
    }

    [Test]
    public void Bottom_halves_coalesce_and_can_be_cancelled()
    {
        int calls = 0;
        BottomHalf bottomHalf = _loop.CreateBottomHalf(() => calls++);
        bottomHalf.Schedule();
        bottomHalf.Schedule();
        Assert.That(bottomHalf.IsScheduled);
        _loop.RunOnce(block: true);
        Assert.That(calls, Is.EqualTo(1));
        bottomHalf.Schedule();
        bottomHalf.Cancel();
        _loop.RunOnce(block: false);
        Assert.That(calls, Is.EqualTo(1));
        bottomHalf.Schedule();
        bottomHalf.Cancel();
        bottomHalf.Schedule();
        _loop.RunOnce(block: false);
        Assert.That(calls, Is.EqualTo(2));
    }

    [Test]
    public void A_bottom_half_that_reschedules_itself_leaves_room_for_others()
    {
        int calls = 0;
        BottomHalf self = null!;
        self = _loop.CreateBottomHalf(() =>
        {
            calls++;
            self.Schedule();
        });
        self.Schedule();
        _loop.RunOnce(block: true);
        _loop.RunOnce(block: true);
        Assert.That(calls, Is.EqualTo(2));
    }

    [Test]
    public void Watches_are_level_triggered_and_change_interest()
    {
        using EventFd fd = EventFd.Create();
        FdEvents last = FdEvents.None;
        int calls = 0;
        using FdWatch watch = _loop.Watch(fd.Fd, FdEvents.Readable, events =>
        {
            last = events;
            calls++;
        });
        Assert.That(_loop.RunOnce(block: false), Is.False);
        fd.Signal();
        _loop.RunOnce(block: true);
        _loop.RunOnce(block: true);
        Assert.That((last, calls), Is.EqualTo((FdEvents.Readable, 2)));
        watch.Interest = FdEvents.None;
        Assert.That(_loop.RunOnce(block: false), Is.False);
        watch.Interest = FdEvents.Readable | FdEvents.Writable;
        _loop.RunOnce(block: true);
        Assert.That(last, Is.EqualTo(FdEvents.Readable | FdEvents.Writable));
        watch.Dispose();
        Assert.That(_loop.RunOnce(block: false), Is.False);
        Assert.That(() => watch.Interest = FdEvents.Readable, Throws.TypeOf<ObjectDisposedException>());
    }

    [Test]
    public void A_suspended_watch_ignores_even_a_hang_up()
    {
        Assert.That(Libc.SocketPair(Libc.SOCK_STREAM, out SafeFd a, out SafeFd b), Is.EqualTo(Errno.OK));
        using (a)
        {
            FdEvents last = FdEvents.None;
            using FdWatch watch = _loop.Watch(a.Fd, FdEvents.Readable, events => last = events);
            watch.Interest = FdEvents.None;
            b.Dispose();
            Assert.That(_loop.RunOnce(block: false), Is.False);
            watch.Interest = FdEvents.Readable;
            _loop.RunOnce(block: true);
            Assert.That(last, Is.EqualTo(FdEvents.Readable | FdEvents.HangUp));
        }
    }

    [Test]
    public void A_watch_disposed_by_an_earlier_callback_of_the_round_is_not_called()
    {
        using EventFd one = EventFd.Create();
        using EventFd two = EventFd.Create();
        one.Signal();
        two.Signal();
        int calls = 0;
        FdWatch[] watches = new FdWatch[2];
        for (int i = 0; i < 2; i++)
        {
            int other = 1 - i;
            watches[i] = _loop.Watch(i == 0 ? one.Fd : two.Fd, FdEvents.Readable, _ =>
            {
                calls++;
                watches[other].Dispose();
            });
        }

        _loop.RunOnce(block: true);
        Assert.That(calls, Is.EqualTo(1));
    }

    [Test]
    public void Files_that_cannot_be_polled_are_always_ready()
    {
        Assert.That(Libc.Open("/proc/self/exe", Libc.O_RDONLY, out SafeFd file), Is.EqualTo(Errno.OK));
        using (file)
        {
            int calls = 0;
            using FdWatch watch = _loop.Watch(file.Fd, FdEvents.Readable, _ => calls++);
            _loop.RunOnce(block: true);
            _loop.RunOnce(block: true);
            watch.Interest = FdEvents.None;
            Assert.That(_loop.RunOnce(block: false), Is.False);
            Assert.That(calls, Is.EqualTo(2));
        }
    }

    [Test]
    public void Watching_twice_or_a_closed_descriptor_is_a_bug()
    {
        using EventFd fd = EventFd.Create();
        using FdWatch watch = _loop.Watch(fd.Fd, FdEvents.Readable, static _ => { });
        Assert.That(() => _loop.Watch(fd.Fd, FdEvents.Readable, static _ => { }), Throws.InvalidOperationException);
        Assert.That(() => _loop.Watch(-1, FdEvents.Readable, static _ => { }), Throws.InvalidOperationException);
    }

    [Test]
    public void Another_thread_wakes_a_blocked_loop()
    {
        bool isDone = false;
        Thread thread = new(() => _loop.Post(() => isDone = true));
        thread.Start();
        while (!isDone)
        {
            _loop.RunOnce(block: true);
        }

        thread.Join();
    }

    [Test]
    public void The_lock_is_free_while_the_loop_waits()
    {
        bool isDone = false;
        Thread thread = new(() =>
        {
            _lock.Enter();
            _loop.Post(() => isDone = true);
            _lock.Exit();
        });
        thread.Start();
        while (!isDone)
        {
            _loop.RunOnce(block: true);
        }

        thread.Join();
    }

    [Test]
    public void Run_ends_after_stop_and_serves_what_is_queued()
    {
        bool isLate = false;
        _loop.Post(() =>
        {
            _loop.Stop();
            _loop.Post(() => isLate = true);
        });
        _loop.Run();
        Assert.That(isLate);
        _loop.Stop();
        _loop.Run();
    }

    [Test]
    public void Awaits_return_to_the_loop()
    {
        using WorkerPool pool = new(1);
        string trace = "";
        bool isDone = false;
        async Task Work()
        {
            int home = Environment.CurrentManagedThreadId;
            int worker = await pool.RunAsync(static () => Environment.CurrentManagedThreadId);
            trace += worker != home && _loop.IsHomeThread && _lock.IsHeldByCurrentThread;
            try
            {
                await pool.RunAsync(static () => throw new FormatException("x"));
            }
            catch (FormatException)
            {
                trace += _loop.IsHomeThread;
            }

            await _loop.SwitchTo();
            isDone = true;
        }

        _loop.Post(() => _ = Work());
        while (!isDone)
        {
            _loop.RunOnce(block: true);
        }

        Assert.That(trace, Is.EqualTo("TrueTrue"));
    }

    [Test]
    public void Escaped_exceptions_reach_the_owner_and_lose_no_later_work()
    {
        Exception? escaped = null;
        _loop.EscapedException = exception =>
        {
            escaped = exception;
            return true;
        };
        bool isLater = false;
        _loop.Post(static () => throw new FormatException("boom"));
        _loop.Post(() => isLater = true);
        Assert.That(() => _loop.RunOnce(block: true), Throws.TypeOf<FormatException>());
        Assert.That(escaped!.Message, Is.EqualTo("boom"));
        _loop.RunOnce(block: true);
        Assert.That(isLater);
    }

    [Test]
    public void A_callback_may_run_the_loop()
    {
        bool isInner = false;
        _loop.Post(() =>
        {
            _loop.Post(() => isInner = true);
            while (!isInner)
            {
                _loop.RunOnce(block: true);
            }
        });
        _loop.RunOnce(block: true);
        Assert.That(isInner);
        Assert.That(_loop.RunOnce(block: false), Is.False);
    }

    [Test]
    public void Pipes_run_their_callbacks_on_the_loop()
    {
        bool isHome = false;
        _loop.Scheduler.Schedule(_ => isHome = _loop.IsHomeThread, null);
        _loop.RunOnce(block: true);
        Assert.That(isHome);
    }

    [Test]
    public void Foreign_threads_are_told_apart()
    {
        Exception? seen = null;
        bool isHome = true;
        Thread thread = new(() =>
        {
            isHome = _loop.IsHomeThread;
            try
            {
                _loop.AssertOnHomeLoop();
            }
            catch (InvalidOperationException exception)
            {
                seen = exception;
            }
        });
        thread.Start();
        thread.Join();
        Assert.That(isHome, Is.False);
        Assert.That(seen, Is.Not.Null);
        _loop.AssertOnHomeLoop();
    }

    [Test]
    public void A_round_allocates_nothing()
    {
        _clocks.ResumeVirtual();
        using EventFd fd = EventFd.Create();
        LoopTimer timer = null!;
        BottomHalf bottomHalf = _loop.CreateBottomHalf(() => timer.ArmAfter(0));
        timer = _loop.CreateTimer(ClockType.Virtual, fd.Signal);
        Action post = bottomHalf.Schedule;
        using FdWatch watch = _loop.Watch(fd.Fd, FdEvents.Readable, _ =>
        {
            fd.Drain();
            _loop.Post(post);
        });
        _loop.Post(post);
        for (int i = 0; i < 300; i++)
        {
            _loop.RunOnce(block: true);
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 300; i++)
        {
            _loop.RunOnce(block: true);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }
}
