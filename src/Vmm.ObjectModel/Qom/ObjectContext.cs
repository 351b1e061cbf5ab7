namespace Vmm.ObjectModel.Qom;

/// <summary>What a user-created object may reach when it completes.</summary>
/// <param name="Tree">The object tree.</param>
public sealed record ObjectContext(QomTree Tree);
