using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.Machines.Qtest;

/// <summary>
/// The accelerator of <c>-accel qtest</c>: vCPUs exist, with a thread each, and never execute; the virtual clock moves by command
/// alone. All interrupt controllers are models.
/// </summary>
public sealed class QtestAccelerator : IAccelerator
{
    private readonly List<QtestVcpu> _vcpus = [];

    /// <param name="clocks">Clocks of the process; their virtual clock becomes manual.</param>
    public QtestAccelerator(Clocks clocks) => clocks.UseManualVirtual();

    /// <inheritdoc/>
    public string Name => "qtest";

    /// <inheritdoc/>
    public bool IsQtest => true;

    /// <inheritdoc/>
    public IReadOnlyList<IVcpu> Vcpus => _vcpus;

    /// <inheritdoc/>
    public void AttachMemory(AddressSpace memory, AddressSpace ports)
    {
    }

    /// <inheritdoc/>
    public KernelIrqchip CreateIrqchip(KernelIrqchipMode mode) => new(KernelIrqchipMode.Off, null);

    /// <inheritdoc/>
    public IVcpu CreateVcpu(VcpuSetup setup)
    {
        var vcpu = new QtestVcpu(setup);
        _vcpus.Add(vcpu);
        return vcpu;
    }

    /// <inheritdoc/>
    public void DestroyVcpu(IVcpu vcpu)
    {
        if (vcpu is QtestVcpu own && _vcpus.Remove(own))
        {
            own.Dispose();
        }
    }

    /// <inheritdoc/>
    public void ResumeAll()
    {
    }

    /// <inheritdoc/>
    public void PauseAll()
    {
    }

    /// <inheritdoc/>
    public void ResetVcpus()
    {
        foreach (QtestVcpu vcpu in _vcpus)
        {
            vcpu.Reset();
        }
    }

    /// <summary>There is no local APIC to take it.</summary>
    public void SignalMsi(ulong address, uint data)
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (QtestVcpu vcpu in _vcpus)
        {
            vcpu.Dispose();
        }

        _vcpus.Clear();
    }
}
