using System.Buffers.Binary;

namespace Vmm.Dump.Tests.Readers;

/// <summary>An ELF core file, read by the rules of the System V ABI and checked against them.</summary>
internal sealed class CoreFile
{
    private readonly byte[] _bytes;
    private readonly int _wordBytes;

    public CoreFile(byte[] bytes)
    {
        _bytes = bytes;
        Assert.That(bytes.AsSpan(0, 4).SequenceEqual("\u007fELF"u8), Is.True, "magic");
        Is64 = bytes[4] switch { 1 => false, 2 => true, byte other => throw new InvalidDataException($"class {other}") };
        _wordBytes = Is64 ? 8 : 4;
        Assert.That(bytes[5], Is.EqualTo(1), "little-endian");
        Assert.That(bytes[6], Is.EqualTo(1), "version");
        Assert.That(U16(16), Is.EqualTo(4), "e_type is ET_CORE");
        Machine = U16(18);
        int at = 24 + _wordBytes;
        long segmentsAt = (long)Word(at);
        long sectionsAt = (long)Word(at + _wordBytes);
        at += (2 * _wordBytes) + 4;
        Assert.That(U16(at), Is.EqualTo(Is64 ? 64 : 52), "e_ehsize");
        int segmentBytes = U16(at + 2);
        Assert.That(segmentBytes, Is.EqualTo(Is64 ? 56 : 32), "e_phentsize");
        long segments = U16(at + 4);
        int sectionBytes = U16(at + 6);
        Assert.That(sectionBytes, Is.EqualTo(Is64 ? 64 : 40), "e_shentsize");
        int sections = U16(at + 8);
        int namesIndex = U16(at + 10);
        if (segments == 0xffff)
        {
            segments = U32(sectionsAt + (Is64 ? 44 : 28));
        }

        for (int i = 0; i < sections; i++)
        {
            long section = sectionsAt + (i * sectionBytes);
            uint type = U32(section + 4);
            ulong offset = Word(section + 8 + (2 * _wordBytes));
            ulong length = Word(section + 8 + (3 * _wordBytes));
            if (type != 0)
            {
                Assert.That(offset + length, Is.EqualTo((ulong)bytes.Length), "the names are the end of the file");
                ReadOnlySpan<byte> names = bytes.AsSpan((int)offset, (int)length);
                Assert.That(i, Is.EqualTo(namesIndex));
                Assert.That(names[(int)U32(section)..].StartsWith(".shstrtab\0"u8), Is.True);
            }
        }

        for (long i = 0; i < segments; i++)
        {
            long header = segmentsAt + (i * segmentBytes);
            Segment segment = Is64
                ? new Segment(U32(header), Word(header + 8), Word(header + 16), Word(header + 24), Word(header + 32), Word(header + 40))
                : new Segment(U32(header), Word(header + 4), Word(header + 8), Word(header + 12), Word(header + 16), Word(header + 20));
            Assert.That(segment.Offset + segment.FileLength, Is.LessThanOrEqualTo((ulong)bytes.Length), "a segment is in the file");
            Assert.That(segment.FileLength, Is.LessThanOrEqualTo(segment.Length));
            (segment.Type == 4 ? Notes : Loads).Add(segment);
        }
    }

    public bool Is64 { get; }

    public int Machine { get; }

    public List<Segment> Loads { get; } = [];

    public List<Segment> Notes { get; } = [];

    public ReadOnlySpan<byte> Contents(Segment segment) => _bytes.AsSpan((int)segment.Offset, (int)segment.FileLength);

    /// <summary>Name, type and descriptor of each note.</summary>
    public List<(string Name, uint Type, byte[] Descriptor)> ReadNotes()
    {
        List<(string, uint, byte[])> notes = [];
        foreach (Segment segment in Notes)
        {
            notes.AddRange(Parse(Contents(segment)));
        }

        return notes;
    }

    public static List<(string Name, uint Type, byte[] Descriptor)> Parse(ReadOnlySpan<byte> notes)
    {
        List<(string, uint, byte[])> parsed = [];
        while (!notes.IsEmpty)
        {
            int name = BinaryPrimitives.ReadInt32LittleEndian(notes);
            int descriptor = BinaryPrimitives.ReadInt32LittleEndian(notes[4..]);
            int at = 12 + ((name + 3) & ~3);
            string text = System.Text.Encoding.ASCII.GetString(notes.Slice(12, name - 1));
            parsed.Add((text, BinaryPrimitives.ReadUInt32LittleEndian(notes[8..]), notes.Slice(at, descriptor).ToArray()));
            notes = notes[(at + ((descriptor + 3) & ~3))..];
        }

        return parsed;
    }

    private int U16(long at) => BinaryPrimitives.ReadUInt16LittleEndian(_bytes.AsSpan((int)at));

    private uint U32(long at) => BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan((int)at));

    private ulong Word(long at) => Is64 ? BinaryPrimitives.ReadUInt64LittleEndian(_bytes.AsSpan((int)at)) : U32(at);

    internal readonly record struct Segment(uint Type, ulong Offset, ulong Linear, ulong Physical, ulong FileLength, ulong Length);
}
