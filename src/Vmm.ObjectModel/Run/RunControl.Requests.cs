using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Run;

public sealed partial class RunControl
{
    // Where a vCPU asks, it stops before the request can be seen: whoever carries the request out resumes it.

    /// <inheritdoc/>
    public void RequestShutdown(ShutdownCause cause)
    {
        _accelerator.StopCurrentVcpu();
        if (s_shutdownRequest.IsEnabled)
        {
            s_shutdownRequest.Write($"reason={(int)cause}");
        }

        Volatile.Write(ref _shutdownRequest, (int)cause);
        _service.Schedule();
    }

    /// <inheritdoc/>
    public void RequestReset(ShutdownCause cause)
    {
        _accelerator.StopCurrentVcpu();
        if (Actions.Reboot == RebootAction.Shutdown && cause != ShutdownCause.SubsystemReset)
        {
            Volatile.Write(ref _shutdownRequest, (int)cause);
        }
        else
        {
            Volatile.Write(ref _resetRequest, (int)cause);
        }

        _service.Schedule();
    }

    /// <inheritdoc/>
    public void RequestPowerdown()
    {
        s_powerdownRequest.Write("");
        Volatile.Write(ref _powerdownRequest, 1);
        _service.Schedule();
    }

    /// <inheritdoc/>
    public void RequestSuspend()
    {
        if (State == RunState.Suspended)
        {
            return;
        }

        _accelerator.StopCurrentVcpu();
        Volatile.Write(ref _suspendRequest, 1);
        _service.Schedule();
    }

    /// <inheritdoc/>
    public void RequestWakeup(WakeupReason reason)
    {
        _mainLoop.AssertOnHomeLoop();
        if (s_wakeupRequest.IsEnabled)
        {
            s_wakeupRequest.Write($"reason={(int)reason + 1}");
        }

        if (State != RunState.Suspended)
        {
            throw new QapiException("Unable to wake up: guest is not in suspended state");
        }

        if ((WakeupReasons & (1u << (int)reason)) == 0)
        {
            return;
        }

        if (_holdReason is not null)
        {
            _heldWakeup = (int)reason;
            return;
        }

        Enter(RunState.Running);
        Volatile.Write(ref _wakeupRequest, (int)reason);
        _service.Schedule();
    }

    /// <inheritdoc/>
    public void RequestVmStop(RunState state)
    {
        _accelerator.StopCurrentVcpu();
        Volatile.Write(ref _stopRequest, (int)state);
        _service.Schedule();
    }

    /// <summary>Asks to stop for a debugger. Any thread.</summary>
    public void RequestDebug()
    {
        _accelerator.StopCurrentVcpu();
        Volatile.Write(ref _debugRequest, 1);
        _service.Schedule();
    }

    /// <inheritdoc/>
    public void RequestExit(int status)
    {
        _accelerator.StopCurrentVcpu();
        Volatile.Write(ref _exitRequest, status & 0xff);
        _service.Schedule();
    }

    /// <summary>A signal asks the process to end (SIGTERM, SIGINT, SIGHUP): it does so whatever the shutdown policy. Any thread.</summary>
    /// <param name="signal">Signal number.</param>
    /// <param name="pid">Sender, 0 when the kernel sent it.</param>
    public void RequestKilled(int signal, int pid)
    {
        Volatile.Write(ref _signalPid, pid);
        Volatile.Write(ref _signal, signal);
        Actions.Shutdown = ShutdownAction.Poweroff;
        RequestShutdown(ShutdownCause.HostSignal);
    }

    /// <inheritdoc/>
    public void GuestPanicked(GuestPanicInformation? info)
    {
        switch (Actions.Panic)
        {
            case PanicAction.Pause:
            case PanicAction.Shutdown when Actions.Shutdown == ShutdownAction.Pause:
                _events.Emit(new GuestPanickedEvent(GuestPanicAction.Pause, info));
                RequestVmStop(RunState.GuestPanicked);
                break;
            case PanicAction.Shutdown:
            case PanicAction.ExitFailure:
                _events.Emit(new GuestPanickedEvent(GuestPanicAction.Poweroff, info));
                RequestVmStop(RunState.GuestPanicked);
                RequestShutdown(ShutdownCause.GuestPanic);
                break;
            default:
                _events.Emit(new GuestPanickedEvent(GuestPanicAction.Run, info));
                break;
        }
    }

    /// <inheritdoc/>
    public void GuestCrashLoaded(GuestPanicInformation? info) => _events.Emit(new GuestCrashLoadedEvent(GuestPanicAction.Run, info));

    /// <inheritdoc/>
    public void WatchdogExpired()
    {
        WatchdogAction action = Actions.Watchdog;
        _events.Emit(new WatchdogEvent(action));
        switch (action)
        {
            case WatchdogAction.Reset:
                RequestReset(ShutdownCause.GuestReset);
                break;
            case WatchdogAction.Shutdown:
                RequestPowerdown();
                break;
            case WatchdogAction.Poweroff:
                RequestExit(0);
                break;
            case WatchdogAction.Pause:
                RequestVmStop(RunState.Watchdog);
                break;
            case WatchdogAction.Debug:
                Report?.Invoke("watchdog: timer fired");
                break;
            case WatchdogAction.InjectNmi:
                foreach (Accel.IVcpu vcpu in _accelerator.Vcpus)
                {
                    vcpu.InjectNmi();
                }

                break;
            default:
                break;
        }
    }

