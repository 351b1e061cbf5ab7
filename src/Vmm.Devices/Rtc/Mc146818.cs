using Vmm.Devices.Isa;
using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;

namespace Vmm.Devices.Rtc;

/// <summary>
/// The AT's real time clock and CMOS RAM (QOM <c>mc146818rtc</c>). Time is not counted but computed: the clock shows a base
/// plus what the driving clock (<see cref="TimeBase"/>) has advanced since it was set.
/// </summary>
/// <remarks>Source: Motorola MC146818A data sheet. Home: the main loop under the machine lock.</remarks>
[QomType("mc146818rtc", UserCreatable = false)]
public sealed partial class Mc146818 : IsaDevice, IIoHandler, IInterruptOutputs
{
    private readonly byte[] _cmos = new byte[CmosSize];
    private LoopTimer _periodicTimer = null!;
    private LoopTimer _updateTimer = null!;

    private byte _index;
    private long _baseSeconds;
    private long _lastUpdateNs;
    private long _offsetNs;
    private long _nextPeriodicNs;
    private long _nextAlarmNs;
    private uint _period;
    private uint _missedTicks;

    /// <summary>A clock that has not been set.</summary>
    public Mc146818()
    {
        AddOutputPins("", 1);
    }

    /// <summary>Year that the two-digit year counts from when there is no century byte; boards use 0.</summary>
    [QomProperty("base_year", Default = "1980")]
    public int BaseYear { get; set; } = 1980;

    /// <summary>First of two ports.</summary>
    [QomProperty("iobase", Default = "112")]
    public ushort IoBase { get; set; } = 0x70;

    /// <summary>ISA interrupt.</summary>
    [QomProperty("irq", Default = "8")]
    public byte IrqNumber { get; set; } = 8;

    /// <summary>What becomes of periodic interrupts that the guest did not take in time: dropped, or delivered later.</summary>
    [QomProperty("lost_tick_policy", Type = "LostTickPolicy", Default = "\"discard\"")]
    public LostTickPolicy LostTickPolicy { get; set; }

    /// <summary>What the clock is set from. Set before realize; the host's UTC otherwise.</summary>
    public RtcTimeBase? TimeBase { get; set; }

    /// <summary>Interrupt output; the board's IRQ 8 unless set before realize.</summary>
    public InterruptLine? Irq { get; set; }

    /// <summary>Periodic interrupts waiting to be delivered late.</summary>
    public uint MissedTicks => _missedTicks;

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Outputs => Irq is { } irq ? [irq] : [];

    private bool IsRunning => (_cmos[RegB] & BSet) == 0 && (_cmos[RegA] & ADividerMask) <= ADividerRunning;

    private bool IsDividerReset => (_cmos[RegA] & ADividerReset) == ADividerReset;

    private long Now => Machine.Clocks.NowNs(TimeBase!.Clock);

    /// <summary>Sets a CMOS byte as the board's set-up program would.</summary>
    public void SetCmos(int address, byte value) => _cmos[address & (CmosSize - 1)] = value;

    /// <summary>Reads a CMOS byte without side effects.</summary>
    public byte GetCmos(int address) => _cmos[address & (CmosSize - 1)];

    /// <summary>The time that the guest sees.</summary>
    public CivilTime GetTime()
    {
        if (IsRunning)
        {
            UpdateTimeRegisters();
        }

        return TimeFromRegisters();
    }

