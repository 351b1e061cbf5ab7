using Vmm.EventLoop;
using Vmm.Memory;

namespace Vmm.Machines;

/// <summary>The machine lock in the form in which address spaces and accelerators take it.</summary>
public sealed class MachineIoLock(MachineLock inner) : IIoLock
{
    /// <inheritdoc/>
    public bool IsHeldByCurrentThread => inner.IsHeldByCurrentThread;

    /// <inheritdoc/>
    public void Enter() => inner.Enter();

    /// <inheritdoc/>
    public void Exit() => inner.Exit();
}
