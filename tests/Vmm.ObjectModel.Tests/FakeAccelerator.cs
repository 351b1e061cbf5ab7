using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.ObjectModel.Tests;

/// <summary>Counts what run control asks of it; a hook runs where a real one would release the machine lock.</summary>
internal sealed class FakeAccelerator(MachineLock machineLock) : IAccelerator
{
    public string Name => "fake";

    public bool IsQtest => true;

    public List<IVcpu> Cpus { get; } = [];

    public IReadOnlyList<IVcpu> Vcpus => Cpus;

    public bool IsRunning { get; private set; }

    public int Resumes { get; private set; }

    public int Pauses { get; private set; }

    public int Resets { get; private set; }

    /// <summary>What vCPUs do in the time in which the lock is free during a pause.</summary>
    public Action? WhilePausing { get; set; }

    public void AttachMemory(AddressSpace memory, AddressSpace ports)
    {
    }

    public KernelIrqchip CreateIrqchip(KernelIrqchipMode mode) => new(KernelIrqchipMode.Off, null);

    public IVcpu CreateVcpu(VcpuSetup setup) => throw new NotSupportedException();

    public void DestroyVcpu(IVcpu vcpu) => throw new NotSupportedException();

    public void ResumeAll()
    {
        Resumes++;
        IsRunning = true;
    }

    public void PauseAll()
    {
        Pauses++;
        IsRunning = false;
        if (WhilePausing is { } hook)
        {
            bool held = machineLock.IsHeldByCurrentThread;
            if (held)
            {
                machineLock.Exit();
            }

            hook();
            if (held)
            {
                machineLock.Enter();
            }
        }
    }

    public void ResetVcpus()
    {
        Assert.That(IsRunning, Is.False, "vCPUs are reset while they run");
        Resets++;
    }

    public void SignalMsi(ulong address, uint data)
    {
    }

    public void Dispose()
    {
    }
}
