using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8259;

/// <summary>
/// One 8259A interrupt controller (QOM <c>isa-i8259</c>) with the edge/level control register of the chipset. Two of them make a
/// PC's pair: <see cref="I8259Pair"/>.
/// </summary>
/// <remarks>Source: Intel 8259A data sheet; ELCR: Intel 82371SB (PIIX3) data sheet. Home: the machine lock.</remarks>
[QomType("isa-i8259", UserCreatable = false)]
public sealed partial class I8259Chip : IsaDevice, IVmStateful, IIoHandler, IInterruptInputs, IInterruptOutputs
{
    private const int Lines = 8;
    private const int CascadeLine = 2;
    private const int SpuriousLine = 7;

    private const byte Icw1 = 0x10;
    private const byte Icw1NeedIcw4 = 0x01;
    private const byte Icw1Single = 0x02;
    private const byte Icw4AutoEoi = 0x02;
    private const byte Icw4FullyNested = 0x10;
    private const byte Ocw3 = 0x08;
    private const byte Ocw3Poll = 0x04;
    private const byte Ocw3ReadRegister = 0x02;
    private const byte Ocw3ReadIsr = 0x01;
    private const byte Ocw3SpecialMaskCommand = 0x40;
    private const byte Ocw3SpecialMask = 0x20;

    private byte _lastLevels;
    private byte _irr;
    private byte _imr;
    private byte _isr;
    private byte _lowestPriority;
    private byte _vectorBase;
    private bool _readIsr;
    private bool _poll;
    private bool _specialMask;
    private byte _initState;
    private bool _autoEoi;
    private bool _rotateOnAutoEoi;
    private bool _fullyNested;
    private bool _needsIcw4;
    private bool _single;
    private byte _elcr;

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

    /// <summary>INT output.</summary>
    public InterruptLine Output { get; set; } = new();

    /// <summary>Rising inputs counted per line; a pair shares one table of 16.</summary>
    public InterruptStatistics Statistics { get; set; } = new(2 * Lines);

    /// <summary>True while INT is asserted.</summary>
    public bool IsAsserted => PendingLine() >= 0;

    /// <inheritdoc/>
    public Action<int, int>? InputWatcher { get; set; }

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Outputs => [Output];

    /// <inheritdoc/>
    public string VmStateName => "i8259";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <inheritdoc/>
    public void SetLevel(int pin, int level)
    {
        InputWatcher?.Invoke(pin & (Lines - 1), level);
        byte bit = (byte)(1 << (pin & (Lines - 1)));
        if (level != 0)
        {
            if ((_lastLevels & bit) == 0)
            {
                Statistics.Count((pin & (Lines - 1)) + (IsMaster ? 0 : Lines));
                _irr |= bit;
            }
            else if ((_elcr & bit) != 0)
            {
                _irr |= bit;
            }

            _lastLevels |= bit;
        }
        else
        {
            _lastLevels &= (byte)~bit;
            if ((_elcr & bit) != 0)
            {
                _irr &= (byte)~bit;
            }
        }

        UpdateOutput();
    }

    /// <summary>First half of the acknowledge cycle: the line that is served, or the spurious line 7.</summary>
    public int AcknowledgeLine()
    {
        int line = PendingLine();
        if (line < 0)
        {
            return SpuriousLine;
        }

        Serve(line);
        return line;
    }

