using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Kvm.CpuModels;
using Vmm.Qapi;

namespace Vmm.Kvm.Qmp;

/// <summary>Whose statistics.</summary>
[QapiEnum]
public enum StatsTarget
{
    /// <summary>The machine's.</summary>
    Vm,

    /// <summary>Each vCPU's.</summary>
    Vcpu,
}

/// <summary>Who keeps statistics.</summary>
[QapiEnum]
public enum StatsProvider
{
    /// <summary>The kernel.</summary>
    Kvm,
}

/// <summary>What a value means.</summary>
[QapiEnum]
public enum StatsType
{
    /// <summary>Only grows.</summary>
    Cumulative,

    /// <summary>Goes up and down.</summary>
    Instant,

    /// <summary>The highest so far.</summary>
    Peak,

    /// <summary>Counts per range of equal width.</summary>
    LinearHistogram,

    /// <summary>Counts per power of two.</summary>
    [QapiName("log2-histogram")] Log2Histogram,
}

/// <summary>Units.</summary>
[QapiEnum]
public enum StatsUnit
{
    /// <summary>Bytes.</summary>
    Bytes,

    /// <summary>Seconds.</summary>
    Seconds,

    /// <summary>Clock cycles.</summary>
    Cycles,

    /// <summary>True or false.</summary>
    Boolean,
}

/// <summary>Statistics wanted of one provider.</summary>
[QapiStruct]
public sealed partial record StatsRequest
{
    /// <summary>Provider.</summary>
    public required StatsProvider Provider { get; init; }

    /// <summary>Names; all when absent.</summary>
    public List<string>? Names { get; init; }
}

/// <summary>vCPUs whose statistics are wanted.</summary>
[QapiStruct]
public sealed partial record StatsVcpuFilter
{
    /// <summary>Object paths; all when absent.</summary>
    public List<string>? Vcpus { get; init; }
}

/// <summary>Statistics wanted.</summary>
[QapiUnion(Discriminator = "target")]
public sealed partial record StatsFilter
{
    /// <summary>Whose.</summary>
    public required StatsTarget Target { get; init; }

    /// <summary>By provider; all when absent.</summary>
    public List<StatsRequest>? Providers { get; init; }

    /// <summary>Which vCPUs.</summary>
    [QapiBranch("vcpu")]
    public StatsVcpuFilter? Vcpu { get; init; }
}

/// <summary>A value.</summary>
[QapiAlternate]
public sealed partial record StatsValue
{
    /// <summary>A number.</summary>
    public ulong? Scalar { get; init; }

    /// <summary>A truth value.</summary>
    public bool? Boolean { get; init; }

    /// <summary>A histogram.</summary>
    public List<ulong>? List { get; init; }
}

/// <summary>A named value.</summary>
[QapiStruct]
public sealed partial record Stats
{
    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>Value.</summary>
    public required StatsValue Value { get; init; }
}

/// <summary>Statistics of one object.</summary>
[QapiStruct]
public sealed partial record StatsResult
{
    /// <summary>Provider.</summary>
    public required StatsProvider Provider { get; init; }

    /// <summary>Path of the object; absent for the machine.</summary>
    public string? QomPath { get; init; }

    /// <summary>Values.</summary>
    public required List<Stats> Stats { get; init; }
}

/// <summary>What is known of a statistic.</summary>
[QapiStruct]
public sealed partial record StatsSchemaValue
{
    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>Meaning.</summary>
    public required StatsType Type { get; init; }

    /// <summary>Unit; absent for plain counts.</summary>
    public StatsUnit? Unit { get; init; }

    /// <summary>Base of the scale; absent without one.</summary>
    public sbyte? Base { get; init; }

    /// <summary>Power of the base.</summary>
    public required short Exponent { get; init; }

    /// <summary>Width of a bucket of a linear histogram.</summary>
    public uint? BucketSize { get; init; }
}

/// <summary>Statistics that a provider keeps of one kind of object.</summary>
[QapiStruct]
public sealed partial record StatsSchema
{
    /// <summary>Provider.</summary>
    public required StatsProvider Provider { get; init; }

    /// <summary>Kind of object.</summary>
    public required StatsTarget Target { get; init; }

    /// <summary>The statistics.</summary>
    public required List<StatsSchemaValue> Stats { get; init; }
}

/// <summary>Commands about statistics.</summary>
public sealed class StatsCommands(CpuCommands cpus)
{
    /// <summary>Tells statistics of the machine or of vCPUs.</summary>
    [QmpCommand("query-stats", ArgsType = "target:s,providers:q?,vcpus:q?", Since = "7.1")]
    public List<StatsResult> QueryStats(StatsFilter filter)
    {
        var results = new List<StatsResult>();
        if (Kvm is not { } kvm || !Wanted(filter, out List<string>? names))
        {
            return results;
        }

        if (filter.Target == StatsTarget.Vm)
        {
            if (kvm.Vm.OpenStats(out KvmStats? stats) == Errno.OK && stats is not null)
            {
                Add(results, stats, null, names);
            }

            return results;
        }

        foreach (X86Cpu cpu in cpus.Cpus())
        {
            string path = cpu.CanonicalPath ?? "";
            if (filter.Vcpu?.Vcpus is { } paths && !paths.Contains(path))
            {
                continue;
            }

            if (cpu.Vcpu is KvmVcpu vcpu && vcpu.OpenStats() is { } stats)
            {
                Add(results, stats, path, names);
            }
        }

        return results;
    }

