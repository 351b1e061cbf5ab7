using Vmm.Block.Jobs;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>The events of jobs, in a short spelling.</summary>
internal sealed class JobEventLog : IEventEmitter
{
    public List<string> Lines { get; } = [];

    public void Emit(IQmpEvent qmpEvent) => Lines.Add(qmpEvent switch
    {
        JobStatusChangeEvent e => JobStatusQapi.ToWire(e.Status),
        BlockJobCompletedEvent { Error: { } error } => "COMPLETED: " + error,
        BlockJobCompletedEvent => "COMPLETED",
        BlockJobCancelledEvent => "CANCELLED",
        BlockJobReadyEvent => "READY",
        _ => qmpEvent.Info.Name,
    });
}