    /// <summary>Vector of a line.</summary>
    public byte VectorOf(int line) => (byte)(_vectorBase + line);

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size)
    {
        if (_poll)
        {
            _poll = false;
            int line = PendingLine();
            if (line < 0)
            {
                return 0;
            }

            Serve(line);
            return 0x80u | (uint)line;
        }

        return offset != 0 ? _imr : _readIsr ? _isr : _irr;
    }

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        byte v = (byte)value;
        if (offset != 0)
        {
            WriteData(v);
        }
        else if ((v & Icw1) != 0)
        {
            Initialize();
            _initState = 1;
            _needsIcw4 = (v & Icw1NeedIcw4) != 0;
            _single = (v & Icw1Single) != 0;
            UpdateOutput();
        }
        else if ((v & Ocw3) != 0)
        {
            _poll |= (v & Ocw3Poll) != 0;
            if ((v & Ocw3ReadRegister) != 0)
            {
                _readIsr = (v & Ocw3ReadIsr) != 0;
            }

            if ((v & Ocw3SpecialMaskCommand) != 0)
            {
                _specialMask = (v & Ocw3SpecialMask) != 0;
            }
        }
        else
        {
            WriteOcw2(v);
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        _elcr = 0;
        _lastLevels = 0;
        _irr = 0;
        Initialize();
        _initState = 0;
        UpdateOutput();
    }

    /// <summary>Line for <c>info pic</c>.</summary>
    public string Describe() => Capture().Describe(IsMaster);

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => Capture().Save(writer);

    /// <summary>Leaves the controller as firmware would: with its vectors set and lines masked.</summary>
    /// <param name="vectorBase">Vector of line 0, a multiple of 8.</param>
    /// <param name="mask">A bit for each line that is masked.</param>
    public void Prepare(byte vectorBase, byte mask)
    {
        _vectorBase = vectorBase;
        _imr = mask;
        UpdateOutput();
    }

    private I8259State Capture() => new()
    {
        LastLevels = _lastLevels,
        Irr = _irr,
        Imr = _imr,
        Isr = _isr,
        LowestPriority = _lowestPriority,
        VectorBase = _vectorBase,
        ReadIsr = ToByte(_readIsr),
        Poll = ToByte(_poll),
        SpecialMask = ToByte(_specialMask),
        InitState = _initState,
        AutoEoi = ToByte(_autoEoi),
        RotateOnAutoEoi = ToByte(_rotateOnAutoEoi),
        FullyNested = ToByte(_fullyNested),
        NeedsIcw4 = ToByte(_needsIcw4),
        Single = _single ? Icw1Single : (byte)0,
        Elcr = _elcr,
    };

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        I8259State s = I8259State.Load(reader, version);
        _lastLevels = s.LastLevels;
        _irr = s.Irr;
        _imr = s.Imr;
        _isr = s.Isr;
        _lowestPriority = (byte)(s.LowestPriority & 7);
        _vectorBase = s.VectorBase;
        _readIsr = s.ReadIsr != 0;
        _poll = s.Poll != 0;
        _specialMask = s.SpecialMask != 0;
        _initState = (byte)(s.InitState & 3);
        _autoEoi = s.AutoEoi != 0;
        _rotateOnAutoEoi = s.RotateOnAutoEoi != 0;
        _fullyNested = s.FullyNested != 0;
        _needsIcw4 = s.NeedsIcw4 != 0;
        _single = s.Single != 0;
        _elcr = s.Elcr;
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        AddInputPins("", Lines);
        AddOutputPins("", 1);
        MapPorts("pic", IoBase, 2, this, IoConstraints.Bytes);
        if (ElcrPort != uint.MaxValue)
        {
            MapPorts("elcr", ElcrPort, 1, new IoWindow((_, _) => _elcr, (_, value, _) => _elcr = (byte)(value & ElcrMask)), IoConstraints.Bytes);
        }

        Reset();
    }

    private static byte ToByte(bool value) => value ? (byte)1 : (byte)0;

    private void WriteData(byte value)
    {
        switch (_initState)
        {
            case 0:
                _imr = value;
                UpdateOutput();
                break;
            case 1:
                _vectorBase = (byte)(value & 0xf8);
                _initState = _single ? (_needsIcw4 ? (byte)3 : (byte)0) : (byte)2;
                break;
            case 2:
                _initState = _needsIcw4 ? (byte)3 : (byte)0;
                break;
            default:
                _fullyNested = (value & Icw4FullyNested) != 0;
                _autoEoi = (value & Icw4AutoEoi) != 0;
                _initState = 0;
                break;
        }
    }

    // Bits 7..5 of OCW2: rotate, specific, end of interrupt.
    private void WriteOcw2(byte value)
    {
        int line = value & 7;
        bool rotate = (value & 0x80) != 0;
        bool specific = (value & 0x40) != 0;
        bool end = (value & 0x20) != 0;
        if (!end)
        {
            if (specific && rotate)
            {
                _lowestPriority = (byte)((line + 1) & 7);
                UpdateOutput();
            }
            else if (!specific)
            {
                _rotateOnAutoEoi = rotate;
            }

            return;
        }

        if (!specific)
        {
            int rank = RankOf(_isr);
            if (rank == Lines)
            {
                return;
            }

            line = (rank + _lowestPriority) & 7;
        }

        _isr &= (byte)~(1 << line);
        if (rotate)
        {
            _lowestPriority = (byte)((line + 1) & 7);
        }

        UpdateOutput();
    }

    // Lines that are level-triggered keep their request over an initialization.
    private void Initialize()
    {
        _irr &= _elcr;
        _imr = 0;
        _isr = 0;
        _lowestPriority = 0;
        _vectorBase = 0;
        _readIsr = false;
        _poll = false;
        _specialMask = false;
        _autoEoi = false;
        _rotateOnAutoEoi = false;
        _fullyNested = false;
        _needsIcw4 = false;
        _single = false;
        _lastLevels &= _elcr;
    }

    /// <summary>Distance of the most urgent bit from the highest priority; 8 for none.</summary>
    private int RankOf(int mask)
    {
        for (int rank = 0; rank < Lines; rank++)
        {
            if ((mask & (1 << ((rank + _lowestPriority) & 7))) != 0)
            {
                return rank;
            }
        }

        return Lines;
    }

    private int PendingLine()
    {
        int rank = RankOf(_irr & ~_imr);
        if (rank == Lines)
        {
            return -1;
        }

        int served = _specialMask ? _isr & ~_imr : _isr;
        if (_fullyNested && IsMaster)
        {
            // The cascade does not block itself: the slave ranks its own lines.
            served &= ~(1 << CascadeLine);
        }

        return rank < RankOf(served) ? (rank + _lowestPriority) & 7 : -1;
    }

    private void Serve(int line)
    {
        byte bit = (byte)(1 << line);
        if (!_autoEoi)
        {
            _isr |= bit;
        }
        else if (_rotateOnAutoEoi)
        {
            _lowestPriority = (byte)((line + 1) & 7);
        }

        if ((_elcr & bit) == 0)
        {
            _irr &= (byte)~bit;
        }

        UpdateOutput();
    }

    private void UpdateOutput() => Output.Set(PendingLine() >= 0);
}

