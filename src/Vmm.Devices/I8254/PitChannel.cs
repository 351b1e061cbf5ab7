using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8254;

/// <summary>One counter of an 8254.</summary>
internal sealed class PitChannel
{
    private const byte AccessLow = 1;
    private const byte AccessHigh = 2;
    private const byte AccessBoth = 3;
    private const byte SecondByte = 4;

    private int _count = 0x10000;
    private ushort _latchedCount;
    private byte _countLatched;
    private bool _statusLatched;
    private byte _status;
    private byte _readState;
    private byte _writeState;
    private byte _writeLatch;
    private byte _accessMode;
    private byte _mode;
    private byte _bcd;

    public bool Gate { get; set; }

    public bool IrqDisabled { get; set; }

    public long LoadTimeNs { get; set; }

    public long NextTransitionNs { get; set; } = -1;

    /// <summary>Modes 1, 2, 3 and 5 start over when the gate rises.</summary>
    public bool RestartsOnGate => EffectiveMode is 1 or 2 or 3 or 5;

    // Modes 6 and 7 are 2 and 3 again.
    private int EffectiveMode => _mode > 5 ? _mode - 4 : _mode;

    public void Reset(long now, bool gate)
    {
        _mode = 3;
        Gate = gate;
        _count = 0x10000;
        LoadTimeNs = now;
        _latchedCount = 0;
        _countLatched = 0;
        _statusLatched = false;
        _status = 0;
        _readState = 0;
        _writeState = 0;
        _writeLatch = 0;
        _accessMode = 0;
        _bcd = 0;
        NextTransitionNs = NextTransitionAfter(now);
    }

    public void SetMode(byte access, byte mode, byte bcd)
    {
        _accessMode = access;
        _readState = access;
        _writeState = access;
        _mode = mode;
        _bcd = bcd;
    }

    public byte Read(long now)
    {
        if (_statusLatched)
        {
            _statusLatched = false;
            return _status;
        }

        switch (_countLatched)
        {
            case AccessLow:
                _countLatched = 0;
                return (byte)_latchedCount;
            case AccessHigh:
                _countLatched = 0;
                return (byte)(_latchedCount >> 8);
            case AccessBoth:
                _countLatched = AccessHigh;
                return (byte)_latchedCount;
        }

        int count = CountAt(now);
        switch (_readState)
        {
            case AccessHigh:
                return (byte)(count >> 8);
            case AccessBoth:
                _readState = SecondByte;
                return (byte)count;
            case SecondByte:
                _readState = AccessBoth;
                return (byte)(count >> 8);
            default:
                return (byte)count;
        }
    }

    /// <summary>Takes a data byte; true when that started the counter.</summary>
    public bool Write(byte value, long now)
    {
        switch (_writeState)
        {
            case AccessHigh:
                Load(value << 8, now);
                return true;
            case AccessBoth:
                _writeLatch = value;
                _writeState = SecondByte;
                return false;
            case SecondByte:
                _writeState = AccessBoth;
                Load(_writeLatch | (value << 8), now);
                return true;
            default:
                Load(value, now);
                return true;
        }
    }

    public void LatchCount(long now)
    {
        if (_countLatched == 0)
        {
            _latchedCount = (ushort)CountAt(now);
            _countLatched = _accessMode;
        }
    }

    public void LatchStatus(long now)
    {
        if (!_statusLatched)
        {
            _status = (byte)((OutputAt(now) ? 0x80 : 0) | (_accessMode << 4) | (_mode << 1) | _bcd);
            _statusLatched = true;
        }
    }

    public bool OutputAt(long now)
    {
        ulong ticks = Ticks(now);
        uint count = (uint)_count;
        return EffectiveMode switch
        {
            0 => ticks >= count,
            1 => ticks < count,
            2 => ticks % count == 0 && ticks != 0,
            3 => ticks % count < (count + 1) >> 1,
            _ => ticks == count,
        };
    }

