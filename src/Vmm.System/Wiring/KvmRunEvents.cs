using Vmm.Interop;
using Vmm.Kvm;
using Vmm.ObjectModel.Run;
using Vmm.Qapi.Types;

namespace Vmm.System.Wiring;

/// <summary>Carries what vCPUs report to the run control, which is made after the accelerator.</summary>
internal sealed class KvmRunEvents(Action<string> warn) : IKvmEvents
{
    /// <summary>The run control; null until it exists (no vCPU runs before).</summary>
    public RunControl? Run { get; set; }

    /// <inheritdoc/>
    public void Warn(string text) => warn(text);

    /// <inheritdoc/>
    public void GuestReset() => Run?.RequestReset(ShutdownCause.GuestReset);

    /// <inheritdoc/>
    public void GuestShutdown() => Run?.RequestShutdown(ShutdownCause.GuestShutdown);

    /// <inheritdoc/>
    public void GuestPanicked() => Run?.GuestPanicked(null);

    /// <inheritdoc/>
    public void InternalError() => Run?.RequestVmStop(RunState.InternalError);

    /// <inheritdoc/>
    public void Report(string text) => StdIo.Error.Write(text);
}
