using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>The terminal command about booting.</summary>
/// <param name="machine">The machine; null while there is none.</param>
public sealed class BootCommands(Func<Machine?> machine)
{
    /// <summary>Tells the firmware which devices to boot from.</summary>
    [HmpCommand("boot_set", ArgsType = "bootdevice:s", Params = "bootdevice", Help = "define new values for the boot device list")]
    public void BootSet(HmpContext context, string bootdevice)
    {
        try
        {
            machine()?.SetBootOrder(bootdevice);
            context.PrintLine($"boot device list now set to {bootdevice}");
        }
        catch (QapiException e)
        {
            context.PrintLine(e.Desc);
        }
    }
}
