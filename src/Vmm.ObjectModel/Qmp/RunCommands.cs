using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Whether and how the machine runs.</summary>
[QapiStruct]
public sealed partial record StatusInfo
{
    /// <summary>True when vCPUs execute.</summary>
    public required bool Running { get; init; }

    /// <summary>True when an emulator translates one instruction at a time; never here.</summary>
    public required bool Singlestep { get; init; }

    /// <summary>The run state.</summary>
    public required RunState Status { get; init; }
}

/// <summary>What the machine and its guest can do at present.</summary>
[QapiStruct]
public sealed partial record CurrentMachineParams
{
    /// <summary>True when system_wakeup can wake a suspended guest.</summary>
    public required bool WakeupSuspendSupport { get; init; }
}

/// <summary>Commands that start, stop, reset and end the machine.</summary>
public sealed class RunCommands(RunControl run)
{
    /// <summary>Tells whether the machine runs, and why not.</summary>
    [QmpCommand("query-status", AllowPreconfig = true, Since = "0.14")]
    public StatusInfo QueryStatus() => new() { Running = run.IsRunning, Singlestep = false, Status = run.State };

    /// <summary>Tells what the machine and its guest support at present.</summary>
    [QmpCommand("query-current-machine", Since = "4.0")]
    public CurrentMachineParams QueryCurrentMachine() => new() { WakeupSuspendSupport = run.WakeupSupported };

    /// <summary>Ends the process.</summary>
    [QmpCommand("quit", AllowPreconfig = true, Since = "0.14")]
    public async Task Quit()
    {
        RequestEnd();

        // The answer is the last that a client hears.
        await run.Ended;
    }

    /// <summary>Stops the vCPUs; what the guest has written is on stable storage then.</summary>
    [QmpCommand("stop", Since = "0.14")]
    public async Task Stop()
    {
        run.ThrowIfHeld();
        if (run.IsRunning)
        {
            run.Stop(RunState.Paused);
            await run.Settled;
        }
        else
        {
            await run.Settle();
        }
    }

    /// <summary>Lets the vCPUs run again.</summary>
    [QmpCommand("cont", Since = "0.14")]
    public void Cont() => run.Continue();

    /// <summary>Resets the machine.</summary>
    [QmpCommand("system_reset", Since = "0.14")]
    public void SystemReset()
    {
        run.RequestReset(ShutdownCause.HostQmpSystemReset);
        run.ServicePending();
    }

    /// <summary>Presses the power button.</summary>
    [QmpCommand("system_powerdown", Since = "0.14")]
    public void SystemPowerdown()
    {
        run.RequestPowerdown();
        run.ServicePending();
    }

    /// <summary>Wakes a suspended guest.</summary>
    [QmpCommand("system_wakeup", Since = "1.1")]
    public void SystemWakeup()
    {
        if (!run.WakeupSupported)
        {
            throw new QapiException("wake-up from suspend is not supported by this guest");
        }

        run.RequestWakeup(WakeupReason.Other);
        run.ServicePending();
    }

    /// <summary>Sets what is done when the guest reboots, shuts down or panics, or a watchdog expires.</summary>
    [QmpCommand("set-action", ArgsType = "reboot:s?,shutdown:s?,panic:s?,watchdog:s?", AllowPreconfig = true, Since = "6.0")]
    public void SetAction(RebootAction? reboot, ShutdownAction? shutdown, PanicAction? panic, WatchdogAction? watchdog)
    {
        run.Actions.Reboot = reboot ?? run.Actions.Reboot;
        run.Actions.Panic = panic ?? run.Actions.Panic;
        run.Actions.Watchdog = watchdog ?? run.Actions.Watchdog;
        run.Actions.Shutdown = shutdown ?? run.Actions.Shutdown;
    }

    /// <summary>Sets what is done when a watchdog expires.</summary>
    [QmpCommand("watchdog-set-action", ArgsType = "action:s", Since = "2.11")]
    public void WatchdogSetAction(WatchdogAction action) => run.Actions.Watchdog = action;

    /// <summary>Shows the run state.</summary>
    [HmpCommand("info status", Help = "show the current VM status (running|paused)", AllowPreconfig = true)]
    public void InfoStatus(HmpContext context)
    {
        string why = run.IsRunning || run.State == RunState.Paused ? "" : $" ({RunStateQapi.ToWire(run.State)})";
        context.PrintLine($"VM status: {(run.IsRunning ? "running" : "paused")}{why}");
    }

    /// <summary>Ends the process.</summary>
    [HmpCommand("quit|q", Help = "quit the emulator", AllowPreconfig = true)]
    public void HmpQuit(HmpContext context) => RequestEnd();

    /// <summary>Stops the vCPUs.</summary>
    [HmpCommand("stop|s", Help = "stop emulation")]
    public ValueTask HmpStop(HmpContext context) => new(Stop());

    /// <summary>Lets the vCPUs run again.</summary>
    [HmpCommand("cont|c", Help = "resume emulation")]
    public void HmpCont(HmpContext context) => Cont();

    /// <summary>Resets the machine.</summary>
    [HmpCommand("system_reset", Help = "reset the system")]
    public void HmpSystemReset(HmpContext context) => SystemReset();

    /// <summary>Presses the power button.</summary>
    [HmpCommand("system_powerdown", Help = "send system power down event")]
    public void HmpSystemPowerdown(HmpContext context) => SystemPowerdown();

    /// <summary>Wakes a suspended guest.</summary>
    [HmpCommand("system_wakeup", Help = "wakeup guest from suspend")]
    public void HmpSystemWakeup(HmpContext context) => SystemWakeup();

    /// <summary>Sets what is done when a watchdog expires.</summary>
    [HmpCommand(
        "watchdog_action",
        ArgsType = "action:s",
        Params = "[reset|shutdown|poweroff|pause|debug|none]",
        Help = "change watchdog action")]
    public void HmpWatchdogAction(HmpContext context, string action)
    {
        if (!WatchdogActionQapi.TryParse(action, out WatchdogAction parsed))
        {
            throw new QapiException($"invalid parameter value: {action}");
        }

        WatchdogSetAction(parsed);
    }

    private void RequestEnd()
    {
        run.Actions.Shutdown = ShutdownAction.Poweroff;
        run.RequestShutdown(ShutdownCause.HostQmpQuit);
        run.ServicePending();
    }
}
