using Vmm.Devices.Pci;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.PvPanic;

/// <summary>
/// The paravirtual panic device as a PCI function (QEMU docs/specs/pvpanic): the byte register is in the memory of BAR 0.
/// </summary>
[QomType("pvpanic-pci", Category = "Misc")]
public sealed partial class PciPvPanic : PciDevice, IVmStateful, IIoHandler
{
    private const ushort VendorRedHat = 0x1b36;
    private const ushort DeviceIdPvPanic = 0x0011;
    private const ushort ClassSystemOther = 0x0880;
    private const uint RegisterBytes = 2;

    /// <summary>A device that offers all events.</summary>
    public PciPvPanic() => SetIdentity(VendorRedHat, DeviceIdPvPanic, 1, ClassSystemOther);

    /// <summary>Bit mask of events offered to the guest: 1 panicked, 2 crash kernel loaded.</summary>
    [QomProperty("events", Default = "3")]
    public byte Events { get; set; } = PvPanicEvents.Panicked | PvPanicEvents.CrashLoaded;

    /// <inheritdoc/>
    public string VmStateName => "pvpanic-pci";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => Events;

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size) => PvPanicEvents.Report(Machine.Run, (byte)value);

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new PciPvPanicState { Pci = CapturePci() }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        PciPvPanicState s = PciPvPanicState.Load(reader, version);
        if (ValidatePci(s.Pci) is { } error)
        {
            throw new VmStateException(error);
        }

        ApplyPci(s.Pci);
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        RegisterBar(0, 0, MemoryRegion.Io("pvpanic", RegisterBytes, this, IoConstraints.Bytes, owner: this));
        Reset();
    }
}

/// <summary>Migration section.</summary>
[VmState("pvpanic-pci")]
public sealed partial record PciPvPanicState
{
    /// <summary>Configuration space.</summary>
    public PciDeviceState Pci { get; init; } = new();
}
