using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Kvm.CpuModels;

/// <summary>QOM types of CPUs, and the <c>-cpu</c> option.</summary>
public static class CpuTypes
{
    /// <summary>Adds <c>cpu</c>, <c>x86_64-cpu</c> and a type per model to the registry.</summary>
    public static void Register(QomTypeRegistry registry, CpuHost host)
    {
        registry.Add(new QomTypeInfo
        {
            Name = "cpu",
            Parent = "device",
            IsAbstract = true,
            UserCreatable = false,
            Properties = CpuProperties.Generic,
        });
        registry.Add(new QomTypeInfo
        {
            Name = "x86_64-cpu",
            Parent = "cpu",
            IsAbstract = true,
            UserCreatable = false,
            Properties = CpuProperties.X86,
        });
        Add(registry, host, "max", CpuProperties.FollowingHost);
        Add(registry, host, "host", CpuProperties.FollowingHost);
        Add(registry, host, "base", static () => []);
        CpuModelTable.ForEach((name, _) => Add(registry, host, name, static () => []));
    }

    /// <summary>True for a name that <c>-cpu</c> and query-cpu-model-expansion accept.</summary>
    public static bool IsModel(string name) => name is "max" or "host" or "base" || CpuModelTable.Find(name) is not null;

    /// <summary>Makes a CPU of that model with its defaults; throws "unable to find CPU model 'x'".</summary>
    public static X86Cpu Create(QomTypeRegistry registry, string model) =>
        IsModel(model) && registry.TryGet(model + X86Cpu.TypeSuffix, out QomTypeInfo? type) && type.Factory?.Invoke() is X86Cpu cpu
            ? cpu : throw new QapiException(QapiErrorClass.GenericError, $"unable to find CPU model '{model}'");

    private static void Add(QomTypeRegistry registry, CpuHost host, string model, Func<QomPropertyInfo[]> properties)
    {
        QomTypeInfo? type = null;
        type = new QomTypeInfo
        {
            Name = model + X86Cpu.TypeSuffix,
            Parent = "x86_64-cpu",
            Properties = properties,
            BusType = null,
            Category = "CPU",
            Factory = () => new X86Cpu(type!, model, host),
        };
        registry.Add(type);
    }
}

/// <summary>A parsed <c>-cpu</c> option: a model and settings in the order in which they apply.</summary>
/// <param name="Model">Name of the model.</param>
/// <param name="Settings">Property, value as given, and whether it came as +feature or -feature.</param>
/// <param name="Warnings">Texts to warn with, once.</param>
public sealed record CpuSpec(
    string Model, IReadOnlyList<(string Property, string Value, bool Signed)> Settings, IReadOnlyList<string> Warnings)
{
    /// <summary>
    /// Parses <c>model[,+feature][,-feature][,property=value]...</c>. Signed features apply after the others, the removed ones last, as
    /// users of QEMU expect.
    /// </summary>
    public static CpuSpec Parse(string text)
    {
        string[] parts = text.Split(',');
        if (parts[0].Length == 0)
        {
            throw new QapiException(QapiErrorClass.GenericError, "-cpu option cannot be empty");
        }

        var plain = new List<(string, string, bool)>();
        var plus = new List<(string, string, bool)>();
        var minus = new List<(string, string, bool)>();
        for (int i = 1; i < parts.Length; i++)
        {
            string part = parts[i];
            if (part.Length == 0)
            {
                continue;
            }

            if (part[0] is '+' or '-')
            {
                (part[0] == '+' ? plus : minus).Add((part[1..].Replace('_', '-'), part[0] == '+' ? "on" : "off", true));
                continue;
            }

            int equals = part.IndexOf('=');
            string name = (equals < 0 ? part : part[..equals]).Replace('_', '-');
            string value = equals < 0 ? "on" : part[(equals + 1)..];
            if (name == "tsc-freq")
            {
                plain.Add(("tsc-frequency", ParseFrequency(value), false));
            }
            else
            {
                plain.Add((name, value, false));
            }
        }

        var warnings = new List<string>();
        foreach ((List<(string Name, string, bool)> signed, char sign) in new[] { (plus, '+'), (minus, '-') })
        {
            foreach ((string name, string _, bool _) in signed)
            {
                foreach ((string Name, string Value, bool) other in plain)
                {
                    if (other.Name == name)
                    {
                        warnings.Add(
                            $"Ambiguous CPU model string. Don't mix both \"{sign}{name}\" and \"{name}={other.Value}\"");
                    }
                }
            }
        }

        if (warnings.Count > 0)
        {
            warnings.Add("Compatibility of ambiguous CPU model strings won't be kept on future QEMU versions");
        }

        return new CpuSpec(parts[0], [.. plain, .. plus, .. minus], warnings);
    }

    /// <summary>Makes a CPU with the settings; throws QEMU's errors for models, properties and values that do not exist.</summary>
    public X86Cpu Create(QomTypeRegistry registry)
    {
        X86Cpu cpu = CpuTypes.Create(registry, Model);
        Apply(registry, cpu);
        return cpu;
    }

    /// <summary>Makes the settings on a CPU of the model; throws QEMU's errors for properties and values that do not exist.</summary>
    public void Apply(QomTypeRegistry registry, X86Cpu cpu)
    {
        foreach ((string property, string value, bool signed) in Settings)
        {
            QomPropertyInfo? info = registry.FindProperty(cpu.Type, property);
            if (info?.Set is null)
            {
                string missing = $"Property '{cpu.Type.Name}.{property}' not found";
                throw new QapiException(
                    QapiErrorClass.GenericError, signed ? missing : $"can't apply global {cpu.Type.Name}.{property}={value}: {missing}");
            }

            try
            {
                OptionText.Set(info, cpu, value);
            }
            catch (QapiException e)
            {
                throw new QapiException(QapiErrorClass.GenericError, $"can't apply global {cpu.Type.Name}.{property}={value}: {e.Message}");
            }
        }
    }

    private static string ParseFrequency(string text)
    {
        // Metric suffixes: a frequency counts in thousands.
        double factor = text.Length == 0 ? 1 : char.ToUpperInvariant(text[^1]) switch
        {
            'K' => 1e3,
            'M' => 1e6,
            'G' => 1e9,
            'T' => 1e12,
            _ => 1,
        };
        ReadOnlySpan<char> digits = factor == 1 ? text : text.AsSpan()[..^1];
        if (!double.TryParse(digits, global::System.Globalization.CultureInfo.InvariantCulture, out double value) || value < 0)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"bad numerical value {text}");
        }

        return ((long)(value * factor)).ToString(global::System.Globalization.CultureInfo.InvariantCulture);
    }
}
