using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace Vmm.Block.Tests.Images;

/// <summary>A disk image of macOS, built chunk by chunk.</summary>
internal sealed class DmgSample
{
    public const uint Zero = 0;
    public const uint Raw = 1;
    public const uint Unused = 2;
    public const uint Adc = 0x80000004;
    public const uint Zlib = 0x80000005;
    public const uint Bzip2 = 0x80000006;

    private const int TableBytes = 204;

    private readonly MemoryStream _data = new();
    private readonly MemoryStream _disk = new();
    private readonly List<(uint Type, int Sector, int Sectors, int Offset, int Bytes)> _chunks = [];

    /// <summary>Contents of the disk.</summary>
    public byte[] Disk => _disk.ToArray();

    /// <summary>Adds sectors that are stored in a way; those of a way that stores none are zero.</summary>
    public DmgSample Add(uint type, int sectors, byte value = 0)
    {
        byte[] contents = new byte[sectors * 512];
        contents.AsSpan().Fill(value);
        int offset = (int)_data.Length;
        if (type == Raw)
        {
            _data.Write(contents);
        }
        else if (type == Zlib)
        {
            using ZLibStream zlib = new(_data, CompressionLevel.Fastest, leaveOpen: true);
            zlib.Write(contents);
        }

        _chunks.Add((type, (int)_disk.Length / 512, sectors, offset, (int)_data.Length - offset));
        _disk.Write(contents);
        return this;
    }

    /// <summary>The image, with its table in base64 in a property list or in a resource fork.</summary>
    public byte[] Build(bool inResources)
    {
        byte[] table = Table();
        byte[] tables = inResources ? Resources(table) : Encoding.ASCII.GetBytes(
            "<plist><key>blkx</key><data>\n\t" + Convert.ToBase64String(table, Base64FormattingOptions.InsertLineBreaks) + "\n</data></plist>");
        byte[] trailer = new byte[512];
        "koly"u8.CopyTo(trailer);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(inResources ? 0x28 : 0xd8), _data.Length);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(inResources ? 0x30 : 0xe0), tables.Length);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(0x1ec), _disk.Length / 512);
        return [.. _data.ToArray(), .. tables, .. trailer];
    }

    private static byte[] Resources(byte[] table)
    {
        byte[] fork = new byte[0x104 + table.Length];
        BinaryPrimitives.WriteInt32BigEndian(fork, 0x100);
        BinaryPrimitives.WriteInt32BigEndian(fork.AsSpan(8), 4 + table.Length);
        BinaryPrimitives.WriteInt32BigEndian(fork.AsSpan(0x100), table.Length);
        table.CopyTo(fork, 0x104);
        return fork;
    }

    private byte[] Table()
    {
        byte[] table = new byte[TableBytes + (40 * (_chunks.Count + 1))];
        "mish"u8.CopyTo(table);
        for (int i = 0; i < _chunks.Count; i++)
        {
            Span<byte> entry = table.AsSpan(TableBytes + (40 * i));
            BinaryPrimitives.WriteUInt32BigEndian(entry, _chunks[i].Type);
            BinaryPrimitives.WriteInt64BigEndian(entry[8..], _chunks[i].Sector);
            BinaryPrimitives.WriteInt64BigEndian(entry[16..], _chunks[i].Sectors);
            BinaryPrimitives.WriteInt64BigEndian(entry[24..], _chunks[i].Offset);
            BinaryPrimitives.WriteInt64BigEndian(entry[32..], _chunks[i].Bytes);
        }

        BinaryPrimitives.WriteUInt32BigEndian(table.AsSpan(TableBytes + (40 * _chunks.Count)), uint.MaxValue);
        return table;
    }
}
