using Vmm.ObjectModel.Run;

namespace Vmm.Devices.PvPanic;

/// <summary>The events of the paravirtual panic device, on whatever bus it is.</summary>
internal static class PvPanicEvents
{
    /// <summary>The guest's kernel crashed.</summary>
    public const byte Panicked = 1;

    /// <summary>The guest's kernel crashed, and its crash kernel goes on.</summary>
    public const byte CrashLoaded = 2;

    /// <summary>Acts on what the guest wrote.</summary>
    public static void Report(IRunControl run, byte value)
    {
        if ((value & Panicked) != 0)
        {
            run.GuestPanicked(null);
        }
        else if ((value & CrashLoaded) != 0)
        {
            run.GuestCrashLoaded(null);
        }
    }
}
