using Vmm.EventLoop;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Logging;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Run;

/// <summary>
/// The run state machine. Requests set a flag and schedule <see cref="ServicePending"/> on the main loop; a flag that is set
/// again before it is serviced counts once. Home: main loop under the machine lock, except the Request methods (any thread).
/// </summary>
public sealed partial class RunControl : IRunControl
{
    private const int NoRequest = -1;

    private static readonly TraceEvent s_runstateSet = new("runstate_set");
    private static readonly TraceEvent s_vmStateNotify = new("vm_state_notify");
    private static readonly TraceEvent s_wakeupRequest = new("system_wakeup_request");
    private static readonly TraceEvent s_shutdownRequest = new("qemu_system_shutdown_request");
    private static readonly TraceEvent s_powerdownRequest = new("qemu_system_powerdown_request");

    private readonly EventLoop.EventLoop _mainLoop;
    private readonly Clocks _clocks;
    private readonly IAccelerator _accelerator;
    private readonly IEventEmitter _events;
    private readonly BottomHalf _service;
    private readonly List<Action> _powerdownNotifiers = [];
    private readonly List<Action<WakeupReason>> _wakeupNotifiers = [];
    private readonly List<Action> _suspendNotifiers = [];
    private readonly List<StateHandler> _stateHandlers = [];

    private int _shutdownRequest;
    private int _resetRequest;
    private int _powerdownRequest;
    private int _suspendRequest;
    private int _debugRequest;
    private int _wakeupRequest = NoRequest;
    private int _stopRequest = NoRequest;
    private int _exitRequest = NoRequest;
    private int _state = (int)RunState.Prelaunch;
    private bool _servicing;
    private int _signal;
    private int _signalPid;

    /// <summary>A machine that is created and not started.</summary>
    public RunControl(EventLoop.EventLoop mainLoop, IAccelerator accelerator, IEventEmitter events)
    {
        _mainLoop = mainLoop;
        _clocks = mainLoop.Clocks;
        _accelerator = accelerator;
        _events = events;
        _service = mainLoop.CreateBottomHalf(ServicePending);
    }

    /// <summary>Trace events of run control, for the registry.</summary>
    public static IReadOnlyList<TraceEvent> TraceEvents =>
        [s_runstateSet, s_vmStateNotify, s_wakeupRequest, s_shutdownRequest, s_powerdownRequest];

    /// <inheritdoc/>
    public RunState State => (RunState)Volatile.Read(ref _state);

    /// <inheritdoc/>
    public bool IsRunning => State == RunState.Running;

    /// <summary>What is done about reboots, shutdowns, panics and watchdogs.</summary>
    public ActionPolicy Actions { get; } = new();

    /// <summary>Brings devices and vCPUs to their power-on state; the machine sets it. By default only the vCPUs.</summary>
    public Action<ShutdownCause>? MachineReset { get; set; }

    /// <summary>Brings the machine out of suspension: a reset that keeps RAM; a machine that can sleep sets it. By default nothing.</summary>
    public Action<WakeupReason>? MachineWakeup { get; set; }

    /// <summary>True when the machine and its guest can be woken from suspension; the ACPI power management model sets it.</summary>
    public bool WakeupSupported { get; set; }

    /// <summary>Which <see cref="WakeupReason"/>s wake the guest, as a set of bits 1 &lt;&lt; reason; all by default.</summary>
    public uint WakeupReasons { get; set; } = uint.MaxValue;

    /// <summary>Told once, on the main loop, that the process is to end with <see cref="ExitStatus"/>. By default the main loop stops.</summary>
    public Action? Exit { get; set; }

    /// <summary>Receives lines for the operator's terminal, such as "terminating on signal 15 from pid 12 (kill)".</summary>
    public Action<string>? Report { get; set; }

    /// <summary>True once the process is to end.</summary>
    public bool IsExiting { get; private set; }

    /// <summary>Exit status of the process; meaningful once <see cref="IsExiting"/>.</summary>
    public int ExitStatus { get; private set; }

    /// <summary>Complete when all is done that has to be done before the process ends: who asked for the end is answered then. By default at once.</summary>
    public Task Ended { get; init; } = Task.CompletedTask;

    /// <summary>
    /// Waits for what the machine has asked of the host and puts it on stable storage, whenever the machine was stopped. By default nothing. Main loop.
    /// </summary>
    public Func<Task> Settle { get; init; } = static () => Task.CompletedTask;

    /// <summary>The last <see cref="Settle"/>.</summary>
    public Task Settled { get; private set; } = Task.CompletedTask;

    /// <inheritdoc/>
    public void AddPowerdownNotifier(Action notify) => _powerdownNotifiers.Add(notify);

