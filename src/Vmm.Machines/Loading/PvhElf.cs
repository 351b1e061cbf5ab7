using System.Buffers.Binary;
using System.Text;

namespace Vmm.Machines.Loading;

/// <summary>Direct boot of an ELF kernel through its PVH entry point (Xen: docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h, version 1).</summary>
/// <remarks>
/// The processor starts in flat 32-bit protected mode without paging, EBX pointing to the start information: command line, one module (the
/// initial RAM disk), memory map, RSDP.
/// </remarks>
public static class PvhElf
{
    private const uint StartInfoMagic = 0x336ec578;
    private const int StartInfoSize = 56;
    private const int ModuleSize = 32;
    private const int MemoryMapEntrySize = 24;

    internal static BootImage Load(KernelRequest request, BootFile kernel)
    {
        switch (ElfImage.TryParse(kernel, out var elf))
        {
            case ElfError.None:
                break;
            case ElfError.NothingToLoad:
                throw new BootLoadException("Error while fetching elf kernel from rom");
            default:
                throw new BootLoadException("Error while loading elf kernel");
        }

        if (elf!.PvhEntry is not { } entryAddress)
        {
            throw new BootLoadException("Error loading uncompressed kernel without PVH ELF Note");
        }

        var segments = new List<BootSegment>();
        var low = new LowMemory();
        KernelLoader.AddFirmwareAreas(request, segments);
        elf.AddTo(segments, kernel, request.Ram, low);

        var initrd = KernelLoader.OpenInitrd(request, uint.MaxValue, elf.LowestAddress, elf.HighestAddress, out var initrdAddress);
        if (initrd is { Length: > 0 })
        {
            segments.Add(BootSegment.FromFile(initrdAddress, initrd, 0, (ulong)initrd.Length));
        }

        var startInfo = AddStartInfo(request, segments, low, initrd, initrdAddress);
        var entry = EntryTables.Protected32(segments, low, entryAddress, rbx: startInfo);
        return new BootImage(BootProtocol.Pvh, segments, entry, kernel, initrd) { Roms = elf.Describe(request.KernelPath) };
    }

    private static ulong AddStartInfo(KernelRequest request, List<BootSegment> segments, LowMemory low, BootFile? initrd, ulong initrdAddress)
    {
        var map = request.Ram.E820;
        var commandLine = Encoding.UTF8.GetBytes(request.CommandLine + '\0');
        var commandLineAddress = low.Allocate((ulong)commandLine.Length, 16);
        segments.Add(BootSegment.FromBytes(commandLineAddress, commandLine));

        // One block: start information, one module descriptor, memory map.
        var block = new byte[StartInfoSize + ModuleSize + map.Count * MemoryMapEntrySize];
        var gpa = low.Allocate((ulong)block.Length, 16);
        var info = block.AsSpan();
        BinaryPrimitives.WriteUInt32LittleEndian(info, StartInfoMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(info[4..], 1);
        if (initrd is not null)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(info[12..], 1);
            BinaryPrimitives.WriteUInt64LittleEndian(info[16..], gpa + StartInfoSize);
            BinaryPrimitives.WriteUInt64LittleEndian(info[StartInfoSize..], initrdAddress);
            BinaryPrimitives.WriteUInt64LittleEndian(info[(StartInfoSize + 8)..], (ulong)initrd.Length);
        }

        BinaryPrimitives.WriteUInt64LittleEndian(info[24..], commandLineAddress);
        BinaryPrimitives.WriteUInt64LittleEndian(info[32..], request.RsdpAddress);
        BinaryPrimitives.WriteUInt64LittleEndian(info[40..], gpa + StartInfoSize + ModuleSize);
        BinaryPrimitives.WriteUInt32LittleEndian(info[48..], (uint)map.Count);
        for (var i = 0; i < map.Count; i++)
        {
            var at = info[(StartInfoSize + ModuleSize + i * MemoryMapEntrySize)..];
            BinaryPrimitives.WriteUInt64LittleEndian(at, map[i].Address);
            BinaryPrimitives.WriteUInt64LittleEndian(at[8..], map[i].Length);
            BinaryPrimitives.WriteUInt32LittleEndian(at[16..], (uint)map[i].Type);
        }

        segments.Add(BootSegment.FromBytes(gpa, block));
        return gpa;
    }
}
