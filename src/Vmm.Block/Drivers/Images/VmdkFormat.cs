using System.Globalization;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>The header of a sparse VMDK extent. Reading it is a pure function that fails with <see cref="QapiException"/> alone.</summary>
internal sealed record VmdkHeader
{
    internal const int Bytes = 512;
    internal const int FooterBytes = 1536;
    internal const ulong DirectoryAtEnd = ulong.MaxValue;

    private const uint MaxGrainSectors = 0x200000;
    private const uint MaxTableEntries = 512;
    private const uint ZeroGrainFlag = 1 << 2;
    private const uint MarkerFlag = 1 << 17;

    internal bool IsVersion4 { get; private init; }

    internal uint Version { get; private init; }

    /// <summary>Sectors of the extent.</summary>
    internal long Sectors { get; private init; }

    internal long GrainSectors { get; private init; }

    internal long DescriptorSector { get; private init; }

    internal long DescriptorSectors { get; private init; }

    /// <summary>Entries of a grain table.</summary>
    internal uint TableEntries { get; private init; }

    internal ulong DirectorySector { get; private init; }

    internal long DirectoryEntries { get; private init; }

    internal bool IsCompressed { get; private init; }

    internal bool HasZeroGrains { get; private init; }

    internal bool HasMarkers { get; private init; }

    /// <summary>Sector behind the metadata.</summary>
    internal long DataSector { get; private init; }

    internal int GrainBytes => (int)GrainSectors * 512;

    /// <summary>Reads a header, of either kind.</summary>
    /// <exception cref="QapiException">It is not one that can be used.</exception>
    internal static VmdkHeader Parse(ReadOnlySpan<byte> bytes)
    {
        HeaderReader reader = new(bytes);
        return reader.Has(0, "COWD"u8) ? ParseOld(reader) : reader.Has(0, "KDMV"u8)
            ? ParseNew(reader) : throw new QapiException("Image not in VMDK format");
    }

    /// <summary>The header that a footer repeats, with the place of the directory.</summary>
    /// <exception cref="QapiException">It is no footer.</exception>
    internal static byte[] FromFooter(ReadOnlySpan<byte> footer)
    {
        HeaderReader reader = new(footer);
        bool isFooter = reader.Has(512, "KDMV"u8) && reader.Le32(12) == 3 && reader.Le32(8) == 0 && reader.Le32(1024 + 12) == 0
            && reader.Le32(1024 + 8) == 0 && reader.Le64(1024) == 0;
        return isFooter ? footer.Slice(512, Bytes).ToArray() : throw new QapiException("Invalid footer");
    }

    private static VmdkHeader ParseOld(in HeaderReader reader)
    {
        const uint Entries = 1 << 12;
        uint grain = reader.Le32(16);
        VmdkHeader header = new()
        {
            Version = reader.Le32(4),
            Sectors = reader.Le32(12),
            GrainSectors = grain,
            DirectorySector = reader.Le32(20),
            DirectoryEntries = Math.Max(reader.Le32(24), 1u << 6),
            TableEntries = Entries,
        };
        return header.Validate();
    }

    private static VmdkHeader ParseNew(in HeaderReader reader)
    {
        uint version = reader.Le32(4);
        uint flags = reader.Le32(8);
        ushort compression = reader.Le16(77);
        Check(compression <= 1, $"Unsupported compression algorithm {compression}");
        Check(version <= 3, $"Unsupported VMDK version {version}");
        uint entries = reader.Le32(44);
        Check(entries <= MaxTableEntries, "L2 table size too big");
        ulong capacity = reader.Le64(12);
        ulong grain = reader.Le64(20);
        Check(capacity <= long.MaxValue / 1024, "Image is too big");
        Check(grain is > 0 and <= MaxGrainSectors, "Invalid granularity, image may be corrupt");
        Check(entries > 0, "L2 table size too big");
        ulong perTable = entries * grain;
        VmdkHeader header = new()
        {
            IsVersion4 = true,
            Version = version,
            Sectors = (long)capacity,
            GrainSectors = (long)grain,
            DescriptorSector = (long)Math.Min(reader.Le64(28), long.MaxValue / 1024),
            DescriptorSectors = (long)Math.Min(reader.Le64(36), long.MaxValue / 1024),
            TableEntries = entries,
            DirectorySector = reader.Le64(56),
            DirectoryEntries = (long)((capacity + perTable - 1) / perTable),
            IsCompressed = compression == 1,
            HasZeroGrains = (flags & ZeroGrainFlag) != 0,
            HasMarkers = (flags & MarkerFlag) != 0,
            DataSector = (long)Math.Min(reader.Le64(64), long.MaxValue / 1024),
        };
        return header.Validate();
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }

    private VmdkHeader Validate()
    {
        Check(GrainSectors is > 0 and <= MaxGrainSectors, "Invalid granularity, image may be corrupt");
        Check(DirectoryEntries <= 32 << 20, "L1 size too big");
        Check(DirectorySector == DirectoryAtEnd || DirectorySector <= long.MaxValue / 1024, "Invalid directory offset");
        return this;
    }
}

