using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8042;

/// <summary>A PS/2 keyboard (QOM <c>ps2-kbd</c>): answers its commands and queues scan codes.</summary>
/// <remarks>Source: IBM PS/2 hardware interface technical reference, keyboard section. Home: the main loop under the machine lock.</remarks>
[QomType("ps2-kbd", UserCreatable = false)]
public sealed partial class Ps2Keyboard : Ps2Device, IVmStateful
{
    private const byte SetLeds = 0xed;
    private const byte Echo = 0xee;
    private const byte SelectScanCodeSet = 0xf0;
    private const byte ReadId = 0xf2;
    private const byte SetRate = 0xf3;
    private const byte Enable = 0xf4;
    private const byte DisableAndDefault = 0xf5;
    private const byte SetDefault = 0xf6;
    private const byte SetAllTypematicMakeBreak = 0xfa;
    private const byte SetKeyMakeBreak = 0xfc;
    private const byte ResetCommand = 0xff;

    private bool _scanEnabled;
    private int _scanCodeSet = 2;
    private int _leds;

    /// <summary>Scan codes of set 2 are translated to set 1, as the controller's mode says.</summary>
    public bool Translate { get; set; }

    /// <summary>LED bits: 1 scroll lock, 2 num lock, 4 caps lock.</summary>
    public int Leds => _leds;

    /// <inheritdoc/>
    public string VmStateName => "ps2kbd";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <summary>Queues the bytes of a key's make or break code, already in the form that the guest reads; lost while scanning is off.</summary>
    public void QueueScanCode(ReadOnlySpan<byte> code)
    {
        if (_scanEnabled)
        {
            QueueInput(code);
        }
    }

    /// <inheritdoc/>
    public override void WriteByte(byte value)
    {
        switch (PendingCommand)
        {
            case SelectScanCodeSet:
                PendingCommand = NoCommand;
                SetScanCodeSet(value);
                break;
            case SetLeds:
                PendingCommand = NoCommand;
                _leds = value;
                Answer(Acknowledge);
                break;
            case SetRate or SetKeyMakeBreak:
                PendingCommand = NoCommand;
                Answer(Acknowledge);
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
        SetDefaults();
        Translate = false;
        _scanEnabled = false;
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new Ps2KeyboardState
    {
        Common = CaptureCommon(),
        ScanEnabled = _scanEnabled ? 1 : 0,
        Translate = Translate ? 1 : 0,
        ScanCodeSet = _scanCodeSet,
        Leds = _leds == 0 ? null : new Ps2KeyboardLedState { Leds = _leds },
        Answers = CaptureAnswers() is { } answers ? new Ps2KeyboardAnswerState { End = answers.End } : null,
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        Ps2KeyboardState s = Ps2KeyboardState.Load(reader, version);
        ApplyCommon(s.Common, s.Answers is { } answers ? new Ps2AnswerQueueState { End = answers.End } : null);
        _scanEnabled = s.ScanEnabled != 0;
        Translate = s.Translate != 0;
        _scanCodeSet = version >= 3 && s.ScanCodeSet is >= 1 and <= 3 ? s.ScanCodeSet : 2;
        _leds = s.Leds?.Leds ?? 0;
    }

    private void WriteCommand(byte value)
    {
        switch (value)
        {
            case 0x00:
                Answer(Acknowledge);
                break;
            case Echo:
                Answer(Echo);
                break;
            case ReadId:
                Answer([Acknowledge, 0xab, Translate ? (byte)0x41 : (byte)0x83]);
                break;
            case SetLeds or SelectScanCodeSet or SetRate or SetKeyMakeBreak:
                PendingCommand = value;
                Answer(Acknowledge);
                break;
            case Enable:
                _scanEnabled = true;
                Answer(Acknowledge);
                break;
            case DisableAndDefault:
                ClearQueue();
                SetDefaults();
                _scanEnabled = false;
                Answer(Acknowledge);
                break;
            case SetDefault:
                ClearQueue();
                SetDefaults();
                Answer(Acknowledge);
                break;
            case SetAllTypematicMakeBreak:
                Answer(Acknowledge);
                break;
            case ResetCommand:
                ClearQueue();
                SetDefaults();
                Answer([Acknowledge, SelfTestPassed]);
                break;
            default:
                Answer(Resend);
                break;
        }
    }

    private void SetScanCodeSet(byte value)
    {
        switch (value)
        {
            case 0:
                // The answer goes through the translation that scan codes go through.
                byte set = (byte)_scanCodeSet;
                byte shown = set switch { 1 => 0x43, 2 => 0x41, _ => 0x3f };
                Answer([Acknowledge, Translate ? shown : set]);
                break;
            case 1 or 2 or 3:
                _scanCodeSet = value;
                Answer(Acknowledge);
                break;
            default:
                Answer(Resend);
                break;
        }
    }

    private void SetDefaults()
    {
        _scanEnabled = true;
        _scanCodeSet = 2;
        _leds = 0;
    }
}

/// <summary>Migration section of the keyboard.</summary>
[VmState("ps2kbd", Version = 3, MinimumVersion = 2)]
public sealed partial record Ps2KeyboardState
{
    /// <summary>Queue.</summary>
    public Ps2CommonState Common { get; init; } = new();

    /// <summary>Scanning is on.</summary>
    public int ScanEnabled { get; init; }

    /// <summary>Translation to set 1.</summary>
    public int Translate { get; init; }

    /// <summary>1 to 3.</summary>
    [VmSince(3)]
    public int ScanCodeSet { get; init; }

    /// <summary>Present while a LED is lit.</summary>
    [VmSubsection]
    public Ps2KeyboardLedState? Leds { get; init; }

    /// <summary>Present while an answer is unread.</summary>
    [VmSubsection]
    public Ps2KeyboardAnswerState? Answers { get; init; }
}

/// <summary>LEDs.</summary>
[VmState("ps2kbd/ledstate", Version = 3, MinimumVersion = 2)]
public sealed partial record Ps2KeyboardLedState
{
    /// <summary>LED bits.</summary>
    public int Leds { get; init; }
}

/// <summary>Unread answer.</summary>
[VmState("ps2kbd/command_reply_queue", Version = 0, MinimumVersion = 0)]
public sealed partial record Ps2KeyboardAnswerState
{
    /// <summary>Index behind its last byte.</summary>
    public int End { get; init; }
}
