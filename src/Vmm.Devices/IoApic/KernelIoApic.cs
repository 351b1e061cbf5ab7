using Vmm.Devices.SystemBus;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.IoApic;

/// <summary>The stand-in of an I/O APIC that lives in the kernel (QOM <c>kvm-ioapic</c>). The board connects it to the accelerator.</summary>
[QomType("kvm-ioapic", UserCreatable = false)]
public sealed partial class KernelIoApic : SysBusDevice, IVmStateful
{
    private const byte HardwareVersion = 0x11;

    /// <summary>GSI of input 0.</summary>
    [QomProperty("gsi_base", Default = "0")]
    public uint GsiBase { get; set; }

    /// <summary>Where the board has it.</summary>
    public ulong Address { get; set; } = 0xfec00000;

    /// <summary>Reads the kernel's state. Set before realize.</summary>
    public Func<IoApicState>? GetState { get; set; }

    /// <summary>Writes the kernel's state. Set before realize.</summary>
    public Action<IoApicState>? SetState { get; set; }

    /// <summary>Rising inputs counted per pin.</summary>
    public InterruptStatistics Statistics { get; } = new(IoApicDevice.Pins);

    /// <inheritdoc/>
    public string VmStateName => "ioapic";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <inheritdoc/>
    public override void Reset()
    {
        ulong[] masked = new ulong[IoApicDevice.Pins];
        Array.Fill(masked, 1ul << 16);
        SetState!(new IoApicState { Entries = masked });
    }

    /// <summary>Lines for <c>info pic</c>.</summary>
    public void Describe(int number, Action<string> line) => IoApicText.Describe(GetState!(), HardwareVersion, number, line);

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => GetState!().Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version) => SetState!(IoApicState.Load(reader, version));

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (GetState is null || SetState is null)
        {
            throw new QapiException(QapiErrorClass.GenericError, "the accelerator has no interrupt controller of its own");
        }

        AddInputPins("", IoApicDevice.Pins);
        MapMemory("kvm-ioapic", Address, 0x1000, KernelRegisters.Instance, new IoConstraints(1, 8, 1, 4));
    }
}