/// <summary>An extent as a descriptor has it.</summary>
/// <param name="Sectors">Its sectors.</param>
/// <param name="Type">FLAT, SPARSE, VMFS, VMFSSPARSE.</param>
/// <param name="Name">Name of its file.</param>
/// <param name="Offset">First sector in that file, for flat ones.</param>
internal readonly record struct VmdkExtentLine(long Sectors, string Type, string Name, long Offset);

/// <summary>The text that describes a VMDK image. Reading it is a pure function that fails with <see cref="QapiException"/> alone.</summary>
internal sealed record VmdkDescriptor
{
    internal const int MaxBytes = 1 << 20;
    internal const uint NoParent = 0xffffffff;

    internal uint Cid { get; private init; }

    internal uint ParentCid { get; private init; } = NoParent;

    internal string? CreateType { get; private init; }

    internal string? ParentName { get; private init; }

    internal IReadOnlyList<VmdkExtentLine> Extents { get; private init; } = [];

    /// <summary>Likelihood that a file with this beginning is an image, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head)
    {
        if (head.StartsWith("KDMV"u8) || head.StartsWith("COWD"u8))
        {
            return 100;
        }

        while (!head.IsEmpty)
        {
            int end = head.IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = end < 0 ? head : head[..end];
            if (head[0] == '#' || line.TrimEnd((byte)'\r').Trim((byte)' ').IsEmpty)
            {
                if (end < 0)
                {
                    return 0;
                }

                head = head[(end + 1)..];
                continue;
            }

            return end >= 0 && line.TrimEnd((byte)'\r') is [.., >= (byte)'1' and <= (byte)'3'] version
                && version.Length == 9 && version.StartsWith("version="u8) ? 100 : 0;
        }

        return 0;
    }

    /// <summary>Reads a descriptor.</summary>
    /// <exception cref="QapiException">An extent cannot be understood.</exception>
    internal static VmdkDescriptor Parse(string text)
    {
        List<VmdkExtentLine> extents = [];
        foreach (ReadOnlySpan<char> line in text.AsSpan().EnumerateLines())
        {
            if (line.StartsWith("RW ", StringComparison.Ordinal) && ParseExtent(line.ToString()) is { } extent)
            {
                extents.Add(extent);
            }
        }

        return new VmdkDescriptor
        {
            Cid = Hex(text, "CID=") ?? 0,
            ParentCid = Hex(text, "parentCID=") ?? NoParent,
            CreateType = Quoted(text, "createType=\""),
            ParentName = Quoted(text, "parentFileNameHint=\""),
            Extents = extents,
        };
    }

    private static uint? Hex(string text, string name)
    {
        for (int at = text.IndexOf(name, StringComparison.Ordinal); at >= 0; at = text.IndexOf(name, at + 1, StringComparison.Ordinal))
        {
            if (at > 0 && text[at - 1] != '\n')
            {
                continue;
            }

            int start = at + name.Length;
            int end = start;
            while (end < text.Length && end - start < 8 && char.IsAsciiHexDigit(text[end]))
            {
                end++;
            }

            return uint.TryParse(text.AsSpan(start, end - start), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint value) ? value : null;
        }

        return null;
    }

    private static string? Quoted(string text, string name)
    {
        int at = text.IndexOf(name, StringComparison.Ordinal);
        int start = at + name.Length;
        int end = at < 0 ? -1 : text.IndexOf('"', start);
        return end < 0 ? null : text[start..end];
    }

    // Access, sectors, type, name in quotes, and for flat extents an offset.
    private static VmdkExtentLine? ParseExtent(string line)
    {
        string invalid = "Invalid extent line: " + line;
        string[] words = line.Split(' ', 4, StringSplitOptions.RemoveEmptyEntries);
        if (words.Length < 4 || !long.TryParse(words[1], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long sectors))
        {
            throw new QapiException(invalid);
        }

        int close = words[3].Length > 1 && words[3][0] == '"' ? words[3].IndexOf('"', 1) : -1;
        if (close < 2)
        {
            throw new QapiException(invalid);
        }

        string name = words[3][1..close];
        bool hasOffset = long.TryParse(words[3].AsSpan(close + 1).Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long offset);
        bool isGood = words[2] switch
        {
            "FLAT" => hasOffset && offset >= 0,
            "VMFS" => !hasOffset || offset == 0,
            _ => true,
        };
        if (!isGood)
        {
            throw new QapiException(invalid);
        }

        bool isKnown = words[2] is "FLAT" or "SPARSE" or "VMFS" or "VMFSSPARSE" && sectors > 0 && sectors <= long.MaxValue / 1024
            && offset <= long.MaxValue / 1024;
        return isKnown ? new VmdkExtentLine(sectors, words[2], name, hasOffset ? offset : 0) : null;
    }
}
