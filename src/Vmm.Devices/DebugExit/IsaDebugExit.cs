using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.DebugExit;

/// <summary>A port with which a test guest ends the emulator: writing V ends the process with status 2·V+1. Reads as zero.</summary>
[QomType("isa-debug-exit", Category = "Misc")]
[Stateless]
public sealed partial class IsaDebugExit : IsaDevice, IIoHandler
{
    /// <summary>First port.</summary>
    [QomProperty("iobase", Default = "1281")]
    public uint IoBase { get; set; } = 0x501;

    /// <summary>Number of ports.</summary>
    [QomProperty("iosize", Default = "2")]
    public uint IoSize { get; set; } = 2;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => 0;

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size) => Machine.Run.RequestExit((int)(((uint)value << 1) | 1));

    /// <inheritdoc/>
    protected override void RealizeDevice() =>
        MapPorts("isa-debug-exit", IoBase, IoSize, this, new IoConstraints(1, 4, 1, 4));
}
