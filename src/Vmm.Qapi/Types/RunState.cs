namespace Vmm.Qapi.Types;

/// <summary>What the machine as a whole is doing.</summary>
[QapiEnum]
public enum RunState
{
    /// <summary>Stopped by a debugger.</summary>
    Debug,

    /// <summary>Waiting for an incoming migration.</summary>
    Inmigrate,

    /// <summary>Stopped by an internal error; goes no further.</summary>
    InternalError,

    /// <summary>Stopped by an I/O error under the "stop" policy.</summary>
    IoError,

    /// <summary>Stopped by an operator.</summary>
    Paused,

    /// <summary>Stopped after its migration to elsewhere is complete.</summary>
    Postmigrate,

    /// <summary>Created with -S and not started yet.</summary>
    Prelaunch,

    /// <summary>Stopped for the last phase of a migration.</summary>
    FinishMigrate,

    /// <summary>Stopped while a snapshot is loaded.</summary>
    RestoreVm,

    /// <summary>vCPUs execute.</summary>
    Running,

    /// <summary>Stopped while a snapshot is saved.</summary>
    SaveVm,

    /// <summary>Powered off and kept by -no-shutdown.</summary>
    Shutdown,

    /// <summary>Suspended to RAM.</summary>
    Suspended,

    /// <summary>Stopped by a watchdog.</summary>
    Watchdog,

    /// <summary>Stopped after the guest said that it crashed.</summary>
    GuestPanicked,

    /// <summary>Stopped for a checkpoint of a replicated machine.</summary>
    Colo,
}

/// <summary>Why a machine is shut down or reset.</summary>
[QapiEnum]
public enum ShutdownCause
{
    /// <summary>No request.</summary>
    None,

    /// <summary>An error of the host prevents further use.</summary>
    HostError,

    /// <summary>The QMP command quit.</summary>
    HostQmpQuit,

    /// <summary>The QMP command system_reset.</summary>
    HostQmpSystemReset,

    /// <summary>A signal such as SIGINT.</summary>
    HostSignal,

    /// <summary>A user interface, such as closing a window.</summary>
    HostUi,

    /// <summary>The guest powered off.</summary>
    GuestShutdown,

    /// <summary>The guest reset, with a shutdown instead under -no-reboot.</summary>
    GuestReset,

    /// <summary>The guest panicked and the policy is to shut down.</summary>
    GuestPanic,

    /// <summary>Reset of one subsystem, invisible to clients.</summary>
    SubsystemReset,

    /// <summary>Reset before a snapshot is loaded; devices that keep random seeds keep them.</summary>
    SnapshotLoad,
}

/// <summary>What to do when the guest reboots.</summary>
[QapiEnum]
public enum RebootAction
{
    /// <summary>Reset the machine.</summary>
    Reset,

    /// <summary>Shut down instead.</summary>
    Shutdown,
}

/// <summary>What to do when the guest shuts down.</summary>
[QapiEnum]
public enum ShutdownAction
{
    /// <summary>End the process.</summary>
    Poweroff,

    /// <summary>Stop the machine and keep the process.</summary>
    Pause,
}

/// <summary>What to do when the guest panics.</summary>
[QapiEnum]
public enum PanicAction
{
    /// <summary>Stop the machine.</summary>
    Pause,

    /// <summary>Shut down, with exit status 0.</summary>
    Shutdown,

    /// <summary>Shut down, with exit status 1.</summary>
    ExitFailure,

    /// <summary>Let it run on.</summary>
    None,
}

/// <summary>What to do when a watchdog expires.</summary>
[QapiEnum]
public enum WatchdogAction
{
    /// <summary>Reset the machine.</summary>
    Reset,

    /// <summary>Ask the guest to shut down.</summary>
    Shutdown,

    /// <summary>Shut down at once.</summary>
    Poweroff,

    /// <summary>Stop the machine.</summary>
    Pause,

    /// <summary>Print a message.</summary>
    Debug,

    /// <summary>Nothing.</summary>
    None,

    /// <summary>Inject a non-maskable interrupt into every vCPU.</summary>
    InjectNmi,
}

/// <summary>What was done about a panicked guest.</summary>
[QapiEnum]
public enum GuestPanicAction
{
    /// <summary>The machine is stopped.</summary>
    Pause,

    /// <summary>The machine is shut down.</summary>
    Poweroff,

    /// <summary>The guest runs on.</summary>
    Run,
}

/// <summary>Where details of a crash come from.</summary>
[QapiEnum]
public enum GuestPanicInformationType
{
    /// <summary>Hyper-V crash registers.</summary>
    HyperV,
}

/// <summary>Details of a guest's crash.</summary>
[QapiUnion(Discriminator = "type")]
public sealed partial record GuestPanicInformation
{
    /// <summary>Which branch follows.</summary>
    public GuestPanicInformationType Type { get; init; }

    /// <summary>Hyper-V crash registers.</summary>
    [QapiBranch("hyper-v")]
    public GuestPanicInformationHyperV? HyperV { get; init; }
}

/// <summary>Hyper-V crash MSRs P0 to P4.</summary>
[QapiStruct]
public sealed partial record GuestPanicInformationHyperV
{
    /// <summary>HV_X64_MSR_CRASH_P0.</summary>
    public required ulong Arg1 { get; init; }

    /// <summary>HV_X64_MSR_CRASH_P1.</summary>
    public required ulong Arg2 { get; init; }

    /// <summary>HV_X64_MSR_CRASH_P2.</summary>
    public required ulong Arg3 { get; init; }

    /// <summary>HV_X64_MSR_CRASH_P3.</summary>
    public required ulong Arg4 { get; init; }

    /// <summary>HV_X64_MSR_CRASH_P4.</summary>
    public required ulong Arg5 { get; init; }
}