    /// <summary>
    /// Carries out everything that was requested, in this order: debug, suspend, shutdown, reset, wakeup, powerdown, stop. Runs by
    /// itself on the main loop; commands whose answer follows the effect call it. Main loop, machine lock held.
    /// </summary>
    public void ServicePending()
    {
        _mainLoop.AssertOnHomeLoop();
        if (_servicing || IsExiting)
        {
            return;
        }

        _servicing = true;
        while (ServiceOnce())
        {
            // Callbacks may have requested more, and vCPUs may have while the lock was released.
        }

        _servicing = false;
    }

    private static int Take(ref int request, int none) => Volatile.Read(ref request) == none ? none : Interlocked.Exchange(ref request, none);

    private bool ServiceOnce()
    {
        bool any = false;
        int exit = Take(ref _exitRequest, NoRequest);
        if (exit != NoRequest)
        {
            End(exit);
            return false;
        }

        bool isHeld = _holdReason is not null;
        if (!isHeld && Take(ref _debugRequest, 0) != 0)
        {
            any = true;
            Stop(RunState.Debug);
        }

        if (!isHeld && Take(ref _suspendRequest, 0) != 0)
        {
            any = true;
            Suspend();
        }

        var cause = (ShutdownCause)Take(ref _shutdownRequest, 0);
        if (cause != ShutdownCause.None)
        {
            any = true;
            if (ShutDown(cause))
            {
                return false;
            }
        }

        if (isHeld)
        {
            return any;
        }

        cause = (ShutdownCause)Take(ref _resetRequest, 0);
        if (cause != ShutdownCause.None)
        {
            any = true;
            Reset(cause);
        }

        int wakeup = Take(ref _wakeupRequest, NoRequest);
        if (wakeup != NoRequest)
        {
            any = true;
            WakeUp((WakeupReason)wakeup);
        }

        if (Take(ref _powerdownRequest, 0) != 0)
        {
            any = true;
            PowerDown();
        }

        int stop = Take(ref _stopRequest, NoRequest);
        if (stop != NoRequest)
        {
            any = true;
            Stop((RunState)stop);
        }

        return any;
    }

    private void Suspend()
    {
        if (!IsRunning)
        {
            return;
        }

        _accelerator.PauseAll();
        foreach (Action notify in _suspendNotifiers)
        {
            notify();
        }

        Enter(RunState.Suspended);
        _events.Emit(new SuspendEvent());
    }

    /// <summary>True when the process ends.</summary>
    private bool ShutDown(ShutdownCause cause)
    {
        if (Interlocked.Exchange(ref _signal, 0) is int signal and not 0)
        {
            ReportSignal(signal, _signalPid);
        }

        _events.Emit(new ShutdownEvent(IsByGuest(cause), cause));
        if (Actions.Shutdown == ShutdownAction.Pause)
        {
            Stop(RunState.Shutdown);
            return false;
        }

        End(cause == ShutdownCause.GuestPanic && Actions.Panic == PanicAction.ExitFailure ? 1 : 0);
        return true;
    }

    private void Reset(ShutdownCause cause)
    {
        _accelerator.PauseAll();
        if (MachineReset is { } reset)
        {
            reset(cause);
        }
        else
        {
            _accelerator.ResetVcpus();
        }

        if (cause != ShutdownCause.SubsystemReset)
        {
            _events.Emit(new ResetEvent(IsByGuest(cause), cause));
        }

        if (IsRunning)
        {
            _accelerator.ResumeAll();
        }
        else if (State is not (RunState.Inmigrate or RunState.FinishMigrate))
        {
            Enter(RunState.Prelaunch);
        }
    }

    private void WakeUp(WakeupReason reason)
    {
        _accelerator.PauseAll();
        MachineWakeup?.Invoke(reason);
        foreach (Action<WakeupReason> notify in _wakeupNotifiers)
        {
            notify(reason);
        }

        if (IsRunning)
        {
            _accelerator.ResumeAll();
        }

        _events.Emit(new WakeupEvent());
    }

    private void PowerDown()
    {
        _events.Emit(new PowerdownEvent());
        foreach (Action notify in _powerdownNotifiers)
        {
            notify();
        }
    }

    private void End(int status)
    {
        ExitStatus = status;
        IsExiting = true;
        if (Exit is { } exit)
        {
            exit();
        }
        else
        {
            _mainLoop.Stop();
        }
    }

    private void ReportSignal(int signal, int pid)
    {
        if (Report is not { } report)
        {
            return;
        }

        report(pid == 0
            ? $"terminating on signal {signal}"
            : $"terminating on signal {signal} from pid {pid} ({ProcessName(pid)})");
    }

    private static string ProcessName(int pid)
    {
        try
        {
            string commandLine = File.ReadAllText($"/proc/{pid}/cmdline");
            int end = commandLine.IndexOf('\0');
            commandLine = end >= 0 ? commandLine[..end] : commandLine;
            return commandLine.Length > 0 ? commandLine : "<unknown process>";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "<unknown process>";
        }
    }

    private static bool IsByGuest(ShutdownCause cause) => cause >= ShutdownCause.GuestShutdown;
}
