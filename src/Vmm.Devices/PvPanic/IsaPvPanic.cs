using Vmm.Devices.FwCfg;
using Vmm.Devices.Isa;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.PvPanic;

/// <summary>
/// The paravirtual panic device (QEMU docs/specs/pvpanic): one byte port; reads tell which events are supported, a write
/// reports them. Firmware learns the port from fw_cfg file <c>etc/pvpanic-port</c>.
/// </summary>
[QomType("pvpanic", Category = "Misc")]
[Stateless]
public sealed partial class IsaPvPanic : IsaDevice, IIoHandler
{
    /// <summary>The port.</summary>
    [QomProperty("ioport", Default = "1285")]
    public ushort IoPort { get; set; } = 0x505;

    /// <summary>Bit mask of events offered to the guest: 1 panicked, 2 crash kernel loaded.</summary>
    [QomProperty("events", Default = "3")]
    public byte Events { get; set; } = PvPanicEvents.Panicked | PvPanicEvents.CrashLoaded;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => Events;

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size) => PvPanicEvents.Report(Machine.Run, (byte)value);

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        MapPorts("pvpanic", IoPort, 1, this, IoConstraints.Bytes);
        if (FwCfgDevice.Find(Machine.Objects) is { } fwCfg)
        {
            fwCfg.AddFile("etc/pvpanic-port", new byte[] { (byte)IoPort, (byte)(IoPort >> 8) });
        }
    }
}
