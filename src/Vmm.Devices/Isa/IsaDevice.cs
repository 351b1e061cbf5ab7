using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Devices.Isa;

/// <summary>A device on the ISA bus.</summary>
[QomType("isa-device", Parent = "device", BusType = "ISA")]
public abstract partial class IsaDevice : Device
{
    private readonly MappedRegions _regions = new();

    /// <summary>Machine that the device is plugged into; valid from realize on.</summary>
    protected IMachineServices Machine { get; private set; } = null!;

    /// <inheritdoc/>
    protected sealed override void Realize(IMachineServices machine)
    {
        Machine = machine;
        try
        {
            RealizeDevice();
        }
        catch
        {
            _regions.Clear();
            throw;
        }
    }

    /// <inheritdoc/>
    protected override void Unrealize() => _regions.Clear();

    /// <summary>Checks the properties, maps ports, takes lines. A <see cref="QapiException"/> leaves nothing mapped.</summary>
    protected abstract void RealizeDevice();

    /// <summary>Maps registers into the port space.</summary>
    protected MemoryRegion MapPorts(string name, uint first, uint count, IIoHandler handler, IoConstraints constraints, int priority = 0) =>
        _regions.Add(Machine.SystemIo, first, MemoryRegion.Io(name, count, handler, constraints, owner: this), priority);

    /// <summary>The interrupt line of ISA interrupt <paramref name="irq"/>; refuses numbers above 15.</summary>
    protected InterruptLine IsaIrq(uint irq)
    {
        const int IsaIrqs = 16;
        if (irq >= IsaIrqs)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"Maximum value for \"irq\" is: {IsaIrqs - 1}");
        }

        return Machine.Gsi[(int)irq];
    }
}
