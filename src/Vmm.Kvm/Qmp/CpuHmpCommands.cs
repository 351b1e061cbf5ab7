using System.Text;
using Vmm.Kvm.CpuModels;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;

namespace Vmm.Kvm.Qmp;

/// <summary>The terminal commands about CPUs.</summary>
public sealed class CpuHmpCommands(CpuCommands commands)
{
    /// <summary>Lists the CPUs; the current one has a star.</summary>
    [HmpCommand("info cpus", Help = "show infos for each CPU")]
    public void InfoCpus(HmpContext context)
    {
        X86Cpu? current = Current(context);
        foreach (X86Cpu cpu in commands.Cpus())
        {
            context.PrintLine($"{(cpu == current ? '*' : ' ')} CPU #{cpu.CpuIndex}: thread_id={cpu.Vcpu!.ThreadId}");
        }
    }

    /// <summary>Lists the slots for CPUs.</summary>
    [HmpCommand("info hotpluggable-cpus", Help = "Show information about hotpluggable CPUs")]
    public void InfoHotpluggableCpus(HmpContext context)
    {
        List<HotpluggableCpu> slots = commands.QueryHotpluggableCpus();
        context.PrintLine("Hotpluggable CPUs:");
        foreach (HotpluggableCpu slot in slots)
        {
            context.PrintLine($"  type: \"{slot.Type}\"");
            context.PrintLine($"  vcpus_count: \"{slot.VcpusCount}\"");
            if (slot.QomPath is { } path)
            {
                context.PrintLine($"  qom_path: \"{path}\"");
            }

            context.PrintLine("  CPUInstance Properties:");
            Property("node-id", slot.Props.NodeId);
            Property("socket-id", slot.Props.SocketId);
            Property("die-id", slot.Props.DieId);
            Property("cluster-id", slot.Props.ClusterId);
            Property("core-id", slot.Props.CoreId);
            Property("thread-id", slot.Props.ThreadId);
        }

        void Property(string name, long? value)
        {
            if (value is { } number)
            {
                context.PrintLine($"    {name}: \"{number}\"");
            }
        }
    }

    /// <summary>Shows registers.</summary>
    [HmpCommand(
        "info registers",
        ArgsType = "cpustate_all:-a,vcpu:i?",
        Params = "[-a|vcpu]",
        Help = "show the cpu registers (-a: show register info for all cpus; vcpu: specific vCPU to query;"
            + " show the current CPU's registers if no argument is specified)")]
    public void InfoRegisters(HmpContext context, [QapiName("cpustate_all")] bool all, int? vcpu)
    {
        if (all)
        {
            foreach (X86Cpu cpu in commands.Cpus())
            {
                PrintRegisters(context, cpu);
            }

            return;
        }

        X86Cpu? wanted = vcpu is { } index ? ByIndex(index) : Current(context);
        if (wanted is not null)
        {
            PrintRegisters(context, wanted);
        }
        else
        {
            context.PrintLine(vcpu is { } missing ? $"CPU#{missing} not available" : "No CPU available");
        }
    }

    /// <summary>Shows a local APIC.</summary>
    [HmpCommand(
        "info lapic",
        ArgsType = "apic-id:i?",
        Params = "[apic-id]",
        Help = "show local apic state (apic-id: local apic to read, default is which of current CPU)")]
    public void InfoLapic(HmpContext context, [QapiName("apic-id")] int? apicId)
    {
        X86Cpu? cpu = apicId is null ? Current(context) : null;
        if (apicId is not null)
        {
            foreach (X86Cpu candidate in commands.Cpus())
            {
                cpu = candidate.ApicId == (uint)apicId ? candidate : cpu;
            }
        }

        if (cpu?.Vcpu is KvmVcpu vcpu && vcpu.GetLapic() is { } page)
        {
            var text = new StringBuilder();
            LapicDump.Write(text, page, cpu.CpuIndex, cpu.GetFeature(FeatureWord.Leaf1Ecx, 1UL << 21));
            context.Print(text.ToString());
        }
        else
        {
            context.PrintLine("No CPU available");
        }
    }

    /// <summary>Tells whether the machine runs on KVM.</summary>
    [HmpCommand("info kvm", Help = "show KVM information")]
    public void InfoKvm(HmpContext context)
    {
        KvmInfo info = commands.QueryKvm();
        context.PrintLine(!info.Present ? "kvm support: not compiled" : $"kvm support: {(info.Enabled ? "enabled" : "disabled")}");
    }

    /// <summary>Shows each page of the current address space.</summary>
    [HmpCommand("info tlb", Help = "show virtual to physical memory mappings")]
    public void InfoTlb(HmpContext context) => WithPaging(context, static (text, walker) => walker.WritePages(text));

    /// <summary>Shows the mapped ranges of the current address space.</summary>
    [HmpCommand("info mem", Help = "show the active virtual memory mappings")]
    public void InfoMem(HmpContext context) => WithPaging(context, static (text, walker) => walker.WriteRanges(text));

    /// <summary>Injects a non-maskable interrupt.</summary>
    [HmpCommand("nmi", Help = "inject an NMI")]
    public void Nmi(HmpContext context) => commands.InjectNmi();

    /// <summary>Chooses the CPU that other commands mean.</summary>
    [HmpCommand("cpu", ArgsType = "index:i", Params = "index", Help = "set the default CPU")]
    public void Cpu(HmpContext context, int index)
    {
        if (ByIndex(index) is null)
        {
            context.PrintLine("invalid CPU index");
        }
        else
        {
            context.MonCpuIndex = index;
        }
    }

    /// <summary>The CPU that the monitor has chosen, the first one before that; null when there is none.</summary>
    internal X86Cpu? Current(HmpContext context)
    {
        X86Cpu? chosen = context.MonCpuIndex >= 0 ? ByIndex(context.MonCpuIndex) : null;
        if (chosen is null)
        {
            foreach (X86Cpu cpu in commands.Cpus())
            {
                return cpu;
            }
        }

        return chosen;
    }

    private static void PrintRegisters(HmpContext context, X86Cpu cpu)
    {
        var text = new StringBuilder();
        text.Append($"\nCPU#{cpu.CpuIndex}\n");
        CpuDump.WriteRegisters(text, cpu.Vcpu!.GetState(), fpu: true);
        context.Print(text.ToString());
    }

    private X86Cpu? ByIndex(int index)
    {
        foreach (X86Cpu cpu in commands.Cpus())
        {
            if (cpu.CpuIndex == index)
            {
                return cpu;
            }
        }

        return null;
    }

    private void WithPaging(HmpContext context, Action<StringBuilder, PageTableDump> write)
    {
        if (Current(context) is not { } cpu || commands.Machine is not { } machine)
        {
            context.PrintLine("No CPU available");
            return;
        }

        CpuArchState state = cpu.Vcpu!.GetState();
        if (PageTables.ModeOf(state) == PageTables.Mode.None)
        {
            context.PrintLine("PG disabled");
            return;
        }

        var text = new StringBuilder();
        write(text, new PageTableDump(state, machine.Memory));
        context.Print(text.ToString());
    }
}