/// <summary>Migration section of an 8259.</summary>
[VmState("i8259")]
public sealed partial record I8259State
{
    /// <summary>Levels last seen, for edge detection.</summary>
    public byte LastLevels { get; init; }

    /// <summary>Interrupt request register.</summary>
    public byte Irr { get; init; }

    /// <summary>Interrupt mask register.</summary>
    public byte Imr { get; init; }

    /// <summary>In-service register.</summary>
    public byte Isr { get; init; }

    /// <summary>Line of highest priority.</summary>
    public byte LowestPriority { get; init; }

    /// <summary>Vector of line 0.</summary>
    public byte VectorBase { get; init; }

    /// <summary>Reads show the in-service register.</summary>
    public byte ReadIsr { get; init; }

    /// <summary>The next read polls.</summary>
    public byte Poll { get; init; }

    /// <summary>Special mask mode.</summary>
    public byte SpecialMask { get; init; }

    /// <summary>Initialization command word expected next, 0 for none.</summary>
    public byte InitState { get; init; }

    /// <summary>Automatic end of interrupt.</summary>
    public byte AutoEoi { get; init; }

    /// <summary>Rotation on automatic end of interrupt.</summary>
    public byte RotateOnAutoEoi { get; init; }

    /// <summary>Special fully nested mode.</summary>
    public byte FullyNested { get; init; }

    /// <summary>ICW4 follows.</summary>
    public byte NeedsIcw4 { get; init; }

    /// <summary>No cascade.</summary>
    public byte Single { get; init; }

    /// <summary>Level-triggered lines.</summary>
    public byte Elcr { get; init; }

    /// <summary>Line for <c>info pic</c>.</summary>
    public string Describe(bool isMaster) =>
        $"pic{(isMaster ? 0 : 1)}: irr={Irr:x2} imr={Imr:x2} isr={Isr:x2} hprio={LowestPriority} irq_base={VectorBase:x2} " +
        $"rr_sel={ReadIsr} elcr={Elcr:x2} fnm={FullyNested}";
}
