using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Vmm.Machines.Smbios;

/// <summary>
/// The structures by which administrators know a machine (System Management BIOS specification 2.8, DMTF DSP0134): system, chassis, sockets, memory.
/// </summary>
/// <remarks>The structure about the firmware itself (type 0) is left to the firmware.</remarks>
public sealed class SmbiosTables
{
    /// <summary>File in which firmware finds the entry point.</summary>
    public const string AnchorName = "etc/smbios/smbios-anchor";

    /// <summary>File in which firmware finds the structures.</summary>
    public const string StructuresName = "etc/smbios/smbios-tables";

    private const int AnchorSize = 31;
    private const int AnchorChecksum = 4;
    private const int IntermediateAnchor = 16;
    private const int IntermediateChecksum = 21;
    private const ulong KiB = 1UL << 10;
    private const ulong MiB = 1UL << 20;
    private const ulong LargestDimm = 16UL << 30;
    private const ushort MemoryArray = 0x1000;

    private readonly List<byte> _structures = [];
    private int _largest;
    private int _count;

    private SmbiosTables()
    {
    }

    /// <summary>The structures, one behind the other.</summary>
    public byte[] Structures { get; private set; } = [];

    /// <summary>The entry point of 31 bytes, without the address of the structures and without checksums.</summary>
    public byte[] Anchor { get; private set; } = [];

    /// <summary>Describes a machine.</summary>
    public static SmbiosTables Build(SmbiosConfig config)
    {
        var tables = new SmbiosTables();
        tables.AddSystem(config);
        tables.AddChassis(config);
        for (var i = 0; i < config.Sockets; i++)
        {
            tables.AddProcessor(config, i);
        }

        tables.AddMemory(config);
        tables.Add(32, 0x2000, new byte[7]);
        tables.Add(127, 0x7f00, []);
        tables.Structures = [.. tables._structures];
        tables.Anchor = tables.MakeAnchor();
        return tables;
    }

    /// <summary>Entry point and structures as they are in memory from <paramref name="address"/> on, a multiple of 16 below 4 GiB.</summary>
    public byte[] PlaceAt(uint address)
    {
        const int structures = (AnchorSize + 15) & ~15;
        var image = new byte[structures + Structures.Length];
        var anchor = image.AsSpan(0, AnchorSize);
        Anchor.CopyTo(anchor);
        BinaryPrimitives.WriteUInt32LittleEndian(anchor[24..], address + structures);
        anchor[IntermediateChecksum] = Checksum(anchor[IntermediateAnchor..]);
        anchor[AnchorChecksum] = Checksum(anchor);
        Structures.CopyTo(image, structures);
        return image;
    }

    // 7.2: the identifier is little-endian in its first three fields.
    private void AddSystem(SmbiosConfig config)
    {
        Span<byte> s = stackalloc byte[23];
        s.Clear();
        (s[0], s[1], s[2]) = (1, 2, 3);
        config.Uuid.TryWriteBytes(s[4..]);

        // Woken by the power switch.
        s[20] = 6;
        Add(1, 0x100, s, "QEMU", config.Product, config.Version);
    }

    private void AddChassis(SmbiosConfig config)
    {
        Span<byte> s = stackalloc byte[18];
        s.Clear();
        const byte other = 1;
        const byte safe = 3;
        const byte unknown = 2;
        (s[0], s[1], s[2]) = (1, other, 2);
        (s[5], s[6], s[7], s[8]) = (safe, safe, safe, unknown);
        Add(3, 0x300, s, "QEMU", config.Version);
    }

    private void AddProcessor(SmbiosConfig config, int socket)
    {
        const ushort megahertz = 2000;
        Span<byte> s = stackalloc byte[38];
        s.Clear();
        (s[0], s[1], s[2], s[3]) = (1, 3, 1, 2);
        BinaryPrimitives.WriteUInt32LittleEndian(s[4..], config.CpuSignature);
        BinaryPrimitives.WriteUInt32LittleEndian(s[8..], config.CpuFeatures);
        s[12] = 3;
        BinaryPrimitives.WriteUInt16LittleEndian(s[16..], megahertz);
        BinaryPrimitives.WriteUInt16LittleEndian(s[18..], megahertz);

        // Populated and enabled; upgrade by other means; no caches described.
        (s[20], s[21]) = (0x41, 1);
        s.Slice(22, 6).Fill(0xff);
        s[31] = s[32] = (byte)Math.Min(config.CoresPerSocket, byte.MaxValue);
        s[33] = (byte)Math.Min(config.ThreadsPerSocket, byte.MaxValue);
        BinaryPrimitives.WriteUInt16LittleEndian(s[34..], 2);
        BinaryPrimitives.WriteUInt16LittleEndian(s[36..], 1);
        string name = string.Create(CultureInfo.InvariantCulture, $"CPU{socket.ToString("x", CultureInfo.InvariantCulture),2}");
        Add(4, (ushort)(0x400 + socket), s, name, "QEMU", config.Version);
    }

