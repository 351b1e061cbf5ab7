using System.Buffers.Binary;
using Vmm.Dump;
using Vmm.Dump.Elf;
using Vmm.Dump.Guest;
using Vmm.Dump.Windows;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.Fuzz.Tests.Dumps;

/// <summary>
/// What a dump reads of a guest: control registers and page tables, the note of its kernel, the header of its Windows driver; and the operator's
/// window. The first bytes choose registers, window and note; the others are the guest's memory.
/// </summary>
internal sealed class DumpTarget : FuzzTarget
{
    private const int HeaderBytes = 37;
    private const int MemoryBytes = 64 << 10;
    private const ulong HighMemory = 0x10_0000;
    private const int MaxTables = 512;
    private const int MaxMappings = 4096;

    private readonly RamBlock _block = RamBackends.CreateAnonymous(new RamOptions("ram", MemoryBytes), out _)!;
    private readonly GuestMemoryMap _memory;

    public DumpTarget() => _memory = GuestMemoryMap.Of(
    [
        new GuestMemoryRange(0, MemoryBytes / 2, _block, 0), new GuestMemoryRange(HighMemory, MemoryBytes / 2, _block, MemoryBytes / 2),
    ]);

    public override string Name => "dump";

    public override int MaxLength => MemoryBytes;

    public override int Iterations => 400;

    public override IReadOnlyList<byte[]> Dictionary { get; } =
    [
        [0x03, 0x10, 0, 0, 0, 0, 0, 0], [0x83, 0, 0x10, 0, 0, 0, 0, 0], [0xe3, 0, 0, 0], "VMCOREINFO\0"u8.ToArray(), "NUMBER(phys_base)="u8.ToArray(),
        "PAGEDU64"u8.ToArray(), "KDBG"u8.ToArray(), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0, 0x20, 0, 0],
    ];

    public override long AllocationLimit(int inputLength) => 16 << 20;

    public override string Execute(ReadOnlySpan<byte> input)
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        input[..Math.Min(input.Length, HeaderBytes)].CopyTo(header);
        Span<byte> memory = _block.Span(0, MemoryBytes);
        memory.Clear();
        ReadOnlySpan<byte> contents = input.Length > HeaderBytes ? input[HeaderBytes..] : [];
        contents[..Math.Min(contents.Length, MemoryBytes)].CopyTo(memory);
        CpuArchState cpu = Registers(header[0], BinaryPrimitives.ReadUInt64LittleEndian(header[1..]));
        GuestMemoryMap window = _memory.Window(
            BinaryPrimitives.ReadUInt64LittleEndian(header[9..]), BinaryPrimitives.ReadUInt64LittleEndian(header[17..]));
        Require(window.Bytes <= _memory.Bytes, "a window is not larger than what it looks at");
        VmCoreInfo? info = VmCoreInfo.Read(
            new VmCoreInfoNote(1, BinaryPrimitives.ReadUInt64LittleEndian(header[25..]), BinaryPrimitives.ReadUInt32LittleEndian(header[33..])), _memory);
        return $"{Walk(cpu, window, info)} {Windows(cpu, info)} note {info is not null} window {window.Ranges.Length}";
    }

    private static CpuArchState Registers(byte mode, ulong cr3)
    {
        const ulong Paging = 1ul << 31;
        return (mode % 6) switch
        {
            0 => new CpuArchState { Cr3 = cr3 },
            1 => new CpuArchState { Cr0 = Paging, Cr3 = cr3 },
            2 => new CpuArchState { Cr0 = Paging, Cr3 = cr3, Cr4 = 1 << 4 },
            3 => new CpuArchState { Cr0 = Paging, Cr3 = cr3, Cr4 = 1 << 5 },
            4 => new CpuArchState { Cr0 = Paging, Cr3 = cr3, Cr4 = 1 << 5, Efer = 0x500 },
            _ => new CpuArchState { Cr0 = Paging, Cr3 = cr3, Cr4 = 1 << 5 | 1 << 12, Efer = 0x500 },
        };
    }

    private string Walk(CpuArchState cpu, GuestMemoryMap window, VmCoreInfo? info)
    {
        MemoryMappings found = new(MaxMappings);
        if (!new PageTableMappings(_memory, found, MaxTables).TryAdd(cpu))
        {
            return "too large";
        }

        MemoryMapping[] mappings = found.ToSorted();
        Require(mappings.Length <= MaxMappings, "runs are bounded");
        for (int i = 0; i < mappings.Length; i++)
        {
            Require(mappings[i].Length > 0 && _memory.IndexOf(mappings[i].Physical) >= 0, "a mapping begins in memory");
            Require(i == 0 || mappings[i - 1].Physical <= mappings[i].Physical, "mappings are in order");
        }

        bool isLong = CpuNotes.IsLong(cpu);
        byte[] headers = ElfHeaders.Write(isLong, isLong, window, mappings, GuestNotes.Of([cpu], info).Bytes);
        Require(headers.AsSpan(0, 4).SequenceEqual("\u007fELF"u8), "a file begins with its mark");
        return $"{Math.Min(mappings.Length, 3)} mappings";
    }

    private string Windows(CpuArchState cpu, VmCoreInfo? info)
    {
        try
        {
            WindowsDump dump = WindowsDump.Of(info, _memory, [cpu]);
            Require(dump.Bytes <= WindowsHeader.Bytes + (43ul * _memory.Bytes), "runs are of memory");
            return "windows";
        }
        catch (QapiException exception)
        {
            return Shape(exception.Desc);
        }
    }
}
