using Vmm.Machines;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>-boot. Members that were not given are null.</summary>
/// <param name="Order">Boot devices as letters a to p.</param>
/// <param name="Once">Boot devices for the first boot only.</param>
/// <param name="Menu">Show the firmware's boot menu.</param>
/// <param name="Splash">Path of a picture for the firmware to show.</param>
/// <param name="SplashTimeMs">How long it is shown, 0 to 65535 ms.</param>
/// <param name="RebootTimeoutMs">Wait before rebooting after a failed boot, -1 (never) to 65535 ms.</param>
/// <param name="Strict">Boot from nothing but devices with a boot index.</param>
public sealed record BootConfiguration(
    string? Order, string? Once, bool? Menu, string? Splash, long? SplashTimeMs, long? RebootTimeoutMs, bool? Strict)
{
    /// <summary>Reads the parameters.</summary>
    /// <param name="boot">Parameters of -boot as strings, or null.</param>
    /// <exception cref="QapiException">A parameter is unknown or its value is not valid.</exception>
    public static BootConfiguration Resolve(QDict? boot)
    {
        if (boot == null)
        {
            return new BootConfiguration(null, null, null, null, null, null, null);
        }

        var result = new BootConfiguration(
            Text(boot, "order"),
            Text(boot, "once"),
            Bool(boot, "menu"),
            Text(boot, "splash"),
            Integer(boot, "splash-time"),
            Integer(boot, "reboot-timeout"),
            Bool(boot, "strict"));
        foreach (KeyValuePair<string, QValue> member in boot)
        {
            if (member.Key is not ("order" or "once" or "menu" or "splash" or "splash-time" or "reboot-timeout" or "strict"))
            {
                throw QapiException.UnexpectedParameter("boot." + member.Key);
            }
        }

        BootOrder.Check(result.Order ?? "");
        BootOrder.Check(result.Once ?? "");
        return result;
    }

    /// <summary>Checks what depends on the machine, once it is built.</summary>
    /// <exception cref="QapiException">A time is out of range for firmware, or the machine cannot change the order of boot devices.</exception>
    public void CheckMachine(MachineType type)
    {
        if (type.HasFirmware && SplashTimeMs is < 0 or > 0xffff)
        {
            throw new QapiException("splash-time is invalid,it should be a value between 0 and 65535");
        }

        if (type.HasFirmware && RebootTimeoutMs is < -1 or > 0xffff)
        {
            throw new QapiException("reboot timeout is invalid,it should be a value between -1 and 65535");
        }

        if (Once is not null && !type.HasBootOrder)
        {
            throw new QapiException("no function defined to set boot device list for this architecture");
        }
    }

    private static string? Text(QDict boot, string name)
    {
        if (!boot.TryGetValue(name, out QValue? value))
        {
            return null;
        }

        return value is QString text ? text.Value : throw QapiException.InvalidParameterType("boot." + name, "string");
    }

    private static bool? Bool(QDict boot, string name) => Text(boot, name) is { } text ? OptionErrors.ParseBool("boot." + name, text) : null;

    private static long? Integer(QDict boot, string name)
    {
        if (Text(boot, name) is not { } text)
        {
            return null;
        }

        return OptionScalars.TryParseInt64(text, out long number) == ScalarStatus.Ok
            ? number
            : throw QapiException.InvalidParameterValue("boot." + name, "integer");
    }
}
