using Vmm.Devices.Pci;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I440Fx;

/// <summary>
/// The 440FX's function in slot 0 (QOM <c>i440FX</c>): the programmable attribute maps decide whether the areas from 0xc0000 to
/// 0xfffff show RAM or PCI, SMRAM whether the one at 0xa0000 does.
/// </summary>
/// <remarks>
/// A reset leaves all of them alone: firmware finds the copy that it made of itself in RAM, and by the variables in it that this is not the first
/// start, or that the machine has only slept.
/// </remarks>
[QomType("i440FX", UserCreatable = false)]
public sealed partial class I440FxBridge : PciDevice, IVmStateful
{
    private const ushort DeviceId82441 = 0x1237;
    private const ushort ClassHostBridge = 0x0600;
    private const int RegRamSize = 0x57;
    private const int RegPam = 0x59;
    private const int PamRegisters = 7;
    private const int RegSmram = 0x72;
    private const byte SmramPowerOn = 0x02;
    private const byte SmramOpen = 0x40;
    private const ulong SmramBase = 0xa0000;
    private const ulong SmramSize = 0x20000;
    private const ulong PamBase = 0xc0000;
    private const ulong PamSize = 0x4000;
    private const ulong BiosBase = 0xf0000;
    private const ulong BiosSize = 0x10000;
    private const int Areas = 13;
    private const byte PamReadRam = 1;
    private const byte PamWriteRam = 2;
    private const uint RamUnit = 8 << 20;

    private readonly I440FxHost _host;
    private readonly PamArea[] _areas = new PamArea[Areas];
    private MemoryRegion _smram = null!;

    internal I440FxBridge(I440FxHost host)
    {
        _host = host;
        SetIdentity(PciConfig.VendorIntel, DeviceId82441, 2, ClassHostBridge);
    }

    /// <inheritdoc/>
    public string VmStateName => "I440FX";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    /// <summary>Makes all areas plain RAM, as firmware does before it hands over; for machines that boot without.</summary>
    public void ShadowAll()
    {
        Config[RegPam] = 0x30;
        Config.AsSpan(RegPam + 1, PamRegisters - 1).Fill(0x33);
        UpdateMappings();
    }

    /// <inheritdoc/>
    public override void WriteConfig(int offset, uint value, int size)
    {
        base.WriteConfig(offset, value, size);
        if (offset < RegPam + PamRegisters && RegPam < offset + size || offset <= RegSmram && RegSmram < offset + size)
        {
            UpdateMappings();
        }
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new I440FxState { Pci = CapturePci() }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        I440FxState s = I440FxState.Load(reader, version);
        if (ValidatePci(s.Pci) is { } error)
        {
            throw new VmStateException(error);
        }

        ApplyPci(s.Pci);
        UpdateMappings();
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        MemoryTransaction.Begin();
        _smram = MemoryRegion.Alias("smram-region", _host.PciMemory, SmramBase, SmramSize, this);
        Machine.SystemMemory.AddSubregion(SmramBase, _smram, priority: 1);
        _areas[0] = new PamArea(this, BiosBase, BiosSize);
        for (int i = 1; i < Areas; i++)
        {
            _areas[i] = new PamArea(this, PamBase + ((ulong)(i - 1) * PamSize), PamSize);
        }

        MemoryTransaction.Commit();
        Config[RegSmram] = SmramPowerOn;
        Config[RegRamSize] = (byte)Math.Min(_host.RamSize / RamUnit, 255);
        UpdateMappings();
        Reset();
    }

    private void UpdateMappings()
    {
        MemoryTransaction.Begin();
        _smram.Enabled = (Config[RegSmram] & SmramOpen) == 0;

        // The first register's high nibble is the BIOS area; each other one has two areas, the lower in the low nibble.
        _areas[0].Show(Config[RegPam] >> 4);
        for (int i = 1; i < Areas; i++)
        {
            int register = Config[RegPam + ((i + 1) >> 1)];
            _areas[i].Show((i & 1) != 0 ? register : register >> 4);
        }

        MemoryTransaction.Commit();
    }

    /// <summary>One area and the four things that it may show.</summary>
    private sealed class PamArea
    {
        private readonly MemoryRegion _ram;
        private readonly MemoryRegion _rom;
        private readonly MemoryRegion _pci;

        public PamArea(I440FxBridge owner, ulong address, ulong size)
        {
            MemoryRegion system = owner.Machine.SystemMemory;
            _ram = MemoryRegion.Alias("pam-ram", owner._host.Ram, address, size, owner);
            _rom = MemoryRegion.Alias("pam-rom", owner._host.Ram, address, size, owner);
            _rom.ReadOnly = true;
            _pci = MemoryRegion.Alias("pam-pci", owner._host.PciMemory, address, size, owner);
            foreach (MemoryRegion region in (ReadOnlySpan<MemoryRegion>)[_ram, _rom, _pci])
            {
                region.Enabled = false;
                system.AddSubregion(address, region, priority: 1);
            }
        }

        // Reading PCI while writing RAM cannot be mapped; it shows PCI, where nothing but a copy loop would notice.
        public void Show(int attributes)
        {
            bool read = (attributes & PamReadRam) != 0;
            bool write = (attributes & PamWriteRam) != 0;
            _ram.Enabled = read && write;
            _rom.Enabled = read && !write;
            _pci.Enabled = !read;
        }
    }
}

/// <summary>Migration section of the 440FX.</summary>
[VmState("I440FX", Version = 3, MinimumVersion = 3)]
public sealed partial record I440FxState
{
    /// <summary>Configuration space.</summary>
    public PciDeviceState Pci { get; init; } = new();

    /// <summary>Formerly the SMM flag.</summary>
    public byte Unused { get; init; }
}
