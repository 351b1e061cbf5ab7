using System.Buffers.Binary;
using System.Text;
using Vmm.Machines.Acpi;

namespace Vmm.Machines.Tests.Acpi;

/// <summary>The script by which firmware places the tables, played as firmware plays it.</summary>
public sealed class TableLoaderTests
{
    private const uint High = 0x7e1240;
    private const uint LowRom = 0xf6a10;

    private static readonly AcpiConfig s_pc = new()
    {
        ApicIds = [0, 1],
        Pm = new AcpiPmBlock { Gpe0 = 0xafe0, ResetPort = 0xcf9, SuspendToRamType = 1 },
        Pci = new AcpiPciHost { WindowStart = 0x8000000 },
        Serials = [new(1, 0x3f8, 4)],
        Keyboard = true,
        Rtc = true,
        FwCfgPort = 0x510,
    };

    private static readonly AcpiConfig s_microvm = new()
    {
        ApicIds = [0, 1, 300],
        Ged = new AcpiGedBlock(),
        VirtioMmio = [new(0xfeb00000, 0x200, 24)],
        FwCfgPort = 0x510,
    };

    [Test]
    public void FirmwareGetsTheTablesOfADirectBootWithFixedHardware()
    {
        FlatRam firmware = Play(s_pc);
        FlatRam direct = Place(s_pc, out ulong rsdp);
        Assert.That(Text(firmware, LowRom, 8), Is.EqualTo("RSD PTR "));
        Assert.That(Sum(firmware, LowRom, 20), Is.Zero);
        Assert.That(firmware.Bytes[LowRom + 15], Is.Zero, "revision of a root pointer with the RSDT alone");
        Compare(firmware, Listed(firmware, firmware.U32(LowRom + 16), 4), direct, Listed(direct, direct.U32(rsdp + 16), 4));
        ulong facs = firmware.U32(Listed(firmware, firmware.U32(LowRom + 16), 4)["FACP"] + 36);
        Assert.That((Text(firmware, facs, 4), firmware.U32(facs + 4), facs % 64), Is.EqualTo(("FACS", 64u, 0ul)));
    }

    [Test]
    public void FirmwareGetsTheTablesOfADirectBootWithReducedHardware()
    {
        FlatRam firmware = Play(s_microvm);
        FlatRam direct = Place(s_microvm, out ulong rsdp);
        Assert.That(Text(firmware, LowRom, 8), Is.EqualTo("RSD PTR "));
        Assert.That((Sum(firmware, LowRom, 20), Sum(firmware, LowRom, 36)), Is.EqualTo((0, 0)));
        Assert.That(firmware.U32(LowRom + 16), Is.Zero, "no RSDT");
        Compare(firmware, Listed(firmware, firmware.U64(LowRom + 24), 8), direct, Listed(direct, direct.U64(rsdp + 24), 8));
    }

    private static void Compare(FlatRam firmware, Dictionary<string, ulong> theirs, FlatRam direct, Dictionary<string, ulong> ours)
    {
        Assert.That(theirs.Keys, Is.EqualTo(ours.Keys));
        foreach ((string name, ulong at) in theirs)
        {
            int length = (int)firmware.U32(at + 4);
            byte[] placed = firmware.Bytes.AsSpan((int)at, length).ToArray();
            byte[] expected = direct.Bytes.AsSpan((int)ours[name], (int)direct.U32(ours[name] + 4)).ToArray();
            Assert.That(Sum(firmware, at, length), Is.Zero, name);
            foreach (byte[] table in (byte[][])[placed, expected])
            {
                // What must differ: the checksum, and in the FADT where FACS and DSDT are.
                table[9] = 0;
                if (name == "FACP")
                {
                    table.AsSpan(36, 8).Clear();
                    table.AsSpan(140, 8).Clear();
                }
            }

            Assert.That(placed, Is.EqualTo(expected), name);
        }
    }

