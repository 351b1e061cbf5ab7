using Vmm.Qapi.Types;

namespace Vmm.ObjectModel.Run;

/// <summary>What is done about things that a guest does (-action, set-action). Home: main loop.</summary>
public sealed class ActionPolicy
{
    /// <summary>The guest reboots.</summary>
    public RebootAction Reboot { get; set; } = RebootAction.Reset;

    /// <summary>The guest shuts down.</summary>
    public ShutdownAction Shutdown { get; set; } = ShutdownAction.Poweroff;

    /// <summary>The guest panics.</summary>
    public PanicAction Panic { get; set; } = PanicAction.Shutdown;

    /// <summary>A watchdog expires.</summary>
    public WatchdogAction Watchdog { get; set; } = WatchdogAction.Reset;
}