    /// <summary>Tells which statistics there are.</summary>
    [QmpCommand("query-stats-schemas", ArgsType = "provider:s?", Since = "7.1")]
    public List<StatsSchema> QueryStatsSchemas(StatsProvider? provider)
    {
        var schemas = new List<StatsSchema>();
        if (Kvm is not { } kvm)
        {
            return schemas;
        }

        foreach (X86Cpu cpu in cpus.Cpus())
        {
            if (cpu.Vcpu is KvmVcpu vcpu && vcpu.OpenStats() is { } stats)
            {
                Add(schemas, stats, StatsTarget.Vcpu);
                break;
            }
        }

        if (kvm.Vm.OpenStats(out KvmStats? vm) == Errno.OK && vm is not null)
        {
            Add(schemas, vm, StatsTarget.Vm);
        }

        return schemas;
    }

    private KvmAccelerator? Kvm => cpus.Machine?.Accelerator as KvmAccelerator;

    private static bool Wanted(StatsFilter filter, out List<string>? names)
    {
        names = null;
        if (filter.Providers is not { } providers)
        {
            return true;
        }

        bool found = false;
        foreach (StatsRequest request in providers)
        {
            if (request.Provider == StatsProvider.Kvm)
            {
                found = true;
                names = request.Names;
            }
        }

        return found;
    }

    private static void Add(List<StatsResult> results, KvmStats stats, string? path, List<string>? names)
    {
        using (stats)
        {
            ulong[] values = new ulong[stats.ValueCount];
            if (stats.Read(values) != Errno.OK)
            {
                return;
            }

            // Clients get the last statistic of the kernel's table first.
            var list = new List<Stats>();
            for (int i = stats.Descriptors.Count - 1; i >= 0; i--)
            {
                KvmStatDescriptor d = stats.Descriptors[i];
                if (names is null || names.Contains(d.Name))
                {
                    list.Add(new Stats { Name = d.Name, Value = Value(d, values) });
                }
            }

            if (list.Count > 0)
            {
                results.Add(new StatsResult { Provider = StatsProvider.Kvm, QomPath = path, Stats = list });
            }
        }
    }

    private static StatsValue Value(KvmStatDescriptor d, ulong[] values)
    {
        int first = (int)(d.Offset / 8);
        if (d.Size > 1)
        {
            return new StatsValue { List = [.. values.AsSpan(first, d.Size)] };
        }

        return (d.Flags & KvmUapi.KVM_STATS_UNIT_MASK) == KvmUapi.KVM_STATS_UNIT_BOOLEAN
            ? new StatsValue { Boolean = values[first] != 0 }
            : new StatsValue { Scalar = values[first] };
    }

    private static void Add(List<StatsSchema> schemas, KvmStats stats, StatsTarget target)
    {
        using (stats)
        {
            var list = new List<StatsSchemaValue>();
            for (int i = stats.Descriptors.Count - 1; i >= 0; i--)
            {
                list.Add(Describe(stats.Descriptors[i]));
            }

            schemas.Add(new StatsSchema { Provider = StatsProvider.Kvm, Target = target, Stats = list });
        }
    }

    private static StatsSchemaValue Describe(KvmStatDescriptor d) => new()
    {
        Name = d.Name,
        Type = (d.Flags & KvmUapi.KVM_STATS_TYPE_MASK) switch
        {
            KvmUapi.KVM_STATS_TYPE_INSTANT => StatsType.Instant,
            KvmUapi.KVM_STATS_TYPE_PEAK => StatsType.Peak,
            KvmUapi.KVM_STATS_TYPE_LINEAR_HIST => StatsType.LinearHistogram,
            KvmUapi.KVM_STATS_TYPE_LOG_HIST => StatsType.Log2Histogram,
            _ => StatsType.Cumulative,
        },
        Unit = (d.Flags & KvmUapi.KVM_STATS_UNIT_MASK) switch
        {
            KvmUapi.KVM_STATS_UNIT_BYTES => StatsUnit.Bytes,
            KvmUapi.KVM_STATS_UNIT_SECONDS => StatsUnit.Seconds,
            KvmUapi.KVM_STATS_UNIT_CYCLES => StatsUnit.Cycles,
            KvmUapi.KVM_STATS_UNIT_BOOLEAN => StatsUnit.Boolean,
            _ => null,
        },
        Base = d.Exponent == 0 ? null : (d.Flags & KvmUapi.KVM_STATS_BASE_MASK) == KvmUapi.KVM_STATS_BASE_POW2 ? (sbyte)2 : (sbyte)10,
        Exponent = d.Exponent,
        BucketSize = (d.Flags & KvmUapi.KVM_STATS_TYPE_MASK) == KvmUapi.KVM_STATS_TYPE_LINEAR_HIST ? d.BucketSize : null,
    };
}
