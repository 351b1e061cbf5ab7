using Vmm.Devices.I8254;
using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.PcSpeaker;

/// <summary>System control port B (QOM <c>isa-pcspk</c>): gate of counter 2, speaker enable, refresh toggle. It makes no sound.</summary>
[QomType("isa-pcspk", UserCreatable = false)]
public sealed partial class PcSpeakerPort : IsaDevice, IIoHandler, IVmStateful
{
    private const byte Gate = 0x01;
    private const byte DataEnable = 0x02;
    private const byte Refresh = 0x10;
    private const byte Output = 0x20;

    private bool _dataOn;
    private bool _refresh;

    /// <summary>The port.</summary>
    [QomProperty("iobase", Default = "97")]
    public uint IoBase { get; set; } = 0x61;

    /// <summary>The timer whose counter 2 is the tone. Set before realize.</summary>
    public IToneCounter? Pit { get; set; }

    /// <inheritdoc/>
    public string VmStateName => "pcspk";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size)
    {
        // Software times itself by the refresh bit: it changes with each read.
        _refresh = !_refresh;
        (bool gate, bool output) = Pit!.Observe();
        return (_dataOn ? DataEnable : 0u) | (_refresh ? Refresh : 0u) | (gate ? Gate : 0u) | (output ? Output : 0u);
    }

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        _dataOn = (value & DataEnable) != 0;
        Pit!.SetGate((value & Gate) != 0);
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        _dataOn = false;
        _refresh = false;
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new PcSpeakerState
    {
        DataOn = _dataOn ? (byte)1 : (byte)0,
        Refresh = _refresh ? (byte)1 : (byte)0,
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        PcSpeakerState s = PcSpeakerState.Load(reader, version);
        _dataOn = s.DataOn != 0;
        _refresh = s.Refresh != 0;
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (Pit is null)
        {
            throw new QapiException(QapiErrorClass.GenericError, "pcspk: No \"pit\" set or it is not a valid link");
        }

        MapPorts("pcspk", IoBase, 1, this, IoConstraints.Bytes);
    }
}

/// <summary>Migration section of the speaker.</summary>
[VmState("pcspk")]
public sealed partial record PcSpeakerState
{
    /// <summary>Speaker enable bit.</summary>
    public byte DataOn { get; init; }

    /// <summary>Refresh toggle.</summary>
    public byte Refresh { get; init; }
}
