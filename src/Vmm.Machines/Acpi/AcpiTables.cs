using System.Buffers.Binary;
using Vmm.Machines.Loading;

namespace Vmm.Machines.Acpi;

/// <summary>
/// A machine's ACPI tables (ACPI specification 6.4, chapter 5): for one that is started without firmware at fixed places below 640 KiB, for firmware as
/// files with a script that says how to place them.
/// </summary>
/// <remarks>
/// Without firmware DSDT, FADT, MADT, WAET, RSDT and XSDT follow each other from <see cref="LowMemory.AcpiBase"/>; the RSDP and the FACS are in the first
/// KiB of the extended BIOS data area. The memory map of <see cref="RamLayout"/> marks both. In the files the FACS comes first, and there is one of RSDT
/// (fixed hardware) and XSDT.
/// </remarks>
public sealed class AcpiTables
{
    private const int HeaderSize = 36;
    private const int FacsSize = 64;
    private const int RsdpSize = 36;
    private const int OldRsdpSize = 20;

    // The first byte of the extended BIOS data area is its size in KiB.
    private const ulong RsdpGpa = LowMemory.EbdaBase + 16;

    // Behind the RSDP, on its 64-byte boundary, in a range that no system takes back once it has read the tables.
    private const ulong FacsGpa = LowMemory.EbdaBase + 64;

    private readonly AcpiConfig _config;
    private readonly TableLoader? _loader;
    private readonly byte[] _block = new byte[(int)(LowMemory.EbdaBase - LowMemory.AcpiBase)];
    private int _length;

    private AcpiTables(AcpiConfig config, TableLoader? loader)
    {
        _config = config;
        _loader = loader;
    }

    /// <summary>Address of the RSDP.</summary>
    public ulong RsdpAddress => RsdpGpa;

    /// <summary>Address of the FACS, in which the guest leaves the address at which it goes on after it slept; 0 without.</summary>
    public uint FacsAddress { get; private set; }

    /// <summary>What to place in guest RAM; goes into <see cref="KernelRequest.FirmwareTables"/>.</summary>
    public IReadOnlyList<BootSegment> Segments { get; private set; } = [];

    /// <summary>Builds the tables of a machine that is started without firmware.</summary>
    /// <exception cref="ArgumentException">Not exactly one of PM block and GED is given, or there are more vCPUs than the area holds (about 1,000).</exception>
    public static AcpiTables Build(AcpiConfig config)
    {
        Check(config);
        var tables = new AcpiTables(config, null);
        tables.Build();
        return tables;
    }

    /// <summary>Builds the files from which firmware makes the tables.</summary>
    /// <exception cref="ArgumentException">As <see cref="Build(AcpiConfig)"/>.</exception>
    public static AcpiFiles BuildFiles(AcpiConfig config)
    {
        Check(config);
        return new AcpiTables(config, new TableLoader()).BuildFiles();
    }

    private static void Check(AcpiConfig config)
    {
        if (config.Pm is null == config.Ged is null)
        {
            throw new ArgumentException("exactly one of the PM block and the GED describes power management", nameof(config));
        }
    }

    private void Build()
    {
        FacsAddress = _config.Pm is not null ? (uint)FacsGpa : 0;
        var dsdt = Add("DSDT", 2, Dsdt.Build(_config).Written);
        uint[] listed = [AddFadt(FacsAddress, dsdt), AddMadt(), AddWaet()];
        var rsdt = AddList("RSDT", listed, 4);
        var xsdt = AddList("XSDT", listed, 8);
        Segments =
        [
            BootSegment.FromBytes(LowMemory.AcpiBase, _block.AsMemory(0, _length)),
            BootSegment.FromBytes(LowMemory.EbdaBase, ExtendedBiosData(rsdt, xsdt)),
        ];
    }

