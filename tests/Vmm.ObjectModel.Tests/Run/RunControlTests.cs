using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Tests.Run;

/// <summary>Events and states as QEMU 7.2 was recorded to show them.</summary>
public sealed class RunControlTests
{
    private Bench _bench = null!;

    private RunControl Run => _bench.Run;

    [SetUp]
    public void SetUp() => _bench = new Bench();

    [TearDown]
    public void TearDown() => _bench.Dispose();

    [Test]
    public void StopAndContinue()
    {
        Assert.That(Status(), Is.EqualTo("""{"status": "prelaunch", "singlestep": false, "running": false}"""));
        Assert.That(Do("cont"), Is.EqualTo(new[] { "RESUME" }));
        Assert.That(_bench.Accelerator.IsRunning && _bench.Clocks.IsVirtualRunning);
        Assert.That(Do("cont"), Is.Empty);
        Assert.That(Do("stop"), Is.EqualTo(new[] { "STOP" }));
        Assert.That(_bench.Accelerator.IsRunning || _bench.Clocks.IsVirtualRunning, Is.False);
        Assert.That(Do("stop"), Is.Empty);
        Assert.That(Status(), Is.EqualTo("""{"status": "paused", "singlestep": false, "running": false}"""));
    }

    [Test]
    public void ResetKeepsARunningMachineRunning()
    {
        Do("cont");
        Assert.That(Do("system_reset"), Is.EqualTo(new[] { """RESET {"guest": false, "reason": "host-qmp-system-reset"}""" }));
        Assert.That(Run.State, Is.EqualTo(RunState.Running));
        Assert.That(_bench.Accelerator.IsRunning);
        Do("stop");
        Do("system_reset");
        Assert.That(Run.State, Is.EqualTo(RunState.Prelaunch));
        Assert.That(_bench.Accelerator.IsRunning, Is.False);
        Assert.That(_bench.Accelerator.Resets, Is.EqualTo(2));
    }

    [Test]
    public void PoweredOffMachineMustBeResetFirst()
    {
        Do("set-action", """{"shutdown":"pause"}""");
        Do("cont");
        Run.RequestShutdown(ShutdownCause.GuestShutdown);
        Assert.That(Settled(), Is.EqualTo(new[] { """SHUTDOWN {"guest": true, "reason": "guest-shutdown"}""", "STOP" }));
        Assert.That(Run.State, Is.EqualTo(RunState.Shutdown));
        Assert.That(_bench.Execute("cont"), Is.EqualTo("""{"class": "GenericError", "desc": "Resetting the Virtual Machine is required"}"""));
        Do("system_reset");
        Assert.That(Run.State, Is.EqualTo(RunState.Prelaunch));
        Assert.That(Do("cont"), Is.EqualTo(new[] { "RESUME" }));
    }

    [Test]
    public void NoRebootTurnsResetsIntoShutdowns()
    {
        Do("set-action", """{"reboot":"shutdown","shutdown":"pause"}""");
        Do("cont");
        Run.RequestReset(ShutdownCause.GuestReset);
        Assert.That(Settled(), Is.EqualTo(new[] { """SHUTDOWN {"guest": true, "reason": "guest-reset"}""", "STOP" }));
        Assert.That(Do("system_reset"), Is.EqualTo(new[] { """SHUTDOWN {"guest": false, "reason": "host-qmp-system-reset"}""" }));
        Assert.That(Run.State, Is.EqualTo(RunState.Shutdown));
    }

    [Test]
    public void QuitEndsWhateverThePolicy()
    {
        Do("set-action", """{"shutdown":"pause"}""");
        Do("cont");
        Assert.That(Do("quit"), Is.EqualTo(new[] { """SHUTDOWN {"guest": false, "reason": "host-qmp-quit"}""" }));
        Assert.That(Run.IsExiting);
        Assert.That(Run.ExitStatus, Is.Zero);
    }

    [Test]
    public void SignalsEndWithAReport()
    {
        var reports = new List<string>();
        Run.Report = reports.Add;
        Do("set-action", """{"shutdown":"pause"}""");
        Do("cont");
        Run.RequestKilled(15, 0);
        Assert.That(Settled(), Is.EqualTo(new[] { """SHUTDOWN {"guest": false, "reason": "host-signal"}""" }));
        Assert.That(reports, Is.EqualTo(new[] { "terminating on signal 15" }));
        Assert.That(Run.IsExiting);
    }

    [TestCase("{}", "poweroff", 0, RunState.Running)]
    [TestCase("""{"panic":"exit-failure"}""", "poweroff", 1, RunState.Running)]
    [TestCase("""{"panic":"none"}""", "run", -1, RunState.Running)]
    [TestCase("""{"panic":"pause"}""", "pause", -1, RunState.GuestPanicked)]
    [TestCase("""{"shutdown":"pause"}""", "pause", -1, RunState.GuestPanicked)]
    public void PanicsFollowThePolicy(string policy, string action, int exitStatus, RunState state)
    {
        Do("set-action", policy);
        Do("cont");
        Run.GuestPanicked(null);
        string[] events = Settled();
        Assert.That(events[0], Is.EqualTo($$"""GUEST_PANICKED {"action": "{{action}}"}"""));
        Assert.That(events.Skip(1), Is.EqualTo(action switch
        {
            "poweroff" => ["""SHUTDOWN {"guest": true, "reason": "guest-panic"}"""],
            "pause" => ["STOP"],
            _ => Array.Empty<string>(),
        }));
        Assert.That(Run.IsExiting ? Run.ExitStatus : -1, Is.EqualTo(exitStatus));
        Assert.That(Run.State, Is.EqualTo(state));
    }

