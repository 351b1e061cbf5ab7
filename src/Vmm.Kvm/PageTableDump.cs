using System.Text;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <summary>Writes the page tables of a guest in the layouts of <c>info tlb</c> and <c>info mem</c>.</summary>
public sealed class PageTableDump(CpuArchState state, AddressSpace memory)
{
    private const ulong Present = 1;
    private const ulong Writable = 2;
    private const ulong User = 4;
    private const ulong Large = 0x80;
    private const ulong AddressMask = 0x000f_ffff_ffff_f000;

    private readonly PageTables.Mode _mode = PageTables.ModeOf(state);

    private delegate void Visit(ulong linear, ulong entry, ulong rights, int shift);

    private int Levels => _mode switch
    {
        PageTables.Mode.Level5 => 5,
        PageTables.Mode.Level4 => 4,
        PageTables.Mode.Pae => 3,
        _ => 2,
    };

    /// <summary>A line for each page.</summary>
    public void WritePages(StringBuilder output) => Walk((linear, entry, _, shift) =>
    {
        ulong pageMask = (1UL << shift) - 1;
        bool narrow = _mode == PageTables.Mode.Bits32;
        ulong physical = narrow && shift == 22
            ? (entry & 0x1fe000) << 19 | entry & 0xffc00000
            : entry & (narrow ? 0xfffff000UL : AddressMask) & ~pageMask;
        output.Append($"{Canonical(linear):x16}: {physical:x16} ");
        output.Append((entry & 1UL << 63) != 0 ? 'X' : '-');
        output.Append((entry & 1UL << 8) != 0 ? 'G' : '-');
        output.Append((entry & Large) != 0 ? 'P' : '-');
        output.Append((entry & 1UL << 6) != 0 ? 'D' : '-');
        output.Append((entry & 1UL << 5) != 0 ? 'A' : '-');
        output.Append((entry & 1UL << 4) != 0 ? 'C' : '-');
        output.Append((entry & 1UL << 3) != 0 ? 'T' : '-');
        output.Append((entry & User) != 0 ? 'U' : '-');
        output.Append((entry & Writable) != 0 ? 'W' : '-');
        output.Append('\n');
    });

    /// <summary>A line for each run of pages with the same rights.</summary>
    public void WriteRanges(StringBuilder output)
    {
        ulong start = 0;
        ulong end = 0;
        ulong rights = 0;
        Walk((linear, _, now, shift) =>
        {
            if (rights != 0 && (linear != end || now != rights))
            {
                Range(output, start, end, rights);
                rights = 0;
            }

            if (rights == 0)
            {
                start = linear;
                rights = now;
            }

            end = linear + (1UL << shift);
        });
        if (rights != 0)
        {
            Range(output, start, end, rights);
        }
    }

    private void Range(StringBuilder output, ulong start, ulong end, ulong rights)
    {
        output.Append($"{Canonical(start):x16}-{Canonical(end):x16} {Canonical(end - start):x16} ");
        output.Append((rights & User) != 0 ? 'u' : '-').Append('r').Append((rights & Writable) != 0 ? 'w' : '-').Append('\n');
    }

    private ulong Canonical(ulong linear)
    {
        int bits = _mode == PageTables.Mode.Level5 ? 57 : _mode == PageTables.Mode.Level4 ? 48 : 64;
        return bits < 64 && (linear >> (bits - 1) & 1) != 0 ? linear | ulong.MaxValue << bits : linear;
    }

    private void Walk(Visit visit)
    {
        ulong root = _mode switch
        {
            PageTables.Mode.Bits32 => state.Cr3 & 0xfffff000,
            PageTables.Mode.Pae => state.Cr3 & 0xffffffe0,
            _ => state.Cr3 & AddressMask,
        };
        Table(root, Levels, 0, User | Writable | Present, visit);
    }

    private void Table(ulong table, int level, ulong linear, ulong rights, Visit visit)
    {
        bool narrow = _mode == PageTables.Mode.Bits32;
        int bits = narrow ? 10 : 9;
        int shift = 12 + ((level - 1) * bits);
        int count = _mode == PageTables.Mode.Pae && level == 3 ? 4 : 1 << bits;
        for (int i = 0; i < count; i++)
        {
            ulong entry = narrow ? memory.ReadU32(table + ((ulong)i * 4)) : memory.ReadU64(table + ((ulong)i * 8));
            if ((entry & Present) == 0)
            {
                continue;
            }

            ulong at = linear | (ulong)i << shift;

            // The four entries at the top of PAE have no rights of their own.
            ulong here = _mode == PageTables.Mode.Pae && level == 3 ? rights : rights & entry & (User | Writable | Present);
            bool large = (entry & Large) != 0
                && (narrow ? level == 2 && (state.Cr4 & 1 << 4) != 0 : level == 2 || (level == 3 && _mode != PageTables.Mode.Pae));
            if (level == 1 || large)
            {
                visit(at, entry, here, shift);
            }
            else
            {
                Table(entry & (narrow ? 0xfffff000UL : AddressMask), level - 1, at, here, visit);
            }
        }
    }
}