    private AcpiFiles BuildFiles()
    {
        _loader!.Allocate(AcpiFiles.RsdpName, 16, TableLoader.Zone.LowRom);
        _loader.Allocate(AcpiFiles.TablesName, 64, TableLoader.Zone.High);
        byte[] rsdp;
        if (_config.Pm is not null)
        {
            var facs = Reserve(FacsSize);
            FillFacs(_block.AsSpan(facs, FacsSize));
            var dsdt = Add("DSDT", 2, Dsdt.Build(_config).Written);
            rsdp = new byte[OldRsdpSize];
            FillRsdp(rsdp, AddList("RSDT", [AddFadt((uint)facs, dsdt), AddMadt(), AddWaet()], 4), 0);
            _loader.AddPointer(AcpiFiles.RsdpName, 16, 4, AcpiFiles.TablesName);
            _loader.AddChecksum(AcpiFiles.RsdpName, 8, 0, OldRsdpSize);
        }
        else
        {
            var dsdt = Add("DSDT", 2, Dsdt.Build(_config).Written);
            rsdp = new byte[RsdpSize];
            FillRsdp(rsdp, 0, AddList("XSDT", [AddFadt(0, dsdt), AddMadt(), AddWaet()], 8));
            _loader.AddChecksum(AcpiFiles.RsdpName, 8, 0, OldRsdpSize);
            _loader.AddPointer(AcpiFiles.RsdpName, 24, 8, AcpiFiles.TablesName);
            _loader.AddChecksum(AcpiFiles.RsdpName, 32, 0, RsdpSize);
        }

        return new AcpiFiles(rsdp, _block.AsMemory(0, _length), _loader.ToArray());
    }

    private uint AddList(ReadOnlySpan<char> signature, ReadOnlySpan<uint> tables, int width)
    {
        Span<byte> pointers = stackalloc byte[tables.Length * width];
        for (var i = 0; i < tables.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(pointers[(i * width)..], tables[i]);
        }

        var at = _length;
        for (var i = 0; i < tables.Length; i++)
        {
            _loader?.AddPointer(AcpiFiles.TablesName, at + HeaderSize + i * width, width, AcpiFiles.TablesName);
        }

        return Add(signature, 1, pointers);
    }

    private static void FillFacs(Span<byte> facs)
    {
        "FACS"u8.CopyTo(facs);
        BinaryPrimitives.WriteInt32LittleEndian(facs[4..], FacsSize);
    }

    // Checksums of tables that firmware places are its own to compute.
    private void FillRsdp(Span<byte> rsdp, uint rsdt, uint xsdt)
    {
        "RSD PTR "u8.CopyTo(rsdp);
        Ascii(rsdp[9..], _config.OemId, 6);
        BinaryPrimitives.WriteUInt32LittleEndian(rsdp[16..], rsdt);
        if (rsdp.Length == RsdpSize)
        {
            rsdp[15] = 2;
            BinaryPrimitives.WriteUInt32LittleEndian(rsdp[20..], RsdpSize);
            BinaryPrimitives.WriteUInt64LittleEndian(rsdp[24..], xsdt);
        }

        if (_loader is null)
        {
            rsdp[8] = Checksum(rsdp[..OldRsdpSize]);
            rsdp[32] = Checksum(rsdp);
        }
    }

    private byte[] ExtendedBiosData(uint rsdt, uint xsdt)
    {
        var area = new byte[FacsGpa - LowMemory.EbdaBase + FacsSize];
        area[0] = 1;
        FillRsdp(area.AsSpan((int)(RsdpGpa - LowMemory.EbdaBase), RsdpSize), rsdt, xsdt);
        if (FacsAddress != 0)
        {
            FillFacs(area.AsSpan((int)(FacsGpa - LowMemory.EbdaBase)));
        }

        return area;
    }

