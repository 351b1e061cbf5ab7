using FsCheck;
using FsCheck.Fluent;

namespace Vmm.EventLoop.Tests;

public sealed class TimerTests
{
    private Clocks _clocks = null!;
    private EventLoop _loop = null!;

    [SetUp]
    public void CreateLoop()
    {
        _clocks = new Clocks();
        _clocks.UseManualVirtual();
        _clocks.ResumeVirtual();
        _loop = new EventLoop("main", _clocks);
        _loop.Bind();
    }

    [TearDown]
    public void DestroyLoop() => _loop.Dispose();

    [Test]
    public void SteppingTheClockOverDeadlinesAllocatesNothing()
    {
        int fired = 0;
        LoopTimer timer = null!;
        timer = _loop.CreateTimer(ClockType.Virtual, () =>
        {
            fired++;
            timer.ArmAfter(1000);
        });
        timer.ArmAfter(1000);
        _clocks.StepVirtual(10_000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        _clocks.StepVirtual(10_000_000);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.That((allocated, fired), Is.EqualTo((0L, 10_010)));
    }

    [Test]
    public void The_manual_clock_moves_by_command_alone()
    {
        Assert.That(_clocks.NowNs(ClockType.Virtual), Is.Zero);
        Assert.That(_clocks.StepVirtualToDeadline(), Is.Zero);
        Assert.That(_clocks.StepVirtual(100), Is.EqualTo(100));
        Assert.That(_clocks.SetVirtual(50), Is.EqualTo(100));
        Assert.That(_clocks.SetVirtual(250), Is.EqualTo(250));
        Assert.That(_clocks.StepVirtual(-5), Is.EqualTo(250));
        Assert.That(_clocks.StepVirtual(long.MaxValue), Is.EqualTo(long.MaxValue));
    }

    [Test]
    public void A_step_goes_from_deadline_to_deadline()
    {
        List<string> seen = [];
        LoopTimer periodic = null!;
        periodic = _loop.CreateTimer(ClockType.Virtual, () =>
        {
            seen.Add("p" + _clocks.NowNs(ClockType.Virtual));
            periodic.ArmAfter(10);
        });
        periodic.ArmAt(10);
        LoopTimer chained = null!;
        LoopTimer once = _loop.CreateTimer(ClockType.Virtual, () =>
        {
            seen.Add("o" + _clocks.NowNs(ClockType.Virtual));
            chained.ArmAfter(0);
        });
        chained = _loop.CreateTimer(ClockType.Virtual, () => seen.Add("c" + _clocks.NowNs(ClockType.Virtual)));
        once.ArmAt(25);
        Assert.That(_clocks.NextVirtualDeadlineNs(), Is.EqualTo(10));
        Assert.That(_clocks.StepVirtual(30), Is.EqualTo(30));
        Assert.That(seen, Is.EqualTo(new[] { "p10", "p20", "o25", "c25", "p30" }));
        Assert.That(_clocks.StepVirtualToDeadline(), Is.EqualTo(40));
        Assert.That(seen[^1], Is.EqualTo("p40"));
    }

    [Test]
    public void Timers_of_other_loops_run_in_deadline_order_on_their_threads()
    {
        using IOThread thread = new("io", _clocks);
        List<string> seen = [];
        void Record(string name, EventLoop home)
        {
            lock (seen)
            {
                seen.Add(name + home.IsHomeThread);
            }
        }

        LoopTimer second = thread.Loop.CreateTimer(ClockType.Virtual, () => Record("2", thread.Loop));
        LoopTimer first = _loop.CreateTimer(ClockType.Virtual, () => Record("1", _loop));
        LoopTimer third = _loop.CreateTimer(ClockType.Virtual, () => Record("3", _loop));
        third.ArmAt(30);
        second.ArmAt(20);
        first.ArmAt(10);
        Assert.That(_clocks.StepVirtual(100), Is.EqualTo(100));
        Assert.That(seen, Is.EqualTo(new[] { "1True", "2True", "3True" }));
    }

    [Test]
    public void A_step_gives_the_machine_lock_away_while_it_waits_for_another_loop()
    {
        MachineLock machineLock = new();
        using EventLoop main = new("locked", _clocks, machineLock);
        bool isRun = false;
        using IOThread thread = new("io", _clocks);
        LoopTimer timer = thread.Loop.CreateTimer(ClockType.Virtual, () =>
        {
            machineLock.Enter();
            isRun = true;
            machineLock.Exit();
        });
        timer.ArmAt(5);
        Thread stepper = new(() =>
        {
            machineLock.Enter();
            main.Bind();
            _clocks.StepVirtual(10);
            machineLock.AssertHeld();
            machineLock.Exit();
        });
        stepper.Start();
        stepper.Join();
        Assert.That(isRun);
    }

    [Test]
    public void A_standing_clock_fires_nothing()
    {
        int calls = 0;
        LoopTimer timer = _loop.CreateTimer(ClockType.Virtual, () => calls++);
        timer.ArmAt(5);
        _clocks.PauseVirtual();
        Assert.That(_clocks.NextVirtualDeadlineNs(), Is.Null);
        Assert.That(_clocks.StepVirtual(10), Is.EqualTo(10));
        _loop.RunOnce(block: false);
        Assert.That(calls, Is.Zero);
        _clocks.ResumeVirtual();
        Assert.That(_loop.RunOnce(block: true));
        Assert.That(calls, Is.EqualTo(1));
    }

    [Test]
    public void The_free_running_virtual_clock_keeps_its_value_over_a_pause()
    {
        Clocks clocks = new();
        Assert.That(clocks.NowNs(ClockType.Virtual), Is.Zero);
        clocks.LoadVirtual(1_000_000_000_000);
        clocks.ResumeVirtual();
        long first = clocks.NowNs(ClockType.Virtual);
        Assert.That(first, Is.GreaterThanOrEqualTo(1_000_000_000_000));
        clocks.PauseVirtual();
        long paused = clocks.NowNs(ClockType.Virtual);
        Assert.That(paused, Is.GreaterThanOrEqualTo(first));
        Assert.That(clocks.NowNs(ClockType.Virtual), Is.EqualTo(paused));
        clocks.ResumeVirtual();
        Assert.That(clocks.NowNs(ClockType.Virtual), Is.GreaterThanOrEqualTo(paused));
        Assert.That(() => clocks.LoadVirtual(0), Throws.InvalidOperationException);
        Assert.That(() => clocks.SetVirtual(0), Throws.InvalidOperationException);
    }

    [Test]
    public void Timers_cancel_rearm_and_tell_their_state()
    {
        int calls = 0;
        LoopTimer timer = _loop.CreateTimer(ClockType.Virtual, () => calls++);
        Assert.That((timer.IsArmed, timer.DeadlineNs), Is.EqualTo((false, long.MaxValue)));
        timer.ArmAt(10);
        timer.ArmAt(20);
        Assert.That((timer.IsArmed, timer.DeadlineNs), Is.EqualTo((true, 20L)));
        _clocks.StepVirtual(15);
        Assert.That(calls, Is.Zero);
        timer.Cancel();
        timer.Cancel();
        _clocks.StepVirtual(100);
        Assert.That(calls, Is.Zero);
        timer.ArmAfter(1);
        _clocks.StepVirtual(1);
        Assert.That((calls, timer.IsArmed), Is.EqualTo((1, false)));
    }

    [Test]
    public void Realtime_timers_end_a_wait()
    {
        int calls = 0;
        LoopTimer timer = _loop.CreateTimer(ClockType.Realtime, () => calls++);
        timer.ArmAfter(100_000);
        while (calls == 0)
        {
            _loop.RunOnce(block: true);
        }

        LoopTimer host = _loop.CreateTimer(ClockType.Host, () => calls++);
        host.ArmAfter(100_000);
        while (calls == 1)
        {
            _loop.RunOnce(block: true);
        }
    }

    [Test]
    public void A_timer_that_rearms_itself_for_now_does_not_hold_up_the_round()
    {
        int calls = 0;
        LoopTimer timer = null!;
        timer = _loop.CreateTimer(ClockType.Realtime, () =>
        {
            calls++;
            timer.ArmAt(0);
        });
        timer.ArmAt(0);
        _loop.RunOnce(block: true);
        Assert.That(calls, Is.EqualTo(1));
    }

    [Test]
    public void Arming_from_another_thread_wakes_the_loop()
    {
        bool isDone = false;
        LoopTimer timer = _loop.CreateTimer(ClockType.Realtime, () => isDone = true);
        Thread thread = new(() => timer.ArmAt(0));
        thread.Start();
        while (!isDone)
        {
            _loop.RunOnce(block: true);
        }

        thread.Join();
    }

    [Test]
    public void The_heap_is_a_stable_priority_queue()
    {
        Prop.ForAll(ArbMap.Default.ArbFor<(byte Timer, byte Deadline, bool Cancel)[]>(), operations =>
        {
            TimerHeap heap = new();
            LoopTimer[] timers = new LoopTimer[8];
            for (int i = 0; i < timers.Length; i++)
            {
                timers[i] = _loop.CreateTimer(ClockType.Virtual, static () => { });
            }

            List<(long Deadline, int Order, LoopTimer Timer)> model = [];
            int order = 0;
            foreach ((byte index, byte deadline, bool cancel) in operations)
            {
                LoopTimer timer = timers[index % timers.Length];
                model.RemoveAll(entry => entry.Timer == timer);
                if (cancel)
                {
                    heap.Remove(timer);
                }
                else
                {
                    heap.Add(timer, deadline % 16);
                    model.Add((deadline % 16, order++, timer));
                }

                long nearest = model.Count == 0 ? long.MaxValue : model.Min(static entry => entry.Deadline);
                if (heap.NearestNs != nearest)
                {
                    return false;
                }
            }

            foreach ((long deadline, int _, LoopTimer timer) in model.OrderBy(static entry => (entry.Deadline, entry.Order)))
            {
                if (heap.TakeDue(deadline - 1, long.MaxValue) is not null || heap.TakeDue(deadline, long.MaxValue) != timer)
                {
                    return false;
                }
            }

            return heap.NearestNs == long.MaxValue;
        }).QuickCheckThrowOnFailure();
    }
}
