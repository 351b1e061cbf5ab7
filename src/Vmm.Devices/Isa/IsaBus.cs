using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Isa;

/// <summary>The ISA bus <c>isa.0</c>: ports in the machine's port space, interrupts 0 to 15 of the machine's GSIs.</summary>
[QomType("ISA", Parent = "bus")]
public sealed partial class IsaBus : Bus
{
    private int _nextSerialIndex;

    /// <summary>Number for a serial port that was not given one; the fifth and later ones are refused by the port itself.</summary>
    internal int TakeSerialIndex() => _nextSerialIndex++;
}

/// <summary>A bridge that makes an ISA bus out of nothing, for machines without PCI.</summary>
[QomType("isabus-bridge", Parent = "sys-bus-device", UserCreatable = false)]
[Stateless]
public sealed partial class IsaBusBridge : SystemBus.SysBusDevice
{
    /// <summary>The bus <c>isa.0</c>.</summary>
    public IsaBus IsaBus { get; } = new() { BusName = "isa.0" };

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (ChildBuses.Count == 0)
        {
            AddChildBus(IsaBus);
        }
    }
}
