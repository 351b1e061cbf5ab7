namespace Vmm.Devices.I8042;

// IBM PS/2 hardware interface technical reference, keyboard and auxiliary device controller.
public sealed partial class I8042Device
{
    private const byte CommandReadMode = 0x20;
    private const byte CommandWriteMode = 0x60;
    private const byte CommandMouseDisable = 0xa7;
    private const byte CommandMouseEnable = 0xa8;
    private const byte CommandTestMouse = 0xa9;
    private const byte CommandSelfTest = 0xaa;
    private const byte CommandTestKeyboard = 0xab;
    private const byte CommandKeyboardDisable = 0xad;
    private const byte CommandKeyboardEnable = 0xae;
    private const byte CommandReadInport = 0xc0;
    private const byte CommandReadOutport = 0xd0;
    private const byte CommandWriteOutport = 0xd1;
    private const byte CommandWriteOutputBuffer = 0xd2;
    private const byte CommandWriteMouseBuffer = 0xd3;
    private const byte CommandWriteMouse = 0xd4;
    private const byte CommandDisableA20 = 0xdd;
    private const byte CommandEnableA20 = 0xdf;
    private const byte CommandReset = 0xfe;
    private const byte CommandNone = 0xff;

    private const byte StatusOutputFull = 0x01;
    private const byte StatusSelfTest = 0x04;
    private const byte StatusCommand = 0x08;
    private const byte StatusUnlocked = 0x10;
    private const byte StatusMouseOutput = 0x20;

    private const byte ModeKeyboardInterrupt = 0x01;
    private const byte ModeMouseInterrupt = 0x02;
    private const byte ModeKeyboardDisabled = 0x10;
    private const byte ModeMouseDisabled = 0x20;
    private const byte ModeTranslate = 0x40;

    private const byte OutReset = 0x01;
    private const byte OutA20 = 0x02;
    private const byte OutOutputFull = 0x10;
    private const byte OutMouseOutputFull = 0x20;
    private const byte OutOnes = 0xcc;

    private const byte SourceKeyboard = 0x01;
    private const byte SourceMouse = 0x02;
    private const byte SourceController = 0x04;

    /// <summary>Who has something for the output buffer, with the values used in the migration section.</summary>
    [Flags]
    private enum Sources : byte
    {
        KeyboardCompat = 0x01,
        MouseCompat = 0x02,
        Controller = 0x04,
        ControllerMouse = 0x08,
        Keyboard = 0x10,
        Mouse = 0x20,
    }
}