    /// <summary>Virtual time of the output's next change after <paramref name="now"/>; -1 for none.</summary>
    public long NextTransitionAfter(long now)
    {
        ulong ticks = Ticks(now);
        ulong count = (uint)_count;
        ulong start = ticks / count * count;
        ulong next;
        switch (EffectiveMode)
        {
            case 0 or 1:
                if (ticks >= count)
                {
                    return -1;
                }

                next = count;
                break;
            case 2:
                next = ticks == start && ticks != 0 ? start + 1 : start + count;
                break;
            case 3:
                ulong half = (count + 1) >> 1;
                next = ticks - start < half ? start + half : start + count;
                break;
            default:
                if (ticks > count)
                {
                    return -1;
                }

                next = ticks < count ? count : count + 1;
                break;
        }

        long time = LoadTimeNs + (long)WideMath.MulDiv(next, (uint)WideMath.NsPerSecond, I8254Pit.FrequencyHz);

        // Rounding must not make it a moment that has passed.
        return Math.Max(time, now + 1);
    }

    public PitChannelState Capture() => new()
    {
        Count = _count,
        LatchedCount = _latchedCount,
        CountLatched = _countLatched,
        StatusLatched = _statusLatched ? (byte)1 : (byte)0,
        Status = _status,
        ReadState = _readState,
        WriteState = _writeState,
        WriteLatch = _writeLatch,
        AccessMode = _accessMode,
        Mode = _mode,
        Bcd = _bcd,
        Gate = Gate ? (byte)1 : (byte)0,
        LoadTimeNs = LoadTimeNs,
        NextTransitionNs = NextTransitionNs,
    };

    public void Apply(PitChannelState s)
    {
        _count = s.Count;
        _latchedCount = s.LatchedCount;
        _countLatched = (byte)(s.CountLatched & 3);
        _statusLatched = s.StatusLatched != 0;
        _status = s.Status;
        _readState = s.ReadState;
        _writeState = s.WriteState;
        _writeLatch = s.WriteLatch;
        _accessMode = s.AccessMode;
        _mode = (byte)(s.Mode & 7);
        _bcd = s.Bcd;
        Gate = s.Gate != 0;
        LoadTimeNs = s.LoadTimeNs;
        NextTransitionNs = s.NextTransitionNs;
    }

    private void Load(int count, long now)
    {
        _count = count == 0 ? 0x10000 : count;
        LoadTimeNs = now;
    }

    private ulong Ticks(long now) => WideMath.MulDiv((ulong)Math.Max(now - LoadTimeNs, 0), I8254Pit.FrequencyHz, (uint)WideMath.NsPerSecond);

    private int CountAt(long now)
    {
        ulong ticks = Ticks(now);
        uint count = (uint)_count;
        return EffectiveMode switch
        {
            2 => (int)(count - (ticks % count)),
            3 => (int)(count - (ticks * 2 % count)),
            _ => (int)((count - ticks) & 0xffff),
        };
    }
}

/// <summary>Migration section of the timer.</summary>
[VmState("i8254", Version = 3, MinimumVersion = 2)]
public sealed partial record I8254State
{
    /// <summary>Counter 0 does not drive IRQ 0.</summary>
    [VmSince(3)]
    public uint IrqDisabled { get; init; }

    /// <summary>The counters.</summary>
    [VmArray(3)]
    public PitChannelState[] Channels { get; init; } = [new(), new(), new()];

    /// <summary>Next change of counter 0; -1 for none.</summary>
    public long NextTransitionNs { get; init; }
}

/// <summary>A counter.</summary>
[VmState("pit channel", Version = 2, MinimumVersion = 2)]
public sealed partial record PitChannelState
{
    /// <summary>Start value, 1 to 65536.</summary>
    public int Count { get; init; }

    /// <summary>Latched value.</summary>
    public ushort LatchedCount { get; init; }

    /// <summary>Bytes of it that are to be read.</summary>
    public byte CountLatched { get; init; }

    /// <summary>A status byte is to be read.</summary>
    public byte StatusLatched { get; init; }

    /// <summary>The status byte.</summary>
    public byte Status { get; init; }

    /// <summary>Byte to be read next.</summary>
    public byte ReadState { get; init; }

    /// <summary>Byte to be written next.</summary>
    public byte WriteState { get; init; }

    /// <summary>Low byte written.</summary>
    public byte WriteLatch { get; init; }

    /// <summary>Access mode.</summary>
    public byte AccessMode { get; init; }

    /// <summary>Counting mode.</summary>
    public byte Mode { get; init; }

    /// <summary>BCD was asked for.</summary>
    public byte Bcd { get; init; }

    /// <summary>Gate input.</summary>
    public byte Gate { get; init; }

    /// <summary>When it was started.</summary>
    public long LoadTimeNs { get; init; }

    /// <summary>Next change of the output.</summary>
    public long NextTransitionNs { get; init; }
}
