using System.Buffers.Binary;
using Vmm.Machines.Loading;

namespace Vmm.Machines.Acpi;

/// <summary>ACPI tables for a machine that is started without firmware, at fixed places below 640 KiB (ACPI specification 6.4, chapter 5).</summary>
/// <remarks>
/// FACS, DSDT, FADT, MADT, WAET, RSDT and XSDT follow each other from <see cref="LowMemory.AcpiBase"/>; the RSDP is in the first KiB of the
/// extended BIOS data area. The memory map of <see cref="RamLayout"/> marks both.
/// </remarks>
public sealed class AcpiTables
{
    private const int HeaderSize = 36;

    // The first byte of the extended BIOS data area is its size in KiB.
    private const ulong RsdpGpa = LowMemory.EbdaBase + 16;

    private readonly AcpiConfig _config;
    private readonly byte[] _block = new byte[(int)(LowMemory.EbdaBase - LowMemory.AcpiBase)];
    private int _length;

    private AcpiTables(AcpiConfig config)
    {
        _config = config;
    }

    /// <summary>Address of the RSDP.</summary>
    public ulong RsdpAddress => RsdpGpa;

    /// <summary>What to place in guest RAM; goes into <see cref="KernelRequest.FirmwareTables"/>.</summary>
    public IReadOnlyList<BootSegment> Segments { get; private set; } = [];

    /// <summary>Builds the tables.</summary>
    /// <exception cref="ArgumentException">Not exactly one of PM block and GED is given, or there are more vCPUs than the area holds (about 1,000).</exception>
    public static AcpiTables Build(AcpiConfig config)
    {
        if (config.Pm is null == config.Ged is null)
        {
            throw new ArgumentException("exactly one of the PM block and the GED describes power management", nameof(config));
        }

        var tables = new AcpiTables(config);
        tables.Build();
        return tables;
    }

    private void Build()
    {
        var facs = 0u;
        if (_config.Pm is not null)
        {
            var at = Reserve(64);
            facs = Address(at);
            "FACS"u8.CopyTo(_block.AsSpan(at));
            W32(at + 4, 64);
        }

        var dsdt = Add("DSDT", 2, Dsdt.Build(_config).Written);
        uint[] listed = [AddFadt(facs, dsdt), AddMadt(), AddWaet()];

        Span<byte> pointers = stackalloc byte[listed.Length * 8];
        for (var i = 0; i < listed.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(pointers[(i * 4)..], listed[i]);
        }

        var rsdt = Add("RSDT", 1, pointers[..(listed.Length * 4)]);
        for (var i = 0; i < listed.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(pointers[(i * 8)..], listed[i]);
        }

        var xsdt = Add("XSDT", 1, pointers);
        Segments =
        [
            BootSegment.FromBytes(LowMemory.AcpiBase, _block.AsMemory(0, _length)),
            BootSegment.FromBytes(LowMemory.EbdaBase, ExtendedBiosData(rsdt, xsdt)),
        ];
    }

    private byte[] ExtendedBiosData(uint rsdt, uint xsdt)
    {
        var area = new byte[16 + 36];
        area[0] = 1;
        var rsdp = area.AsSpan(16);
        "RSD PTR "u8.CopyTo(rsdp);
        Ascii(rsdp[9..], _config.OemId, 6);
        rsdp[15] = 2;
        BinaryPrimitives.WriteUInt32LittleEndian(rsdp[16..], rsdt);
        BinaryPrimitives.WriteUInt32LittleEndian(rsdp[20..], 36);
        BinaryPrimitives.WriteUInt64LittleEndian(rsdp[24..], xsdt);
        rsdp[8] = Checksum(rsdp[..20]);
        rsdp[32] = Checksum(rsdp);
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
        table[9] = Checksum(table);
        return Address(at);
    }

    private int Reserve(int size)
    {
        var at = _length;
        _length = (at + size + 15) & ~15;
        return _length <= _block.Length ? at : throw new ArgumentException("too many vCPUs for the ACPI area");
    }

    private static uint Address(int offset) => (uint)LowMemory.AcpiBase + (uint)offset;

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

    private void W32(int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(_block.AsSpan(at), value);
}
