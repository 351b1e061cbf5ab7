using Vmm.Devices.SystemBus;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.IoApic;

/// <summary>
/// An I/O APIC with 24 inputs (QOM <c>ioapic</c>), for machines whose interrupt controllers are not in the kernel, or only the
/// local APICs are. Interrupts leave as MSI writes.
/// </summary>
/// <remarks>
/// Source: Intel 82093AA data sheet; version 0x20 adds the EOI register. Home: the machine lock; inputs, where external interrupts are not served,
/// any thread.
/// </remarks>
[QomType("ioapic", UserCreatable = false)]
public sealed partial class IoApicDevice : SysBusDevice, IVmStateful, IIoHandler, IInterruptInputs, IFreeInterruptSink
{
    /// <summary>Number of inputs.</summary>
    public const int Pins = 24;

    private const int TimerPin = 2;
    private const ulong SelectRegister = 0x00;
    private const ulong WindowRegister = 0x10;
    private const ulong EoiRegister = 0x40;

    private const int IndexId = 0x00;
    private const int IndexVersion = 0x01;
    private const int IndexArbitration = 0x02;
    private const int IndexRedirection = 0x10;

    private const ulong EntryVector = 0xff;
    private const ulong EntryDestinationMode = 1ul << 11;
    private const ulong EntryDeliveryStatus = 1ul << 12;
    private const ulong EntryRemoteIrr = 1ul << 14;
    private const ulong EntryLevel = 1ul << 15;
    private const ulong EntryMask = 1ul << 16;
    private const ulong EntryReadOnly = EntryDeliveryStatus | EntryRemoteIrr;

    private const int DeliveryExtInt = 7;
    private const ulong MsiBase = 0xfee00000;
    private const byte VersionWithEoi = 0x20;

    private readonly Lock _gate = new();
    private readonly ulong[] _entries = new ulong[Pins];
    private readonly IMessageSignal?[] _signals = new IMessageSignal?[Pins];
    private readonly InterruptStatistics _statistics = new(Pins);
    private byte _id;
    private byte _select;
    private uint _irr;

    /// <summary>Hardware version: 0x11, or 0x20 with an EOI register.</summary>
    [QomProperty("version", Default = "32")]
    public byte Version { get; set; } = VersionWithEoi;

    /// <summary>Where the board maps it.</summary>
    public ulong Address { get; set; } = 0xfec00000;

    /// <summary>ISA interrupts arrive here: the timer's at another input than its number.</summary>
    public bool HasIsaInterrupts { get; set; } = true;

    /// <summary>Sends an MSI: address and data. The accelerator's unless set before realize.</summary>
    public Action<ulong, uint>? Send { get; set; }

    /// <summary>Makes a way to send the messages of one input without a call; the accelerator's unless set before realize.</summary>
    public Func<IMessageSignal?>? CreateSignal { get; set; }

    /// <summary>The vector of an external interrupt (delivery mode ExtINT): the 8259s' acknowledge cycle; null for none.</summary>
    public Func<byte>? AcknowledgeExternal { get; set; }

    /// <summary>Told when a redirection entry changed (pin, address, data, masked), so that an accelerator can keep its routes.</summary>
    public Action<int, ulong, uint, bool>? RouteChanged { get; set; }

    /// <summary>Rising inputs counted per pin.</summary>
    public InterruptStatistics Statistics => _statistics;

    /// <inheritdoc/>
    public Action<int, int>? InputWatcher { get; set; }

    /// <inheritdoc/>
    public string VmStateName => "ioapic";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <summary>An ISA interrupt or GSI changed; interrupt 0 arrives at input 2.</summary>
    public void SetLevel(int pin, int level)
    {
        if ((uint)pin >= Pins)
        {
            return;
        }

        InputWatcher?.Invoke(pin, level);
        lock (_gate)
        {
            Drive(pin, level);
        }
    }

