using Vmm.EventLoop;

namespace Vmm.ObjectModel.Qom;

/// <summary>What a user-created object may reach when it completes.</summary>
/// <param name="Tree">The object tree.</param>
/// <param name="MainLoop">The main loop.</param>
/// <param name="Clocks">Clocks of the process.</param>
public sealed record ObjectContext(QomTree Tree, EventLoop.EventLoop MainLoop, Clocks Clocks);
