namespace Vmm.EventLoop.Tests;

/// <summary>Looking for the next event for a while before the thread sleeps.</summary>
public sealed class LingerTests
{
    // Length of waits awake and asleep in us, which of them is better.
    [TestCase(20, 60, ExpectedResult = true)]
    [TestCase(60, 20, ExpectedResult = false)]
    [TestCase(55, 60, ExpectedResult = false)]
    [TestCase(10_000, 20_000, ExpectedResult = false)]
    public bool What_is_better_is_done(int awake, int asleep) => Run(new LingerChoice(), awake, asleep, 5000) > 4500;

    [Test]
    public void A_choice_is_revised_when_the_machine_has_changed()
    {
        LingerChoice choice = new();
        Assert.That(Run(choice, 20, 60, 30_000), Is.GreaterThan(29_000));
        Assert.That(Run(choice, 90, 15, 10_000), Is.LessThan(100));
        Run(choice, 20, 60, 10_000);
        Assert.That(Run(choice, 20, 60, 1000), Is.GreaterThan(950));
    }

    [Test]
    public void What_is_worse_is_tried_rarely()
    {
        LingerChoice choice = new();
        Run(choice, 200, 20, 5000);
        Assert.That(Run(choice, 200, 20, 10_000), Is.InRange(5, 20));
    }

    [Test]
    public void A_single_long_wait_changes_nothing()
    {
        LingerChoice choice = new();
        Run(choice, 20, 60, 5000);
        choice.Observe(true, 5_000_000);
        Assert.That(Run(choice, 20, 60, 100), Is.GreaterThan(95));
    }

    [Test]
    public void A_loop_that_expects_something_misses_nothing()
    {
        const int Count = 2000;
        MachineLock held = new();
        using EventLoop loop = new("main", new Clocks(), held);
        held.Enter();
        loop.Bind();
        int seen = 0;
        int lockHeld = 0;
        int due = 0;
        using LoopTimer timer = loop.CreateTimer(ClockType.Realtime, () => due++);
        using Barrier turn = new(2);
        Thread other = new(() =>
        {
            for (int i = 0; i < Count; i++)
            {
                turn.SignalAndWait();
                Thread.SpinWait(i % 64 * 50);
                loop.Post(() =>
                {
                    seen++;
                    lockHeld += held.IsHeldByCurrentThread ? 1 : 0;
                });
            }
        });
        other.Start();
        for (int i = 1; i <= Count; i++)
        {
            timer.ArmAfter(10_000);
            turn.SignalAndWait();
            while (seen < i || due < i)
            {
                loop.ExpectSoon();
                loop.RunOnce(block: true);
            }
        }

        other.Join();
        held.Exit();
        Assert.That((seen, lockHeld, due), Is.EqualTo((Count, Count, Count)));
    }

    // Number of waits that were begun awake.
    private static int Run(LingerChoice choice, int awakeUs, int asleepUs, int count)
    {
        int result = 0;
        for (int i = 0; i < count; i++)
        {
            bool awake = choice.Next();
            result += awake ? 1 : 0;
            choice.Observe(awake, 1000 * (awake ? awakeUs : asleepUs));
        }

        return result;
    }
}
