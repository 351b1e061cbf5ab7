using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi.Types;

namespace Vmm.Devices.I8042;

/// <summary>
/// The AT keyboard controller (QOM <c>i8042</c>): data port 0x60, command and status port 0x64, with keyboard and mouse, A20
/// gate and CPU reset.
/// </summary>
/// <remarks>Source: Intel 8042 as programmed for the IBM PS/2. Home: the main loop under the machine lock.</remarks>
[QomType("i8042", UserCreatable = false)]
public sealed partial class I8042Device : IsaDevice, IInterruptOutputs
{
    private const uint DataPort = 0x60;
    private const uint CommandPort = 0x64;
    private const int NoCommand = 0;

    private byte _writeCommand;
    private byte _status;
    private byte _mode;
    private byte _outport;
    private Sources _pending;
    private byte _outputSource;
    private byte _outputData;
    private byte _controllerData;

    /// <summary>A controller with a keyboard and a mouse.</summary>
    public I8042Device()
    {
        AddInputPins("ps2-mouse-input-irq", 1);
        AddInputPins("ps2-kbd-input-irq", 1);
        AddOutputPins("", 2);
        AddOutputPins("a20", 1);
    }

    /// <summary>Interrupt of the keyboard.</summary>
    [QomProperty("kbd-irq", Default = "1")]
    public byte KeyboardIrq { get; set; } = 1;

    /// <summary>Interrupt of the mouse.</summary>
    [QomProperty("mouse-irq", Default = "12")]
    public byte MouseIrq { get; set; } = 12;

    /// <summary>The section carries the output buffer.</summary>
    [QomProperty("extended-state", Default = "true")]
    public bool ExtendedState { get; set; } = true;

    /// <summary>A20 gate output.</summary>
    public InterruptLine A20 { get; set; } = new();

    /// <summary>The keyboard.</summary>
    public Ps2Keyboard Keyboard { get; } = new();

    /// <summary>The mouse.</summary>
    public Ps2Mouse Mouse { get; } = new();

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Outputs => [KeyboardLine, MouseLine];

    private InterruptLine KeyboardLine { get; set; } = new();

    private InterruptLine MouseLine { get; set; } = new();

    /// <inheritdoc/>
    public override void Reset()
    {
        _mode = ModeKeyboardInterrupt | ModeMouseInterrupt;
        _status = StatusCommand | StatusUnlocked;
        _outport = OutReset | OutA20 | OutOnes;
        _pending = 0;
        _writeCommand = NoCommand;
        _outputSource = 0;
        _outputData = 0;
        _controllerData = 0;
        Keyboard.Reset();
        Mouse.Reset();
        _pending = 0;
        _status = StatusCommand | StatusUnlocked;
        UpdateLines();
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        KeyboardLine = IsaIrq(KeyboardIrq);
        MouseLine = IsaIrq(MouseIrq);
        if (FindChild("ps2kbd") is null)
        {
            AddChild("ps2kbd", Keyboard);
            AddChild("ps2mouse", Mouse);
        }

        Machine.Devices.Realize(Keyboard);
        Machine.Devices.Realize(Mouse);
        Keyboard.DataAvailable = available => SetPending(Sources.Keyboard, available);
        Mouse.DataAvailable = available => SetPending(Sources.Mouse, available);
        MapPorts("i8042-data", DataPort, 1, new IoWindow((_, _) => ReadData(), (_, value, _) => WriteData((byte)value)), IoConstraints.Bytes);
        MapPorts("i8042-cmd", CommandPort, 1, new IoWindow((_, _) => _status, (_, value, _) => WriteCommand((byte)value)), IoConstraints.Bytes);
        Reset();
    }

    private ulong ReadData()
    {
        if ((_status & StatusOutputFull) != 0)
        {
            // First the buffer is free, then its source hands over the byte, and whoever waits is next.
            byte source = _outputSource;
            _status &= unchecked((byte)~(StatusOutputFull | StatusMouseOutput));
            _outport &= unchecked((byte)~(OutOutputFull | OutMouseOutputFull));
            UpdateLines();
            switch (source)
            {
                case SourceKeyboard:
                    _outputData = Keyboard.ReadByte();
                    break;
                case SourceMouse:
                    _outputData = Mouse.ReadByte();
                    break;
                default:
                    _outputData = _controllerData;
                    _pending &= ~(Sources.Controller | Sources.ControllerMouse);
                    break;
            }

            Offer();
        }

        return _outputData;
    }

