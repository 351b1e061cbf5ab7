using Vmm.Kvm.CpuModels;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Kvm.Qmp;

/// <summary>Commands about CPUs and CPU models.</summary>
/// <param name="registry">QOM types.</param>
/// <param name="host">What the host can do.</param>
/// <param name="machine">The machine; null while there is none.</param>
/// <param name="topology">Its CPU slots; null for a machine without CPUs.</param>
public sealed class CpuCommands(QomTypeRegistry registry, CpuHost host, Func<IMachineServices?> machine, Func<ICpuTopology?> topology)
{
    /// <summary>Tells whether the machine runs on KVM.</summary>
    [QmpCommand("query-kvm", Since = "0.14")]
    public KvmInfo QueryKvm() => new() { Enabled = machine()?.Accelerator is KvmAccelerator, Present = true };

    /// <summary>Lists the vCPUs without disturbing them.</summary>
    [QmpCommand("query-cpus-fast", Since = "2.12")]
    public List<CpuInfoFast> QueryCpusFast()
    {
        var list = new List<CpuInfoFast>();
        foreach (X86Cpu cpu in Cpus())
        {
            list.Add(new CpuInfoFast
            {
                CpuIndex = cpu.CpuIndex,
                QomPath = cpu.CanonicalPath ?? "",
                ThreadId = cpu.Vcpu!.ThreadId,
                Props = PropsOf(cpu.CpuIndex),
                Target = SysEmuTarget.X8664,
            });
        }

        return list;
    }

    /// <summary>Lists the vCPUs with their instruction pointers, which stops each of them for a moment.</summary>
    [QmpCommand("query-cpus", Since = "0.14")]
    public List<CpuInfo> QueryCpus()
    {
        var list = new List<CpuInfo>();
        foreach (X86Cpu cpu in Cpus())
        {
            CpuArchState state = cpu.Vcpu!.GetState();
            list.Add(new CpuInfo
            {
                Cpu = cpu.CpuIndex,
                Current = cpu.CpuIndex == 0,
                Halted = state.IsHalted,
                QomPath = cpu.CanonicalPath ?? "",
                ThreadId = cpu.Vcpu.ThreadId,
                Arch = CpuInfoArch.X86,
                Pc = (long)(state.Segments[1].Base + state.Rip),
            });
        }

        return list;
    }

    /// <summary>Lists the slots for CPUs, the last first.</summary>
    [QmpCommand("query-hotpluggable-cpus", AllowPreconfig = true, Since = "2.7")]
    public List<HotpluggableCpu> QueryHotpluggableCpus()
    {
        if (topology() is not { SupportsHotpluggableQuery: true } slots)
        {
            throw new QapiException("The feature 'query-hotpluggable-cpus' is not enabled");
        }

        var list = new List<HotpluggableCpu>();
        for (int i = slots.Slots.Count - 1; i >= 0; i--)
        {
            list.Add(new HotpluggableCpu
            {
                Type = slots.CpuType,
                VcpusCount = 1,
                Props = PropsOf(i)!,
                QomPath = slots.Slots[i]?.CanonicalPath,
            });
        }

        return list;
    }

    /// <summary>Plugs a CPU in.</summary>
    [QmpCommand("cpu-add", ArgsType = "id:i", Since = "1.5")]
    public void CpuAdd(long id) => (topology() ?? throw new QapiException("Not supported")).AddCpu(id);

    /// <summary>Lists the CPU models and what keeps the host from running them.</summary>
    [QmpCommand("query-cpu-definitions", Since = "1.2")]
    public List<CpuDefinitionInfo> QueryCpuDefinitions()
    {
        var list = new List<CpuDefinitionInfo>(132);
        Add("max", null);
        Add("host", null);
        Add("base", null);
        CpuModelTable.ForEach(Add);
        return list;

        void Add(string name, string? versioned) => list.Add(new CpuDefinitionInfo
        {
            Name = name,
            MigrationSafe = name is not ("max" or "host"),
            Static = name == "base",
            UnavailableFeatures = CpuTypes.Create(registry, name).UnavailableFeatures(),
            Typename = name + X86Cpu.TypeSuffix,
            AliasOf = versioned,
            Deprecated = false,
        });
    }

