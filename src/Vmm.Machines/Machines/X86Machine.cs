using Vmm.Devices.FwCfg;
using Vmm.Kvm.CpuModels;
using Vmm.Machines.Acpi;
using Vmm.Machines.Firmware;
using Vmm.Machines.Loading;
using Vmm.Machines.Smbios;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>What the PC-like machines share: RAM around the hole under 4 GiB, vCPUs, fw_cfg, booting without firmware and with it.</summary>
[QomType("x86-machine")]
public abstract partial class X86Machine : Machine
{
    private BootImage? _image;
    private int _imageCpus;
    private uint _facs;
    private AcpiFiles? _acpiFiles;
    private SmbiosTables? _smbios;
    private RamBlock? _firmware;
    private bool _firmwareIsRam;
    private byte[]? _firmwareImage;
    private bool _ramIsFresh = true;

    /// <summary>auto, on or off: give the guest ACPI tables.</summary>
    [QomProperty("acpi", Description = "Enable ACPI", Type = "OnOffAuto", ObjectOnly = true)]
    public OnOffAuto Acpi { get; set; } = OnOffAuto.Auto;

    /// <summary>Where RAM is.</summary>
    protected RamLayout Layout { get; set; } = null!;

    /// <summary>Bytes at the top of low RAM that firmware keeps for ACPI tables, where no initial RAM disk goes.</summary>
    protected virtual uint ReservedAtTop => 0;

    /// <summary>The firmware configuration device.</summary>
    protected FwCfgIo? FwCfg { get; set; }

    /// <summary>What a kernel is told on its command line.</summary>
    protected virtual string KernelCommandLine => Parameters.Append;

    /// <summary>What the tables describe.</summary>
    protected abstract AcpiConfig DescribeAcpi();

    /// <summary>What the SMBIOS structures describe; null for a machine without.</summary>
    protected virtual SmbiosConfig? DescribeSystem() => null;

    /// <summary>Does what firmware would have done to the chipset before a kernel starts.</summary>
    protected virtual void PrepareDirectBoot()
    {
    }

    /// <summary>Maps RAM below and above the hole.</summary>
    /// <returns>The whole of RAM, address 0 of it at physical 0.</returns>
    protected MemoryRegion MapRam()
    {
        MemoryRegion ram = RamRegion;
        SystemMemory.AddSubregion(0, MemoryRegion.Alias("ram-below-4g", ram, 0, Layout.BelowFourGiB, this));
        if (Layout.AboveFourGiB > 0)
        {
            SystemMemory.AddSubregion(1UL << 32, MemoryRegion.Alias("ram-above-4g", ram, Layout.BelowFourGiB, Layout.AboveFourGiB, this));
        }

        return ram;
    }

    /// <summary>Makes fw_cfg with the items that every machine has.</summary>
    protected void CreateFwCfg()
    {
        FwCfg = (FwCfgIo)Devices.Create("fw_cfg_io");
        AddChild("fw_cfg", FwCfg);
        Devices.Realize(FwCfg, SystemBus);
        FwCfg.AddInt64(FwCfgKeys.RamSize, Parameters.RamSize);
        FwCfg.AddInt16(FwCfgKeys.NbCpus, (ushort)ApicIds.Count);
        FwCfg.AddInt16(FwCfgKeys.MaxCpus, (ushort)(ApicIdOf(Parameters.Smp.MaxCpus - 1) + 1));
        FwCfg.AddInt16(FwCfgKeys.NoGraphic, (ushort)(Graphics ? 0 : 1));
        FwCfg.AddInt16(FwCfgKeys.BootMenu, (ushort)(Parameters.Boot.Menu == true ? 1 : 0));
        FwCfg.AddItem(FwCfgKeys.Uuid, Parameters.Uuid.ToByteArray(bigEndian: true));
        FwCfg.AddInt32(FwCfgKeys.Irq0Override, 1);
        List<byte> e820 = [];
        if (!Accelerator.IsQtest)
        {
            // KVM keeps its identity map and its task state segments there.
            AppendE820(e820, 0xfeffc000, 0x4000, E820Type.Reserved);
        }

        AppendReservedE820(e820);

        // Firmware wants RAM from 0 to the hole in one piece; what it takes of that it marks itself.
        AppendE820(e820, 0, Layout.BelowFourGiB, E820Type.Ram);
        if (Layout.AboveFourGiB != 0)
        {
            AppendE820(e820, 1UL << 32, Layout.AboveFourGiB, E820Type.Ram);
        }

        FwCfg.AddFile("etc/e820", e820.ToArray());
        FwCfg.AddFile("bios-geometry", default(ReadOnlyMemory<byte>));
        FwCfg.AddFile("bootorder", default(ReadOnlyMemory<byte>));
        AddBootSettings(FwCfg, Parameters.Boot);
    }

    /// <summary>Maps the firmware region below 4 GiB with its copy below 1 MiB and fills it.</summary>
    /// <param name="asRam">microvm's firmware is writable.</param>
    /// <param name="defaultSize">Size of the region for the built-in ROM.</param>
    protected void MapFirmware(bool asRam, int defaultSize, MemoryRegion? parent = null)
    {
        _firmwareIsRam = asRam;
        if (Parameters.Bios is { } name)
        {
            _firmwareImage = ReadFirmware(name);
        }

        int size = _firmwareImage?.Length ?? Math.Max(defaultSize, BootRom.Size);
        _firmware = CreateBlock("pc.bios", (ulong)size);
        FillFirmware();
        Environment.Roms.Add(new RomInfo(Parameters.Bios ?? BootRom.Name, (ulong)size, (1UL << 32) - (ulong)size, IsRom: !asRam));
        MemoryRegion region = asRam ? MemoryRegion.Ram("pc.bios", _firmware, this) : MemoryRegion.Rom("pc.bios", _firmware, this);
        ulong copied = (ulong)Math.Min(size, 128 << 10);
        MemoryRegion alias = MemoryRegion.Alias("isa-bios", region, (ulong)size - copied, copied, this);
        MemoryRegion into = parent ?? SystemMemory;
        into.AddSubregion((1UL << 32) - (ulong)size, region);
        into.AddSubregion(0x100000 - copied, alias, priority: 1);
    }

