using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.Serial16550;

/// <summary>A UART on the ISA bus: COM1 to COM4 unless told otherwise.</summary>
[QomType("isa-serial", Category = "Input", Hotpluggable = true)]
public sealed partial class IsaSerial : IsaDevice, IVmStateful
{
    private const uint Unset = uint.MaxValue;
    private const int MaxPorts = 4;

    /// <summary>Port number 0 to 3, which implies address and interrupt; by default the next free one.</summary>
    [QomProperty("index", Default = "4294967295")]
    public uint Index { get; set; } = Unset;

    /// <summary>First of eight ports.</summary>
    [QomProperty("iobase", Default = "4294967295")]
    public uint IoBase { get; set; } = Unset;

    /// <summary>ISA interrupt.</summary>
    [QomProperty("irq", Default = "4294967295")]
    public uint Irq { get; set; } = Unset;

    /// <inheritdoc cref="SerialPort.Chardev"/>
    [QomProperty("chardev", Type = "str", Description = "ID of a chardev to use as a backend")]
    public string? Chardev
    {
        get => Port.Chardev;
        set => Port.Chardev = value;
    }

    /// <inheritdoc cref="SerialPort.Wakeup"/>
    [QomProperty("wakeup", Default = "false")]
    public bool Wakeup
    {
        get => Port.Wakeup;
        set => Port.Wakeup = value;
    }

    /// <inheritdoc cref="SerialPort.BaudBase"/>
    [QomProperty("baudbase", Default = "115200")]
    public uint BaudBase
    {
        get => Port.BaudBase;
        set => Port.BaudBase = value;
    }

    /// <summary>The UART.</summary>
    public SerialPort Port { get; } = new();

    /// <inheritdoc/>
    public string VmStateName => "serial";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => Port.Capture().Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        SerialPortState state = SerialPortState.Load(reader, version);
        if (SerialPort.Validate(state) is { } error)
        {
            throw new VmStateException(error);
        }

        Port.Apply(state);
    }

    /// <inheritdoc/>
    public override void Reset() => Port.Reset();

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        uint index = Index == Unset ? (uint)((ParentBus as IsaBus)?.TakeSerialIndex() ?? 0) : Index;
        if (index >= MaxPorts)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"Max. supported number of ISA serial ports is {MaxPorts}.");
        }

        Index = index;
        if (IoBase == Unset)
        {
            IoBase = index switch { 0 => 0x3f8, 1 => 0x2f8, 2 => 0x3e8, _ => 0x2e8 };
        }

        if (Irq == Unset)
        {
            Irq = (index & 1) == 0 ? 4u : 3u;
        }

        if (FindChild("serial") is null)
        {
            AddChild("serial", Port);
        }

        Port.Irq = IsaIrq(Irq);
        Machine.Devices.Realize(Port);
        MapPorts("serial", IoBase, 8, Port, IoConstraints.Bytes);
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        base.Unrealize();
        Port.Close();
    }
}