    private void AddMemory(SmbiosConfig config)
    {
        ulong size = 0;
        foreach (var (_, length) in config.Ram)
        {
            size += length;
        }

        var dimms = (int)((size + LargestDimm - 1) / LargestDimm);
        AddMemoryArray(size, dimms);
        for (var i = 0; i < dimms; i++)
        {
            AddDimm(i, i < dimms - 1 ? LargestDimm : ((size - 1) % LargestDimm) + 1);
        }

        for (var i = 0; i < config.Ram.Count; i++)
        {
            AddMappedRange(i, config.Ram[i].Start, config.Ram[i].Length);
        }
    }

    private void AddMemoryArray(ulong size, int dimms)
    {
        const ulong extended = 0x80000000;
        Span<byte> s = stackalloc byte[19];
        s.Clear();

        // Other location, system memory, multi-bit error correction, no error information.
        (s[0], s[1], s[2]) = (1, 3, 6);
        var kib = (size + KiB - 1) / KiB;
        BinaryPrimitives.WriteUInt32LittleEndian(s[3..], (uint)Math.Min(kib, extended));
        BinaryPrimitives.WriteUInt16LittleEndian(s[7..], 0xfffe);
        BinaryPrimitives.WriteUInt16LittleEndian(s[9..], (ushort)dimms);
        BinaryPrimitives.WriteUInt64LittleEndian(s[11..], kib < extended ? 0 : size);
        Add(16, MemoryArray, s);
    }

    private void AddDimm(int number, ulong size)
    {
        Span<byte> s = stackalloc byte[36];
        s.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(s, MemoryArray);
        BinaryPrimitives.WriteUInt16LittleEndian(s[2..], 0xfffe);
        s.Slice(4, 4).Fill(0xff);
        BinaryPrimitives.WriteUInt16LittleEndian(s[8..], (ushort)((size + MiB - 1) / MiB));

        // A DIMM of RAM of another kind.
        (s[10], s[12], s[14], s[15], s[19]) = (9, 1, 7, 2, 2);
        Add(17, (ushort)(0x1100 + number), s, string.Create(CultureInfo.InvariantCulture, $"DIMM {number}"), "QEMU");
    }

    private void AddMappedRange(int number, ulong start, ulong length)
    {
        Span<byte> s = stackalloc byte[27];
        s.Clear();
        var first = start / KiB;
        var last = (start + length - 1) / KiB;
        if (first < uint.MaxValue && last < uint.MaxValue)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(s, (uint)first);
            BinaryPrimitives.WriteUInt32LittleEndian(s[4..], (uint)last);
        }
        else
        {
            s[..8].Fill(0xff);
            BinaryPrimitives.WriteUInt64LittleEndian(s[11..], start);
            BinaryPrimitives.WriteUInt64LittleEndian(s[19..], start + length - 1);
        }

        BinaryPrimitives.WriteUInt16LittleEndian(s[8..], MemoryArray);
        s[10] = 1;
        Add(19, (ushort)(0x1300 + number), s);
    }

    // 6.1: header, fixed part, then the strings by number, each with its NUL, and one NUL more; two where there are none.
    private void Add(byte type, ushort handle, ReadOnlySpan<byte> fields, params ReadOnlySpan<string> strings)
    {
        var start = _structures.Count;
        _structures.AddRange([type, (byte)(4 + fields.Length), (byte)handle, (byte)(handle >> 8)]);
        _structures.AddRange(fields);
        foreach (var text in strings)
        {
            _structures.AddRange(Encoding.ASCII.GetBytes(text));
            _structures.Add(0);
        }

        if (strings.IsEmpty)
        {
            _structures.Add(0);
        }

        _structures.Add(0);
        _largest = Math.Max(_largest, _structures.Count - start);
        _count++;
    }

    // 5.2.1
    private byte[] MakeAnchor()
    {
        var anchor = new byte[AnchorSize];
        "_SM_"u8.CopyTo(anchor);
        (anchor[5], anchor[6], anchor[7]) = (AnchorSize, 2, 8);
        BinaryPrimitives.WriteUInt16LittleEndian(anchor.AsSpan(8), (ushort)_largest);
        "_DMI_"u8.CopyTo(anchor.AsSpan(IntermediateAnchor));
        BinaryPrimitives.WriteUInt16LittleEndian(anchor.AsSpan(22), (ushort)Structures.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(anchor.AsSpan(28), (ushort)_count);
        anchor[30] = 0x28;
        return anchor;
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
}
