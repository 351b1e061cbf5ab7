using FsCheck;
using FsCheck.Fluent;
using Vmm.Block.Throttling;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Leaky buckets over a clock, and groups that share them.</summary>
public sealed class ThrottleTests
{
    private const long Second = 1_000_000_000;

    private static ThrottleConfig Limit(ThrottleBucket bucket, long average, long max = 0, long length = 1, long iopsSize = 0) =>
        new ThrottleConfig().With(bucket, new ThrottleRate(average, max, length)).WithIopsSize(iopsSize);

    [TestCase(1000, 0, 1)]
    [TestCase(1000, 5000, 1)]
    [TestCase(1000, 2000, 7)]
    public void NoWindowExceedsItsLimit(long average, long max, long length)
    {
        Gen<int[]> sizes = Gen.Choose(1, 400).ArrayOf(300);
        Prop.ForAll(sizes.ToArbitrary(), requests =>
        {
            ThrottleState state = new();
            state.Configure(Limit(ThrottleBucket.BpsTotal, average, max, length), 0);
            long now = 0;
            List<(long Time, int Bytes)> passed = [];
            foreach (int bytes in requests)
            {
                for (long wait = state.WaitNs(isWrite: true, now); wait > 0; wait = state.WaitNs(isWrite: true, now))
                {
                    now += wait;
                }

                state.Account(isWrite: true, bytes);
                passed.Add((now, bytes));
            }

            // What passes in any window is what the bucket holds, what leaks meanwhile, and the request that made it overflow.
            double size = max == 0 ? average / 10.0 : (double)max * length;
            for (int first = 0; first < passed.Count; first += 7)
            {
                double sum = 0;
                for (int last = first; last < passed.Count; last++)
                {
                    sum += passed[last].Bytes;
                    double window = (passed[last].Time - passed[first].Time) / (double)Second;
                    Assert.That(sum, Is.LessThanOrEqualTo(size + average * window + 400 + 400 + 1), "average");
                    if (length > 1)
                    {
                        Assert.That(sum, Is.LessThanOrEqualTo(max / 10.0 + max * window + 800 + 1), "burst");
                    }
                }
            }

            return true;
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(30));
    }

    [Test]
    public void AWaitingRequestIsReleasedWhenTheBucketSaysSo()
    {
        ThrottleState state = new();
        state.Configure(Limit(ThrottleBucket.IopsRead, 10), 0);
        state.Account(isWrite: false, 4096);
        Assert.That(state.WaitNs(isWrite: false, 0), Is.Zero, "a tenth of a second's average is one request");
        state.Account(isWrite: false, 4096);
        Assert.That(state.WaitNs(isWrite: false, 0), Is.EqualTo(Second / 10));
        Assert.That(state.WaitNs(isWrite: true, 0), Is.Zero, "writes are not limited");
        Assert.That(state.WaitNs(isWrite: false, Second / 10), Is.Zero);
    }

    [Test]
    public void ABurstLastsAsLongAsItSays()
    {
        ThrottleState state = new();
        state.Configure(Limit(ThrottleBucket.IopsTotal, 100, 1000, 5), 0);
        long now = 0;
        int burst = 0;
        while (true)
        {
            long wait = state.WaitNs(isWrite: false, now);
            if (wait > Second / 200)
            {
                break;
            }

            now += wait;
            if (wait == 0)
            {
                state.Account(isWrite: false, 512);
                burst++;
            }
        }

        // The burst's bucket holds 5 s at 1000, and 100 leak in each second of it.
        Assert.That(burst / 1000.0, Is.EqualTo(5.0 + 0.5).Within(0.3));
        Assert.That(now / (double)Second, Is.EqualTo(5.45).Within(0.3));
    }

    [Test]
    public void LargeRequestsCountSeveralTimes()
    {
        ThrottleState state = new();
        state.Configure(Limit(ThrottleBucket.IopsTotal, 100, iopsSize: 4096), 0);
        state.Account(isWrite: false, 4096 * 20);
        Assert.That(state.WaitNs(isWrite: false, 0), Is.EqualTo(Second / 10));
    }

    [TestCase("bps/iops/max total values and read/write values cannot be used at the same time", 10, 10, 0, 1, 0)]
    [TestCase("bps_max/iops_max require corresponding bps/iops values", 0, 0, 5, 1, 0)]
    [TestCase("bps_max/iops_max cannot be lower than bps/iops", 10, 0, 5, 1, 0)]
    [TestCase("burst length set without burst rate", 10, 0, 0, 2, 0)]
    [TestCase("burst length set without burst rate", 10, 0, 0, -1, 0)]
    [TestCase("burst length too high for this burst rate", 10, 0, 100, -1, 0)]
    [TestCase("the burst length cannot be 0", 10, 0, 0, 0, 0)]
    [TestCase("burst length too high for this burst rate", 10, 0, 1000000000000, 2000, 0)]
    [TestCase("iops size requires an iops value to be set", 10, 0, 0, 1, 512)]
    [TestCase("bps/iops/max values must be within [0, 1000000000000000]", 2000000000000000, 0, 0, 1, 0)]
    public void ContradictionsAreRefused(string message, long total, long read, long max, long length, long iopsSize)
    {
        ThrottleConfig config = Limit(ThrottleBucket.BpsTotal, total, max, length, iopsSize)
            .With(ThrottleBucket.BpsRead, new ThrottleRate(read, 0, 1));
        Assert.That(config.Validate, Throws.TypeOf<QapiException>().With.Message.EqualTo(message));
    }

    [Test]
    public void MembersTakeTurnsAndReleaseTimesAreExact()
    {
        Clocks clocks = new();
        clocks.UseManualVirtual();
        using EventLoop.EventLoop loop = new("main", clocks);
        loop.Bind();
        clocks.ResumeVirtual();
        ThrottleGroup group = new("g", clocks);
        group.Configure(Limit(ThrottleBucket.IopsTotal, 10));
        using ThrottleMember a = new(group, loop);
        using ThrottleMember b = new(group, loop);
        List<(char Who, long Ms)> order = [];
        for (int i = 0; i < 4; i++)
        {
            Run(a, 'a').Forget();
        }

        for (int i = 0; i < 4; i++)
        {
            Run(b, 'b').Forget();
        }

        while (order.Count < 8)
        {
            clocks.StepVirtual(10_000_000);
            while (loop.RunOnce(block: false))
            {
            }
        }

        Assert.That(string.Concat(order.Select(o => o.Who)), Is.EqualTo("aaababbb"), "a had its third request weighed before b came");
        Assert.That(order.Select(o => o.Ms), Is.EqualTo(new long[] { 0, 0, 100, 200, 300, 400, 500, 600 }));

        async IoTask Run(ThrottleMember member, char who)
        {
            await member.PassAsync(isWrite: true, 512);
            order.Add((who, clocks.NowNs(ClockType.Virtual) / 1_000_000));
        }
    }

    [Test]
    public void ADisabledMemberWaitsForNothing()
    {
        Clocks clocks = new();
        using EventLoop.EventLoop loop = new("main", clocks);
        loop.Bind();
        ThrottleGroup group = new("g", clocks);
        group.Configure(Limit(ThrottleBucket.IopsTotal, 1));
        using ThrottleMember member = new(group, loop);
        int done = 0;
        for (int i = 0; i < 5; i++)
        {
            Run().Forget();
        }

        Assert.That(done, Is.LessThan(5));
        member.Disable();
        while (done < 5)
        {
            loop.RunOnce(block: true);
        }

        member.Enable();

        async IoTask Run()
        {
            await member.PassAsync(isWrite: true, 512);
            done++;
        }
    }

    [Test]
    public void ADisabledMemberDoesNotWaitForTheTurnsOfOthers()
    {
        Clocks clocks = new();
        clocks.UseManualVirtual();
        using EventLoop.EventLoop loop = new("main", clocks);
        loop.Bind();
        clocks.ResumeVirtual();
        ThrottleGroup group = new("g", clocks);
        group.Configure(Limit(ThrottleBucket.IopsTotal, 10));
        using ThrottleMember a = new(group, loop);
        using ThrottleMember b = new(group, loop);
        int ofA = 0;
        int ofB = 0;
        for (int i = 0; i < 4; i++)
        {
            RunA().Forget();
            RunB().Forget();
        }

        int before = ofB;
        a.Disable();
        Step(1);
        Assert.That(ofA, Is.EqualTo(4), "at once");
        Assert.That(ofB, Is.EqualTo(before), "b has its limits still");
        a.Enable();
        Step(200);
        Assert.That(ofB, Is.EqualTo(4));

        void Step(int times)
        {
            for (int i = 0; i < times; i++)
            {
                clocks.StepVirtual(10_000_000);
                while (loop.RunOnce(block: false))
                {
                }
            }
        }

        async IoTask RunA()
        {
            await a.PassAsync(isWrite: true, 512);
            ofA++;
        }

        async IoTask RunB()
        {
            await b.PassAsync(isWrite: true, 512);
            ofB++;
        }
    }
}
