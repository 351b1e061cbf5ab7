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
    private const byte EventPanicked = 1;
    private const byte EventCrashLoaded = 2;

    /// <summary>The port.</summary>
    [QomProperty("ioport", Default = "1285")]
    public ushort IoPort { get; set; } = 0x505;

    /// <summary>Bit mask of events offered to the guest: 1 panicked, 2 crash kernel loaded.</summary>
    [QomProperty("events", Default = "3")]
    public byte Events { get; set; } = EventPanicked | EventCrashLoaded;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => Events;

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        if ((value & EventPanicked) != 0)
        {
            Machine.Run.GuestPanicked(null);
        }
        else if ((value & EventCrashLoaded) != 0)
        {
            Machine.Run.GuestCrashLoaded(null);
        }
    }

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
