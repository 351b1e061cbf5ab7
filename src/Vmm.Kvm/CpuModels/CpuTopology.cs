using System.Numerics;

namespace Vmm.Kvm.CpuModels;

/// <summary>How many of each level there are: threads in a core, cores in a die, dies in a socket. All at least 1.</summary>
public readonly record struct CpuTopology(int Sockets, int Dies, int Cores, int Threads)
{
    /// <summary>One CPU.</summary>
    public static CpuTopology Single => new(1, 1, 1, 1);

    /// <summary>CPUs that the topology has room for.</summary>
    public int MaxCpus => Sockets * Dies * Cores * Threads;

    /// <summary>Bits of an APIC id below the core number.</summary>
    public int CoreShift => Bits(Threads);

    /// <summary>Bits of an APIC id below the die number.</summary>
    public int DieShift => CoreShift + Bits(Cores);

    /// <summary>Bits of an APIC id below the socket number.</summary>
    public int SocketShift => DieShift + Bits(Dies);

    /// <summary>APIC id of a CPU by its index: every level has a power of two of ids (Intel SDM vol. 3, 8.9).</summary>
    public uint ApicId(int index) => ApicId(Place(index));

    /// <summary>APIC id of a CPU by its place.</summary>
    public uint ApicId(CpuPlace place) =>
        ((uint)place.Socket << SocketShift) | ((uint)place.Die << DieShift) | ((uint)place.Core << CoreShift) | (uint)place.Thread;

    /// <summary>The place that an APIC id means, which the topology need not have.</summary>
    public CpuPlace PlaceOf(uint apicId) => new(
        (int)(apicId >> SocketShift),
        (int)(apicId >> DieShift & ((1u << (SocketShift - DieShift)) - 1)),
        (int)(apicId >> CoreShift & ((1u << (DieShift - CoreShift)) - 1)),
        (int)(apicId & ((1u << CoreShift) - 1)));

    /// <summary>Where a CPU sits, by its index.</summary>
    public CpuPlace Place(int index)
    {
        int perDie = Cores * Threads;
        int perSocket = perDie * Dies;
        return new CpuPlace(index / perSocket, index / perDie % Dies, index / Threads % Cores, index % Threads);
    }

    private static int Bits(int count) => count <= 1 ? 0 : BitOperations.Log2((uint)count - 1) + 1;
}

/// <summary>Socket, die in it, core in that, thread in that.</summary>
public readonly record struct CpuPlace(int Socket, int Die, int Core, int Thread);

/// <summary>The slots for CPUs that a machine has. Home: main loop.</summary>
public interface ICpuTopology
{
    /// <summary>Levels.</summary>
    CpuTopology Topology { get; }

    /// <summary>Type of CPU for all slots, e.g. <c>qemu64-x86_64-cpu</c>.</summary>
    string CpuType { get; }

    /// <summary>Slots by CPU index; null where no CPU is plugged.</summary>
    IReadOnlyList<X86Cpu?> Slots { get; }

    /// <summary>The CPUs in the order in which they were plugged in.</summary>
    IReadOnlyList<X86Cpu> Plugged { get; }

    /// <summary>True for machine types with ids for dies (machines without leave them out of replies).</summary>
    bool HasDies { get; }

    /// <summary>False where the machine type has no hot-pluggable CPUs: query-hotpluggable-cpus is then refused.</summary>
    bool SupportsHotpluggableQuery { get; }

    /// <summary>Plugs a CPU like the others into the slot of that index.</summary>
    /// <exception cref="Vmm.Qapi.QapiException">No such slot, or it is taken, or the machine has no hot-pluggable CPUs.</exception>
    void AddCpu(long index);
}
