using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8257;

/// <summary>One 8237A DMA controller (QOM <c>i8257</c>) with its page registers. A PC has two, the second with 16-bit channels.</summary>
/// <remarks>Source: Intel 8237A data sheet. Home: the machine lock.</remarks>
[QomType("i8257", UserCreatable = false)]
public sealed partial class DmaController : IsaDevice, IVmStateful
{
    private const int Channels = 4;
    private const byte ModeDecrement = 0x20;
    private const int ControlCommand = 0;
    private const int ControlRequest = 1;
    private const int ControlSingleMask = 2;
    private const int ControlMode = 3;
    private const int ControlClearFlipFlop = 4;
    private const int ControlMasterClear = 5;
    private const int ControlClearMask = 6;

    private readonly DmaChannel[] _channels = [new(), new(), new(), new()];
    private byte _status;
    private byte _command;
    private byte _mask = 0xff;
    private bool _flipFlop;

    /// <summary>First port of the channel registers.</summary>
    [QomProperty("base", Default = "0")]
    public int IoBase { get; set; }

    /// <summary>First port of the page registers.</summary>
    [QomProperty("page-base", Default = "128")]
    public int PageBase { get; set; } = 0x80;

    /// <summary>First port of the registers of address bits 31..24; -1 for a chip without.</summary>
    [QomProperty("pageh-base", Default = "1152")]
    public int HighPageBase { get; set; } = 0x480;

    /// <summary>Distance of registers and size of a transfer as a power of two.</summary>
    [QomProperty("dshift", Default = "0")]
    public int Shift { get; set; }

    /// <inheritdoc/>
    public string VmStateName => "dma";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <inheritdoc/>
    /// <remarks>The channels' addresses and counts stay, as after a master clear (data sheet, "Software Commands").</remarks>
    public override void Reset() => MasterClear();

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new DmaState
    {
        Command = _command,
        Mask = _mask,
        FlipFlop = _flipFlop ? (byte)1 : (byte)0,
        Shift = Shift,
        Channels = [_channels[0].Capture(), _channels[1].Capture(), _channels[2].Capture(), _channels[3].Capture()],
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        DmaState s = DmaState.Load(reader, version);
        VmStateReader.Validate(s.Shift == Shift, "dshift");
        _command = s.Command;
        _mask = s.Mask;
        _flipFlop = s.FlipFlop != 0;
        for (int i = 0; i < Channels; i++)
        {
            _channels[i].Apply(s.Channels[i]);
        }
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (Shift is < 0 or > 1)
        {
            throw new Vmm.Qapi.QapiException(Vmm.Qapi.QapiErrorClass.GenericError, "Invalid parameter 'dshift'");
        }

        MapPorts("dma-chan", (uint)IoBase, 8u << Shift, new IoWindow(ReadChannel, WriteChannel), IoConstraints.Bytes);
        MapPorts("dma-cont", (uint)IoBase + (8u << Shift), 8u << Shift, new IoWindow(ReadControl, WriteControl), IoConstraints.Bytes);

        // The page register of channel 0 is apart from those of channels 2, 3 and 1.
        MapPorts("dma-page", (uint)PageBase + 1, 3, new BytePorts(3, o => PageOf(o + 1).Page, (o, v) => PageOf(o + 1).Page = v), BytePorts.Access);
        MapPorts("dma-page", (uint)PageBase + 7, 1, new BytePorts(1, _ => _channels[0].Page, (_, v) => _channels[0].Page = v), BytePorts.Access);
        if (HighPageBase >= 0)
        {
            uint high = (uint)HighPageBase;
            MapPorts("dma-pageh", high + 1, 3, new BytePorts(3, o => PageOf(o + 1).HighPage, (o, v) => PageOf(o + 1).HighPage = v), BytePorts.Access);
            MapPorts("dma-pageh", high + 7, 1, new BytePorts(1, _ => _channels[0].HighPage, (_, v) => _channels[0].HighPage = v), BytePorts.Access);
        }

        Reset();
    }

    private DmaChannel PageOf(int port) => _channels[port switch { 1 => 2, 2 => 3, _ => 1 }];

    private bool TakeFlipFlop()
    {
        bool high = _flipFlop;
        _flipFlop = !high;
        return high;
    }

    private ulong ReadChannel(ulong offset, int size)
    {
        int register = (int)(offset >> Shift) & 7;
        DmaChannel channel = _channels[register >> 1];
        int direction = (channel.Mode & ModeDecrement) != 0 ? -1 : 1;
        int value = (register & 1) != 0
            ? (channel.BaseCount << Shift) - channel.CurrentCount
            : channel.CurrentAddress + (channel.CurrentCount * direction);
        return (byte)(value >> (Shift + (TakeFlipFlop() ? 8 : 0)));
    }

    private void WriteChannel(ulong offset, ulong value, int size)
    {
        int register = (int)(offset >> Shift) & 7;
        _channels[register >> 1].WriteBase(isCount: (register & 1) != 0, (byte)value, TakeFlipFlop(), Shift);
    }

    private ulong ReadControl(ulong offset, int size)
    {
        switch ((int)(offset >> Shift) & 7)
        {
            case ControlCommand:
                byte status = _status;
                _status &= 0xf0;
                return status;
            case ControlRequest:
                // QUIRK: the masks read at the place of the request register, as in QEMU.
                return _mask;
            default:
                return 0;
        }
    }

    private void WriteControl(ulong offset, ulong value, int size)
    {
        byte v = (byte)value;
        byte bit = (byte)(1 << (v & 3));
        switch ((int)(offset >> Shift) & 7)
        {
            case ControlCommand:
                _command = v;
                break;
            case ControlRequest:
                _status = (byte)((v & 4) != 0 ? _status | (bit << 4) : _status & ~(bit << 4));
                _status &= (byte)~bit;
                break;
            case ControlSingleMask:
                _mask = (byte)((v & 4) != 0 ? _mask | bit : _mask & ~bit);
                break;
            case ControlMode:
                _channels[v & 3].Mode = v;
                break;
            case ControlClearFlipFlop:
                _flipFlop = false;
                break;
            case ControlMasterClear:
                MasterClear();
                break;
            case ControlClearMask:
                _mask = 0;
                break;
            default:
                _mask = v;
                break;
        }
    }

    private void MasterClear()
    {
        _flipFlop = false;
        _mask = 0xff;
        _status = 0;
        _command = 0;
    }
}