    private void WriteCommand(byte value)
    {
        // 0xf0 to 0xff pulse the output port's low bits that are zero; only bit 0, the CPU reset, is wired.
        if ((value & 0xf0) == 0xf0)
        {
            value = (value & 1) == 0 ? CommandReset : CommandNone;
        }

        switch (value)
        {
            case CommandReadMode:
                Queue(_mode, mouse: false);
                break;
            case CommandWriteMode or CommandWriteOutputBuffer or CommandWriteMouseBuffer or CommandWriteMouse or CommandWriteOutport:
                _writeCommand = value;
                break;
            case CommandMouseDisable:
                _mode |= ModeMouseDisabled;
                break;
            case CommandMouseEnable:
                _mode &= unchecked((byte)~ModeMouseDisabled);
                Offer();
                break;
            case CommandTestMouse:
                Queue(0x00, mouse: false);
                break;
            case CommandSelfTest:
                _status |= StatusSelfTest;
                Queue(0x55, mouse: false);
                break;
            case CommandTestKeyboard:
                Queue(0x00, mouse: false);
                break;
            case CommandKeyboardDisable:
                _mode |= ModeKeyboardDisabled;
                break;
            case CommandKeyboardEnable:
                _mode &= unchecked((byte)~ModeKeyboardDisabled);
                Offer();
                break;
            case CommandReadInport:
                Queue(0x80, mouse: false);
                break;
            case CommandReadOutport:
                Queue(_outport, mouse: false);
                break;
            case CommandEnableA20:
                A20.Raise();
                _outport |= OutA20;
                break;
            case CommandDisableA20:
                A20.Lower();
                _outport &= unchecked((byte)~OutA20);
                break;
            case CommandReset:
                Machine.Run.RequestReset(ShutdownCause.GuestReset);
                break;
        }
    }

    private void WriteData(byte value)
    {
        byte command = _writeCommand;
        _writeCommand = NoCommand;
        switch (command)
        {
            case NoCommand:
                // Writing to the keyboard enables it; so does writing to the mouse below.
                _mode &= unchecked((byte)~ModeKeyboardDisabled);
                Keyboard.WriteByte(value);
                Offer();
                break;
            case CommandWriteMode:
                _mode = value;
                Keyboard.Translate = (value & ModeTranslate) != 0;
                UpdateLines();
                Offer();
                break;
            case CommandWriteOutputBuffer:
                Queue(value, mouse: false);
                break;
            case CommandWriteMouseBuffer:
                Queue(value, mouse: true);
                break;
            case CommandWriteOutport:
                WriteOutport(value);
                break;
            case CommandWriteMouse:
                _mode &= unchecked((byte)~ModeMouseDisabled);
                Mouse.WriteByte(value);
                Offer();
                break;
        }
    }

    private void WriteOutport(byte value)
    {
        _outport = value;
        A20.Set((value & OutA20) != 0);
        if ((value & OutReset) == 0)
        {
            Machine.Run.RequestReset(ShutdownCause.GuestReset);
        }
    }

    /// <summary>Offers a byte of the controller's own, replacing one that was not read yet.</summary>
    private void Queue(byte value, bool mouse)
    {
        _controllerData = value;
        _pending = (_pending & ~(Sources.Controller | Sources.ControllerMouse)) | (mouse ? Sources.ControllerMouse : Sources.Controller);
        Offer();
    }

    private void SetPending(Sources source, bool available)
    {
        _pending = available ? _pending | source : _pending & ~source;
        Offer();
    }

    /// <summary>Fills the output buffer from the first source that has something, if the buffer is free.</summary>
    private void Offer()
    {
        if ((_status & StatusOutputFull) != 0)
        {
            return;
        }

        if ((_pending & Sources.Controller) != 0)
        {
            Latch(SourceController, mouse: false);
        }
        else if ((_pending & Sources.ControllerMouse) != 0)
        {
            Latch(SourceController, mouse: true);
        }
        else if ((_pending & Sources.Keyboard) != 0 && (_mode & ModeKeyboardDisabled) == 0)
        {
            Latch(SourceKeyboard, mouse: false);
        }
        else if ((_pending & Sources.Mouse) != 0 && (_mode & ModeMouseDisabled) == 0)
        {
            Latch(SourceMouse, mouse: true);
        }

        UpdateLines();
    }

    private void Latch(byte source, bool mouse)
    {
        _outputSource = source;
        _status |= mouse ? (byte)(StatusOutputFull | StatusMouseOutput) : StatusOutputFull;
        _outport |= mouse ? (byte)(OutOutputFull | OutMouseOutputFull) : OutOutputFull;
    }

    private void UpdateLines()
    {
        bool keyboard = false;
        bool mouse = false;
        if ((_status & StatusOutputFull) != 0)
        {
            if ((_status & StatusMouseOutput) != 0)
            {
                mouse = (_mode & ModeMouseInterrupt) != 0;
            }
            else
            {
                keyboard = (_mode & ModeKeyboardInterrupt) != 0 && (_mode & ModeKeyboardDisabled) == 0;
            }
        }

        KeyboardLine.Set(keyboard);
        MouseLine.Set(mouse);
    }
}