    private uint AddFadt(uint facs, uint dsdt)
    {
        // Revision 3 for fixed hardware, 5 for hardware-reduced: the first that knows it.
        var f = new byte[(_config.Ged is null ? 244 : 268) - HeaderSize];

        // X_FIRMWARE_CTRL stays zero: only one of the two FACS pointers may be set (ACPI 6.4, table 5.9).
        WriteTable32(f, 36, facs);
        WriteTable32(f, 40, dsdt);
        WriteTable64(f, 140, dsdt);
        if (_loader is not null)
        {
            if (_config.Pm is not null)
            {
                _loader.AddPointer(AcpiFiles.TablesName, _length + 36, 4, AcpiFiles.TablesName);
            }

            _loader.AddPointer(AcpiFiles.TablesName, _length + 40, 4, AcpiFiles.TablesName);
            _loader.AddPointer(AcpiFiles.TablesName, _length + 140, 8, AcpiFiles.TablesName);
        }

        var architecture = (_config.Keyboard ? 2u : 0) | (_config.Serials.Count > 0 || _config.Keyboard ? 1u : 0);
        f[109 - HeaderSize] = (byte)architecture;
        if (_config.Pm is { } pm)
        {
            FillFixedHardware(f, pm);
            return Add("FACP", 3, f);
        }

        var ged = _config.Ged!;

        // RESET_REG_SUP and HW_REDUCED_ACPI.
        WriteTable32(f, 112, 0x00100400);
        Gas(f, 116, RegionSpace.SystemMemory, 8, 1, ged.Registers + 2);
        f[128 - HeaderSize] = ged.ResetValue;
        f[131 - HeaderSize] = 1;
        Gas(f, 244, RegionSpace.SystemMemory, 8, 1, ged.Registers);
        Gas(f, 256, RegionSpace.SystemMemory, 8, 1, ged.Registers + 1);
        return Add("FACP", 5, f);
    }

    private static void FillFixedHardware(byte[] f, AcpiPmBlock pm)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(f.AsSpan(46 - HeaderSize), 9);
        WriteTable32(f, 48, pm.SmiCommandPort);
        if (pm.SmiCommandPort != 0)
        {
            f[52 - HeaderSize] = pm.EnableCommand;
            f[53 - HeaderSize] = pm.DisableCommand;
        }

        WriteTable32(f, 56, pm.Base);
        WriteTable32(f, 64, pm.Base + 4u);
        WriteTable32(f, 76, pm.Base + 8u);
        f[88 - HeaderSize] = 4;
        f[89 - HeaderSize] = 2;
        f[91 - HeaderSize] = 4;
        Gas(f, 148, RegionSpace.SystemIo, 32, 2, pm.Base);
        Gas(f, 172, RegionSpace.SystemIo, 16, 2, pm.Base + 4u);
        Gas(f, 208, RegionSpace.SystemIo, 32, 3, pm.Base + 8u);
        if (pm.Gpe0 != 0)
        {
            WriteTable32(f, 80, pm.Gpe0);
            f[92 - HeaderSize] = 4;
            Gas(f, 220, RegionSpace.SystemIo, 32, 1, pm.Gpe0);
        }

        // Latencies that say "no C2, no C3".
        BinaryPrimitives.WriteUInt16LittleEndian(f.AsSpan(96 - HeaderSize), 0xfff);
        BinaryPrimitives.WriteUInt16LittleEndian(f.AsSpan(98 - HeaderSize), 0xfff);
        f[108 - HeaderSize] = 0x32;

        // WBINVD, PROC_C1, SLP_BUTTON (none in fixed hardware), RTC_S4, USE_PLATFORM_CLOCK. The power button is fixed hardware: its bit is clear.
        var flags = 0x80a5u;
        if (pm.ResetPort != 0)
        {
            flags |= 0x400;
            Gas(f, 116, RegionSpace.SystemIo, 8, 1, pm.ResetPort);
            f[128 - HeaderSize] = pm.ResetValue;
        }

