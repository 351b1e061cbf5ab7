using Vmm.Devices.Isa;
using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8254;

/// <summary>
/// The 8254 interval timer (QOM <c>isa-pit</c>): three counters at 1.193182 MHz on the virtual clock. Counter 0 drives IRQ 0,
/// counter 2 the speaker. Counts are computed when asked for; only counter 0 has a timer.
/// </summary>
/// <remarks>Source: Intel 8254 data sheet. Counting is binary even where BCD was asked for. Home: main loop under the machine lock.</remarks>
[QomType("isa-pit", UserCreatable = false)]
public sealed partial class I8254Pit : IsaDevice, IVmStateful, IIoHandler, IInterruptOutputs, IToneCounter
{
    /// <summary>Input clock.</summary>
    public const uint FrequencyHz = 1_193_182;

    private const int ControlRegister = 3;

    private readonly PitChannel[] _channels = [new(), new(), new()];
    private LoopTimer _timer = null!;

    /// <summary>First of four ports.</summary>
    [QomProperty("iobase", Default = "4294967295")]
    public uint IoBase { get; set; } = 0x40;

    /// <summary>Output of counter 0; the board's IRQ 0 unless set before realize.</summary>
    public InterruptLine? Irq { get; set; }

    /// <inheritdoc/>
    public string VmStateName => "i8254";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Outputs => Irq is { } irq ? [irq] : [];

    private long Now => Machine.Clocks.NowNs(ClockType.Virtual);

    /// <summary>Gate input of a counter.</summary>
    public bool GetGate(int channel) => _channels[channel].Gate;

    /// <summary>Output level of a counter.</summary>
    public bool GetOutput(int channel) => _channels[channel].OutputAt(Now);

    /// <summary>Drives the gate of a counter; a rising edge restarts the periodic and triggered modes.</summary>
    public void SetGate(int channel, bool gate)
    {
        PitChannel c = _channels[channel];
        if (gate && !c.Gate && c.RestartsOnGate)
        {
            c.LoadTimeNs = Now;
            UpdateTimer(channel, c.LoadTimeNs);
        }

        c.Gate = gate;
    }

    /// <inheritdoc/>
    (bool Gate, bool Output) IToneCounter.Observe() => (GetGate(2), GetOutput(2));

    /// <inheritdoc/>
    void IToneCounter.SetGate(bool gate) => SetGate(2, gate);

    /// <summary>Takes IRQ 0 away from counter 0, as an HPET in legacy mode does, or gives it back.</summary>
    public void SetIrqDisabled(bool disabled)
    {
        PitChannel c = _channels[0];
        if (c.IrqDisabled != disabled)
        {
            c.IrqDisabled = disabled;
            if (disabled)
            {
                _timer.Cancel();
                Irq!.Lower();
            }
            else
            {
                UpdateTimer(0, Now);
            }
        }
    }

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size)
    {
        int register = (int)offset & 3;
        return register == ControlRegister ? 0ul : _channels[register].Read(Now);
    }

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        int register = (int)offset & 3;
        if (register == ControlRegister)
        {
            WriteControl((byte)value);
        }
        else if (_channels[register].Write((byte)value, Now))
        {
            UpdateTimer(register, Now);
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        for (int i = 0; i < _channels.Length; i++)
        {
            _channels[i].Reset(Now, gate: i != 2);
        }

        UpdateTimer(0, Now);
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new I8254State
    {
        IrqDisabled = _channels[0].IrqDisabled ? 1u : 0,
        Channels = [_channels[0].Capture(), _channels[1].Capture(), _channels[2].Capture()],
        NextTransitionNs = _channels[0].NextTransitionNs,
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        I8254State s = I8254State.Load(reader, version);
        foreach (PitChannelState channel in s.Channels)
        {
            VmStateReader.Validate(channel.Count is >= 1 and <= 0x10000, "count");
        }

        for (int i = 0; i < _channels.Length; i++)
        {
            _channels[i].Apply(s.Channels[i]);
        }

        _channels[0].IrqDisabled = s.IrqDisabled != 0;
        _channels[0].NextTransitionNs = s.NextTransitionNs;
        if (s.NextTransitionNs >= 0 && s.IrqDisabled == 0)
        {
            _timer.ArmAt(s.NextTransitionNs);
        }
        else
        {
            _timer.Cancel();
        }
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        AddInputPins("", 1);
        AddOutputPins("", 1);
        Irq ??= IsaIrq(0);
        _timer = Machine.MainLoop.CreateTimer(ClockType.Virtual, OnTimer);
        MapPorts("pit", IoBase, 4, this, IoConstraints.Bytes);
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        base.Unrealize();
        _timer.Dispose();
    }

    private void WriteControl(byte value)
    {
        int select = value >> 6;
        if (select == 3)
        {
            // Read-back command: bits 3..1 choose counters, bits 5 and 4 are low for what is latched.
            for (int i = 0; i < _channels.Length; i++)
            {
                if ((value & (2 << i)) != 0)
                {
                    if ((value & 0x20) == 0)
                    {
                        _channels[i].LatchCount(Now);
                    }

                    if ((value & 0x10) == 0)
                    {
                        _channels[i].LatchStatus(Now);
                    }
                }
            }

            return;
        }

        int access = (value >> 4) & 3;
        if (access == 0)
        {
            _channels[select].LatchCount(Now);
        }
        else
        {
            _channels[select].SetMode((byte)access, (byte)((value >> 1) & 7), (byte)(value & 1));
        }
    }

    private void OnTimer() => UpdateTimer(0, _channels[0].NextTransitionNs);

    private void UpdateTimer(int channel, long now)
    {
        PitChannel c = _channels[channel];
        long next = c.NextTransitionAfter(now);
        c.NextTransitionNs = next;
        if (channel != 0 || c.IrqDisabled)
        {
            return;
        }

        Irq!.Set(c.OutputAt(now));
        if (next >= 0)
        {
            _timer.ArmAt(next);
        }
        else
        {
            _timer.Cancel();
        }
    }
}