    /// <summary>Tells what a CPU model with changed properties amounts to.</summary>
    [QmpCommand("query-cpu-model-expansion", ArgsType = "type:s,model:q", Since = "2.8")]
    public CpuModelExpansionInfo QueryCpuModelExpansion(CpuModelExpansionType type, CpuModelInfo model)
    {
        if (!CpuTypes.IsModel(model.Name))
        {
            throw new QapiException($"CPU model '{model.Name}' not found");
        }

        X86Cpu cpu = CpuTypes.Create(registry, model.Name);
        if (model.Props is QDict props)
        {
            foreach ((string name, QValue value) in props)
            {
                QomPropertyInfo info = registry.FindProperty(cpu.Type, name) is { Set: not null } found
                    ? found : throw new QapiException($"Property '{cpu.Type.Name}.{name}' not found");
                info.Set!(cpu, new PropertyInput(name, value, isKeyval: false));
            }
        }

        cpu.ExpandFeatures();
        bool full = type == CpuModelExpansionType.Full;
        return new CpuModelExpansionInfo
        {
            Model = new CpuModelInfo { Name = full ? model.Name : "base", Props = full ? AllProperties(cpu) : StaticProperties(cpu) },
        };
    }

    /// <summary>Injects a non-maskable interrupt into all CPUs.</summary>
    [QmpCommand("inject-nmi", Since = "0.14")]
    public void InjectNmi()
    {
        bool any = false;
        foreach (X86Cpu cpu in Cpus())
        {
            any = true;
            cpu.Vcpu!.InjectNmi();
        }

        if (!any)
        {
            throw QapiException.Unsupported();
        }
    }

    /// <summary>CPUs in the order in which they were plugged in.</summary>
    internal IEnumerable<X86Cpu> Cpus()
    {
        if (topology() is { } slots)
        {
            foreach (X86Cpu cpu in slots.Plugged)
            {
                if (cpu.Vcpu is not null)
                {
                    yield return cpu;
                }
            }
        }
    }

    /// <summary>The machine; null while there is none.</summary>
    internal IMachineServices? Machine => machine();

    /// <summary>What the host can do.</summary>
    internal CpuHost Host => host;

    private static QDict StaticProperties(X86Cpu cpu)
    {
        var props = new QDict
        {
            ["min-level"] = (long)cpu.MinLevel,
            ["min-xlevel"] = (long)cpu.MinXLevel,
            ["vendor"] = cpu.Vendor,
            ["family"] = cpu.Family,
            ["model"] = cpu.Model,
            ["stepping"] = cpu.Stepping,
            ["model-id"] = cpu.ModelId,
        };
        for (int w = 0; w < CpuFeatureWords.Count; w++)
        {
            string?[] names = CpuFeatureWords.Words[w].Names;
            for (int bit = 0; bit < names.Length && CpuFeatureWords.IsSettable((FeatureWord)w); bit++)
            {
                if (names[bit] is { } name)
                {
                    props[name] = (cpu.Features[w] >> bit & 1) != 0;
                }
            }
        }

        return props;
    }

    private QDict AllProperties(X86Cpu cpu)
    {
        var props = new QDict();
        for (QomTypeInfo? type = cpu.Type; type is not null; type = registry.ParentOf(type))
        {
            foreach (QomPropertyInfo property in registry.OwnProperties(type))
            {
                if (property.Get is not null && property.Set is not null)
                {
                    props.TryAdd(property.Name, property.Get(cpu));
                }
            }
        }

        return props;
    }

    private CpuInstanceProperties? PropsOf(int index)
    {
        if (topology() is not { } slots)
        {
            return null;
        }

        CpuPlace place = slots.Topology.Place(index);
        X86Cpu? cpu = slots.Slots[index];
        return new CpuInstanceProperties
        {
            NodeId = cpu is { NodeId: >= 0 } ? cpu.NodeId : null,
            SocketId = place.Socket,
            DieId = slots.HasDies && slots.Topology.Dies > 1 ? place.Die : null,
            CoreId = place.Core,
            ThreadId = place.Thread,
        };
    }
}
