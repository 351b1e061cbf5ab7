using Vmm.EventLoop;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Run;
using Vmm.Qapi.Types;

namespace Vmm.Devices.AcpiPm;

/// <summary>
/// The fixed hardware of ACPI power management: PM1 event and control registers, the 24-bit PM timer on the virtual clock, one
/// general purpose event block of 16 events, and the system control interrupt that they share.
/// </summary>
/// <remarks>Source: ACPI specification 6.4, 4.8.3 and 4.8.4. Home: main loop under the machine lock.</remarks>
public sealed class AcpiPmRegisters : IDisposable
{
    /// <summary>Rate of the PM timer.</summary>
    public const uint TimerHz = 3_579_545;

    /// <summary>PM1 timer status and enable.</summary>
    public const ushort TimerBit = 0x0001;

    /// <summary>PM1 global lock status and enable.</summary>
    public const ushort GlobalBit = 0x0020;

    /// <summary>PM1 power button status and enable.</summary>
    public const ushort PowerButtonBit = 0x0100;

    /// <summary>PM1 real-time clock alarm status and enable.</summary>
    public const ushort RtcBit = 0x0400;

    /// <summary>PM1 wake status.</summary>
    public const ushort WakeBit = 0x8000;

    private const ushort ControlSciEnable = 0x0001;
    private const ushort ControlSleepEnable = 0x2000;
    private const int ControlSleepTypeShift = 10;
    private const ulong TimerMask = 0xffffff;
    private const ulong TimerHalf = 0x800000;

    private readonly IMachineServices _machine;
    private readonly Action<bool> _sci;
    private readonly LoopTimer _timer;
    private ushort _status;
    private long _overflowNs;

    /// <param name="machine">The machine.</param>
    /// <param name="sci">Drives the system control interrupt.</param>
    public AcpiPmRegisters(IMachineServices machine, Action<bool> sci)
    {
        _machine = machine;
        _sci = sci;
        _timer = machine.MainLoop.CreateTimer(ClockType.Virtual, UpdateSci);
    }

    /// <summary>PM1 enable register.</summary>
    public ushort Enable { get; private set; }

    /// <summary>PM1 control register, without the write-only sleep enable bit.</summary>
    public ushort Control { get; private set; }

    /// <summary>General purpose event status.</summary>
    public ushort GpeStatus { get; private set; }

    /// <summary>General purpose event enable.</summary>
    public ushort GpeEnable { get; private set; }

    /// <summary>Sleep type of suspend to disk.</summary>
    public byte S4Type { get; set; } = 2;

    /// <summary>There is no system management mode through which the guest would enter and leave ACPI mode: it is in it from reset on.</summary>
    public bool IsAcpiOnly { get; init; }

    private long Now => _machine.Clocks.NowNs(ClockType.Virtual);

    /// <summary>PM1 status register; a timer overflow shows as soon as it has happened.</summary>
    public ushort ReadStatus()
    {
        if (Now >= _overflowNs)
        {
            _status |= TimerBit;
        }

        return _status;
    }

    /// <summary>Reads the event block: status word at 0, enable word at 2.</summary>
    public ulong ReadEvent(ulong offset, int size) => offset switch { 0 => ReadStatus(), 2 => Enable, _ => 0u };

    /// <summary>Writes the event block; ones clear status bits.</summary>
    public void WriteEvent(ulong offset, ulong value, int size)
    {
        ushort v = (ushort)value;
        if (offset == 0)
        {
            if ((ReadStatus() & v & TimerBit) != 0)
            {
                ComputeOverflow();
            }

            _status &= (ushort)~v;
        }
        else if (offset == 2)
        {
            Enable = v;
            _machine.Run.EnableWakeup(WakeupReason.Rtc, (v & RtcBit) != 0);
            _machine.Run.EnableWakeup(WakeupReason.PmTimer, (v & TimerBit) != 0);
        }

        UpdateSci();
    }

    /// <summary>Writes the control register; sleep enable puts the machine into the state that the sleep type names.</summary>
    public void WriteControl(ushort value)
    {
        Control = (ushort)(value & ~ControlSleepEnable);
        if ((value & ControlSleepEnable) == 0)
        {
            return;
        }

        int type = (value >> ControlSleepTypeShift) & 7;
        if (type == 0)
        {
            _machine.Run.RequestShutdown(ShutdownCause.GuestShutdown);
        }
        else if (type == 1)
        {
            _machine.Run.RequestSuspend();
        }
        else if (type == S4Type)
        {
            _machine.Events.Emit(new SuspendDiskEvent());
            _machine.Run.RequestShutdown(ShutdownCause.GuestShutdown);
        }
    }

