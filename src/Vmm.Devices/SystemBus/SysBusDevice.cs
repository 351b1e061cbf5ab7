using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;

namespace Vmm.Devices.SystemBus;

/// <summary>The bus of everything that is wired to the board: <c>main-system-bus</c>.</summary>
[QomType("System", Parent = "bus")]
public sealed partial class MainSystemBus : Bus
{
}

/// <summary>A device that a board wires up itself. Not user-creatable unless a machine says so.</summary>
[QomType("sys-bus-device", Parent = "device", BusType = "System")]
public abstract partial class SysBusDevice : Device
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

    /// <inheritdoc/>
    public override void DescribeMappings(Action<string> line)
    {
        if (IsRealized)
        {
            _regions.Describe(Machine.SystemMemory, line);
        }
    }

    /// <summary>Checks the properties, maps regions, takes lines.</summary>
    protected abstract void RealizeDevice();

    /// <summary>Maps registers into the port space.</summary>
    protected MemoryRegion MapPorts(string name, uint first, uint count, IIoHandler handler, IoConstraints constraints) =>
        _regions.Add(Machine.SystemIo, first, MemoryRegion.Io(name, count, handler, constraints, owner: this));

    /// <summary>Maps registers into physical memory.</summary>
    protected MemoryRegion MapMemory(string name, ulong address, ulong size, IIoHandler handler, IoConstraints constraints) =>
        _regions.Add(Machine.SystemMemory, address, MemoryRegion.Io(name, size, handler, constraints, owner: this));
}