    /// <inheritdoc/>
    protected override void PrepareBoot()
    {
        _imageCpus = ApicIds.Count;
        if (_ramIsFresh)
        {
            AddTableFiles();
        }

        if (Parameters.Kernel is not { } kernel)
        {
            return;
        }

        AcpiTables? acpi = Acpi == OnOffAuto.Off ? null : AcpiTables.Build(DescribeAcpi());
        _facs = acpi?.FacsAddress ?? 0;
        List<BootSegment> tables = [.. acpi?.Segments ?? []];
        if (_smbios?.PlaceAt((uint)LowMemory.SmbiosBase) is { Length: <= LowMemory.SmbiosSize } smbios)
        {
            tables.Add(BootSegment.FromBytes(LowMemory.SmbiosBase, smbios));
        }

        _image = KernelLoader.Load(new KernelRequest
        {
            KernelPath = kernel,
            InitrdPath = Parameters.Initrd,
            CommandLine = KernelCommandLine,
            Ram = Layout,
            ReservedAtTop = ReservedAtTop,
            FirmwareTables = tables,
            RsdpAddress = acpi?.RsdpAddress ?? 0,
        });
        if (_ramIsFresh)
        {
            foreach (RomInfo rom in _image.Roms)
            {
                Environment.Roms.Add(rom);
            }
        }

        foreach (string warning in _image.Warnings)
        {
            Environment.Warn(warning);
        }
    }

    /// <inheritdoc/>
    protected override void ApplyBoot()
    {
        _acpiFiles = null;
        if (_firmwareIsRam && !_ramIsFresh)
        {
            FillFirmware();
        }

        if (_imageCpus != ApicIds.Count)
        {
            RebuildImage();
        }

        if (_image is { } image && Accelerator.Vcpus.Count > 0 && !Accelerator.IsQtest)
        {
            PrepareDirectBoot();
            image.LoadInto(MapRamForLoad, _ramIsFresh);
            Accelerator.Vcpus[0].SetState(EntryStates.ToArchState(image.Entry, Accelerator.Vcpus[0].GetState()));
        }

        _ramIsFresh = false;
    }

    /// <inheritdoc/>
    protected override void DisposeBoot() => _image?.Dispose();

    // The tables that come with a kernel list the vCPUs: after one was added, the next start is to find it there.
    private void RebuildImage()
    {
        BootImage? old = _image;
        try
        {
            PrepareBoot();
            old?.Dispose();
        }
        catch (QapiException e)
        {
            // The kernel's file is gone meanwhile: what was loaded before is booted again.
            Environment.Warn(e.Desc);
            _image = old;
        }
    }

    /// <summary>Marks what nothing may be put at, for the sake of the processor that the machine has.</summary>
    protected virtual void AppendReservedE820(List<byte> table)
    {
    }

    /// <summary>Adds a range to the memory map that firmware gets.</summary>
    protected static void AppendE820(List<byte> table, ulong address, ulong length, E820Type type)
    {
        Span<byte> entry = stackalloc byte[20];
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(entry, address);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], length);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], (uint)type);
        table.AddRange(entry);
    }

    private Span<byte> MapRamForLoad(ulong gpa, int length)
    {
        ulong available = gpa < Layout.BelowFourGiB ? Layout.BelowFourGiB - gpa
            : gpa >= 1UL << 32 && gpa - (1UL << 32) < Layout.AboveFourGiB ? Layout.AboveFourGiB - (gpa - (1UL << 32))
            : 0;
        int take = (int)Math.Min((ulong)length, available);
        return take > 0 && Memory.TryMap(gpa, take, forWrite: true, out Span<byte> memory) ? memory : default;
    }

    private byte[] ReadFirmware(string name)
    {
        string? path = FindDataFile(name);
        if (path is not null)
        {
            try
            {
                byte[] image = File.ReadAllBytes(path);
                if (image.Length is > 0 and <= 16 << 20 && image.Length % 65536 == 0)
                {
                    return image;
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The same answer as for a missing file.
            }
        }

        throw new BootLoadException($"qemu: could not load PC BIOS '{name}'", isComplete: true);
    }

    private void FillFirmware()
    {
        Span<byte> target = _firmware!.Span(0, (int)_firmware.Size);
        if (_firmwareImage is { } image)
        {
            image.CopyTo(target);
        }
        else
        {
            target[..^BootRom.Size].Clear();
            BootRom.CopyTo(target[^BootRom.Size..]);
        }
    }
}

/// <summary>Makes and realizes the CPU object of one vCPU.</summary>
public delegate X86Cpu CpuFactory(X86Machine machine, int index, uint apicId);

/// <summary>Where distributions put firmware.</summary>
public static class FirmwareDirectories
{
    /// <summary>Directories searched after those of <c>-L</c>.</summary>
    public static readonly string[] Usual = ["/usr/share/seabios", "/usr/share/qemu", "/usr/share/ovmf", "/usr/share/OVMF"];
}
