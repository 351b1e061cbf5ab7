using Vmm.Kvm;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.Wiring;

/// <summary>Reads the properties of <c>-accel kvm</c>, which come as strings.</summary>
internal static class KvmOptionParser
{
    /// <summary>Properties of the accelerator itself win over those given as machine properties.</summary>
    public static KvmOptions Parse(QDict own, QDict fromMachine)
    {
        KvmOptions options = new();
        foreach (KeyValuePair<string, QValue> property in fromMachine)
        {
            options = Apply(options, property.Key, Text(property.Value));
        }

        foreach (KeyValuePair<string, QValue> property in own)
        {
            options = Apply(options, property.Key, Text(property.Value));
        }

        return options;
    }

    private static KvmOptions Apply(KvmOptions options, string name, string value)
    {
        switch (name)
        {
            case "kernel-irqchip" or "kernel_irqchip":
                return options with
                {
                    KernelIrqchip = value switch
                    {
                        "on" => KernelIrqchipMode.On,
                        "off" => KernelIrqchipMode.Off,
                        "split" => KernelIrqchipMode.Split,
                        _ => throw QapiException.InvalidEnumValue("kernel-irqchip", value),
                    },
                };
            case "kvm-shadow-mem" when OptionScalars.TryParseSize(value, out ulong size, out _) == ScalarStatus.Ok:
                return options with { ShadowMem = (long)size };
            case "dirty-ring-size" when uint.TryParse(value, out uint entries):
                return entries == 0 || global::System.Numerics.BitOperations.IsPow2(entries)
                    ? options with { DirtyRingSize = entries }
                    : throw new QapiException("dirty-ring-size must be a power of two.");
            case "notify-vmexit":
                return options with
                {
                    NotifyVmExit = value switch
                    {
                        "run" => NotifyVmExit.Run,
                        "internal-error" => NotifyVmExit.InternalError,
                        "disable" => NotifyVmExit.Disable,
                        _ => throw QapiException.InvalidEnumValue("notify-vmexit", value),
                    },
                };
            case "notify-window" when uint.TryParse(value, out uint window):
                return options with { NotifyWindow = window };
            case "kvm-shadow-mem" or "dirty-ring-size" or "notify-window":
                throw QapiException.InvalidParameterValue(name, "a number");
            default:
                throw new QapiException($"Property 'kvm-accel.{name}' not found");
        }
    }

    private static string Text(QValue value) => value is QString s ? s.Value : value.ToJson();
}
