using Vmm.ObjectModel.Run;
using Vmm.Qapi.Types;

namespace Vmm.Devices;

/// <summary>What devices need of run control beyond its contract.</summary>
public static class RunControlExtensions
{
    /// <summary>Wakes the guest if it is suspended; nothing otherwise. Main loop.</summary>
    public static void WakeIfSuspended(this IRunControl run, WakeupReason reason)
    {
        if (run.State == RunState.Suspended)
        {
            run.RequestWakeup(reason);
        }
    }
}