        WriteTable32(f, 112, flags);
    }

    private uint AddMadt()
    {
        var m = new AmlWriter();
        Span<byte> word = stackalloc byte[4];
        void U32(uint value, Span<byte> scratch)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(scratch, value);
            m.Raw(scratch);
        }

        U32(0xfee00000, word);
        U32(_config.Pic ? 1u : 0, word);
        for (var i = 0; i < _config.ApicIds.Count; i++)
        {
            var id = _config.ApicIds[i];
            if (id < 255)
            {
                m.Raw(0, 8, (byte)i, (byte)id);
                U32(1, word);
            }
            else
            {
                m.Raw(9, 16, 0, 0);
                U32(id, word);
                U32(1, word);
                U32((uint)i, word);
            }
        }

        foreach (var io in _config.IoApics)
        {
            m.Raw(1, 12, io.Id, 0);
            U32(io.Address, word);
            U32(io.FirstInterrupt, word);
        }

        if (_config.Pit)
        {
            m.Raw(2, 10, 0, 0, 2, 0, 0, 0, 0, 0);
        }

        // Level-triggered, active high: the SCI, and the interrupts that PCI links are routed to.
        if (_config.Pm is not null)
        {
            m.Raw(2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0);
        }

        if (_config.Pci is not null)
        {
            foreach (byte irq in (ReadOnlySpan<byte>)[5, 10, 11])
            {
                m.Raw(2, 10, 0, irq, irq, 0, 0, 0, 0x0d, 0);
            }
        }

        // Non-maskable interrupts arrive at LINT1 of all processors.
        m.Raw(4, 6, 0xff, 0, 0, 1);
        return Add("APIC", 3, m.Written);
    }

    // "Windows ACPI Emulated Devices Table": the PM timer can be read once, without the workaround for a latch bug.
    private uint AddWaet() => Add("WAET", 1, [2, 0, 0, 0]);

    private uint Add(ReadOnlySpan<char> signature, byte revision, ReadOnlySpan<byte> body)
    {
        var at = Reserve(HeaderSize + body.Length);
        var table = _block.AsSpan(at, HeaderSize + body.Length);
        Ascii(table, signature, 4);
        BinaryPrimitives.WriteInt32LittleEndian(table[4..], table.Length);
        table[8] = revision;
        Ascii(table[10..], _config.OemId, 6);
        Ascii(table[16..], _config.OemTableId, 8);
        BinaryPrimitives.WriteUInt32LittleEndian(table[24..], 1);
        "BXPC"u8.CopyTo(table[28..]);
        BinaryPrimitives.WriteUInt32LittleEndian(table[32..], 1);
        body.CopyTo(table[HeaderSize..]);
        if (_loader is null)
        {
            table[9] = Checksum(table);
            return (uint)LowMemory.AcpiBase + (uint)at;
        }

        _loader.AddChecksum(AcpiFiles.TablesName, at + 9, at, table.Length);
        return (uint)at;
    }

    private int Reserve(int size)
    {
        var at = _length;
        _length = (at + size + 15) & ~15;
        return _length <= _block.Length ? at : throw new ArgumentException("too many vCPUs for the ACPI area");
    }

    private static byte Checksum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (var b in bytes)
        {
            sum += b;
        }

        return (byte)-sum;
    }

    private static void Ascii(Span<byte> target, ReadOnlySpan<char> text, int length)
    {
        for (var i = 0; i < length; i++)
        {
            target[i] = i < text.Length ? (byte)text[i] : (byte)' ';
        }
    }

    // Offsets as in the specification, from the start of the table.
    private static void WriteTable32(byte[] body, int offset, uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(body.AsSpan(offset - HeaderSize), value);
    }

    private static void WriteTable64(byte[] body, int offset, ulong value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(offset - HeaderSize), value);
    }

    private static void Gas(byte[] body, int offset, RegionSpace space, byte bits, byte access, uint address)
    {
        var g = body.AsSpan(offset - HeaderSize);
        g[0] = (byte)space;
        g[1] = bits;
        g[3] = access;
        BinaryPrimitives.WriteUInt64LittleEndian(g[4..], address);
    }
}
