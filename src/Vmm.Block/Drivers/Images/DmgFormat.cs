using System.Buffers.Text;
using System.Runtime.InteropServices;

namespace Vmm.Block.Drivers.Images;

/// <summary>The trailer of a disk image of macOS (UDIF), 512 bytes near its end. Pure; all numbers are big-endian.</summary>
/// <param name="DataFork">Offset that those of the chunks count from.</param>
/// <param name="Resources">Offset of the resource fork.</param>
/// <param name="ResourceBytes">Its length; 0 when the property list has the tables.</param>
/// <param name="Xml">Offset of the property list.</param>
/// <param name="XmlBytes">Its length.</param>
/// <param name="Sectors">Sectors of the disk.</param>
internal readonly record struct DmgTrailer(long DataFork, long Resources, long ResourceBytes, long Xml, long XmlBytes, long Sectors)
{
    internal const int Bytes = 512;

    /// <summary>Bytes before the end of the file, in whole sectors, from which on the trailer is looked for.</summary>
    internal const int SearchFrom = 1023;

    private const int SearchBytes = 515;

    // What the tables of an image may take: some hundred thousand chunks in text, ten times as many in resources.
    private const long MaxXmlBytes = 16 << 20;
    private const long MaxResourceBytes = 128 << 20;

    /// <summary>Where the trailer begins in the end of a file; -1 when it has none.</summary>
    internal static int Find(ReadOnlySpan<byte> end) => end[..Math.Min(end.Length, SearchBytes)].IndexOf("koly"u8);

    /// <summary>Reads a trailer.</summary>
    /// <param name="bytes">The trailer.</param>
    /// <param name="place">Where it is in the file: nothing that it names may be behind it.</param>
    /// <param name="trailer">What it says.</param>
    /// <returns>False when it cannot be so.</returns>
    internal static bool TryParse(ReadOnlySpan<byte> bytes, long place, out DmgTrailer trailer)
    {
        HeaderReader reader = new(bytes);
        trailer = new DmgTrailer(
            (long)reader.Be64(0x18), (long)reader.Be64(0x28), (long)reader.Be64(0x30), (long)reader.Be64(0xd8), (long)reader.Be64(0xe0), (long)reader.Be64(0x1ec));
        bool isPlaced = trailer.DataFork >= 0 && trailer.DataFork <= place && trailer.Sectors >= 0 && trailer.Sectors <= long.MaxValue / 512;
        return isPlaced && (trailer.ResourceBytes != 0
            ? IsWithin(trailer.Resources, trailer.ResourceBytes, place) && trailer.ResourceBytes <= MaxResourceBytes
            : trailer.XmlBytes != 0 && IsWithin(trailer.Xml, trailer.XmlBytes, place) && trailer.XmlBytes <= MaxXmlBytes);
    }

    private static bool IsWithin(long offset, long bytes, long end) => offset >= 0 && offset < end && bytes >= 0 && bytes <= end - offset;
}

/// <summary>How a chunk is stored.</summary>
internal enum DmgChunkType : uint
{
    /// <summary>Not at all: zeroes.</summary>
    Zero = 0,

    /// <summary>As it is.</summary>
    Raw = 1,

    /// <summary>Not at all: nobody uses it.</summary>
    Unused = 2,

    /// <summary>As a zlib stream.</summary>
    Zlib = 0x80000005,

    /// <summary>As a bzip2 stream.</summary>
    Bzip2 = 0x80000006,

    /// <summary>As an LZFSE stream.</summary>
    Lzfse = 0x80000007,

    /// <summary>No chunk: a comment.</summary>
    Comment = 0x7ffffffe,

    /// <summary>No chunk: the table ends.</summary>
    End = 0xffffffff,
}

/// <summary>A part of the disk.</summary>
/// <param name="Type">How it is stored.</param>
/// <param name="Bytes">Bytes in the file.</param>
/// <param name="Offset">Where, in the file.</param>
/// <param name="Sector">First sector on the disk.</param>
/// <param name="Sectors">Number of sectors.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct DmgChunk(DmgChunkType Type, uint Bytes, long Offset, long Sector, long Sectors)
{
    internal bool IsZero => Type is DmgChunkType.Zero or DmgChunkType.Unused;
}

/// <summary>The chunks of an image, by their sectors. Pure; bounded by what it is read from.</summary>
internal sealed class DmgChunks
{
    private const int HeaderBytes = 204;
    private const int EntryBytes = 40;
    private const uint MaxSectors = 131072;
    private const uint MaxBytes = 64 << 20;

    private readonly List<DmgChunk> _chunks = [];
    private long _number;

    /// <summary>Why the tables are refused, where there are words for it.</summary>
    internal string? Complaint { get; private set; }

    /// <summary>Types that can not be read, each once.</summary>
    internal SortedSet<DmgChunkType> Unreadable { get; } = [];

