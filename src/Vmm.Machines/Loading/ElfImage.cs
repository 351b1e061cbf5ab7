using System.Buffers.Binary;
using Vmm.ObjectModel.Accel;

namespace Vmm.Machines.Loading;

/// <summary>Why an ELF file cannot be used.</summary>
public enum ElfError
{
    None,

    /// <summary>The magic number is missing.</summary>
    NotElf,

    /// <summary>Not little-endian x86, an unknown class, or headers of the wrong size.</summary>
    Unsupported,

    /// <summary>A header or a segment reaches behind the end of the file.</summary>
    Truncated,

    /// <summary>No loadable segment, or one whose memory is smaller than its contents.</summary>
    NothingToLoad,

    /// <summary>A segment wraps around the address space.</summary>
    BadAddress,
}

/// <summary>A PT_LOAD program header: <see cref="FileSize"/> bytes of the file at <see cref="PhysicalAddress"/>, zeros up to <see cref="MemorySize"/>.</summary>
/// <param name="Index">Which of all program headers it is, counted from 0.</param>
public readonly record struct ElfSegment(int Index, ulong FileOffset, ulong VirtualAddress, ulong PhysicalAddress, ulong FileSize, ulong MemorySize);

/// <summary>The parts of a little-endian x86 ELF executable (System V ABI, ELF-32 and ELF-64) that a loader needs.</summary>
public sealed class ElfImage
{
    /// <summary>EM_386.</summary>
    public const ushort Machine386 = 3;

    /// <summary>EM_X86_64.</summary>
    public const ushort MachineX64 = 62;

    private const uint LoadSegment = 1;
    private const uint NoteSegment = 4;
    private const uint Phys32EntryNote = 18;
    private const int MaxNoteBytes = 64 * 1024;

    private ElfImage(bool is64, ushort machine, ulong entry, List<ElfSegment> segments, ulong? pvhEntry)
    {
        Is64 = is64;
        Machine = machine;
        Entry = entry;
        Segments = segments;
        PvhEntry = pvhEntry;
    }

    public bool Is64 { get; }

    public ushort Machine { get; }

    /// <summary>e_entry.</summary>
    public ulong Entry { get; }

    /// <summary>PT_LOAD headers that occupy memory, in file order; never empty.</summary>
    public IReadOnlyList<ElfSegment> Segments { get; }

    /// <summary>Physical address of the 32-bit PVH entry point (note XEN_ELFNOTE_PHYS32_ENTRY of owner "Xen"), if there is one.</summary>
    public ulong? PvhEntry { get; }

    /// <summary>Lowest physical address that is loaded.</summary>
    public ulong LowestAddress
    {
        get
        {
            var low = ulong.MaxValue;
            foreach (var s in Segments)
            {
                low = Math.Min(low, s.PhysicalAddress);
            }

            return low;
        }
    }

    /// <summary>First physical address behind everything that is loaded.</summary>
    public ulong HighestAddress
    {
        get
        {
            ulong high = 0;
            foreach (var s in Segments)
            {
                high = Math.Max(high, s.PhysicalAddress + s.MemorySize);
            }

            return high;
        }
    }

    /// <summary>Reads the headers of <paramref name="file"/>. Hostile input gives an error value, never an exception.</summary>
    public static ElfError TryParse(BootFile file, out ElfImage? image)
    {
        image = null;
        Span<byte> header = stackalloc byte[64];
        var got = file.Read(0, header);
        if (got < 4 || BinaryPrimitives.ReadUInt32BigEndian(header) != 0x7f454c46)
        {
            return ElfError.NotElf;
        }

        if (got < 52)
        {
            return ElfError.Truncated;
        }

        var elfClass = header[4];
        if (elfClass is not (1 or 2) || header[5] != 1)
        {
            return ElfError.Unsupported;
        }

        var is64 = elfClass == 2;
        if (is64 && got < 64)
        {
            return ElfError.Truncated;
        }

        var machine = BinaryPrimitives.ReadUInt16LittleEndian(header[18..]);
        if (machine is not (Machine386 or MachineX64))
        {
            return ElfError.Unsupported;
        }

        var entry = is64 ? U64(header, 24) : U32(header, 24);
        var phOffset = is64 ? U64(header, 32) : U32(header, 28);
        var phEntrySize = BinaryPrimitives.ReadUInt16LittleEndian(header[(is64 ? 54 : 42)..]);
        var phCount = BinaryPrimitives.ReadUInt16LittleEndian(header[(is64 ? 56 : 44)..]);
        if (phCount > 0 && phEntrySize != (is64 ? 56 : 32))
        {
            return ElfError.Unsupported;
        }

        return ParseSegments(file, is64, machine, entry, phOffset, phEntrySize, phCount, ref image);
    }

