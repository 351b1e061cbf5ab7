using System.Buffers.Binary;
using System.IO.Compression;

namespace Vmm.Dump.Tests.Readers;

/// <summary>A compressed dump in the format of makedumpfile, flattened or not, with decoders of its own for LZO and Snappy.</summary>
internal sealed class KdumpReader
{
    private const int Block = 4096;
    private readonly byte[] _bytes;
    private readonly Dictionary<ulong, long> _descriptors = [];

    public KdumpReader(byte[] file)
    {
        IsFlat = file.AsSpan().StartsWith("makedumpfile\0"u8);
        _bytes = IsFlat ? Unflatten(file) : file;
        if (!_bytes.AsSpan().StartsWith("KDUMP   "u8))
        {
            throw new InvalidDataException("no dump");
        }

        Assert.That(U32(8), Is.EqualTo(6), "version");
        string machine = System.Text.Encoding.ASCII.GetString(_bytes, 12 + (4 * 65), 65).TrimEnd('\0');
        IsWide = machine == "x86_64";
        int at = 12 + (6 * 65) + (IsWide ? 22 : 10);
        Status = U32(at);
        Assert.That(U32(at + 4), Is.EqualTo(Block));
        int subBlocks = (int)U32(at + 8);
        long bitmapBytes = U32(at + 12) * (long)Block / 2;
        Cpus = (int)U32(at + 36);
        ulong maxPage = U64(Block + (IsWide ? 96 : 72));
        Assert.That(U32(at + 16), Is.EqualTo((uint)Math.Min(maxPage, uint.MaxValue)));
        long notesAt = (long)U64(Block + (IsWide ? 48 : 32));
        int notesBytes = IsWide ? (int)U64(Block + 56) : (int)U32(Block + 40);
        Notes = CoreFile.Parse(_bytes.AsSpan((int)notesAt, notesBytes));
        long bitmapAt = (1L + subBlocks) * Block;
        Assert.That(notesAt + notesBytes, Is.LessThanOrEqualTo(bitmapAt));
        ReadOnlySpan<byte> bitmap = _bytes.AsSpan((int)bitmapAt, (int)bitmapBytes);
        Assert.That(bitmap.SequenceEqual(_bytes.AsSpan((int)(bitmapAt + bitmapBytes), (int)bitmapBytes)), Is.True, "both bitmaps are equal");
        long descriptor = bitmapAt + (2 * bitmapBytes);
        for (ulong page = 0; page < (ulong)bitmapBytes * 8; page++)
        {
            if ((bitmap[(int)(page / 8)] >> (int)(page % 8) & 1) != 0)
            {
                Assert.That(page, Is.LessThan(maxPage));
                _descriptors.Add(page, descriptor);
                descriptor += 24;
            }
        }
    }

    public bool IsFlat { get; }

    public bool IsWide { get; }

    public uint Status { get; }

    public int Cpus { get; }

    public List<(string Name, uint Type, byte[] Descriptor)> Notes { get; }

    public IReadOnlyCollection<ulong> Pages => _descriptors.Keys;

    /// <summary>The file as it is when it is not flattened.</summary>
    public byte[] Raw => _bytes;

    public long OffsetOf(ulong page) => (long)U64(_descriptors[page]);

    public byte[] Read(ulong page)
    {
        long at = _descriptors[page];
        ReadOnlySpan<byte> data = _bytes.AsSpan((int)U64(at), (int)U32(at + 8));
        Assert.That(U64(at + 16), Is.Zero, "page flags");
        byte[] contents = U32(at + 12) switch
        {
            0 => data.ToArray(),
            1 => Inflate(data),
            2 => LzoDecoder.Decode(data, Block),
            4 => SnappyDecoder.Decode(data),
            uint flags => throw new InvalidDataException($"flags {flags}"),
        };
        Assert.That(contents, Has.Length.EqualTo(Block));
        return contents;
    }

    private static byte[] Inflate(ReadOnlySpan<byte> data)
    {
        using ZLibStream stream = new(new MemoryStream(data.ToArray()), CompressionMode.Decompress);
        using MemoryStream output = new();
        stream.CopyTo(output);
        return output.ToArray();
    }

    private static byte[] Unflatten(ReadOnlySpan<byte> file)
    {
        Assert.That(BinaryPrimitives.ReadInt64BigEndian(file[16..]), Is.EqualTo(1), "type");
        Assert.That(BinaryPrimitives.ReadInt64BigEndian(file[24..]), Is.EqualTo(1), "version");
        byte[] raw = [];
        for (int at = Block; ;)
        {
            if (file.Length - at < 16)
            {
                throw new InvalidDataException("the mark of the end is missing");
            }

            long offset = BinaryPrimitives.ReadInt64BigEndian(file[at..]);
            long size = BinaryPrimitives.ReadInt64BigEndian(file[(at + 8)..]);
            at += 16;
            if (offset == -1 && size == -1)
            {
                Assert.That(at, Is.EqualTo(file.Length), "nothing behind the end");
                return raw;
            }

            if (raw.Length < offset + size)
            {
                Array.Resize(ref raw, (int)(offset + size));
            }

            file.Slice(at, (int)size).CopyTo(raw.AsSpan((int)offset));
            at += (int)size;
        }
    }

    private uint U32(long at) => BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan((int)at));

    private ulong U64(long at) => BinaryPrimitives.ReadUInt64LittleEndian(_bytes.AsSpan((int)at));
}
