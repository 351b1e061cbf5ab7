using Vmm.EventLoop;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Rtc;

public sealed partial class Mc146818 : IVmStateful
{
    /// <inheritdoc/>
    public string VmStateName => "mc146818rtc";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer)
    {
        if (IsRunning)
        {
            UpdateTimeRegisters();
        }

        new Mc146818State
        {
            Cmos = _cmos,
            Index = _index,
            PeriodicDeadlineNs = _periodicTimer.IsArmed ? _periodicTimer.DeadlineNs : -1,
            NextPeriodicNs = _nextPeriodicNs,
            MissedTicks = _missedTicks,
            Period = _period,
            BaseSeconds = (ulong)_baseSeconds,
            LastUpdateNs = (ulong)_lastUpdateNs,
            OffsetNs = _offsetNs,
            UpdateDeadlineNs = _updateTimer.IsArmed ? _updateTimer.DeadlineNs : -1,
            NextAlarmNs = (ulong)_nextAlarmNs,
        }.Save(writer);
    }

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        Mc146818State s = Mc146818State.Load(reader, version);
        s.Cmos.CopyTo(_cmos, 0);
        _index = (byte)(s.Index & (CmosSize - 1));
        _nextPeriodicNs = s.NextPeriodicNs;
        _missedTicks = s.MissedTicks;
        _period = 0;
        _baseSeconds = (long)s.BaseSeconds;
        _lastUpdateNs = (long)s.LastUpdateNs;
        _offsetNs = s.OffsetNs;
        _nextAlarmNs = (long)s.NextAlarmNs;
        Restore(_periodicTimer, s.PeriodicDeadlineNs);
        Restore(_updateTimer, s.UpdateDeadlineNs);
        if (version < 3)
        {
            // Older sources kept the time in the registers alone.
            _offsetNs = 0;
            _baseSeconds = TimeFromRegisters().ToSeconds();
            _lastUpdateNs = Now;
            ScheduleUpdate();
        }

        uint period = PeriodTicks();
        _period = period;
        if (period != 0 && (!_periodicTimer.IsArmed || Now < _nextPeriodicNs - WideMath.NsPerSecond || Now > _nextPeriodicNs + WideMath.NsPerSecond))
        {
            _periodicTimer.Cancel();
            SchedulePeriodic(Now, fromTick: false);
        }
    }

    private static void Restore(LoopTimer timer, long deadlineNs)
    {
        if (deadlineNs >= 0)
        {
            timer.ArmAt(deadlineNs);
        }
        else
        {
            timer.Cancel();
        }
    }
}

/// <summary>Migration section of the RTC.</summary>
[VmState("mc146818rtc", Version = 3, MinimumVersion = 1)]
public sealed partial record Mc146818State
{
    /// <summary>Registers and RAM.</summary>
    [VmArray(128)]
    public byte[] Cmos { get; init; } = new byte[128];

    /// <summary>Address latch.</summary>
    public byte Index { get; init; }

    /// <summary>Formerly the broken-down time.</summary>
    [VmArray(28)]
    public byte[] Unused0 { get; init; } = new byte[28];

    /// <summary>Periodic timer; -1 when not armed.</summary>
    public long PeriodicDeadlineNs { get; init; }

    /// <summary>Time of the next periodic tick.</summary>
    public long NextPeriodicNs { get; init; }

    /// <summary>Formerly three timers.</summary>
    [VmArray(24)]
    public byte[] Unused1 { get; init; } = new byte[24];

    /// <summary>Ticks to deliver late.</summary>
    [VmSince(2)]
    public uint MissedTicks { get; init; }

    /// <summary>Oscillator cycles per tick.</summary>
    [VmSince(2)]
    public uint Period { get; init; }

    /// <summary>Time when it was set, in seconds since 1970.</summary>
    [VmSince(3)]
    public ulong BaseSeconds { get; init; }

    /// <summary>Clock value when it was set.</summary>
    [VmSince(3)]
    public ulong LastUpdateNs { get; init; }

    /// <summary>Fraction of a second at that moment.</summary>
    [VmSince(3)]
    public long OffsetNs { get; init; }

    /// <summary>Update timer; -1 when not armed.</summary>
    [VmSince(3)]
    public long UpdateDeadlineNs { get; init; }

    /// <summary>Clock value at which the alarm goes off.</summary>
    [VmSince(3)]
    public ulong NextAlarmNs { get; init; }
}
