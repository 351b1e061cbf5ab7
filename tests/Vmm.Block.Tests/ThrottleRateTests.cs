using FsCheck;
using FsCheck.Fluent;
using Vmm.Block.Throttling;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Tests;

/// <summary>How much passes in the long run, how long bursts last, who is let through and when exactly, under a clock that moves by command.</summary>
public sealed class ThrottleRateTests
{
    private const long Second = 1_000_000_000;

    [TestCase(ThrottleBucket.BpsTotal, 1_000_000, 512, 65536, 0)]
    [TestCase(ThrottleBucket.BpsWrite, 104_857_600, 4096, 1_048_576, 0)]
    [TestCase(ThrottleBucket.BpsTotal, 65536, 4096, 4096, 0)]
    [TestCase(ThrottleBucket.IopsTotal, 100, 512, 65536, 0)]
    [TestCase(ThrottleBucket.IopsWrite, 25_000, 512, 512, 0)]
    [TestCase(ThrottleBucket.IopsTotal, 1000, 4096, 65536, 4096)]
    public void TheRateIsWithinTwoPercentOfTheLimit(ThrottleBucket bucket, long limit, int smallest, int largest, long iopsSize)
    {
        ThrottleState state = new();
        state.Configure(new ThrottleConfig().With(bucket, new ThrottleRate(limit, 0, 1)).WithIopsSize(iopsSize), 0);
        Random random = new(1);
        double passed = 0;
        long now = 0;
        long start = 0;
        for (int i = 0; now < 60 * Second && i < 500_000; i++)
        {
            int bytes = random.Next(smallest, largest + 1);
            for (long wait = state.WaitNs(isWrite: true, now); wait > 0; wait = state.WaitNs(isWrite: true, now))
            {
                now += wait;
            }

            // The tenth of a second that passes at once is over after the first second.
            if (start == 0 && now > Second)
            {
                start = now;
            }

            state.Account(isWrite: true, bytes);
            bool isOperations = bucket is ThrottleBucket.IopsTotal or ThrottleBucket.IopsWrite;
            passed += start == 0 ? 0 : !isOperations ? bytes : iopsSize == 0 ? 1 : Math.Max(1, bytes / (double)iopsSize);
        }

        Assert.That(passed / ((now - start) / (double)Second), Is.EqualTo(limit).Within(2).Percent);
    }