    private static ElfError ParseSegments(
        BootFile file, bool is64, ushort machine, ulong entry, ulong phOffset, int phEntrySize, int phCount, ref ElfImage? image)
    {
        var segments = new List<ElfSegment>();
        ulong? pvhEntry = null;
        Span<byte> ph = stackalloc byte[56];
        ph = ph[..(is64 ? 56 : 32)];
        for (var i = 0; i < phCount; i++)
        {
            var at = phOffset + (ulong)i * (ulong)phEntrySize;
            if (at > long.MaxValue || !file.TryReadExactly((long)at, ph))
            {
                return ElfError.Truncated;
            }

            var type = U32(ph, 0);
            var segment = is64
                ? new ElfSegment(i, U64(ph, 8), U64(ph, 16), U64(ph, 24), U64(ph, 32), U64(ph, 40))
                : new ElfSegment(i, U32(ph, 4), U32(ph, 8), U32(ph, 12), U32(ph, 16), U32(ph, 20));
            if (type == NoteSegment)
            {
                pvhEntry ??= FindPvhEntry(file, segment);
            }

            if (type != LoadSegment || segment.MemorySize == 0)
            {
                continue;
            }

            if (segment.FileSize > segment.MemorySize)
            {
                return ElfError.NothingToLoad;
            }

            if (segment.FileOffset > (ulong)file.Length || segment.FileSize > (ulong)file.Length - segment.FileOffset)
            {
                return ElfError.Truncated;
            }

            if (segment.PhysicalAddress + segment.MemorySize < segment.PhysicalAddress)
            {
                return ElfError.BadAddress;
            }

            segments.Add(segment);
        }

        if (segments.Count == 0)
        {
            return ElfError.NothingToLoad;
        }

        image = new ElfImage(is64, machine, entry, segments, pvhEntry);
        return ElfError.None;
    }

    // A note is three words (name size, descriptor size, type), the name and the descriptor, each padded to four bytes.
    private static ulong? FindPvhEntry(BootFile file, ElfSegment segment)
    {
        if (segment.FileOffset > (ulong)file.Length || segment.FileSize > (ulong)file.Length - segment.FileOffset || segment.FileSize < 12)
        {
            return null;
        }

        var notes = new byte[(int)Math.Min(segment.FileSize, MaxNoteBytes)];
        if (!file.TryReadExactly((long)segment.FileOffset, notes))
        {
            return null;
        }

        return FindPvhEntry(notes);
    }

    /// <summary>Looks for the PVH entry note in the contents of a note segment.</summary>
    public static ulong? FindPvhEntry(ReadOnlySpan<byte> notes)
    {
        while (notes.Length >= 12)
        {
            var nameSize = U32(notes, 0);
            var descSize = U32(notes, 4);
            var type = U32(notes, 8);
            notes = notes[12..];
            var namePadded = ((ulong)nameSize + 3) & ~3UL;
            if (namePadded > (ulong)notes.Length)
            {
                return null;
            }

            var name = notes[..(int)nameSize];
            notes = notes[(int)namePadded..];
            if (descSize > (uint)notes.Length)
            {
                return null;
            }

            var desc = notes[..(int)descSize];
            if (type == Phys32EntryNote && name.SequenceEqual("Xen\0"u8) && desc.Length >= 4)
            {
                return desc.Length >= 8 ? U64(desc, 0) : U32(desc, 0);
            }

            var descPadded = ((ulong)descSize + 3) & ~3UL;
            notes = descPadded >= (ulong)notes.Length ? default : notes[(int)descPadded..];
        }

        return null;
    }

    /// <summary>What monitors list of the segments.</summary>
    internal List<RomInfo> Describe(string fileName)
    {
        var roms = new List<RomInfo>();
        foreach (var s in Segments)
        {
            roms.Add(new RomInfo($"{fileName} ELF program header segment {s.Index}", s.MemorySize, s.PhysicalAddress, IsRom: false));
        }

        return roms;
    }

    /// <summary>Adds the segments' contents and their cleared tails to <paramref name="target"/>, and claims what lies in low memory.</summary>
    /// <exception cref="BootLoadException">A segment does not lie in RAM.</exception>
    internal void AddTo(List<BootSegment> target, BootFile file, RamLayout ram, LowMemory low)
    {
        foreach (var s in Segments)
        {
            if (!ram.IsRam(s.PhysicalAddress, s.MemorySize))
            {
                throw new BootLoadException("kernel does not fit in address space");
            }

            low.Claim(s.PhysicalAddress, s.MemorySize);
            if (s.FileSize > 0)
            {
                target.Add(BootSegment.FromFile(s.PhysicalAddress, file, (long)s.FileOffset, s.FileSize));
            }

            if (s.MemorySize > s.FileSize)
            {
                target.Add(BootSegment.Zero(s.PhysicalAddress + s.FileSize, s.MemorySize - s.FileSize));
            }
        }
    }

    private static uint U32(ReadOnlySpan<byte> b, int at) => BinaryPrimitives.ReadUInt32LittleEndian(b[at..]);

    private static ulong U64(ReadOnlySpan<byte> b, int at) => BinaryPrimitives.ReadUInt64LittleEndian(b[at..]);
}
