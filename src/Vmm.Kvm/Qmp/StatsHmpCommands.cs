using System.Globalization;
using System.Text;
using Vmm.Kvm.CpuModels;
using Vmm.Qapi;

namespace Vmm.Kvm.Qmp;

/// <summary>The terminal command about statistics.</summary>
public sealed class StatsHmpCommands(StatsCommands commands, CpuHmpCommands cpus)
{
    /// <summary>Shows statistics of the machine or of the current CPU.</summary>
    [HmpCommand(
        "info stats",
        ArgsType = "target:s,names:s?,provider:s?",
        Params = "target [names] [provider]",
        Help = "show statistics for the given target (vm or vcpu); optionally filter byname (comma-separated list, or * for all) and provider")]
    public void InfoStats(HmpContext context, string target, string? names, string? provider)
    {
        if (!StatsTargetQapi.TryParse(target, out StatsTarget of))
        {
            context.PrintLine($"invalid stats target {target}");
            return;
        }

        StatsProvider from = StatsProvider.Kvm;
        if (provider is not null && !StatsProviderQapi.TryParse(provider, out from))
        {
            context.PrintLine($"invalid stats provider {provider}");
            return;
        }

        X86Cpu? cpu = of == StatsTarget.Vcpu ? cpus.Current(context) : null;
        if (of == StatsTarget.Vcpu && cpu is null)
        {
            return;
        }

        var filter = new StatsFilter
        {
            Target = of,
            Providers = [new StatsRequest { Provider = from, Names = names is null or "*" ? null : [.. names.Split(',')] }],
            Vcpu = cpu is null ? null : new StatsVcpuFilter { Vcpus = [cpu.CanonicalPath ?? ""] },
        };
        var text = new StringBuilder();
        List<StatsSchemaValue> known = commands.QueryStatsSchemas(from).Find(s => s.Target == of)?.Stats ?? [];
        foreach (StatsResult result in commands.QueryStats(filter))
        {
            if (provider is null)
            {
                text.Append("provider: ").Append(result.Provider.ToWire()).Append('\n');
            }

            foreach (Stats stats in result.Stats)
            {
                if (known.Find(s => s.Name == stats.Name) is { } schema)
                {
                    Write(text, schema, stats.Value);
                }
            }
        }

        context.Print(text.ToString());
    }

    /// <summary>The unit of a statistic as the terminal shows it; empty for a plain count.</summary>
    internal static string UnitOf(StatsSchemaValue schema)
    {
        string unit = schema.Unit switch
        {
            StatsUnit.Seconds => "s",
            StatsUnit.Bytes => "B",
            { } other => other.ToWire(),
            null => "",
        };
        int exponent = schema.Exponent;
        if (exponent == 0)
        {
            return unit;
        }

        if (unit is "s" or "B" && schema.Base == 10 && exponent % 3 == 0 && exponent is >= -18 and <= 18)
        {
            return "afpnum kMGTPE"[(exponent / 3) + 6] + unit;
        }

        if (unit is "s" or "B" && schema.Base == 2 && exponent % 10 == 0 && exponent is > 0 and <= 60)
        {
            return " KMGTPE"[exponent / 10] + "i" + unit;
        }

        return string.Create(CultureInfo.InvariantCulture, $"* {schema.Base}^{exponent}{(unit.Length > 0 ? " " : "")}{unit}");
    }

    private static void Write(StringBuilder text, StatsSchemaValue schema, StatsValue value)
    {
        string unit = UnitOf(schema);
        text.Append("    ").Append(schema.Name).Append(" (").Append(schema.Type.ToWire());
        text.Append(unit.Length > 0 ? ", " : "").Append(unit);
        if (schema.BucketSize is { } bucket)
        {
            text.Append(CultureInfo.InvariantCulture, $", bucket size={bucket}");
        }

        text.Append("): ");
        if (value.List is { } list)
        {
            for (int i = 0; i < list.Count; i++)
            {
                text.Append(CultureInfo.InvariantCulture, $"[{i + 1}]={list[i]} ");
            }
        }
        else if (value.Boolean is { } truth)
        {
            text.Append(truth ? "yes" : "no");
        }
        else
        {
            text.Append(CultureInfo.InvariantCulture, $"{value.Scalar}");
        }

        text.Append('\n');
    }
}
