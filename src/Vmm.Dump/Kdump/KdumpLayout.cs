using System.Buffers.Binary;
using Vmm.Dump.Guest;

namespace Vmm.Dump.Kdump;

/// <summary>How pages are compressed, as a header says it and each compressed page's descriptor.</summary>
internal enum KdumpCompression : uint
{
    /// <summary>Streams in zlib's format.</summary>
    Zlib = 1,

    /// <summary>LZO1X.</summary>
    Lzo = 2,

    /// <summary>Raw Snappy.</summary>
    Snappy = 4,
}

/// <summary>
/// Where everything is in a compressed dump, version 6 of the format of diskdump and makedumpfile, in blocks of 4 KiB: a header, a sub-header
/// with the notes, two equal bitmaps of the pages that exist and that are dumped, a descriptor for each page, and the pages.
/// </summary>
internal sealed class KdumpLayout
{
    /// <summary>Bytes of a block, which are those of a page.</summary>
    internal const int BlockBytes = 4096;

    /// <summary>Bytes of a page's descriptor: offset, size, flags, flags of the kernel's (none).</summary>
    internal const int DescriptorBytes = 24;

    private const int PageBits = 12;
    private const int HeaderVersion = 6;
    private const int NameBytes = 65;
    private const int UtsnameOffset = 12;
    private const int TimestampBytes64 = 22;
    private const int TimestampBytes32 = 10;
    private const int SubHeaderBytes64 = 104;
    private const int SubHeaderBytes32 = 80;
    private const uint DumpLevel = 1;

    private readonly bool _isWide;
    private readonly KdumpCompression _compression;
    private readonly int _cpus;
    private readonly GuestNotes _notes;

    /// <summary>Plans the dump of a guest.</summary>
    internal KdumpLayout(bool isWide, KdumpCompression compression, GuestMemoryMap memory, GuestNotes notes, int cpus)
    {
        _isWide = isWide;
        _compression = compression;
        _notes = notes;
        _cpus = cpus;
        Pages = new PageList(memory);
        MaxPage = (memory.End + BlockBytes - 1) >> PageBits;
        SubHeaderBlocks = (SubHeaderBytes + notes.Bytes.Length + BlockBytes - 1) / BlockBytes;
        BitmapBytes = (long)(((MaxPage + 7) / 8) + BlockBytes - 1) / BlockBytes * BlockBytes;
    }

    /// <summary>Pages to dump.</summary>
    internal PageList Pages { get; }

    /// <summary>Pages of the guest's address space, memory or not: behind the last one that is.</summary>
    internal ulong MaxPage { get; }

    /// <summary>Bytes of one of the two bitmaps.</summary>
    internal long BitmapBytes { get; }

    /// <summary>Where the first bitmap is; the second one follows.</summary>
    internal long BitmapOffset => BlockBytes * (1L + SubHeaderBlocks);

    /// <summary>Where the descriptors are.</summary>
    internal long DescriptorOffset => BitmapOffset + (2 * BitmapBytes);

    /// <summary>Where the pages are.</summary>
    internal long DataOffset => DescriptorOffset + (Pages.Count * DescriptorBytes);

    /// <summary>Where the sub-header is.</summary>
    internal static long SubHeaderOffset => BlockBytes;

    /// <summary>Blocks of the sub-header and the notes.</summary>
    private int SubHeaderBlocks { get; }

    private int SubHeaderBytes => _isWide ? SubHeaderBytes64 : SubHeaderBytes32;

    /// <summary>The header, at offset 0.</summary>
    internal byte[] Header()
    {
        int statusAt = UtsnameOffset + (6 * NameBytes) + (_isWide ? TimestampBytes64 : TimestampBytes32);
        ReadOnlySpan<uint> fields =
        [
            (uint)_compression, BlockBytes, (uint)SubHeaderBlocks, checked((uint)(2 * BitmapBytes / BlockBytes)),
            (uint)Math.Min(MaxPage, uint.MaxValue), 0, 0, 0, 0, (uint)_cpus,
        ];
        byte[] header = new byte[statusAt + (fields.Length * sizeof(uint))];
        "KDUMP   "u8.CopyTo(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(8), HeaderVersion);
        (_isWide ? "x86_64"u8 : "i686"u8).CopyTo(header.AsSpan(UtsnameOffset + (4 * NameBytes)));
        for (int i = 0; i < fields.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(statusAt + (i * sizeof(uint))), fields[i]);
        }

        return header;
    }

    /// <summary>The sub-header and behind it the notes, at <see cref="SubHeaderOffset"/>.</summary>
    internal byte[] SubHeader()
    {
        byte[] header = new byte[SubHeaderBytes + _notes.Bytes.Length];
        FieldWriter fields = new(header);
        ulong notesAt = (ulong)(SubHeaderOffset + SubHeaderBytes);
        ulong infoAt = _notes.VmCoreInfoLength == 0 ? 0 : notesAt + (ulong)_notes.VmCoreInfoOffset;
        Number(ref fields, _notes.PhysicalBase);
        fields.U32(DumpLevel);
        fields.U32(0);

        // First and last page of a dump in parts, as wide as a register of the guest; the wide ones come behind.
        Number(ref fields, 0);
        Number(ref fields, 0);
        fields.U64(infoAt);
        Number(ref fields, (ulong)_notes.VmCoreInfoLength);
        fields.U64(notesAt);
        Number(ref fields, (ulong)_notes.Bytes.Length);
        fields.U64(0);
        Number(ref fields, 0);
        fields.U64(0);
        fields.U64(0);
        fields.U64(MaxPage);
        _notes.Bytes.CopyTo(header.AsSpan(SubHeaderBytes));
        return header;
    }

    private void Number(ref FieldWriter fields, ulong value)
    {
        if (_isWide)
        {
            fields.U64(value);
        }
        else
        {
            fields.U32((uint)value);
        }
    }

    private ref struct FieldWriter(Span<byte> bytes)
    {
        private Span<byte> _rest = bytes;

        internal void U32(uint value)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(_rest, value);
            _rest = _rest[4..];
        }

        internal void U64(ulong value)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_rest, value);
            _rest = _rest[8..];
        }
    }
}
