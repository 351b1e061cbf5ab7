using FsCheck;
using FsCheck.Fluent;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Tests.Run;

/// <summary>Random requests, some of them from other threads in the middle of a pause, never break the state machine or lose an event.</summary>
public sealed class RunStateModelTests
{
    private static readonly RunState[] s_stops = [RunState.Paused, RunState.IoError, RunState.Watchdog, RunState.Debug, RunState.InternalError];

    [Test]
    public void RandomRequestsFollowTheTable() => Prop.ForAll(
        ArbMap.Default.ArbFor<byte[]>(),
        operations =>
        {
            using var bench = new Bench();
            RunControl run = bench.Run;
            run.WakeupSupported = true;
            run.Actions.Shutdown = ShutdownAction.Pause;
            bool? wasRunning = false;
            var history = new List<string>();
            var queue = new Queue<byte>(operations.Concat(operations));
            bench.Accelerator.WhilePausing = () =>
            {
                // What a vCPU does in the time in which the machine lock is free.
                if (queue.TryDequeue(out byte operation) && operation % 3 == 0)
                {
                    FromVcpu(run, operation);
                }
            };
            while (queue.TryDequeue(out byte operation))
            {
                if ((operation & 1) == 0)
                {
                    FromVcpu(run, operation);
                }
                else
                {
                    FromClient(bench, operation);
                }

                bench.Settle();
                Assert.That(bench.Accelerator.IsRunning, Is.EqualTo(run.IsRunning));
                string[] events = bench.TakeEvents();
                history.Add($"{operation}: {string.Join(", ", events)} -> {run.State}");
                wasRunning = Replay(events, wasRunning, run, history);
            }
        }).QuickCheckThrowOnFailure();

    [Test]
    public void TenThousandStopsAndThousandResetsBesideGuestRequests()
    {
        using var bench = new Bench();
        RunControl run = bench.Run;
        bench.Accelerator.WhilePausing = () => run.RequestPowerdown();
        int stops = 0;
        int resumes = 0;
        int resets = 0;
        for (int i = 0; i < 10_000; i++)
        {
            run.Continue();
            if (i % 10 == 0)
            {
                run.RequestReset(ShutdownCause.GuestReset);
            }

            bench.Settle();
            run.Stop(RunState.Paused);
            bench.Settle();
            string[] events = bench.TakeEvents();
            stops += events.Count(e => e == "STOP");
            resumes += events.Count(e => e == "RESUME");
            resets += events.Count(e => e.StartsWith("RESET", StringComparison.Ordinal));
        }

        Assert.That((stops, resumes, resets), Is.EqualTo((10_000, 10_000, 1_000)));
    }

    [Test]
    public void RequestsOfOtherThreadsAreAllCarriedOut()
    {
        using var bench = new Bench();
        RunControl run = bench.Run;
        run.Continue();
        int powerdowns = 0;
        run.AddPowerdownNotifier(() => Interlocked.Increment(ref powerdowns));
        for (int i = 0; i < 200; i++)
        {
            int seen = powerdowns;
            var thread = new Thread(run.RequestPowerdown);
            thread.Start();
            while (Volatile.Read(ref powerdowns) == seen)
            {
                bench.MainLoop.RunOnce(block: true);
            }

            thread.Join();
        }

        Assert.That(powerdowns, Is.EqualTo(200));
    }

    private static void FromVcpu(RunControl run, byte operation)
    {
        switch ((operation >> 1) % 7)
        {
            case 0:
                run.RequestReset(ShutdownCause.GuestReset);
                break;
            case 1:
                run.RequestShutdown(ShutdownCause.GuestShutdown);
                break;
            case 2:
                run.RequestSuspend();
                break;
            case 3:
                run.RequestPowerdown();
                break;
            case 4:
                run.RequestVmStop(s_stops[operation % s_stops.Length]);
                break;
            case 5:
                run.GuestPanicked(null);
                break;
            default:
                run.RequestDebug();
                break;
        }
    }

    private static void FromClient(Bench bench, byte operation)
    {
        string[] commands = ["stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "cont", "cont"];
        bench.Execute(commands[(operation >> 1) % commands.Length]);
    }

    /// <summary>
    /// Checks that STOP and RESUME alternate and agree with the state. Between SUSPEND and WAKEUP a machine may be stopped or not (null).
    /// </summary>
    private static bool? Replay(string[] events, bool? running, RunControl run, List<string> history)
    {
        string Tell(string what) => what + "\n" + string.Join('\n', history);
        foreach (string name in events)
        {
            switch (name)
            {
                case "RESUME":
                    Assert.That(running, Is.Not.True, Tell("RESUME of a running machine"));
                    running = true;
                    break;
                case "STOP":
                    Assert.That(running, Is.Not.False, Tell("STOP of a stopped machine"));
                    running = false;
                    break;
                case "SUSPEND":
                    Assert.That(running, Is.Not.False, Tell("SUSPEND of a stopped machine"));
                    running = null;
                    break;
                case "WAKEUP" when running is null:
                    running = true;
                    break;
            }
        }

        if (running is { } known)
        {
            Assert.That(known, Is.EqualTo(run.IsRunning), Tell("events tell another story than the state"));
        }

        return running;
    }
}
