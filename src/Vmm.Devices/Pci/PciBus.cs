using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.Pci;

/// <summary>A PCI bus: 32 slots of 8 functions, configuration access, INTx routing to the host bridge.</summary>
/// <remarks>Home: the machine lock.</remarks>
[QomType("PCI", Parent = "bus")]
public sealed partial class PciBus : Bus, IVmStateful
{
    private const int Functions = 8;
    private const int Slots = 32;
    private const int Lines = 4;

    private readonly PciDevice?[] _functions = new PciDevice?[Slots * Functions];
    private readonly int[] _lineCounts = new int[Lines];

    /// <summary>Bus number.</summary>
    public int Number { get; set; }

    /// <summary>Memory space of the bus.</summary>
    public MemoryRegion MemorySpace { get; set; } = null!;

    /// <summary>Port space of the bus.</summary>
    public MemoryRegion IoSpace { get; set; } = null!;

    /// <summary>Which of the host's four interrupt lines a slot's pin is wired to (slot, pin 0 to 3).</summary>
    public Func<int, int, int> MapIrq { get; set; } = static (slot, pin) => (slot + pin) & (Lines - 1);

    /// <summary>Receiver of the four lines.</summary>
    public IInterruptSink? IrqSink { get; set; }

    /// <inheritdoc/>
    public override int MaximumDevices => Slots * Functions;

    /// <inheritdoc/>
    public string VmStateName => "PCIBUS";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <summary>The function at an address; null for none.</summary>
    public PciDevice? FunctionAt(int address) => (uint)address < _functions.Length ? _functions[address] : null;

    /// <summary>Reads configuration space; all ones where there is no function.</summary>
    public uint ReadConfig(int address, int offset, int size) =>
        FunctionAt(address) is { } device ? device.ReadConfig(offset, size) : uint.MaxValue >> (32 - (size * 8));

    /// <summary>Writes configuration space.</summary>
    public void WriteConfig(int address, int offset, uint value, int size) => FunctionAt(address)?.WriteConfig(offset, value, size);

    /// <inheritdoc/>
    public override void CheckAddress(Device device)
    {
        if (device is not PciDevice pci)
        {
            return;
        }

        string name = pci.Type.Name;
        if (pci.Address < 0)
        {
            int free = 0;
            while (free < _functions.Length && _functions[free] is not null)
            {
                free += Functions;
            }

            if (free >= _functions.Length)
            {
                throw Error($"PCI: no slot/function available for {name}, all in use or reserved");
            }

            pci.Address = free;
        }
        else if (_functions[pci.Address] is { } other)
        {
            throw Error(
                $"PCI: slot {pci.Slot} function {pci.Function} not available for {name}, in use by {other.Type.Name},id={other.Id ?? "(null)"}");
        }

        CheckMultifunction(pci);
        if (pci.IsHotplugged && pci.Function != 0 && _functions[pci.Address & ~7] is { } function0)
        {
            throw Error(
                $"PCI: slot {pci.Slot} function 0 already occupied by {function0.Type.Name}, new func {name} cannot be exposed to guest.");
        }
    }

    /// <inheritdoc/>
    public override string? DevicePath(Device device) =>
        device is PciDevice pci ? $"0000:{Number:x2}:{pci.Slot:x2}.{pci.Function:x}" : null;

    /// <inheritdoc/>
    public override void DescribeDevice(Device device, Action<string> line)
    {
        if (device is PciDevice pci)
        {
            line(PciNames.DescribeForTree(pci, Number));
            pci.DescribeBars(line);
        }
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new PciBusState { Lines = Lines, Counts = [.. _lineCounts] }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        PciBusState s = PciBusState.Load(reader, version);
        VmStateReader.Validate(s.Lines == Lines, "nirq");
        s.Counts.CopyTo(_lineCounts, 0);
    }

    /// <summary>Takes note of a realized function.</summary>
    internal void Register(PciDevice device) => _functions[device.Address] = device;

    /// <summary>Forgets a function.</summary>
    internal void Unregister(PciDevice device)
    {
        if (FunctionAt(device.Address) == device)
        {
            _functions[device.Address] = null;
        }
    }

    /// <summary>One more (or one less) function asserts a pin: the line is high while any does.</summary>
    internal void ChangeIrqLevel(PciDevice device, int pin, int change)
    {
        int line = MapIrq(device.Slot, pin) & (Lines - 1);
        _lineCounts[line] += change;
        IrqSink?.SetLevel(line, _lineCounts[line] != 0 ? 1 : 0);
    }

    private static QapiException Error(string text) => new(QapiErrorClass.GenericError, text);

    // Functions 1 to 7 exist for a guest only when function 0 says so.
    private void CheckMultifunction(PciDevice device)
    {
        if (device.Function != 0)
        {
            if (_functions[device.Address & ~7] is { IsMultifunction: false })
            {
                throw Error($"PCI: single function device can't be populated in function {device.Slot:x}.{device.Function:x}");
            }

            return;
        }

        if (device.IsMultifunction)
        {
            return;
        }

        for (int function = 1; function < Functions; function++)
        {
            if (_functions[device.Address + function] is not null)
            {
                throw Error(
                    $"PCI: {device.Slot:x}.0 indicates single function, but {device.Slot:x}.{function:x} is already populated.");
            }
        }
    }
}

/// <summary>Migration section of a bus.</summary>
[VmState("PCIBUS")]
public sealed partial record PciBusState
{
    /// <summary>Number of interrupt lines; must agree.</summary>
    public int Lines { get; init; }

    /// <summary>Functions that assert each line.</summary>
    [VmArray(4)]
    public int[] Counts { get; init; } = new int[4];
}

/// <summary>State of a function, first part of the section of each PCI device.</summary>
[VmState("PCIDevice", Version = 2)]
public sealed partial record PciDeviceState
{
    /// <summary>Version of this part.</summary>
    public int FormatVersion { get; init; } = 2;

    /// <summary>Configuration space.</summary>
    [VmArray(256)]
    public byte[] Config { get; init; } = new byte[256];

    /// <summary>Levels of INTA to INTD.</summary>
    [VmArray(4)]
    public uint[] IrqLevels { get; init; } = new uint[4];
}
