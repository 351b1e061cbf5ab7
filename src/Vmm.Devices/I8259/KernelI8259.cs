using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.I8259;

/// <summary>
/// The stand-in of an 8259 that lives in the kernel (QOM <c>kvm-i8259</c>): it gives the tree a node and migration a section. The
/// board connects it to the accelerator.
/// </summary>
[QomType("kvm-i8259", UserCreatable = false)]
public sealed partial class KernelI8259 : IsaDevice, IVmStateful
{
    /// <summary>First of two ports.</summary>
    [QomProperty("iobase", Default = "4294967295")]
    public uint IoBase { get; set; } = uint.MaxValue;

    /// <summary>Port of the edge/level control register.</summary>
    [QomProperty("elcr_addr", Default = "4294967295")]
    public uint ElcrPort { get; set; } = uint.MaxValue;

    /// <summary>Lines that may be made level-triggered.</summary>
    [QomProperty("elcr_mask", Default = "255")]
    public byte ElcrMask { get; set; } = 0xff;

    /// <summary>True for the controller whose output is the CPU's INTR.</summary>
    [QomProperty("master", Default = "false")]
    public bool IsMaster { get; set; }

    /// <summary>Reads the kernel's state. Set before realize.</summary>
    public Func<I8259State>? GetState { get; set; }

    /// <summary>Writes the kernel's state. Set before realize.</summary>
    public Action<I8259State>? SetState { get; set; }

    /// <summary>Rising inputs counted per line of the pair; the master's is shown.</summary>
    public InterruptStatistics Statistics { get; } = new(16);

    /// <inheritdoc/>
    public string VmStateName => "i8259";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <summary>Line for <c>info pic</c>.</summary>
    public string Describe() => GetState!().Describe(IsMaster);

    /// <inheritdoc/>
    public override void Reset() => SetState!(new I8259State());

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => GetState!().Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version) => SetState!(I8259State.Load(reader, version));

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (GetState is null || SetState is null)
        {
            throw new QapiException(QapiErrorClass.GenericError, "the accelerator has no interrupt controller of its own");
        }

        MapPorts("kvm-pic", IoBase, 2, KernelRegisters.Instance, IoConstraints.Bytes);
        MapPorts("kvm-elcr", ElcrPort, 1, KernelRegisters.Instance, IoConstraints.Bytes);
    }
}
