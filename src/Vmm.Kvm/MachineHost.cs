using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Run;
using Vmm.Qapi.Types;

namespace Vmm.Kvm;

/// <summary>The machine lock, as memory accesses and accelerators take it.</summary>
public sealed class MachineIoLock(MachineLock machineLock) : IIoLock
{
    /// <inheritdoc/>
    public bool IsHeldByCurrentThread => machineLock.IsHeldByCurrentThread;

    /// <inheritdoc/>
    public void Enter() => machineLock.Enter();

    /// <inheritdoc/>
    public void Exit() => machineLock.Exit();
}

/// <summary>Passes what vCPUs report on to run control, warnings to <paramref name="warn"/>; crash reports go to stderr as they are.</summary>
public sealed class RunControlEvents(IRunControl run, Action<string> warn) : IKvmEvents
{
    /// <inheritdoc/>
    public void Warn(string text) => warn(text);

    /// <inheritdoc/>
    public void GuestReset() => run.RequestReset(ShutdownCause.GuestReset);

    /// <inheritdoc/>
    public void GuestShutdown() => run.RequestShutdown(ShutdownCause.GuestShutdown);

    /// <inheritdoc/>
    public void GuestPanicked() => run.GuestPanicked(null);

    /// <inheritdoc/>
    public void InternalError() => run.RequestVmStop(RunState.InternalError);

    /// <inheritdoc/>
    public void Report(string text) => StdIo.Error.Write(text);
}