    [Test]
    public void CrashLoadedIsOnlyTold()
    {
        Do("cont");
        Run.GuestCrashLoaded(null);
        Assert.That(Settled(), Is.EqualTo(new[] { """GUEST_CRASHLOADED {"action": "run"}""" }));
        Assert.That(Run.IsRunning);
    }

    [Test]
    public void SuspendAndWakeUp()
    {
        var reasons = new List<WakeupReason>();
        Run.AddWakeupNotifier(reasons.Add);
        Do("cont");
        Assert.That(_bench.Execute("system_wakeup"), Does.Contain("wake-up from suspend is not supported by this guest"));
        Run.WakeupSupported = true;
        Assert.That(_bench.Execute("system_wakeup"), Does.Contain("Unable to wake up: guest is not in suspended state"));
        Run.RequestSuspend();
        Assert.That(Settled(), Is.EqualTo(new[] { "SUSPEND" }));
        Assert.That(Run.State, Is.EqualTo(RunState.Suspended));
        Assert.That(Do("cont"), Is.Empty);
        Assert.That(Do("system_wakeup"), Is.EqualTo(new[] { "WAKEUP" }));
        Assert.That(Run.IsRunning && _bench.Accelerator.IsRunning);
        Assert.That(reasons, Is.EqualTo(new[] { WakeupReason.Other }));
    }

    [Test]
    public void DisabledWakeupReasonsAreIgnored()
    {
        Do("cont");
        Run.RequestSuspend();
        _bench.Settle();
        Run.EnableWakeup(WakeupReason.Rtc, false);
        Run.RequestWakeup(WakeupReason.Rtc);
        _bench.Settle();
        Assert.That(Run.State, Is.EqualTo(RunState.Suspended));
    }

    [TestCase("reset", """RESET {"guest": true, "reason": "guest-reset"}""")]
    [TestCase("shutdown", "POWERDOWN")]
    [TestCase("pause", "STOP")]
    [TestCase("none", null)]
    public void WatchdogFollowsThePolicy(string action, string? next)
    {
        Do("watchdog-set-action", $$"""{"action":"{{action}}"}""");
        Do("cont");
        Run.WatchdogExpired();
        string[] expected = next is null ? [$$"""WATCHDOG {"action": "{{action}}"}"""] : [$$"""WATCHDOG {"action": "{{action}}"}""", next];
        Assert.That(Settled(), Is.EqualTo(expected));
    }

    [Test]
    public void PowerButtonIsPassedOn()
    {
        int pressed = 0;
        Run.AddPowerdownNotifier(() => pressed++);
        Assert.That(Do("system_powerdown"), Is.EqualTo(new[] { "POWERDOWN" }));
        Assert.That(pressed, Is.EqualTo(1));
    }

    [Test]
    public void DebugExitEndsWithItsStatusAndNoEvent()
    {
        Do("cont");
        Run.RequestExit(33);
        Assert.That(Settled(), Is.Empty);
        Assert.That(Run.ExitStatus, Is.EqualTo(33));
        Assert.That(Run.IsExiting);
    }

    [Test]
    public void RequestsAreServicedInOrder()
    {
        Do("set-action", """{"shutdown":"pause"}""");
        Do("cont");
        Run.RequestVmStop(RunState.Paused);
        Run.RequestPowerdown();
        Run.RequestReset(ShutdownCause.GuestReset);
        Run.RequestSuspend();
        Assert.That(Settled(), Is.EqualTo(new[] { "SUSPEND", """RESET {"guest": true, "reason": "guest-reset"}""", "POWERDOWN" }));
        Assert.That(Run.State, Is.EqualTo(RunState.Prelaunch));
    }

    [Test]
    public void HandlersRunByPriorityAndInReverseOnStop()
    {
        var calls = new List<string>();
        using IDisposable low = Run.AddVmStateChangeHandler((running, _) => calls.Add("low " + running), -5);
        using IDisposable high = Run.AddVmStateChangeHandler((running, _) => calls.Add("high " + running), 5);
        IDisposable gone = Run.AddVmStateChangeHandler((_, _) => calls.Add("gone"));
        gone.Dispose();
        Do("cont");
        Do("stop");
        Assert.That(calls, Is.EqualTo(new[] { "high True", "low True", "low False", "high False" }));
    }

    [Test]
    public void StopRequestedWhileContinuingShowsAsAPair()
    {
        Do("cont");
        Run.RequestVmStop(RunState.IoError);
        Assert.That(Do("cont"), Is.EqualTo(new[] { "STOP", "RESUME" }));
        Assert.That(Run.IsRunning);
    }

    [Test]
    public void UnknownActionsAreRefused()
    {
        Assert.That(_bench.Execute("watchdog-set-action", """{"action":"xx"}"""), Does.Contain("Parameter 'action' does not accept value 'xx'"));
        Assert.That(_bench.Execute("set-action", """{"reboot":"xx"}"""), Does.Contain("Parameter 'reboot' does not accept value 'xx'"));
        Assert.That(_bench.Execute("set-action", """{"x":1}"""), Does.Contain("Parameter 'x' is unexpected"));
    }

    [Test]
    public void StatusIsPrinted()
    {
        Assert.That(_bench.Human("info", "status"), Is.EqualTo("VM status: paused (prelaunch)\n"));
        Do("cont");
        Assert.That(_bench.Human("info", "status"), Is.EqualTo("VM status: running\n"));
        Do("stop");
        Assert.That(_bench.Human("info", "status"), Is.EqualTo("VM status: paused\n"));
    }

    private string Status() => _bench.Execute("query-status");

    private string[] Settled()
    {
        _bench.Settle();
        return _bench.TakeEvents();
    }

    private string[] Do(string command, string arguments = "{}")
    {
        Assert.That(_bench.Execute(command, arguments), Is.EqualTo("{}"));
        return Settled();
    }
}