    /// <summary>Forgets interrupts that wait to be delivered late (rtc-reset-reinjection).</summary>
    public void ResetReinjection() => _missedTicks = 0;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size)
    {
        if ((offset & 1) == 0)
        {
            return 0xff;
        }

        int index = _index == RegCenturyPs2 ? RegCentury : _index;
        switch (index)
        {
            case RegSeconds or RegMinutes or RegHours or RegDayOfWeek or RegDay or RegMonth or RegYear or RegCentury:
                if (IsRunning)
                {
                    UpdateTimeRegisters();
                }

                return _cmos[index];
            case RegA:
                return (byte)(_cmos[RegA] | (IsUpdateInProgress() ? AUpdateInProgress : 0));
            case RegC:
                return ReadFlags();
            default:
                return _cmos[index];
        }
    }

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        byte v = (byte)value;
        if ((offset & 1) == 0)
        {
            _index = (byte)(v & (CmosSize - 1));
            return;
        }

        int index = _index == RegCenturyPs2 ? RegCentury : _index;
        switch (index)
        {
            case RegSecondsAlarm or RegMinutesAlarm or RegHoursAlarm:
                _cmos[index] = v;
                ScheduleUpdate();
                break;
            case RegSeconds or RegMinutes or RegHours or RegDayOfWeek or RegDay or RegMonth or RegYear or RegCentury:
                _cmos[index] = v;
                if (IsRunning)
                {
                    SetTimeFromRegisters();
                    ScheduleUpdate();
                }

                break;
            case RegA:
                WriteA(v);
                break;
            case RegB:
                WriteB(v);
                break;
            case RegC or RegD:
                break;
            default:
                _cmos[index] = v;
                break;
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        // Time and RAM are kept by the battery: RESET# clears interrupt enables and flags only.
        _cmos[RegB] &= unchecked((byte)~(BPeriodic | BAlarm | BSquareWave));
        _cmos[RegC] = 0;
        if (_cmos[ShutdownStatus] != WakesFromSleep)
        {
            _cmos[ShutdownStatus] = 0;
        }

        _missedTicks = 0;
        ScheduleUpdate();
        SchedulePeriodic(Now, fromTick: false);
        Irq?.Lower();
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (LostTickPolicy is not (LostTickPolicy.Discard or LostTickPolicy.Slew))
        {
            throw new QapiException(QapiErrorClass.GenericError, "Invalid lost tick policy.");
        }

        TimeBase ??= new RtcTimeBase(Machine.Clocks);
        Irq ??= IsaIrq(IrqNumber);
        _cmos[RegA] = 0x26;
        _cmos[RegB] = B24Hours;
        _cmos[RegC] = 0;
        _cmos[RegD] = DValidRam;
        _index = 0;
        _baseSeconds = TimeBase.NowSeconds();
        _lastUpdateNs = Now;
        _offsetNs = 0;
        WriteTimeRegisters(CivilTime.FromSeconds(_baseSeconds));
        _periodicTimer = Machine.MainLoop.CreateTimer(TimeBase.Clock, OnPeriodic);
        _updateTimer = Machine.MainLoop.CreateTimer(TimeBase.Clock, OnUpdate);
        ScheduleUpdate();
        MapPorts("rtc", IoBase, 2, this, IoConstraints.Bytes);
        Machine.Run.AddSuspendNotifier(() => _cmos[ShutdownStatus] = WakesFromSleep);
        AddProperty(RtcQom.DateProperty(this));
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        base.Unrealize();
        RemoveProperty("date");
        _periodicTimer.Dispose();
        _updateTimer.Dispose();
    }

    private long GuestNs() => (_baseSeconds * WideMath.NsPerSecond) + Now - _lastUpdateNs + _offsetNs;

    private bool IsUpdateInProgress() => IsRunning && FloorMod(GuestNs()) >= WideMath.NsPerSecond - UpdateWarningNs;

    private byte ReadFlags()
    {
        byte flags = _cmos[RegC];
        Irq!.Lower();
        _cmos[RegC] = 0;
        if ((flags & (CUpdateEnded | CAlarm)) != 0)
        {
            ScheduleUpdate();
        }

        if (_missedTicks > 0 && (_cmos[RegB] & BPeriodic) != 0)
        {
            // The guest is ready for the next one: deliver a tick that came while the line was still high.
            _missedTicks--;
            _cmos[RegC] |= CInterrupt | CPeriodic;
            Irq.Raise();
        }

        return flags;
    }

    private void WriteA(byte value)
    {
        value &= unchecked((byte)~AUpdateInProgress);
        if ((value & ADividerReset) == ADividerReset)
        {
            if (IsRunning)
            {
                UpdateTimeRegisters();
            }

            _cmos[RegA] = value;
        }
        else if (IsDividerReset && (value & ADividerMask) <= ADividerRunning)
        {
            _cmos[RegA] = value;
            if ((_cmos[RegB] & BSet) == 0)
            {
                // The first update comes half a second after the divider is released.
                _offsetNs = WideMath.NsPerSecond / 2;
                SetTimeFromRegisters();
            }
        }
        else
        {
            _cmos[RegA] = value;
        }

        SchedulePeriodic(Now, fromTick: false);
        ScheduleUpdate();
    }

    private void WriteB(byte value)
    {
        if ((value & BSet) != 0)
        {
            if (IsRunning)
            {
                UpdateTimeRegisters();
            }

            value &= unchecked((byte)~BUpdateEnded);
        }
        else if ((_cmos[RegB] & BSet) != 0 && (_cmos[RegA] & ADividerMask) <= ADividerRunning)
        {
            // The fraction of the second is not affected by setting.
            long fraction = FloorMod(GuestNs());
            byte old = _cmos[RegB];
            _cmos[RegB] = (byte)((old & ~(BBinary | B24Hours)) | (value & (BBinary | B24Hours)));
            _offsetNs = fraction;
            SetTimeFromRegisters();
        }

        _cmos[RegB] = value;
        if ((value & _cmos[RegC] & (CPeriodic | CAlarm | CUpdateEnded)) != 0)
        {
            _cmos[RegC] |= CInterrupt;
            Irq!.Raise();
        }
        else
        {
            _cmos[RegC] &= unchecked((byte)~CInterrupt);
            Irq!.Lower();
        }

        SchedulePeriodic(Now, fromTick: false);
        ScheduleUpdate();
    }

    private void OnUpdate()
    {
        byte flags = CUpdateEnded;
        if (Now >= _nextAlarmNs)
        {
            flags |= CAlarm;
            if ((_cmos[RegB] & BAlarm) != 0)
            {
                Machine.Run.WakeIfSuspended(WakeupReason.Rtc);
            }
        }

        if (IsRunning)
        {
            UpdateTimeRegisters();
        }

        _cmos[RegC] |= flags;
        if ((flags & _cmos[RegB]) != 0)
        {
            _cmos[RegC] |= CInterrupt;
            Irq!.Raise();
        }

        ScheduleUpdate();
    }

    private void OnPeriodic()
    {
        SchedulePeriodic(_nextPeriodicNs, fromTick: true);
        bool unacknowledged = (_cmos[RegC] & CInterrupt) != 0;
        _cmos[RegC] |= CPeriodic;
        if ((_cmos[RegB] & BPeriodic) != 0)
        {
            _cmos[RegC] |= CInterrupt;
            if (unacknowledged && LostTickPolicy == LostTickPolicy.Slew)
            {
                _missedTicks++;
            }

            Irq!.Raise();
        }
    }

    /// <summary>Oscillator cycles between two periodic interrupts; 0 for none.</summary>
    private uint PeriodTicks()
    {
        int rate = _cmos[RegA] & ARateMask;
        if ((_cmos[RegB] & BPeriodic) == 0 || rate == 0)
        {
            return 0;
        }

        // With a 32768 Hz base the two fastest codes mean the same as 8 and 9 (data sheet, table 5).
        return 1u << ((rate <= 2 ? rate + 7 : rate) - 1);
    }

    private void SchedulePeriodic(long now, bool fromTick)
    {
        uint period = PeriodTicks();
        if (period == 0)
        {
            _periodicTimer?.Cancel();
            _period = 0;
            _missedTicks = 0;
            return;
        }

        if (!fromTick && period == _period && _periodicTimer.IsArmed)
        {
            return;
        }

        if (_period != 0 && period != _period)
        {
            // What is owed is time, not a number of ticks.
            _missedTicks = (uint)((ulong)_missedTicks * _period / period);
        }

        _period = period;
        ulong cycle = WideMath.MulDiv((ulong)now, OscillatorHz, (uint)WideMath.NsPerSecond);
        ulong next = (cycle & ~(ulong)(period - 1)) + period;
        _nextPeriodicNs = (long)WideMath.MulDiv(next, (uint)WideMath.NsPerSecond, OscillatorHz) + 1;
        _periodicTimer.ArmAt(_nextPeriodicNs);
    }

    /// <summary>Arms the update timer for the next moment at which a flag changes that the guest has not been shown yet.</summary>
    private void ScheduleUpdate()
    {
        if (_updateTimer is null)
        {
            return;
        }

        if (IsDividerReset || (_cmos[RegB] & BSet) != 0)
        {
            _updateTimer.Cancel();
            return;
        }

        long nextUpdate = Now + WideMath.NsPerSecond - FloorMod(GuestNs());
        long alarmSeconds = SecondsToAlarm();
        _nextAlarmNs = alarmSeconds < 0 ? long.MaxValue : nextUpdate + ((alarmSeconds - 1) * WideMath.NsPerSecond);
        if ((_cmos[RegC] & CUpdateEnded) == 0)
        {
            _updateTimer.ArmAt(nextUpdate);
        }
        else if ((_cmos[RegC] & CAlarm) == 0 && _nextAlarmNs != long.MaxValue)
        {
            _updateTimer.ArmAt(_nextAlarmNs);
        }
        else
        {
            _updateTimer.Cancel();
        }
    }

    /// <summary>Seconds until the alarm registers match, 1 to 86400; -1 when they never do.</summary>
    private long SecondsToAlarm()
    {
        int hour = AlarmField(_cmos[RegHoursAlarm], isHour: true);
        int minute = AlarmField(_cmos[RegMinutesAlarm], isHour: false);
        int second = AlarmField(_cmos[RegSecondsAlarm], isHour: false);
        if (hour > 23 || minute > 59 || second > 59)
        {
            return -1;
        }

        long guestSeconds = Math.DivRem(GuestNs() - FloorMod(GuestNs()), WideMath.NsPerSecond).Quotient;
        int start = (int)((((guestSeconds + 1) % 86_400) + 86_400) % 86_400);
        for (int day = 0; day < 2; day++)
        {
            int from = day == 0 ? start : 0;
            int found = FirstMatch(from, hour, minute, second);
            if (found >= 0)
            {
                return found - start + (day * 86_400) + 1;
            }
        }

        return -1;
    }

    /// <summary>First second of the day from <paramref name="from"/> on that matches; negative fields match anything.</summary>
    private static int FirstMatch(int from, int hour, int minute, int second)
    {
        for (int h = from / 3600; h < 24; h++)
        {
            if (hour >= 0 && h != hour)
            {
                continue;
            }

            for (int m = h == from / 3600 ? from / 60 % 60 : 0; m < 60; m++)
            {
                if (minute >= 0 && m != minute)
                {
                    continue;
                }

                int first = h == from / 3600 && m == from / 60 % 60 ? from % 60 : 0;
                if (second < 0)
                {
                    return (h * 3600) + (m * 60) + first;
                }

                if (second >= first)
                {
                    return (h * 3600) + (m * 60) + second;
                }
            }
        }

        return -1;
    }

    private int AlarmField(byte value, bool isHour)
    {
        if ((value & AlarmDontCare) == AlarmDontCare)
        {
            return -1;
        }

        return isHour ? DecodeHour(value) : Decode(value);
    }

    private void UpdateTimeRegisters()
    {
        long ns = GuestNs();
        WriteTimeRegisters(CivilTime.FromSeconds((ns - FloorMod(ns)) / WideMath.NsPerSecond));
    }

    private void SetTimeFromRegisters()
    {
        _baseSeconds = TimeFromRegisters().ToSeconds();
        _lastUpdateNs = Now;
        Machine.Events.Emit(new RtcChangeEvent { Offset = _baseSeconds - TimeBase!.NowSeconds(), QomPath = CanonicalPath ?? "" });
    }

    private CivilTime TimeFromRegisters() => new(
        Decode(_cmos[RegYear]) + BaseYear + (Decode(_cmos[RegCentury]) * 100),
        Decode(_cmos[RegMonth]),
        Decode(_cmos[RegDay]),
        DecodeHour(_cmos[RegHours]),
        Decode(_cmos[RegMinutes]),
        Decode(_cmos[RegSeconds]));

    private void WriteTimeRegisters(CivilTime time)
    {
        _cmos[RegSeconds] = Encode(time.Second);
        _cmos[RegMinutes] = Encode(time.Minute);
        if ((_cmos[RegB] & B24Hours) != 0)
        {
            _cmos[RegHours] = Encode(time.Hour);
        }
        else
        {
            int twelve = time.Hour % 12 == 0 ? 12 : time.Hour % 12;
            _cmos[RegHours] = (byte)(Encode(twelve) | (time.Hour >= 12 ? HourPm : 0));
        }

        _cmos[RegDayOfWeek] = Encode(time.DayOfWeek + 1);
        _cmos[RegDay] = Encode(time.Day);
        _cmos[RegMonth] = Encode(time.Month);
        int year = Math.Max(time.Year - BaseYear, 0);
        _cmos[RegYear] = Encode(year % 100);
        _cmos[RegCentury] = Encode(year / 100 % 100);
    }

    private byte Encode(int value) => (_cmos[RegB] & BBinary) != 0 ? (byte)value : Bcd.Pack(value);

    private int Decode(byte value) => (_cmos[RegB] & BBinary) != 0 ? value : Bcd.Unpack(value);

    private int DecodeHour(byte value)
    {
        int hour = Decode((byte)(value & ~HourPm));
        if ((_cmos[RegB] & B24Hours) != 0)
        {
            return hour;
        }

        hour %= 12;
        return (value & HourPm) != 0 ? hour + 12 : hour;
    }

    private static long FloorMod(long ns)
    {
        long rest = ns % WideMath.NsPerSecond;
        return rest < 0 ? rest + WideMath.NsPerSecond : rest;
    }
}
