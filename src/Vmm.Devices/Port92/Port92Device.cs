using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi.Types;

namespace Vmm.Devices.Port92;

/// <summary>System control port A (PS/2 technical reference): fast reset in bit 0, fast A20 gate in bit 1.</summary>
[QomType("port92", UserCreatable = false)]
public sealed partial class Port92Device : IsaDevice, IIoHandler, IVmStateful
{
    private const uint Port = 0x92;
    private const byte FastReset = 0x01;
    private const byte FastA20 = 0x02;

    private byte _value;

    /// <summary>A port with all bits low.</summary>
    public Port92Device()
    {
        AddOutputPins("a20", 1);
    }

    /// <summary>A20 gate output.</summary>
    public InterruptLine A20 { get; set; } = new();

    /// <inheritdoc/>
    public string VmStateName => "port92";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => _value;

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        byte old = _value;
        _value = (byte)value;
        A20.Set((_value & FastA20) != 0);
        if ((_value & FastReset) != 0 && (old & FastReset) == 0)
        {
            Machine.Run.RequestReset(ShutdownCause.GuestReset);
        }
    }

    /// <inheritdoc/>
    /// <remarks>The gate of address line 20 stays as it is.</remarks>
    public override void Reset() => _value &= unchecked((byte)~FastReset);

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new Port92State { Value = _value }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version) => _value = Port92State.Load(reader, version).Value;

    /// <inheritdoc/>
    protected override void RealizeDevice() => MapPorts("port92", Port, 1, this, IoConstraints.Bytes);
}

/// <summary>Migration section of port 92.</summary>
[VmState("port92")]
public sealed partial record Port92State
{
    /// <summary>The port.</summary>
    public byte Value { get; init; }
}
