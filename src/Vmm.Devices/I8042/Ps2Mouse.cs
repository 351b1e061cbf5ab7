using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8042;

/// <summary>
/// A PS/2 mouse with the IntelliMouse and Explorer extensions (QOM <c>ps2-mouse</c>). Answers queue up behind what is unread; those
/// that do not fit are lost.
/// </summary>
/// <remarks>Source: IBM PS/2 hardware interface technical reference, mouse section. Home: the main loop under the machine lock.</remarks>
[QomType("ps2-mouse", UserCreatable = false)]
public sealed partial class Ps2Mouse : Ps2Device, IVmStateful
{
    private const byte Scale11 = 0xe6;
    private const byte Scale21 = 0xe7;
    private const byte SetResolution = 0xe8;
    private const byte GetStatus = 0xe9;
    private const byte SetStream = 0xea;
    private const byte Poll = 0xeb;
    private const byte ResetWrap = 0xec;
    private const byte SetWrap = 0xee;
    private const byte SetRemote = 0xf0;
    private const byte GetType_ = 0xf2;
    private const byte SetSampleRate = 0xf3;
    private const byte EnableReporting = 0xf4;
    private const byte DisableReporting = 0xf5;
    private const byte SetDefaults = 0xf6;
    private const byte ResetCommand = 0xff;

    private const byte StatusScale21 = 0x10;
    private const byte StatusEnabled = 0x20;
    private const byte StatusRemote = 0x40;

    private const byte TypePlain = 0;
    private const byte TypeWheel = 3;
    private const byte TypeExplorer = 4;

    private byte _status;
    private byte _resolution;
    private byte _sampleRate;
    private bool _wrap;
    private byte _type;
    private byte _detect;
    private int _dx;
    private int _dy;
    private int _dz;
    private byte _buttons;

    /// <inheritdoc/>
    public string VmStateName => "ps2mouse";

    /// <inheritdoc/>
    public int VmStateVersion => 2;

    /// <summary>Moves the mouse and presses buttons (1 left, 2 right, 4 middle, 8 and 16 extra); ignored unless reporting is on.</summary>
    /// <param name="dx">To the right.</param>
    /// <param name="dy">Upwards.</param>
    /// <param name="dz">Wheel.</param>
    /// <param name="buttons">Buttons that are down.</param>
    public void Move(int dx, int dy, int dz, byte buttons)
    {
        if ((_status & StatusEnabled) == 0)
        {
            return;
        }

        _dx += dx;
        _dy += dy;
        _dz += dz;
        _buttons = buttons;
        if ((_status & StatusRemote) == 0)
        {
            Span<byte> packet = stackalloc byte[4];
            do
            {
                int length = BuildPacket(packet);
                if (!QueueInput(packet[..length]))
                {
                    return;
                }

                Consume();
            }
            while (_dx != 0 || _dy != 0 || _dz != 0);
        }
    }