    [Test]
    public void ABurstLastsAsLongAsItsBucketTakesToFill()
    {
        var cases = from average in Gen.Choose(50, 500)
            from factor in Gen.Choose(2, 20)
            from length in Gen.Choose(3, 30)
            select (average, max: average * factor, length);
        Prop.ForAll(cases.ToArbitrary(), c =>
        {
            ThrottleState state = new();
            state.Configure(new ThrottleConfig().With(ThrottleBucket.IopsTotal, new ThrottleRate(c.average, c.max, c.length)), 0);
            long now = 0;
            long operations = 0;
            long atOnce = 0;
            long patience = (Second / c.average) + (Second / c.max) >> 1;
            long wait;
            while ((wait = state.WaitNs(isWrite: false, now)) < patience)
            {
                now += wait;
                if (wait == 0)
                {
                    state.Account(isWrite: false, 512);
                    operations++;
                    atOnce = now == 0 ? operations : atOnce;
                }
            }

            // It fills at the burst's rate and leaks at the average one. What a tenth of a second of the burst's rate lets through at once
            // is no part of the rate, and ends the burst that much earlier: from three seconds on that is less than 5 %.
            double expected = (double)c.max * c.length / (c.max - c.average);
            double seconds = now / (double)Second;
            Assert.That(seconds, Is.EqualTo(expected).Within(5).Percent, $"{c}");
            Assert.That((operations - atOnce) / seconds, Is.EqualTo(c.max).Within(5).Percent, $"{c}");
            return true;
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(40));
    }

    [Test]
    public void RequestsAreReleasedToTheNanosecond()
    {
        Gen<int[]> sizes = Gen.Choose(1, 60_000).ArrayOf(40);
        Prop.ForAll(sizes.ToArbitrary(), requests =>
        {
            const int Limit = 100_000;
            using Setting setting = new(new ThrottleConfig().With(ThrottleBucket.BpsTotal, new ThrottleRate(Limit, 0, 1)));
            ThrottleMember member = setting.Add();
            double level = 0;
            foreach (int bytes in requests)
            {
                // What is in the bucket beyond a tenth of a second's average must have leaked before the next one passes.
                int before = setting.Passed.Count;
                setting.Submit(member, bytes);
                double wait = Math.Max(0, (level - (Limit / 10.0)) / Limit * Second);
                if (wait > 4)
                {
                    setting.Step((long)wait - 3);
                    Assert.That(setting.Passed, Has.Count.EqualTo(before), "too early");
                    setting.Step(6);
                    level -= ((long)wait + 3) * (Limit / (double)Second);
                }

                Assert.That(setting.Passed, Has.Count.EqualTo(before + 1), "too late");
                level = Math.Max(0, level) + bytes;
            }

            return true;
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(30));
    }

    [Test]
    public void MembersWithRequestsGetEqualSharesAndNobodyStarves()
    {
        var cases = from members in Gen.Choose(2, 6)
            from queued in Gen.Choose(1, 30).ArrayOf(6)
            select (members, queued);
        Prop.ForAll(cases.ToArbitrary(), c =>
        {
            const int Limit = 100;
            using Setting setting = new(new ThrottleConfig().With(ThrottleBucket.IopsTotal, new ThrottleRate(Limit, 0, 1)));
            int[] left = c.queued[..c.members];
            int total = left.Sum();
            for (int i = 0; i < c.members; i++)
            {
                ThrottleMember member = setting.Add();
                for (int k = 0; k < left[i]; k++)
                {
                    setting.Submit(member, 512);
                }
            }

            for (int i = 0; i <= total && setting.Passed.Count < total; i++)
            {
                setting.Step(Second / Limit);
            }

            Assert.That(setting.Passed, Has.Count.EqualTo(total), "all pass, one each tick");

            // From when all have come: between two passes of one that waits, each other one passes at most twice.
            int[] counts = new int[c.members];
            int settled = Math.Min(total, (Limit / 10) + c.members + 2);
            for (int i = 0; i < total; i++)
            {
                counts[setting.Passed[i]]++;
                if (i < settled)
                {
                    continue;
                }

                int[] gap = new int[c.members];
                for (int k = i + 1; k < total && setting.Passed[k] != setting.Passed[i]; k++)
                {
                    gap[setting.Passed[k]]++;
                }

                bool waits = counts[setting.Passed[i]] < left[setting.Passed[i]];
                Assert.That(!waits || gap.Max() <= 2, $"{c.members} members: {string.Join(' ', setting.Passed)}");
            }

            return true;
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(40));
    }

    /// <summary>A group under a clock that stands still, and who has passed in it.</summary>
    private sealed class Setting : IDisposable
    {
        private readonly Clocks _clocks = new();
        private readonly EventLoop.EventLoop _loop;
        private readonly ThrottleGroup _group;
        private readonly List<ThrottleMember> _members = [];

        internal Setting(ThrottleConfig limits)
        {
            _clocks.UseManualVirtual();
            _loop = new EventLoop.EventLoop("main", _clocks);
            _loop.Bind();
            _clocks.ResumeVirtual();
            _group = new ThrottleGroup("g", _clocks);
            _group.Configure(limits);
        }

        /// <summary>Numbers of members, in the order in which their requests have passed.</summary>
        internal List<int> Passed { get; } = [];

        internal ThrottleMember Add()
        {
            ThrottleMember member = new(_group, _loop);
            _members.Add(member);
            return member;
        }

        internal void Submit(ThrottleMember member, int bytes)
        {
            RunAsync().Forget();

            async IoTask RunAsync()
            {
                await member.PassAsync(isWrite: true, bytes);
                Passed.Add(_members.IndexOf(member));
            }
        }

        internal void Step(long ns)
        {
            _clocks.StepVirtual(ns);
            while (_loop.RunOnce(block: false))
            {
            }
        }

        public void Dispose()
        {
            _members.ForEach(static m => m.Dispose());
            _loop.Dispose();
        }
    }
}