    /// <summary>The PM timer's count.</summary>
    public uint ReadTimer() => (uint)(WideMath.MulDiv((ulong)Now, TimerHz, (uint)WideMath.NsPerSecond) & TimerMask);

    /// <summary>The SMI command port took the value by which the guest enters or leaves ACPI mode.</summary>
    public void SetAcpiMode(bool enabled)
    {
        if (!IsAcpiOnly)
        {
            Control = (ushort)(enabled ? Control | ControlSciEnable : Control & ~ControlSciEnable);
        }
    }

    /// <summary>Reads a byte of the general purpose event block: two of status, two of enable.</summary>
    public byte ReadGpe(int offset) => (offset & 3) switch
    {
        0 => (byte)GpeStatus,
        1 => (byte)(GpeStatus >> 8),
        2 => (byte)GpeEnable,
        _ => (byte)(GpeEnable >> 8),
    };

    /// <summary>Writes a byte of it; ones clear status bits.</summary>
    public void WriteGpe(int offset, byte value)
    {
        switch (offset & 3)
        {
            case 0:
                GpeStatus &= (ushort)~value;
                break;
            case 1:
                GpeStatus &= (ushort)~(value << 8);
                break;
            case 2:
                GpeEnable = (ushort)((GpeEnable & 0xff00) | value);
                break;
            default:
                GpeEnable = (ushort)((GpeEnable & 0x00ff) | (value << 8));
                break;
        }

        UpdateSci();
    }

    /// <summary>Signals a general purpose event (0 to 15).</summary>
    public void RaiseGpe(int number)
    {
        GpeStatus |= (ushort)(1 << number);
        UpdateSci();
    }

    /// <summary>The power button was pressed; without a guest that wants to know, nothing remembers it.</summary>
    public void PressPowerButton()
    {
        if ((Enable & PowerButtonBit) != 0)
        {
            _status |= PowerButtonBit;
            UpdateSci();
        }
    }

    /// <summary>The machine was woken: tells the guest why.</summary>
    public void NotifyWakeup(WakeupReason reason)
    {
        // A wake-up without a reason of its own passes for the power button, which every system understands.
        _status |= (ushort)(WakeBit | reason switch
        {
            WakeupReason.Rtc => RtcBit,
            WakeupReason.PmTimer => TimerBit,
            _ => PowerButtonBit,
        });
        UpdateSci();
    }

    /// <summary>Power-on state.</summary>
    public void Reset()
    {
        _status = 0;
        Enable = 0;
        Control = IsAcpiOnly ? ControlSciEnable : (ushort)0;
        GpeStatus = 0;
        GpeEnable = 0;
        _overflowNs = 0;
        _timer.Cancel();
        _machine.Run.EnableWakeup(WakeupReason.Rtc, false);
        _machine.Run.EnableWakeup(WakeupReason.PmTimer, false);
        UpdateSci();
    }

    /// <summary>Deadline of the overflow timer as it is saved; -1 when not armed.</summary>
    public long TimerDeadlineNs => _timer.IsArmed ? _timer.DeadlineNs : -1;

    /// <summary>Next overflow as it is saved.</summary>
    public long OverflowNs => _overflowNs;

    /// <summary>PM1 status as it is saved, without looking at the timer.</summary>
    public ushort SavedStatus => _status;

    /// <summary>Takes over a saved state.</summary>
    public void Restore(ushort status, ushort enable, ushort control, long timerDeadlineNs, long overflowNs, ushort gpeStatus, ushort gpeEnable)
    {
        _status = status;
        Enable = enable;
        Control = control;
        GpeStatus = gpeStatus;
        GpeEnable = gpeEnable;
        _overflowNs = overflowNs;
        if (timerDeadlineNs >= 0)
        {
            _timer.ArmAt(timerDeadlineNs);
        }
        else
        {
            _timer.Cancel();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private void ComputeOverflow()
    {
        ulong ticks = WideMath.MulDiv((ulong)Now, TimerHz, (uint)WideMath.NsPerSecond);
        ulong overflow = (ticks + TimerHalf) & ~(TimerHalf - 1);
        _overflowNs = (long)WideMath.MulDiv(overflow, (uint)WideMath.NsPerSecond, TimerHz) + 1;
    }

    private void UpdateSci()
    {
        ushort status = ReadStatus();
        bool level = (status & Enable & (RtcBit | PowerButtonBit | GlobalBit | TimerBit)) != 0 || (GpeStatus & GpeEnable) != 0;
        _sci(level);
        if ((Enable & TimerBit) != 0 && (status & TimerBit) == 0)
        {
            _timer.ArmAt(_overflowNs);
        }
        else
        {
            _timer.Cancel();
        }
    }
}
