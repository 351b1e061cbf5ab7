using System.Buffers.Binary;
using Vmm.Kvm.CpuModels;
using Vmm.Machines.Acpi;
using Vmm.Machines.Loading;
using Vmm.Machines.Smbios;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>The standard PC: i440FX and PIIX3 with the ISA devices that every guest knows.</summary>
[QomType("pc-i440fx-7.2-machine")]
public sealed partial class PcMachine : X86Machine
{
    private const ulong HighestLowRam = 0xe0000000;
    private const ulong MaxMemorySlots = 256;
    private const ulong OptionRomBase = 0xc0000;
    private const ulong OptionRomSize = 0x20000;

    private Board? _board;

    /// <inheritdoc/>
    public override MachineType MachineType => MachineType.Find("pc-i440fx-7.2")!;

    /// <summary>Most RAM below the hole under 4 GiB, in bytes; 0 for the machine's own split.</summary>
    [QomProperty("max-ram-below-4g", Description = "Maximum ram below the 4G boundary (32bit boundary)", IsSize = true, ObjectOnly = true)]
    public ulong MaxRamBelow4G
    {
        get => field;
        set => field = value <= 1UL << 32
            ? value
            : throw new QapiException($"Machine option 'max-ram-below-4g={value}' expects size less than or equal to 4G");
    }

    /// <summary>Keyboard controller present.</summary>
    [QomProperty("i8042", ObjectOnly = true)]
    public bool I8042 { get; set; } = true;

    /// <inheritdoc/>
    protected override void BuildBoard()
    {
        Layout = SplitRam();
        _board = new Board(this, Environment);
        _board.CreateInterruptControllers(withPit: true);
        CreateVcpus();
        MemoryRegion ram = MapRam();
        CreateFwCfg();
        MapDeviceMemory();
        _board.CreatePcChipset(this, ram);
        MapFirmware(asRam: false, 256 << 10, _board.FirmwareParent);
        MapOptionRoms(_board.FirmwareParent!);
        _board.FillCmos(Layout);
        if (Acpi != OnOffAuto.Off)
        {
            FwCfg!.AddFile("etc/system-states", _board.SleepStates());

            // A log of measurements, were there a TPM to have made any.
            FwCfg.AddFile("etc/tpm/log", default(ReadOnlyMemory<byte>));
            Environment.Run.WakeupSupported = true;
            Environment.Run.MachineWakeup = _ => WakeUp();
        }
    }

    // The ROM sockets of adapters: nothing is in them, and what firmware wants to be seen there it puts into RAM in front of them.
    private void MapOptionRoms(MemoryRegion pci)
    {
        RamBlock block = CreateBlock("pc.rom", OptionRomSize);
        pci.AddSubregion(OptionRomBase, MemoryRegion.Rom("pc.rom", block, this), priority: 1);
    }

    private RamLayout SplitRam()
    {
        const ulong GiB = 1UL << 30;
        ulong limit = MaxRamBelow4G == 0 ? HighestLowRam : MaxRamBelow4G;
        if (MaxRamBelow4G is > 0 and < 1 << 20)
        {
            Environment.Warn($"Only {MaxRamBelow4G} bytes of RAM below the 4GiB boundary,BIOS may not work with less than 1MiB");
        }

        ulong low = limit;
        if (Parameters.RamSize >= limit)
        {
            // A large machine keeps the hole aligned so that the host can use huge pages above it.
            low = Math.Min(low, 3 * GiB);
            if (low % GiB != 0)
            {
                Environment.Warn($"Large machine and max_ram_below_4g ({MaxRamBelow4G}) not a multiple of 1G; possible bad performance.");
            }
        }

        return Parameters.RamSize >= low ? new RamLayout(low, Parameters.RamSize - low) : new RamLayout(Parameters.RamSize, 0);
    }

    // Where memory devices can be plugged in: behind RAM, with room to align a device in each slot to a gigabyte.
    private void MapDeviceMemory()
    {
        const ulong GiB = 1UL << 30;
        if (Parameters.MaxRamSize <= Parameters.RamSize)
        {
            return;
        }

        if (Parameters.RamSlots > MaxMemorySlots)
        {
            throw new QapiException($"unsupported amount of memory slots: {Parameters.RamSlots}");
        }

        if (Parameters.MaxRamSize % 4096 != 0)
        {
            throw new QapiException("maximum memory size must by aligned to multiple of 4096 bytes");
        }

        ulong start = ((1UL << 32) + Layout.AboveFourGiB + GiB - 1) / GiB * GiB;
        ulong size = Parameters.MaxRamSize - Parameters.RamSize + (Parameters.RamSlots * GiB);
        SystemMemory.AddSubregion(start, MemoryRegion.Container("device-memory", size, this));
        byte[] end = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(end, (start + size + GiB - 1) / GiB * GiB);
        FwCfg!.AddFile("etc/reserved-memory-end", end);
    }

    /// <inheritdoc/>
    protected override uint ReservedAtTop => 0x28000;

    /// <inheritdoc/>
    protected override uint AcpiTablesAlignment => 0x20000;

    /// <inheritdoc/>
    protected override uint AcpiScriptAlignment => 0x1000;

    /// <inheritdoc/>
    protected override void AppendReservedE820(List<byte> table)
    {
        // AMD's processors keep the last 12 GiB under 1 TiB to themselves.
        if (Slots[0]?.Vendor == "AuthenticAMD")
        {
            AppendE820(table, 0xfd00000000, 0x300000000, E820Type.Reserved);
        }
    }

    /// <inheritdoc/>
    protected override AcpiConfig DescribeAcpi() => _board!.DescribePc(ApicIds, Layout, this);

    /// <inheritdoc/>
    protected override SmbiosConfig DescribeSystem() => new()
    {
        Product = MachineType.Description,
        Version = MachineType.Name,
        Uuid = Parameters.Uuid,
        CpuSignature = Slots[0]?.Signature ?? 0,
        CpuFeatures = (uint)(Slots[0]?.Features[(int)FeatureWord.Leaf1Edx] ?? 0),
        Sockets = Parameters.Smp.Sockets,
        CoresPerSocket = Parameters.Smp.Dies * Parameters.Smp.Cores,
        ThreadsPerSocket = Parameters.Smp.Dies * Parameters.Smp.Cores * Parameters.Smp.Threads,
        Ram = Layout.AboveFourGiB != 0 ? [(0, Layout.BelowFourGiB), (1UL << 32, Layout.AboveFourGiB)] : [(0, Layout.BelowFourGiB)],
    };

    /// <inheritdoc/>
    public override void SetBootOrder(string order) => _board!.SetBootOrder(order);

    /// <inheritdoc/>
    protected override void CpuCountChanged(int count) => _board?.SetCpuCount(count);

    /// <inheritdoc/>
    protected override void PrepareDirectBoot() => _board!.PrepareDirectBoot();
}
