using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Run;

/// <summary>Which run states may follow which.</summary>
public static class RunStateTransitions
{
    /// <summary>True when the machine may go from one state to the other; staying is always allowed.</summary>
    public static bool IsAllowed(RunState from, RunState to) => from == to || (Successors(from) & Bit(to)) != 0;

    private static uint Bit(RunState state) => 1u << (int)state;

    private static uint Successors(RunState from) => from switch
    {
        RunState.Debug => Of(RunState.Running, RunState.FinishMigrate, RunState.Prelaunch, RunState.Suspended),
        RunState.Inmigrate => Of(
            RunState.InternalError, RunState.IoError, RunState.Paused, RunState.Running, RunState.Shutdown, RunState.Suspended,
            RunState.Watchdog, RunState.GuestPanicked, RunState.FinishMigrate, RunState.Prelaunch, RunState.Postmigrate, RunState.Colo),
        RunState.InternalError => Of(RunState.Paused, RunState.FinishMigrate, RunState.Prelaunch),
        RunState.IoError => Of(RunState.Running, RunState.FinishMigrate, RunState.Prelaunch),
        RunState.Paused => Of(RunState.Running, RunState.FinishMigrate, RunState.Postmigrate, RunState.Prelaunch, RunState.Colo),
        RunState.Postmigrate => Of(RunState.Running, RunState.FinishMigrate, RunState.Prelaunch),
        RunState.Prelaunch => Of(RunState.Running, RunState.FinishMigrate, RunState.Inmigrate),
        RunState.FinishMigrate => Of(
            RunState.Running, RunState.Paused, RunState.Postmigrate, RunState.Prelaunch, RunState.Colo, RunState.InternalError,
            RunState.IoError, RunState.Shutdown, RunState.Suspended, RunState.Watchdog, RunState.GuestPanicked),
        RunState.RestoreVm => Of(RunState.Running, RunState.Prelaunch),
        RunState.Colo => Of(RunState.Running, RunState.Prelaunch, RunState.Shutdown),
        RunState.Running => Of(
            RunState.Debug, RunState.InternalError, RunState.IoError, RunState.Paused, RunState.FinishMigrate, RunState.RestoreVm,
            RunState.SaveVm, RunState.Shutdown, RunState.Suspended, RunState.Watchdog, RunState.GuestPanicked, RunState.Colo),
        RunState.SaveVm => Of(RunState.Running),
        RunState.Shutdown => Of(RunState.Paused, RunState.FinishMigrate, RunState.Prelaunch, RunState.Colo),
        RunState.Suspended => Of(RunState.Running, RunState.FinishMigrate, RunState.Prelaunch, RunState.Colo),
        RunState.Watchdog => Of(RunState.Running, RunState.FinishMigrate, RunState.Prelaunch, RunState.Colo),
        RunState.GuestPanicked => Of(RunState.Running, RunState.FinishMigrate, RunState.Prelaunch),
        _ => 0,
    };

    private static uint Of(params ReadOnlySpan<RunState> states)
    {
        uint bits = 0;
        foreach (RunState state in states)
        {
            bits |= Bit(state);
        }

        return bits;
    }
}
