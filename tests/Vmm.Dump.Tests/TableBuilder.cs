using System.Buffers.Binary;
using Vmm.Dump.Guest;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.Dump.Tests;

/// <summary>Page tables in the low memory of a guest, by the rules of Intel's manual (vol. 3, chapter 4).</summary>
internal sealed class TableBuilder
{
    private const ulong Flags = 7;
    private const ulong Large = 0x80;
    private readonly RamBlock _block;
    private readonly Dictionary<(int Level, ulong Prefix), ulong> _tables = [];
    private ulong _next = 0x1000;

    public TableBuilder(PageTables.Mode mode, ulong memoryBytes, bool hasPse = true)
    {
        Mode = mode;
        _block = TestMemory.Block(memoryBytes);
        Map = GuestMemoryMap.Of([new GuestMemoryRange(0, memoryBytes, _block, 0)]);
        Root = NewTable();
        Cpu = new CpuArchState
        {
            Cr0 = 0x8000_0011,
            Cr3 = Root,
            Cr4 = mode switch { PageTables.Mode.Bits32 => hasPse ? 0x10ul : 0, PageTables.Mode.Level5 => 0x1020, _ => 0x20 },
            Efer = mode >= PageTables.Mode.Level4 ? 0x500ul : 0,
        };
    }

    public PageTables.Mode Mode { get; }

    public GuestMemoryMap Map { get; }

    public CpuArchState Cpu { get; }

    public ulong Root { get; }

    public int Levels => Mode switch { PageTables.Mode.Bits32 => 2, PageTables.Mode.Pae => 3, PageTables.Mode.Level4 => 4, _ => 5 };

    public int IndexBits => Mode == PageTables.Mode.Bits32 ? 10 : 9;

    public int EntryBytes => Mode == PageTables.Mode.Bits32 ? 4 : 8;

    public ulong PageBytes(int level) => 1ul << Shift(level);

    public ulong NewTable()
    {
        ulong table = _next;
        _next += 0x1000;
        return table;
    }

    /// <summary>Maps a page: of 4 KiB at level 1, a larger one at levels 2 and 3.</summary>
    public void MapPage(ulong linear, ulong physical, int level = 1)
    {
        ulong table = Root;
        for (int at = Levels; at > level; at--)
        {
            ulong prefix = linear >> Shift(at);
            if (!_tables.TryGetValue((at, prefix), out ulong next))
            {
                next = NewTable();
                _tables.Add((at, prefix), next);
                Set(table, Index(linear, at), next | (Mode == PageTables.Mode.Pae && at == 3 ? 1 : Flags));
            }

            table = next;
        }

        ulong entry = level == 1 ? physical | Flags
            : Mode == PageTables.Mode.Bits32 ? (physical & 0xffc0_0000) | (physical >> 19 & 0x1f_e000) | Flags | Large
            : physical | Flags | Large;
        Set(table, Index(linear, level), entry);
    }

    public void Set(ulong table, int index, ulong entry)
    {
        Span<byte> bytes = _block.Span(table + (ulong)(index * EntryBytes), EntryBytes);
        if (EntryBytes == 4)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)entry);
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes, entry);
        }
    }

    public void Fill(ulong table, ReadOnlySpan<byte> bytes) => bytes.CopyTo(_block.Span(table, bytes.Length));

    private int Shift(int level) => 12 + ((level - 1) * IndexBits);

    private int Index(ulong linear, int level) =>
        (int)(linear >> Shift(level)) & (Mode == PageTables.Mode.Pae && level == 3 ? 3 : (1 << IndexBits) - 1);
}
