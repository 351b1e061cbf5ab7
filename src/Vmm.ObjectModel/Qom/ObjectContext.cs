using Vmm.EventLoop;
using Vmm.ObjectModel.Accel;

namespace Vmm.ObjectModel.Qom;

/// <summary>What a user-created object may reach when it completes.</summary>
/// <param name="Tree">The object tree.</param>
/// <param name="MainLoop">The main loop.</param>
/// <param name="Clocks">Clocks of the process.</param>
public sealed record ObjectContext(QomTree Tree, EventLoop.EventLoop MainLoop, Clocks Clocks)
{
    /// <summary>Guest RAM of the process: memory back ends add theirs.</summary>
    public RamList Ram { get; init; } = new();

    /// <summary>The machine's mem-merge: memory back ends that say nothing themselves follow it.</summary>
    public bool MergeMemory { get; set; } = true;

    /// <summary>The machine's dump-guest-core: memory back ends that say nothing themselves follow it.</summary>
    public bool DumpMemory { get; set; } = true;

    /// <summary>Takes warnings of objects for the operator, without line end.</summary>
    public Action<string>? Warn { get; init; }

    /// <summary>Threads that touch the pages of all memory back ends when they are made; 0 to leave that to each of them.</summary>
    public int PreallocThreads { get; set; }
}
