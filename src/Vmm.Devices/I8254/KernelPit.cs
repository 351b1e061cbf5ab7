using Vmm.Devices.Isa;
using Vmm.Devices.Rtc;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.I8254;

/// <summary>The stand-in of a timer that lives in the kernel (QOM <c>kvm-pit</c>). The board connects it to the accelerator.</summary>
[QomType("kvm-pit", UserCreatable = false)]
public sealed partial class KernelPit : IsaDevice, IVmStateful
{
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

        SetState!(new I8254State { Channels = channels });
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => GetState!().Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version) => SetState!(I8254State.Load(reader, version));

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (GetState is null || SetState is null || SetReinject is null)
        {
            throw new QapiException(QapiErrorClass.GenericError, "the accelerator has no timer of its own");
        }

        if (LostTickPolicy is not (LostTickPolicy.Delay or LostTickPolicy.Discard))
        {
            throw new QapiException(QapiErrorClass.GenericError, "Can't set lost tick policy of the in-kernel timer to \"slew\"");
        }

        SetReinject(LostTickPolicy == LostTickPolicy.Delay);
    }
}
