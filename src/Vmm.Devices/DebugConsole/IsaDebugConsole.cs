using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.DebugConsole;

/// <summary>A port whose written bytes go to a character back end; firmware probes it by its read value (Bochs: port 0xe9).</summary>
[QomType("isa-debugcon", Category = "Misc")]
[Stateless]
public sealed partial class IsaDebugConsole : IsaDevice, IIoHandler
{
    private readonly CharFrontend _frontend = new();

    /// <summary>The port.</summary>
    [QomProperty("iobase", Default = "233")]
    public uint IoBase { get; set; } = 0xe9;

    /// <summary>The back end's name.</summary>
    [QomProperty("chardev", Type = "str", Description = "ID of a chardev to use as a backend")]
    public string? Chardev { get; set; }

    /// <summary>What reads return.</summary>
    [QomProperty("readback", Default = "233")]
    public uint ReadBack { get; set; } = 0xe9;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => ReadBack;

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        byte b = (byte)value;
        _frontend.WriteAll(new ReadOnlySpan<byte>(in b));
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (Chardev is not { Length: > 0 } name)
        {
            throw new QapiException(QapiErrorClass.GenericError, "Can't create debugcon device, empty char device");
        }

        ChardevProperty.Connect(_frontend, name, Machine, "isa-debugcon");
        _frontend.SetHandler(null);
        MapPorts("isa-debugcon", IoBase, 1, this, new IoConstraints(1, 1, 1, 1));
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        base.Unrealize();
        _frontend.Disconnect();
    }
}