    /// <inheritdoc/>
    public void EnableWakeup(WakeupReason reason, bool enabled)
    {
        uint bit = 1u << (int)reason;
        WakeupReasons = enabled ? WakeupReasons | bit : WakeupReasons & ~bit;
    }

    /// <inheritdoc/>
    public void AddWakeupNotifier(Action<WakeupReason> notify) => _wakeupNotifiers.Add(notify);

    /// <inheritdoc/>
    public void AddSuspendNotifier(Action notify) => _suspendNotifiers.Add(notify);

    /// <inheritdoc/>
    public IDisposable AddVmStateChangeHandler(VmStateChangeHandler handler, int priority = 0)
    {
        int at = 0;
        while (at < _stateHandlers.Count && _stateHandlers[at].Priority >= priority)
        {
            at++;
        }

        var entry = new StateHandler(this, handler, priority);
        _stateHandlers.Insert(at, entry);
        return entry;
    }

    /// <summary>Starts or continues the machine (cont, end of start-up without -S). Nothing happens when it runs.</summary>
    /// <exception cref="QapiException">The state does not allow it.</exception>
    public void Continue()
    {
        _mainLoop.AssertOnHomeLoop();
        if (State is RunState.InternalError or RunState.Shutdown)
        {
            throw new QapiException("Resetting the Virtual Machine is required");
        }

        if (State == RunState.Suspended)
        {
            return;
        }

        if (State == RunState.FinishMigrate)
        {
            throw new QapiException("Migration is not finalized yet");
        }

        ThrowIfHeld();
        Start();
    }

    /// <summary>Lets the vCPUs run. A stop that was requested and not carried out yet shows as a STOP and RESUME pair.</summary>
    public void Start()
    {
        _mainLoop.AssertOnHomeLoop();
        int pendingStop = Interlocked.Exchange(ref _stopRequest, NoRequest);
        if (IsRunning)
        {
            if (pendingStop != NoRequest)
            {
                _events.Emit(new StopEvent());
                _events.Emit(new ResumeEvent());
                _accelerator.ResumeAll();
            }

            return;
        }

        _events.Emit(new ResumeEvent());
        _clocks.ResumeVirtual();
        Enter(RunState.Running);
        Notify(running: true, RunState.Running);
        _accelerator.ResumeAll();
    }

    /// <summary>Stops the vCPUs and enters a state. Nothing happens when they are stopped.</summary>
    /// <param name="state">The state to enter.</param>
    /// <param name="quiet">Send no STOP event (end of the process, migration).</param>
    public void Stop(RunState state, bool quiet = false)
    {
        _mainLoop.AssertOnHomeLoop();
        if (!IsRunning)
        {
            return;
        }

        Enter(state);
        _clocks.PauseVirtual();
        _accelerator.PauseAll();
        Notify(running: false, state);
        if (!quiet)
        {
            _events.Emit(new StopEvent());
        }

        Settled = Settle();
    }

    /// <summary>
    /// Enters a state without starting or stopping vCPUs (incoming migration, end of migration). A transition that the table
    /// does not allow is a broken invariant and ends the process.
    /// </summary>
    public void Enter(RunState state)
    {
        RunState from = State;
        if (!RunStateTransitions.IsAllowed(from, state))
        {
            Environment.FailFast($"invalid run state transition: '{from}' -> '{state}'");
        }

        if (s_runstateSet.IsEnabled)
        {
            s_runstateSet.Write($"current_run_state {(int)from} ({RunStateQapi.ToWire(from)}) new_state {(int)state} ({RunStateQapi.ToWire(state)})");
        }

        Volatile.Write(ref _state, (int)state);
    }

    private void Notify(bool running, RunState state)
    {
        if (s_vmStateNotify.IsEnabled)
        {
            s_vmStateNotify.Write($"running {(running ? 1 : 0)} reason {(int)state} ({RunStateQapi.ToWire(state)})");
        }

        // A handler may take itself out while it is called.
        StateHandler[] handlers = [.. _stateHandlers];
        for (int i = 0; i < handlers.Length; i++)
        {
            StateHandler handler = handlers[running ? i : handlers.Length - 1 - i];
            if (!handler.IsDisposed)
            {
                handler.Callback(running, state);
            }
        }
    }

    private sealed class StateHandler(RunControl owner, VmStateChangeHandler callback, int priority) : IDisposable
    {
        public VmStateChangeHandler Callback => callback;

        public int Priority => priority;

        public bool IsDisposed { get; private set; }

        public void Dispose()
        {
            IsDisposed = true;
            owner._stateHandlers.Remove(this);
        }
    }
}
