using Vmm.Devices.Isa;
using Vmm.Devices.Pci;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi.Types;

namespace Vmm.Devices.Piix;

/// <summary>
/// The PIIX3's ISA bridge (QOM <c>PIIX3</c>): the bus <c>isa.0</c>, steering of the four PCI interrupts to ISA interrupts, and
/// the reset control register at 0xcf9.
/// </summary>
/// <remarks>Source: Intel 82371SB data sheet. Home: the machine lock.</remarks>
[QomType("PIIX3", UserCreatable = false)]
public sealed partial class Piix3 : PciDevice, IVmStateful, IInterruptSink
{
    private const ushort DeviceId82371Sb = 0x7000;
    private const ushort ClassIsaBridge = 0x0601;
    private const int RegPirqRouteA = 0x60;
    private const int PirqLines = 4;
    private const int IsaIrqs = 16;
    private const uint ResetControlPort = 0xcf9;
    private const byte ResetCpu = 0x04;
    private const byte ResetKeptBits = 0x02;

    private readonly bool[] _pirqLevels = new bool[PirqLines];
    private readonly bool[] _isaLevels = new bool[IsaIrqs];
    private byte _resetControl;

    /// <summary>A bridge in slot 1.</summary>
    public Piix3()
    {
        SetIdentity(PciConfig.VendorIntel, DeviceId82371Sb, 0, ClassIsaBridge);
        IsMultifunction = true;
        Address = 1 << 3;
    }

    /// <summary>The ISA bus.</summary>
    public IsaBus IsaBus { get; } = new() { BusName = "isa.0" };

    /// <inheritdoc/>
    public string VmStateName => "PIIX3";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <summary>A PCI interrupt line (0 to 3) changed: its ISA interrupt is high while any line steered to it is.</summary>
    public void SetLevel(int pin, int level)
    {
        _pirqLevels[pin & (PirqLines - 1)] = level != 0;
        UpdateIsaLevels();
    }

    /// <inheritdoc/>
    public override void WriteConfig(int offset, uint value, int size)
    {
        base.WriteConfig(offset, value, size);
        if (offset < RegPirqRouteA + PirqLines && RegPirqRouteA < offset + size)
        {
            UpdateIsaLevels();
        }
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new Piix3State
    {
        Pci = CapturePci(),
        PirqLevels = [_pirqLevels[0] ? 1 : 0, _pirqLevels[1] ? 1 : 0, _pirqLevels[2] ? 1 : 0, _pirqLevels[3] ? 1 : 0],
        ResetControl = _resetControl == 0 ? null : new Piix3ResetControlState { Value = _resetControl },
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        Piix3State s = Piix3State.Load(reader, version);
        if (ValidatePci(s.Pci) is { } error)
        {
            throw new VmStateException(error);
        }

        ApplyPci(s.Pci);
        for (int i = 0; i < PirqLines; i++)
        {
            _pirqLevels[i] = s.PirqLevels[i] != 0;
        }

        _resetControl = (byte)(s.ResetControl?.Value & ResetKeptBits ?? 0);

        // The interrupt controllers bring their own inputs: nothing is driven here, only remembered.
        for (int irq = 0; irq < IsaIrqs; irq++)
        {
            _isaLevels[irq] = LevelOf(irq);
        }
    }

    /// <inheritdoc/>
    protected override void ResetDevice()
    {
        SetWord(Config, PciConfig.Status, PciConfig.StatusDevselMedium);
        Config.AsSpan(PciConfig.HeaderSize).Clear();
        Config[0x4c] = 0x4d;
        Config[0x4e] = 0x03;
        Config.AsSpan(RegPirqRouteA, PirqLines).Fill(0x80);
        Config[0x69] = 0x02;
        Config[0x70] = 0x80;
        Config[0x76] = 0x0c;
        Config[0x77] = 0x0c;
        Config[0x78] = 0x02;
        Config[0xa0] = 0x08;
        Config[0xa8] = 0x0f;
        _resetControl = 0;
        Array.Clear(_pirqLevels);
        UpdateIsaLevels();
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        MapPorts(
            "piix3-reset-control",
            ResetControlPort,
            1,
            new IoWindow((_, _) => _resetControl, (_, value, _) => WriteResetControl((byte)value)),
            IoConstraints.Bytes,
            priority: 1);
        if (ChildBuses.Count == 0)
        {
            AddChildBus(IsaBus);
        }

        Bus.IrqSink = this;
        Reset();
    }

    private void WriteResetControl(byte value)
    {
        if ((value & ResetCpu) != 0)
        {
            Machine.Run.RequestReset(ShutdownCause.GuestReset);
            return;
        }

        _resetControl = (byte)(value & ResetKeptBits);
    }

    private bool LevelOf(int irq)
    {
        for (int line = 0; line < PirqLines; line++)
        {
            if (_pirqLevels[line] && Config[RegPirqRouteA + line] == irq)
            {
                return true;
            }
        }

        return false;
    }

    private void UpdateIsaLevels()
    {
        for (int irq = 0; irq < IsaIrqs; irq++)
        {
            bool level = LevelOf(irq);
            if (level != _isaLevels[irq])
            {
                _isaLevels[irq] = level;
                Machine.Gsi[irq].Set(level);
            }
        }
    }
}

/// <summary>Migration section of the ISA bridge.</summary>
[VmState("PIIX3", Version = 3, MinimumVersion = 2)]
public sealed partial record Piix3State
{
    /// <summary>Configuration space.</summary>
    public PciDeviceState Pci { get; init; } = new();

    /// <summary>Levels of the PCI interrupts.</summary>
    [VmSince(3)]
    [VmArray(4)]
    public int[] PirqLevels { get; init; } = new int[4];

    /// <summary>Present when the reset control register is not zero.</summary>
    [VmSubsection]
    public Piix3ResetControlState? ResetControl { get; init; }
}

/// <summary>Reset control register.</summary>
[VmState("PIIX3/rcr")]
public sealed partial record Piix3ResetControlState
{
    /// <summary>The register.</summary>
    public byte Value { get; init; }
}
