using System.Buffers.Binary;
using Vmm.Dump.Guest;

namespace Vmm.Dump.Elf;

/// <summary>
/// Headers of a core file (System V ABI, chapters 4 and 5): section headers, program headers, notes, then the memory and the names of sections.
/// A section without contents carries the number of program headers when it is 65535 or more.
/// </summary>
internal sealed class ElfHeaders
{
    /// <summary>Bytes behind the memory: names of sections.</summary>
    internal static ReadOnlySpan<byte> Names => "\0.shstrtab\0"u8;

    /// <summary>Bytes at the start of a file that say that it is an ELF file.</summary>
    internal const int IdentificationBytes = 16;

    private const int MaxProgramHeaders = 0xffff;
    private const ushort TypeCore = 4;
    private const ushort Machine386 = 3;
    private const ushort MachineX64 = 62;
    private const uint SegmentLoad = 1;
    private const uint SegmentNote = 4;
    private const uint SectionStrings = 3;

    private readonly byte[] _bytes;
    private readonly bool _isWide;
    private int _at;

    private ElfHeaders(int length, bool isWide)
    {
        _bytes = new byte[length];
        _isWide = isWide;
    }

    /// <summary>Writes all that comes before the memory.</summary>
    /// <param name="isLong">The guest is in long mode.</param>
    /// <param name="isWide">64-bit fields: the guest is in long mode, or has memory above 4 GiB.</param>
    /// <param name="memory">What is dumped, in the order of the file.</param>
    /// <param name="mappings">Segments.</param>
    /// <param name="notes">Contents of the note segment.</param>
    internal static byte[] Write(bool isLong, bool isWide, GuestMemoryMap memory, ReadOnlySpan<MemoryMapping> mappings, ReadOnlySpan<byte> notes)
    {
        int fileBytes = isWide ? 64 : 52;
        int sectionBytes = isWide ? 64 : 40;
        int segmentBytes = isWide ? 56 : 32;
        long segments = mappings.Length + 1L;
        const int Sections = 2;
        long segmentsAt = fileBytes + (Sections * sectionBytes);
        long notesAt = segmentsAt + (segments * segmentBytes);
        long memoryAt = notesAt + notes.Length;
        ElfHeaders headers = new(checked((int)memoryAt), isWide);
        headers.FileHeader(isLong, segmentsAt, fileBytes, segmentBytes, sectionBytes, segments);

        // The first section is empty, and says how many segments there are when its own field is too narrow.
        headers.Section(0, 0, 0, 0, segments >= MaxProgramHeaders ? (uint)segments : 0);
        headers.Section(1, SectionStrings, (ulong)memoryAt + memory.Bytes, (ulong)Names.Length, 0);
        headers.Segment(SegmentNote, (ulong)notesAt, 0, 0, (ulong)notes.Length, (ulong)notes.Length);
        OffsetTable offsets = new(memory, (ulong)memoryAt);
        foreach (MemoryMapping mapping in mappings)
        {
            (ulong offset, ulong length) = offsets.Find(mapping);
            headers.Segment(SegmentLoad, offset, mapping.Linear, mapping.Physical, length, mapping.Length);
        }

        notes.CopyTo(headers._bytes.AsSpan((int)notesAt));
        return headers._bytes;
    }

    private void FileHeader(bool isLong, long segmentsAt, int fileBytes, int segmentBytes, int sectionBytes, long segments)
    {
        ReadOnlySpan<byte> identification = [0x7f, (byte)'E', (byte)'L', (byte)'F', (byte)(_isWide ? 2 : 1), 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        identification.CopyTo(_bytes);
        _at = identification.Length;
        Half(TypeCore);
        Half(isLong ? MachineX64 : Machine386);
        Word(1);
        Address(0);
        Address((ulong)segmentsAt);
        Address((ulong)fileBytes);
        Word(0);
        Half((ushort)fileBytes);
        Half((ushort)segmentBytes);
        Half((ushort)Math.Min(segments, MaxProgramHeaders));
        Half((ushort)sectionBytes);
        Half(2);
        Half(1);
    }

    private void Section(uint name, uint type, ulong offset, ulong length, uint info)
    {
        Word(name);
        Word(type);
        Address(0);
        Address(0);
        Address(offset);
        Address(length);
        Word(0);
        Word(info);
        Address(0);
        Address(0);
    }

    private void Segment(uint type, ulong offset, ulong linear, ulong physical, ulong fileLength, ulong length)
    {
        Word(type);
        if (_isWide)
        {
            Word(0);
        }

        Address(offset);
        Address(linear);
        Address(physical);
        Address(fileLength);
        Address(length);
        if (!_isWide)
        {
            Word(0);
        }

        Address(0);
    }

    private void Half(ushort value)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_bytes.AsSpan(_at), value);
        _at += 2;
    }

    private void Word(uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_bytes.AsSpan(_at), value);
        _at += 4;
    }

    private void Address(ulong value)
    {
        if (!_isWide)
        {
            Word((uint)value);
            return;
        }

        BinaryPrimitives.WriteUInt64LittleEndian(_bytes.AsSpan(_at), value);
        _at += 8;
    }

    // Where ranges of memory are in the file.
    private sealed class OffsetTable
    {
        private readonly GuestMemoryMap _memory;
        private readonly ulong[] _offsets;

        internal OffsetTable(GuestMemoryMap memory, ulong first)
        {
            _memory = memory;
            _offsets = new ulong[memory.Ranges.Length];
            for (int i = 0; i < _offsets.Length; i++)
            {
                _offsets[i] = first;
                first += memory.Ranges[i].Length;
            }
        }

        // A page may reach beyond memory; what is there has no bytes in the file.
        internal (ulong Offset, ulong Length) Find(MemoryMapping mapping)
        {
            int index = _memory.IndexOf(mapping.Physical);
            if (index < 0)
            {
                return (0, 0);
            }

            GuestMemoryRange range = _memory.Ranges[index];
            ulong within = mapping.Physical - range.Start;
            ulong length = range.Length - within;

            // Ranges follow each other in the file; a mapping goes on in the next one when that is next in memory, too.
            for (int next = index + 1; length < mapping.Length && next < _offsets.Length && _memory.Ranges[next].Start == range.End; next++)
            {
                range = _memory.Ranges[next];
                length += range.Length;
            }

            return (_offsets[index] + within, Math.Min(length, mapping.Length));
        }
    }
}
