using System.Buffers.Binary;

namespace Vmm.Machines.Loading;

/// <summary>The descriptor table and the page tables that an entry state needs, as bytes for low memory.</summary>
internal static class EntryTables
{
    // Linux names these two selectors in its boot protocol; the others only have to hold descriptors that match the hidden parts.
    public const ushort CodeSelector = 0x10;
    public const ushort DataSelector = 0x18;
    public const ushort TaskSelector = 0x20;

    private const ulong Present = 1;
    private const ulong Writable = 2;
    private const ulong LargePage = 0x80;

    /// <summary>Adds a GDT and returns the state of a processor in flat 32-bit protected mode without paging.</summary>
    public static CpuEntryState Protected32(
        List<BootSegment> segments, LowMemory low, ulong rip, ulong rax = 0, ulong rbx = 0, ulong rsi = 0)
    {
        var cs = SegmentState.Code32(CodeSelector);
        var gdt = AddGdt(segments, low, cs, out var limit);
        return new CpuEntryState
        {
            Mode = CpuEntryMode.Protected32,
            Rip = rip,
            Rax = rax,
            Rbx = rbx,
            Rsi = rsi,
            Cr0 = 0x11,
            Cs = cs,
            Data = SegmentState.Data32(DataSelector),
            Tr = SegmentState.Task(TaskSelector),
            GdtBase = gdt,
            GdtLimit = limit,
        };
    }

    /// <summary>Adds a GDT and identity page tables for the first 4 GiB, and returns the state of a processor in 64-bit mode.</summary>
    public static CpuEntryState Long64(List<BootSegment> segments, LowMemory low, ulong rip, ulong rsi)
    {
        var cs = SegmentState.Code64(CodeSelector);
        var gdt = AddGdt(segments, low, cs, out var limit);
        return new CpuEntryState
        {
            Mode = CpuEntryMode.Long64,
            Rip = rip,
            Rsi = rsi,
            Cr0 = 0x80000011,
            Cr3 = AddPageTables(segments, low),
            Cr4 = 0x20,
            Efer = 0x500,
            Cs = cs,
            Data = SegmentState.Data32(DataSelector),
            Tr = SegmentState.Task(TaskSelector),
            GdtBase = gdt,
            GdtLimit = limit,
        };
    }

    private static ulong AddGdt(List<BootSegment> segments, LowMemory low, SegmentState cs, out ushort limit)
    {
        var gdt = new byte[0x30];
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(CodeSelector), cs.ToDescriptor());
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(DataSelector), SegmentState.Data32(DataSelector).ToDescriptor());
        BinaryPrimitives.WriteUInt64LittleEndian(gdt.AsSpan(TaskSelector), SegmentState.Task(TaskSelector).ToDescriptor());
        var gpa = low.Allocate((ulong)gdt.Length, 16);
        segments.Add(BootSegment.FromBytes(gpa, gdt));
        limit = (ushort)(gdt.Length - 1);
        return gpa;
    }

    private static ulong AddPageTables(List<BootSegment> segments, LowMemory low)
    {
        // One level 4 page, one level 3 page, four level 2 pages of 2 MiB mappings.
        var tables = new byte[6 * 4096];
        var gpa = low.Allocate((ulong)tables.Length, 4096);
        BinaryPrimitives.WriteUInt64LittleEndian(tables, (gpa + 0x1000) | Writable | Present);
        for (var i = 0; i < 4; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(tables.AsSpan(0x1000 + i * 8), (gpa + 0x2000 + (ulong)i * 0x1000) | Writable | Present);
        }

        for (var i = 0; i < 2048; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(tables.AsSpan(0x2000 + i * 8), ((ulong)i << 21) | LargePage | Writable | Present);
        }

        segments.Add(BootSegment.FromBytes(gpa, tables));
        return gpa;
    }
}
