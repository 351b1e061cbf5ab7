using Vmm.Devices.AcpiPm;
using Vmm.Devices.Pci;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;

namespace Vmm.Devices.Piix;

/// <summary>
/// The PIIX4's power management function (QOM <c>PIIX4_PM</c>): ACPI fixed hardware wherever firmware puts it, the SMI command
/// port 0xb2, general purpose events at 0xafe0, an SMBus controller. Its system control interrupt is ISA 9.
/// </summary>
/// <remarks>Source: Intel 82371AB data sheet. Home: the machine lock.</remarks>
[QomType("PIIX4_PM", UserCreatable = false)]
public sealed partial class Piix4Pm : PciDevice, IInterruptOutputs
{
    private const ushort DeviceId82371AbPm = 0x7113;
    private const ushort ClassBridgeOther = 0x0680;
    private const int RegPmBase = 0x40;
    private const int RegDeviceActivityA = 0x58;
    private const int RegDeviceActivityB = 0x5b;
    private const int RegSmbusBase = 0x90;
    private const int RegSmbusConfig = 0xd2;
    private const int RegPmMisc = 0x80;
    private const int SciIrq = 9;
    private const uint PmSize = 64;
    private const uint ApmPort = 0xb2;
    private const uint GpePort = 0xafe0;
    private const byte AcpiEnableCommand = 0xf1;
    private const byte AcpiDisableCommand = 0xf0;

    private readonly PmSmbus _smbus = new();
    private AcpiPmRegisters _pm = null!;
    private MemoryRegion _pmRegion = null!;
    private MemoryRegion _smbusRegion = null!;
    private byte _apmCommand;
    private byte _apmStatus;

    /// <summary>The function beside the ISA bridge.</summary>
    public Piix4Pm()
    {
        SetIdentity(PciConfig.VendorIntel, DeviceId82371AbPm, 3, ClassBridgeOther);
        Address = (1 << 3) | 3;
        AddOutputPins("smi-irq", 1);
        AddOutputPins("", 1);
    }

    /// <summary>Where the SMBus controller is before firmware moves it; 0 for nowhere.</summary>
    [QomProperty("smb_io_base", Default = "0")]
    public uint SmbusBase { get; set; } = 0xb100;

    /// <summary>1 to tell the guest that it cannot suspend to RAM; the registers do it all the same.</summary>
    [QomProperty("disable_s3", Default = "0")]
    public byte DisableS3 { get; set; }

    /// <summary>1 to tell the guest that it cannot suspend to disk; the registers do it all the same.</summary>
    [QomProperty("disable_s4", Default = "0")]
    public byte DisableS4 { get; set; }

    /// <summary>Sleep type of suspend to disk.</summary>
    [QomProperty("s4_val", Default = "2")]
    public byte S4Type { get; set; } = 2;

    /// <summary>Which serial ports exist, for the register in which firmware looks: bit 0 COM1, bit 1 COM2.</summary>
    public byte SerialPorts { get; set; }

    /// <summary>
    /// Firmware is to set up system management mode. False (no mode to set up) makes the register say that it has been done.
    /// </summary>
    public bool HasSmm { get; set; }

    /// <summary>The ACPI registers.</summary>
    public AcpiPmRegisters Pm => _pm;

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Outputs => [Machine.Gsi[SciIrq]];

    /// <summary>Puts the ACPI registers at <paramref name="ioBase"/> (a multiple of 64) and enables them, as firmware does.</summary>
    public void EnableAt(ushort ioBase)
    {
        SetWord(Config, RegPmBase, (ushort)(ioBase | 1));
        Config[RegPmMisc] |= 1;
        UpdatePmMapping();
    }

    /// <inheritdoc/>
    public override void WriteConfig(int offset, uint value, int size)
    {
        base.WriteConfig(offset, value, size);
        if (offset < RegPmMisc + 1 && RegPmBase < offset + size)
        {
            Config[RegPmBase] = (byte)((Config[RegPmBase] & 0xc0) | 1);
            UpdatePmMapping();
        }

        if (offset < RegSmbusConfig + 1 && RegSmbusBase < offset + size)
        {
            UpdateSmbusMapping();
        }
    }