    /// <summary>Reads the tables that a resource fork has.</summary>
    /// <returns>False when it is none.</returns>
    internal bool TryReadResources(ReadOnlySpan<byte> fork, long dataFork)
    {
        HeaderReader reader = new(fork);
        uint begin = reader.Be32(0);
        uint bytes = reader.Be32(8);
        if (bytes == 0 || begin + (long)bytes > fork.Length)
        {
            return false;
        }

        for (ReadOnlySpan<byte> data = fork.Slice((int)begin, (int)bytes); !data.IsEmpty;)
        {
            uint count = new HeaderReader(data).Be32(0);
            if (count == 0 || count + 4L > data.Length || !TryAdd(data.Slice(4, (int)count), dataFork))
            {
                return false;
            }

            data = data[(4 + (int)count)..];
        }

        return Sort();
    }

    /// <summary>Reads the tables that a property list has, each in base64.</summary>
    /// <returns>False when it is none.</returns>
    internal bool TryReadPropertyList(Span<byte> xml, long dataFork)
    {
        for (int at = xml.IndexOf("<data>"u8); at >= 0; at = xml.IndexOf("<data>"u8))
        {
            xml = xml[(at + 6)..];
            int end = xml.IndexOf("</data>"u8);
            if (end < 0 || !TryAdd(Decode(xml[..end]), dataFork))
            {
                return false;
            }

            xml = xml[end..];
        }

        return Sort();
    }

    /// <summary>The chunk that has a sector; else only the sectors up to the next one, of a type that can not be read.</summary>
    internal DmgChunk Find(long sector)
    {
        int low = 0;
        for (int high = _chunks.Count; low < high;)
        {
            int middle = (low + high) / 2;
            (low, high) = _chunks[middle].Sector <= sector ? (middle + 1, high) : (low, middle);
        }

        if (low > 0 && sector - _chunks[low - 1].Sector < _chunks[low - 1].Sectors)
        {
            return _chunks[low - 1];
        }

        return new DmgChunk(DmgChunkType.End, 0, 0, sector, Math.Min(low < _chunks.Count ? _chunks[low].Sector - sector : long.MaxValue, long.MaxValue / 1024));
    }

    // What is no digit does not count: line breaks, but whatever else stands there as well.
    private static ReadOnlySpan<byte> Decode(Span<byte> text)
    {
        int digits = 0;
        foreach (byte b in text)
        {
            if (char.IsAsciiLetterOrDigit((char)b) || b is (byte)'+' or (byte)'/')
            {
                text[digits++] = b;
            }
        }

        // The padding was left out with the rest, and is made up for.
        int rest = digits % 4;
        Span<byte> whole = text[..(digits - rest)];
        _ = Base64.DecodeFromUtf8InPlace(whole, out int written);
        if (rest > 1)
        {
            ReadOnlySpan<byte> last = [text[digits - rest], text[digits - rest + 1], rest == 3 ? text[digits - 1] : (byte)'A', (byte)'A'];
            Span<byte> bytes = stackalloc byte[3];
            _ = Base64.DecodeFromUtf8(last, bytes, out _, out _);
            bytes[..(rest - 1)].CopyTo(text[written..]);
            written += rest - 1;
        }

        return text[..written];
    }

    private bool Sort()
    {
        _chunks.Sort(static (a, b) => a.Sector.CompareTo(b.Sector));
        return true;
    }

    private bool TryAdd(ReadOnlySpan<byte> table, long dataFork)
    {
        HeaderReader header = new(table);
        if (table.Length < HeaderBytes || !header.Has(0, "mish"u8))
        {
            return true;
        }

        long firstSector = (long)header.Be64(8);
        long firstByte = unchecked((long)header.Be64(0x18) + dataFork);
        for (ReadOnlySpan<byte> entries = table[HeaderBytes..]; entries.Length >= EntryBytes; entries = entries[EntryBytes..])
        {
            HeaderReader entry = new(entries);
            var type = (DmgChunkType)entry.Be32(0);
            ulong sectors = entry.Be64(16);
            ulong bytes = entry.Be64(32);
            if (type is DmgChunkType.Comment or DmgChunkType.End)
            {
                continue;
            }

            if (type is not (DmgChunkType.Zero or DmgChunkType.Raw or DmgChunkType.Unused or DmgChunkType.Zlib))
            {
                Unreadable.Add(type);
                continue;
            }

            DmgChunk chunk = new(
                type, (uint)bytes, unchecked((long)entry.Be64(24) + firstByte), unchecked((long)entry.Be64(8) + firstSector), (long)Math.Min(sectors, long.MaxValue / 1024));
            Complaint ??= !chunk.IsZero && sectors > MaxSectors ? $"sector count {sectors} for chunk {_number} is larger than max ({MaxSectors})"
                : bytes > MaxBytes ? $"length {bytes} for chunk {_number} is larger than max ({MaxBytes})" : null;
            if (Complaint is not null)
            {
                return false;
            }

            _number++;
            if (chunk.Sector >= 0 && sectors > 0)
            {
                _chunks.Add(chunk);
            }
        }

        return true;
    }
}
