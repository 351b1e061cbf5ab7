using System.Buffers.Binary;
using Vmm.ObjectModel.Accel;

namespace Vmm.Dump.Guest;

/// <summary>
/// Walks all page tables of a processor (Intel SDM vol. 3, chapter 4) and collects what they map to memory. Tables may refer to themselves
/// and to each other in any way: the walk ends after <see cref="MaxTables"/> of them. Any thread; the guest does not run.
/// </summary>
public sealed class PageTableMappings
{
    /// <summary>Most tables that are read, each as often as others refer to it: 512 GiB of small pages, or about a second.</summary>
    public const int MaxTables = 1 << 18;

    private const ulong Present = 1;
    private const ulong Large = 1 << 7;
    private const ulong AddressMask = 0x000f_ffff_ffff_f000;
    private const int PageBits = 12;
    private const ulong Cr4Pse = 1 << 4;

    private readonly GuestMemoryMap _memory;
    private readonly MemoryMappings _mappings;
    private readonly HashSet<(PageTables.Mode Mode, ulong Root)> _walked = [];
    private PageTables.Mode _mode;
    private bool _hasLargePages;
    private readonly int _maxTables;

    /// <summary>A walk that adds to <paramref name="mappings"/>.</summary>
    public PageTableMappings(GuestMemoryMap memory, MemoryMappings mappings, int maxTables = MaxTables)
    {
        _memory = memory;
        _mappings = mappings;
        _maxTables = maxTables;
    }

    /// <summary>How many tables were read.</summary>
    public int Tables { get; private set; }

    /// <summary>Adds what a processor maps; nothing when it does not page. Processors with the same tables are walked once.</summary>
    /// <returns>False when there are too many tables or too many runs of pages.</returns>
    public bool TryAdd(CpuArchState cpu)
    {
        _mode = PageTables.ModeOf(cpu);
        _hasLargePages = _mode != PageTables.Mode.Bits32 || (cpu.Cr4 & Cr4Pse) != 0;
        ulong root = _mode switch
        {
            PageTables.Mode.Bits32 => cpu.Cr3 & 0xffff_f000,
            PageTables.Mode.Pae => cpu.Cr3 & 0xffff_ffe0,
            _ => cpu.Cr3 & AddressMask,
        };
        if (_mode == PageTables.Mode.None || !_walked.Add((_mode, root)))
        {
            return true;
        }

        return _mode switch
        {
            PageTables.Mode.Bits32 => TryWalk(root, 2, 0),
            PageTables.Mode.Pae => TryWalk(root, 3, 0),
            PageTables.Mode.Level4 => TryWalk(root, 4, 0),
            _ => TryWalk(root, 5, 0),
        };
    }

    private bool TryWalk(ulong table, int level, ulong linear)
    {
        if (Tables == _maxTables)
        {
            return false;
        }

        Tables++;

        bool isNarrow = _mode == PageTables.Mode.Bits32;
        int indexBits = isNarrow ? 10 : 9;
        int shift = PageBits + ((level - 1) * indexBits);
        int count = _mode == PageTables.Mode.Pae && level == 3 ? 4 : 1 << indexBits;
        int entryBytes = isNarrow ? 4 : 8;
        if (!_memory.TryGetSpan(table, count * entryBytes, out ReadOnlySpan<byte> entries))
        {
            // Tables that are not in memory map nothing that could be dumped.
            return true;
        }

        for (int i = 0; i < count; i++)
        {
            ulong entry = isNarrow ? BinaryPrimitives.ReadUInt32LittleEndian(entries[(i * 4)..]) : BinaryPrimitives.ReadUInt64LittleEndian(entries[(i * 8)..]);
            if ((entry & Present) == 0)
            {
                continue;
            }

            ulong at = linear | ((ulong)i << shift);
            bool isPage = level == 1 || (HasLargeAt(level) && (entry & Large) != 0);
            if (!(isPage ? TryAddPage(entry, shift, at) : TryWalk(entry & (isNarrow ? 0xffff_f000 : AddressMask), level - 1, at)))
            {
                return false;
            }
        }

        return true;
    }

    private bool HasLargeAt(int level) => _hasLargePages && (level == 2 || (level == 3 && _mode != PageTables.Mode.Pae));

    private bool TryAddPage(ulong entry, int shift, ulong linear)
    {
        ulong mask = (1ul << shift) - 1;

        // PSE-36: bits 13 to 20 of an entry for 4 MiB are bits 32 to 39 of the address.
        ulong physical = _mode != PageTables.Mode.Bits32 ? entry & AddressMask & ~mask
            : shift == PageBits ? entry & 0xffff_f000
            : ((entry & 0x1f_e000) << 19) | (entry & 0xffc0_0000);
        return _memory.IndexOf(physical) < 0 || _mappings.TryAdd(physical, Canonical(linear), mask + 1);
    }

    private ulong Canonical(ulong linear)
    {
        int unused = _mode switch
        {
            PageTables.Mode.Level4 => 16,
            PageTables.Mode.Level5 => 7,
            _ => 0,
        };
        return (ulong)((long)linear << unused >> unused);
    }
}