    /// <inheritdoc/>
    /// <remarks>Takes the ACPI registers off the bus; what set-up software chose beyond that stays.</remarks>
    protected override void ResetDevice()
    {
        Config[RegPmBase] = 1;
        Config.AsSpan(RegDeviceActivityA, 4).Clear();
        Config[RegDeviceActivityB] = HasSmm ? (byte)0x00 : (byte)0x02;
        Config[RegPmMisc] = 0;
        _pm.Reset();
        UpdatePmMapping();
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        _pm = new AcpiPmRegisters(Machine, SetSci)
        {
            S4Type = S4Type,
            IsAcpiOnly = !HasSmm,
        };
        _pmRegion = MemoryRegion.Container("piix4-pm", PmSize, this);
        _pmRegion.AddSubregion(0, MemoryRegion.Io("acpi-evt", 4, new IoWindow(_pm.ReadEvent, _pm.WriteEvent), new IoConstraints(1, 4, 2, 2)));
        _pmRegion.AddSubregion(
            4,
            MemoryRegion.Io(
                "acpi-cnt", 2, new IoWindow((_, _) => _pm.Control, (_, value, _) => _pm.WriteControl((ushort)value)), new IoConstraints(1, 2, 2, 2)));
        _pmRegion.AddSubregion(
            8, MemoryRegion.Io("acpi-tmr", 4, new IoWindow((_, _) => _pm.ReadTimer(), static (_, _, _) => { }), new IoConstraints(1, 4, 4, 4)));
        _pmRegion.Enabled = false;
        MapPorts(_pmRegion, 0);
        MapPorts("apm-io", ApmPort, 2, new IoWindow((offset, _) => offset == 0 ? _apmCommand : _apmStatus, WriteApm), IoConstraints.Bytes);
        MapPorts(
            "acpi-gpe0",
            GpePort,
            4,
            new IoWindow((offset, _) => _pm.ReadGpe((int)offset), (offset, value, _) => _pm.WriteGpe((int)offset, (byte)value)),
            IoConstraints.Bytes);
        _smbusRegion = MemoryRegion.Io("pm-smbus", PmSize, _smbus, IoConstraints.Bytes, owner: this);
        _smbusRegion.Enabled = false;
        MapPorts(_smbusRegion, 0);
        Config[PciConfig.InterruptPin] = 1;
        SetWord(Config, PciConfig.Status, PciConfig.StatusFastBackToBack | PciConfig.StatusDevselMedium);
        Config[0x5f] = 0x10;
        Config[0x63] = 0x60;
        Config[0x67] = (byte)(((SerialPorts & 1) != 0 ? 0x08 : 0) | ((SerialPorts & 2) != 0 ? 0x90 : 0));
        SetWord(Config, RegSmbusBase, (ushort)(SmbusBase | 1));
        Config[RegSmbusConfig] = 0x09;
        UpdateSmbusMapping();
        Machine.Run.AddPowerdownNotifier(_pm.PressPowerButton);
        Machine.Run.AddWakeupNotifier(_pm.NotifyWakeup);
        Reset();
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        base.Unrealize();
        _pm.Dispose();
    }

    private void SetSci(bool level) => Machine.Gsi[SciIrq].Set(level);

    private void WriteApm(ulong offset, ulong value, int size)
    {
        if (offset != 0)
        {
            _apmStatus = (byte)value;
            return;
        }

        _apmCommand = (byte)value;
        if (_apmCommand == AcpiEnableCommand)
        {
            _pm.SetAcpiMode(true);
        }
        else if (_apmCommand == AcpiDisableCommand)
        {
            _pm.SetAcpiMode(false);
        }
    }

    private void UpdatePmMapping()
    {
        MemoryTransaction.Begin();
        _pmRegion.SetAddress((ulong)(GetWord(Config, RegPmBase) & 0xffc0));
        _pmRegion.Enabled = (Config[RegPmMisc] & 1) != 0;
        MemoryTransaction.Commit();
    }

    private void UpdateSmbusMapping()
    {
        ushort address = (ushort)(GetWord(Config, RegSmbusBase) & 0xffc0);
        MemoryTransaction.Begin();
        _smbusRegion.SetAddress(address);
        _smbusRegion.Enabled = address != 0 && (Config[RegSmbusConfig] & 1) != 0;
        MemoryTransaction.Commit();
    }
}