    private static Dictionary<string, ulong> Listed(FlatRam ram, ulong list, int width)
    {
        Assert.That(Sum(ram, list, (int)ram.U32(list + 4)), Is.Zero);
        Dictionary<string, ulong> tables = [];
        for (ulong at = list + 36; at < list + ram.U32(list + 4); at += (ulong)width)
        {
            ulong table = width == 4 ? ram.U32(at) : ram.U64(at);
            tables.Add(Text(ram, table, 4), table);
        }

        ulong dsdt = ram.U32(tables["FACP"] + 40);
        Assert.That(ram.U64(tables["FACP"] + 140), Is.EqualTo(dsdt));
        tables.Add(Text(ram, dsdt, 4), dsdt);
        return tables;
    }

    private static FlatRam Play(AcpiConfig config)
    {
        AcpiFiles files = AcpiTables.BuildFiles(config);
        FlatRam ram = new(8 << 20);
        Dictionary<string, (uint At, int Length)> placed = [];
        for (int i = 0; i < files.Script.Length; i += 128)
        {
            ReadOnlySpan<byte> command = files.Script.Span.Slice(i, 128);
            string file = Name(command[4..]);
            switch (BinaryPrimitives.ReadUInt32LittleEndian(command))
            {
                case 1:
                    uint alignment = BinaryPrimitives.ReadUInt32LittleEndian(command[60..]);
                    uint at = command[64] == 2 ? LowRom : High;
                    Assert.That(at % alignment, Is.Zero);
                    ReadOnlySpan<byte> content = (file == AcpiFiles.RsdpName ? files.Rsdp : files.Tables).Span;
                    content.CopyTo(ram.Bytes.AsSpan((int)at));
                    placed.Add(file, (at, content.Length));
                    break;
                case 2:
                    int size = command[120];
                    Span<byte> pointer = Range(ram, placed[file], BinaryPrimitives.ReadInt32LittleEndian(command[116..]), size);
                    if (size == 4)
                    {
                        BinaryPrimitives.WriteUInt32LittleEndian(pointer, BinaryPrimitives.ReadUInt32LittleEndian(pointer) + placed[Name(command[60..])].At);
                    }
                    else
                    {
                        Assert.That(size, Is.EqualTo(8));
                        BinaryPrimitives.WriteUInt64LittleEndian(pointer, BinaryPrimitives.ReadUInt64LittleEndian(pointer) + placed[Name(command[60..])].At);
                    }

                    break;
                case 3:
                    byte sum = 0;
                    foreach (byte b in Range(ram, placed[file], BinaryPrimitives.ReadInt32LittleEndian(command[64..]), BinaryPrimitives.ReadInt32LittleEndian(command[68..])))
                    {
                        sum += b;
                    }

                    Range(ram, placed[file], BinaryPrimitives.ReadInt32LittleEndian(command[60..]), 1)[0] -= sum;
                    break;
                default:
                    Assert.Fail("a command that firmware does not know");
                    break;
            }
        }

        return ram;
    }

    private static Span<byte> Range(FlatRam ram, (uint At, int Length) file, int offset, int length)
    {
        Assert.That(offset + length, Is.LessThanOrEqualTo(file.Length));
        return ram.Bytes.AsSpan((int)file.At + offset, length);
    }

    private static string Name(ReadOnlySpan<byte> field) => Encoding.ASCII.GetString(field[..field[..56].IndexOf((byte)0)]);

    private static FlatRam Place(AcpiConfig config, out ulong rsdp)
    {
        AcpiTables tables = AcpiTables.Build(config);
        rsdp = tables.RsdpAddress;
        FlatRam ram = new(1 << 20);
        foreach (var segment in tables.Segments)
        {
            segment.WriteTo(ram.Map);
        }

        return ram;
    }

    private static string Text(FlatRam ram, ulong at, int length) => Encoding.ASCII.GetString(ram.Bytes.AsSpan((int)at, length));

    private static byte Sum(FlatRam ram, ulong at, int length)
    {
        byte sum = 0;
        foreach (byte b in ram.Bytes.AsSpan((int)at, length))
        {
            sum += b;
        }

        return sum;
    }
}
