namespace Vmm.Devices.Rtc;

// Motorola MC146818A data sheet; the century byte is the IBM AT's, 0x37 its PS/2 alias.
public sealed partial class Mc146818
{
    private const int CmosSize = 128;
    private const int RegSeconds = 0x00;
    private const int RegSecondsAlarm = 0x01;
    private const int RegMinutes = 0x02;
    private const int RegMinutesAlarm = 0x03;
    private const int RegHours = 0x04;
    private const int RegHoursAlarm = 0x05;
    private const int RegDayOfWeek = 0x06;
    private const int RegDay = 0x07;
    private const int RegMonth = 0x08;
    private const int RegYear = 0x09;
    private const int RegA = 0x0a;
    private const int RegB = 0x0b;
    private const int RegC = 0x0c;
    private const int RegD = 0x0d;
    private const int ShutdownStatus = 0x0f;
    private const int RegCentury = 0x32;
    private const int RegCenturyPs2 = 0x37;

    private const byte AUpdateInProgress = 0x80;
    private const byte ADividerMask = 0x70;
    private const byte ADividerRunning = 0x20;
    private const byte ADividerReset = 0x60;
    private const byte ARateMask = 0x0f;

    private const byte BSet = 0x80;
    private const byte BPeriodic = 0x40;
    private const byte BAlarm = 0x20;
    private const byte BUpdateEnded = 0x10;
    private const byte BSquareWave = 0x08;
    private const byte BBinary = 0x04;
    private const byte B24Hours = 0x02;

    private const byte CInterrupt = 0x80;
    private const byte CPeriodic = 0x40;
    private const byte CAlarm = 0x20;
    private const byte CUpdateEnded = 0x10;

    private const byte DValidRam = 0x80;

    // What firmware finds in the shutdown status after a reset by which a machine wakes that suspended itself to RAM.
    private const byte WakesFromSleep = 0xfe;

    private const byte AlarmDontCare = 0xc0;
    private const byte HourPm = 0x80;

    private const uint OscillatorHz = 32_768;

    // The update-in-progress bit goes up 244 us, 8 oscillator cycles, before the update.
    private const long UpdateWarningNs = 8 * WideMath.NsPerSecond / OscillatorHz;
}