    /// <inheritdoc/>
    public override void WriteByte(byte value)
    {
        switch (PendingCommand)
        {
            case SetSampleRate:
                PendingCommand = NoCommand;
                _sampleRate = value;
                Detect(value);
                QueueInput([Acknowledge]);
                break;
            case SetResolution:
                PendingCommand = NoCommand;
                _resolution = value;
                QueueInput([Acknowledge]);
                break;
            default:
                WriteCommand(value);
                break;
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        ResetCommon();
        Defaults();
        _wrap = false;
        _type = TypePlain;
        _detect = 0;
        _dx = 0;
        _dy = 0;
        _dz = 0;
        _buttons = 0;
        _status = 0;
        _resolution = 0;
        _sampleRate = 0;
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new Ps2MouseState
    {
        Common = CaptureCommon(),
        Status = _status,
        Resolution = _resolution,
        SampleRate = _sampleRate,
        Wrap = _wrap ? (byte)1 : (byte)0,
        Type = _type,
        Detect = _detect,
        Dx = _dx,
        Dy = _dy,
        Dz = _dz,
        Buttons = _buttons,
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        Ps2MouseState s = Ps2MouseState.Load(reader, version);
        ApplyCommon(s.Common, null);
        _status = s.Status;
        _resolution = s.Resolution;
        _sampleRate = s.SampleRate;
        _wrap = s.Wrap != 0;
        _type = s.Type;
        _detect = s.Detect;
        _dx = s.Dx;
        _dy = s.Dy;
        _dz = s.Dz;
        _buttons = s.Buttons;
    }

    private void WriteCommand(byte value)
    {
        if (_wrap && value is not (ResetWrap or ResetCommand))
        {
            QueueInput([value]);
            return;
        }

        switch (value)
        {
            case Scale11:
                _status &= unchecked((byte)~StatusScale21);
                QueueInput([Acknowledge]);
                break;
            case Scale21:
                _status |= StatusScale21;
                QueueInput([Acknowledge]);
                break;
            case SetStream:
                _status &= unchecked((byte)~StatusRemote);
                QueueInput([Acknowledge]);
                break;
            case SetRemote:
                _status |= StatusRemote;
                QueueInput([Acknowledge]);
                break;
            case SetWrap:
                _wrap = true;
                QueueInput([Acknowledge]);
                break;
            case ResetWrap:
                _wrap = false;
                QueueInput([Acknowledge]);
                break;
            case GetType_:
                QueueInput([Acknowledge, _type]);
                break;
            case SetSampleRate or SetResolution:
                PendingCommand = value;
                QueueInput([Acknowledge]);
                break;
            case GetStatus:
                QueueInput([Acknowledge, _status, _resolution, _sampleRate]);
                break;
            case Poll:
                QueueInput([Acknowledge]);
                Span<byte> packet = stackalloc byte[4];
                if (QueueInput(packet[..BuildPacket(packet)]))
                {
                    Consume();
                }

                break;
            case EnableReporting:
                _status |= StatusEnabled;
                QueueInput([Acknowledge]);
                break;
            case DisableReporting:
                _status &= unchecked((byte)~StatusEnabled);
                QueueInput([Acknowledge]);
                break;
            case SetDefaults:
                Defaults();
                QueueInput([Acknowledge]);
                break;
            case ResetCommand:
                Defaults();
                _type = TypePlain;
                _detect = 0;
                _wrap = false;
                ClearQueue();
                QueueInput([Acknowledge, SelfTestPassed, _type]);
                break;
        }
    }

    // Drivers ask for the wheel by setting the rates 200, 100, 80, and for five buttons by 200, 200, 80.
    private void Detect(byte rate)
    {
        switch (_detect)
        {
            case 1 when rate == 100:
                _detect = 2;
                break;
            case 1 when rate == 200:
                _detect = 3;
                break;
            case 2 when rate == 80:
                _type = TypeWheel;
                _detect = 0;
                break;
            case 3 when rate == 80:
                _type = TypeExplorer;
                _detect = 0;
                break;
            default:
                _detect = rate == 200 ? (byte)1 : (byte)0;
                break;
        }
    }

    private void Defaults()
    {
        _sampleRate = 100;
        _resolution = 2;
        _status = 0;
    }

    private int BuildPacket(Span<byte> packet)
    {
        int dx = Math.Clamp(_dx, -127, 127);
        int dy = Math.Clamp(_dy, -127, 127);
        packet[0] = (byte)(0x08 | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0) | (_buttons & 7));
        packet[1] = (byte)dx;
        packet[2] = (byte)dy;
        switch (_type)
        {
            case TypeWheel:
                packet[3] = (byte)Math.Clamp(_dz, -127, 127);
                return 4;
            case TypeExplorer:
                packet[3] = (byte)((Math.Clamp(_dz, -7, 7) & 0x0f) | ((_buttons & 0x18) << 1));
                return 4;
            default:
                return 3;
        }
    }

    private void Consume()
    {
        _dx -= Math.Clamp(_dx, -127, 127);
        _dy -= Math.Clamp(_dy, -127, 127);
        int wheel = _type switch { TypeWheel => 127, TypeExplorer => 7, _ => int.MaxValue };
        _dz -= Math.Clamp(_dz, -wheel, wheel);
    }
}

/// <summary>Migration section of the mouse.</summary>
[VmState("ps2mouse", Version = 2, MinimumVersion = 2)]
public sealed partial record Ps2MouseState
{
    /// <summary>Queue.</summary>
    public Ps2CommonState Common { get; init; } = new();

    /// <summary>Scaling, reporting and mode bits.</summary>
    public byte Status { get; init; }

    /// <summary>Resolution code.</summary>
    public byte Resolution { get; init; }

    /// <summary>Samples per second.</summary>
    public byte SampleRate { get; init; }

    /// <summary>Wrap mode.</summary>
    public byte Wrap { get; init; }

    /// <summary>0 plain, 3 wheel, 4 five buttons.</summary>
    public byte Type { get; init; }

    /// <summary>Progress of the detection sequence.</summary>
    public byte Detect { get; init; }

    /// <summary>Motion not reported yet.</summary>
    public int Dx { get; init; }

    /// <inheritdoc cref="Dx"/>
    public int Dy { get; init; }

    /// <inheritdoc cref="Dx"/>
    public int Dz { get; init; }

    /// <summary>Buttons that are down.</summary>
    public byte Buttons { get; init; }
}
