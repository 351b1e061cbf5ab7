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
}
