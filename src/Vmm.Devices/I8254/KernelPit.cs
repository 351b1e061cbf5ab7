using Vmm.Devices.Isa;
using Vmm.Devices.Rtc;
using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.I8254;

/// <summary>The stand-in of a timer that lives in the kernel (QOM <c>kvm-pit</c>). The board connects it to the accelerator.</summary>
[QomType("kvm-pit", UserCreatable = false)]
public sealed partial class KernelPit : IsaDevice, IVmStateful, IToneCounter
{
    private const int SpeakerCounter = 2;

    private I8254State? _whileStopped;
    private IDisposable? _runWatch;

    /// <summary>First of four ports.</summary>
    [QomProperty("iobase", Default = "4294967295")]
    public uint IoBase { get; set; } = 0x40;

    /// <summary>What becomes of ticks that the guest did not take in time: dropped, or delivered later.</summary>
    [QomProperty("lost_tick_policy", Type = "LostTickPolicy", Default = "\"delay\"")]
    public LostTickPolicy LostTickPolicy { get; set; } = LostTickPolicy.Delay;

    /// <summary>Applies the policy: true to deliver lost ticks late. Set before realize.</summary>
    public Action<bool>? SetReinject { get; set; }

    /// <summary>Reads the kernel's state. Set before realize.</summary>
    public Func<I8254State>? GetState { get; set; }

    /// <summary>Writes the kernel's state. Set before realize.</summary>
    public Action<I8254State>? SetState { get; set; }

    /// <inheritdoc/>
    public string VmStateName => "i8254";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <inheritdoc/>
    public override void Reset()
    {
        long now = Machine.Clocks.NowNs(EventLoop.ClockType.Virtual);
        var channels = new PitChannelState[3];
        for (int i = 0; i < channels.Length; i++)
        {
            channels[i] = new PitChannelState { Count = 0x10000, Mode = 3, Gate = i != 2 ? (byte)1 : (byte)0, LoadTimeNs = now };
        }

        Put(new I8254State { Channels = channels });
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => Current().Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version) => Put(I8254State.Load(reader, version));

    /// <inheritdoc/>
    public (bool Gate, bool Output) Observe()
    {
        var channel = new PitChannel();
        channel.Apply(Current().Channels[SpeakerCounter]);
        return (channel.Gate, channel.OutputAt(Machine.Clocks.NowNs(ClockType.Virtual)));
    }

    /// <inheritdoc/>
    public void SetGate(bool gate)
    {
        // Port 61h is the kernel's as far as the guest is concerned.
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (GetState is null || SetState is null || SetReinject is null)
        {
            throw new QapiException(QapiErrorClass.GenericError, "the accelerator has no timer of its own");
        }

        if (LostTickPolicy is not (LostTickPolicy.Delay or LostTickPolicy.Discard))
        {
            throw new QapiException(QapiErrorClass.GenericError, "Lost tick policy not supported.");
        }

        SetReinject(LostTickPolicy == LostTickPolicy.Delay);
        AddInputPins("", 1);
        MapPorts("kvm-pit", IoBase, 4, KernelRegisters.Instance, IoConstraints.Bytes);
        _runWatch = Machine.Run.AddVmStateChangeHandler(OnRunStateChange);
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        _runWatch?.Dispose();
        base.Unrealize();
    }

    // The kernel counts on while the machine is stopped: what it had then is put back, or the guest would get all those ticks late.
    private void OnRunStateChange(bool running, Vmm.Qapi.Types.RunState state)
    {
        if (!running)
        {
            _whileStopped = GetState!();
        }
        else if (_whileStopped is { } saved)
        {
            _whileStopped = null;
            SetState!(saved);
        }
    }

    private I8254State Current() => _whileStopped ?? GetState!();

    private void Put(I8254State state)
    {
        if (!Machine.Run.IsRunning)
        {
            _whileStopped = state;
        }

        SetState!(state);
    }
}