    /// <inheritdoc/>
    public void UseSignal(int pin)
    {
        lock (_gate)
        {
            _signals[pin] ??= CreateSignal?.Invoke();
        }
    }

    /// <summary>A local APIC ended an interrupt with this vector: level inputs that are still high interrupt again.</summary>
    public void EndOfInterrupt(byte vector)
    {
        lock (_gate)
        {
            End(vector);
        }
    }

    private void Drive(int pin, int level)
    {
        if (level != 0)
        {
            _statistics.Count(pin);
        }

        // The timer's interrupt 0 is wired to input 2; interrupt 2 is the 8259s' cascade and goes nowhere.
        pin = pin == 0 && HasIsaInterrupts ? TimerPin : pin;
        uint bit = 1u << pin;
        ulong entry = _entries[pin];
        if ((entry & EntryLevel) != 0)
        {
            if (level != 0)
            {
                _irr |= bit;
                if ((entry & EntryRemoteIrr) == 0)
                {
                    Service();
                }
            }
            else
            {
                _irr &= ~bit;
            }
        }
        else if (level != 0)
        {
            // Edges at a masked input are lost, as in the original.
            if ((entry & EntryMask) == 0)
            {
                _irr |= bit;
                Service();
            }
        }
    }

    private void End(byte vector)
    {
        for (int pin = 0; pin < Pins; pin++)
        {
            ulong entry = _entries[pin];
            if ((entry & EntryVector) == vector && (entry & EntryLevel) != 0 && (entry & EntryRemoteIrr) != 0)
            {
                _entries[pin] = entry & ~EntryRemoteIrr;
                if ((entry & EntryMask) == 0 && (_irr & (1u << pin)) != 0)
                {
                    Service();
                }
            }
        }
    }

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size)
    {
        lock (_gate)
        {
            return (offset & 0xff) switch
            {
                SelectRegister => _select,
                WindowRegister => size == 4 ? ReadIndexed() : 0u,
                _ => 0,
            };
        }
    }

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        lock (_gate)
        {
            WriteRegister(offset, value, size);
        }
    }

    private void WriteRegister(ulong offset, ulong value, int size)
    {
        switch (offset & 0xff)
        {
            case SelectRegister:
                _select = (byte)value;
                break;
            case WindowRegister when size == 4:
                WriteIndexed((uint)value);
                break;
            case EoiRegister when size == 4 && Version >= VersionWithEoi:
                End((byte)value);
                break;
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        lock (_gate)
        {
            _id = 0;
            _select = 0;
            _irr = 0;
            for (int pin = 0; pin < Pins; pin++)
            {
                _entries[pin] = EntryMask;
                TellRoute(pin);
            }
        }
    }

    /// <summary>Lines for <c>info pic</c>.</summary>
    public void Describe(int number, Action<string> line) => IoApicText.Describe(Capture(), Version, number, line);

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => Capture().Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        IoApicState s = IoApicState.Load(reader, version);
        lock (_gate)
        {
            _id = s.Id;
            _select = s.Select;
            _irr = s.Irr & ((1u << Pins) - 1);
            for (int pin = 0; pin < Pins; pin++)
            {
                _entries[pin] = s.Entries[pin];
                TellRoute(pin);
            }
        }
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (Version is not (0x11 or VersionWithEoi))
        {
            throw new Vmm.Qapi.QapiException(
                Vmm.Qapi.QapiErrorClass.GenericError, "IOAPIC only supports version 0x11 or 0x20 (default: 0x20).");
        }

        AddInputPins("", Pins);
        if (Send is null)
        {
            Send = Machine.Accelerator.SignalMsi;
            CreateSignal ??= Machine.Accelerator.CreateMessageSignal;
        }

        MapMemory("ioapic", Address, 0x1000, this, new IoConstraints(1, 8, 1, 4));
        Reset();
    }

    private IoApicState Capture()
    {
        ulong[] entries = new ulong[Pins];
        lock (_gate)
        {
            _entries.CopyTo(entries, 0);
            return new IoApicState { Id = _id, Select = _select, Irr = _irr, Entries = entries };
        }
    }

    private uint ReadIndexed()
    {
        switch (_select)
        {
            case IndexId or IndexArbitration:
                return (uint)_id << 24;
            case IndexVersion:
                return Version | ((Pins - 1u) << 16);
            default:
                int pin = (_select - IndexRedirection) >> 1;
                if (_select < IndexRedirection || pin >= Pins)
                {
                    return 0;
                }

                return (_select & 1) != 0 ? (uint)(_entries[pin] >> 32) : (uint)_entries[pin];
        }
    }

    private void WriteIndexed(uint value)
    {
        if (_select == IndexId)
        {
            _id = (byte)((value >> 24) & 0x0f);
            return;
        }

        int pin = (_select - IndexRedirection) >> 1;
        if (_select < IndexRedirection || pin >= Pins)
        {
            return;
        }

        ulong entry = _entries[pin];
        ulong kept = entry & EntryReadOnly;
        entry = (_select & 1) != 0 ? (entry & 0xffffffff) | ((ulong)value << 32) : (entry & ~0xfffffffful) | value;
        entry = (entry & ~EntryReadOnly) | kept;
        if ((entry & EntryLevel) == 0)
        {
            // An entry that became edge-triggered must not wait for an end of interrupt.
            entry &= ~EntryRemoteIrr;
        }

        _entries[pin] = entry;
        TellRoute(pin);
        Service();
    }

    private void Service()
    {
        for (int pin = 0; pin < Pins; pin++)
        {
            uint bit = 1u << pin;
            ulong entry = _entries[pin];
            if ((_irr & bit) == 0 || (entry & EntryMask) != 0)
            {
                continue;
            }

            if ((entry & EntryLevel) != 0)
            {
                if ((entry & EntryRemoteIrr) != 0)
                {
                    continue;
                }

                _entries[pin] = entry | EntryRemoteIrr;
            }
            else
            {
                _irr &= ~bit;
            }

            (ulong address, uint data) = MessageOf(entry);
            if (((entry >> 8) & 7) == DeliveryExtInt)
            {
                if (AcknowledgeExternal is not { } acknowledge)
                {
                    continue;
                }

                data = (data & ~(uint)EntryVector) | acknowledge();
            }
            else if (_signals[pin] is { } signal && signal.SetMessage(address, data))
            {
                signal.Send();
                continue;
            }

            Send?.Invoke(address, data);
        }
    }

    private void TellRoute(int pin)
    {
        if (RouteChanged is { } changed)
        {
            (ulong address, uint data) = MessageOf(_entries[pin]);
            changed(pin, address, data, (_entries[pin] & EntryMask) != 0);
        }
    }

    private static (ulong Address, uint Data) MessageOf(ulong entry)
    {
        ulong address = MsiBase | ((entry >> 56) << 12) | ((entry & EntryDestinationMode) != 0 ? 4u : 0);
        uint data = (uint)(entry & 0x7ff) | ((entry & EntryLevel) != 0 ? 1u << 15 : 0);
        return (address, data);
    }
}

/// <summary>Migration section of an I/O APIC.</summary>
[VmState("ioapic", Version = 3, MinimumVersion = 1)]
public sealed partial record IoApicState
{
    /// <summary>APIC id.</summary>
    public byte Id { get; init; }

    /// <summary>Register select.</summary>
    public byte Select { get; init; }

    /// <summary>Formerly the address.</summary>
    [VmSince(2)]
    [VmArray(8)]
    public byte[] Unused { get; init; } = new byte[8];

    /// <summary>Input requests.</summary>
    [VmSince(2)]
    public uint Irr { get; init; }

    /// <summary>Redirection table.</summary>
    [VmArray(24)]
    public ulong[] Entries { get; init; } = new ulong[24];
}
