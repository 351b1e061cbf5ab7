using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Kvm;

/// <summary>The object behind <c>-accel kvm</c> (QOM <c>kvm-accel</c>): it only holds the options until the VM is made.</summary>
public sealed class KvmAccelType : QomObject
{
    private static readonly string[] s_notify = ["run", "internal-error", "disable"];
    private static readonly string[] s_irqchip = ["on", "off", "split"];
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "kvm-accel".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "kvm-accel",
        Parent = "accel",
        Factory = static () => new KvmAccelType(),
        Properties = static () =>
        [
            new QomPropertyInfo("kernel-irqchip", "on|off|split", null, static (o, i) => ((KvmAccelType)o).SetIrqchip(i),
                "Configure KVM in-kernel irqchip"),
            new QomPropertyInfo("kvm-shadow-mem", "int", static o => ((KvmAccelType)o).Options.ShadowMem,
                static (o, i) => ((KvmAccelType)o).SetShadowMem(i), "KVM shadow MMU size"),
            new QomPropertyInfo("dirty-ring-size", "uint32", static o => ((KvmAccelType)o).Options.DirtyRingSize,
                static (o, i) => ((KvmAccelType)o).SetRingSize(i), "Size of KVM dirty page ring buffer (default: 0, i.e. use bitmap)"),
            new QomPropertyInfo("notify-vmexit", "NotifyVMexitOption", static o => s_notify[(int)((KvmAccelType)o).Options.NotifyVmExit],
                static (o, i) => ((KvmAccelType)o).SetNotify(i), "Enable notify VM exit"),
            new QomPropertyInfo("notify-window", "uint32", static o => ((KvmAccelType)o).Options.NotifyWindow,
                static (o, i) => ((KvmAccelType)o).SetWindow(i),
                "Clock cycles without an event window after which a notification VM exit occurs"),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <summary>The options as set so far.</summary>
    public KvmOptions Options { get; private set; } = new();

    /// <summary>Adds <c>accel</c> and <c>kvm-accel</c>.</summary>
    public static void Register(QomTypeRegistry registry)
    {
        if (!registry.TryGet("accel", out _))
        {
            registry.Add(new QomTypeInfo { Name = "accel", Parent = "object", IsAbstract = true });
        }

        registry.Add(TypeInfo);
    }

    private void SetIrqchip(PropertyInput input) => Options = Options with
    {
        KernelIrqchip = input.ReadEnum(s_irqchip) switch
        {
            0 => KernelIrqchipMode.On,
            1 => KernelIrqchipMode.Off,
            _ => KernelIrqchipMode.Split,
        },
    };

    private void SetShadowMem(PropertyInput input) => Options = Options with { ShadowMem = input.ReadInt64() };

    private void SetRingSize(PropertyInput input)
    {
        uint size = input.ReadUInt32();
        if ((size & (size - 1)) != 0)
        {
            throw new QapiException("dirty-ring-size must be a power of two.");
        }

        Options = Options with { DirtyRingSize = size };
    }

    private void SetNotify(PropertyInput input) => Options = Options with { NotifyVmExit = (NotifyVmExit)input.ReadEnum(s_notify) };

    private void SetWindow(PropertyInput input) => Options = Options with { NotifyWindow = input.ReadUInt32() };
}

/// <summary>Properties given as text by options that have their own reader of numbers.</summary>
internal static class OptionText
{
    /// <summary>Assigns a text; what is no number is refused in the words of these options.</summary>
    public static void Set(QomPropertyInfo property, QomObject target, QValue value)
    {
        try
        {
            property.Set!(target, new PropertyInput(property.Name, value, isKeyval: true));
        }
        catch (QapiException e) when (e.Fault is { Kind: QapiFaultKind.WrongValue, Detail: "integer" })
        {
            throw new QapiException(e.Fault with { Detail = property.Type.StartsWith("uint", StringComparison.Ordinal) ? "uint64" : "int64" });
        }
    }
}

/// <summary>Reads the options of <c>-accel kvm,...</c>.</summary>
public static class KvmOptionParser
{
    /// <summary>Applies machine properties (<c>kernel-irqchip</c>, <c>kvm-shadow-mem</c>), then those of the option. Values are strings.</summary>
    /// <exception cref="QapiException">"Property 'kvm-accel.x' not found" and what is wrong with values, in QEMU's words.</exception>
    public static KvmOptions Parse(QDict properties, QDict machineProperties)
    {
        var accel = new KvmAccelType();
        try
        {
            Apply(accel, machineProperties);
        }
        catch (QapiException e) when (machineProperties.Count == 1)
        {
            // They reach the accelerator as -global would bring them.
            (string name, QValue value) = machineProperties.First();
            throw new QapiException($"can't apply global kvm-accel.{name}={((QString)value).Value}: {e.Desc}");
        }

        Apply(accel, properties);
        return accel.Options;
    }

    private static void Apply(KvmAccelType accel, QDict properties)
    {
        foreach ((string name, QValue value) in properties)
        {
            QomPropertyInfo? property = Array.Find(KvmAccelType.TypeInfo.Properties(), p => p.Name == name);
            if (property?.Set is null)
            {
                throw new QapiException($"Property 'kvm-accel.{name}' not found");
            }

            OptionText.Set(property, accel, value);
        }
    }
}
