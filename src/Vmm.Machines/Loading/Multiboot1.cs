using System.Buffers.Binary;
using System.Text;
using Vmm.ObjectModel.Accel;

namespace Vmm.Machines.Loading;

/// <summary>The header that makes a file a multiboot 1 kernel (Multiboot Specification 0.6.96, section 3.1).</summary>
/// <param name="Offset">Where it starts in the file.</param>
/// <param name="Flags">Bit 2: wants a video mode; bit 16: the address fields are valid (a.out kludge).</param>
/// <param name="HeaderAddress">Physical address at which the header itself is to be.</param>
/// <param name="LoadAddress">Physical address of the first byte loaded.</param>
/// <param name="LoadEndAddress">End of what is loaded; 0 is the whole file.</param>
/// <param name="BssEndAddress">End of what is cleared behind it; 0 is nothing.</param>
/// <param name="EntryAddress">Physical entry point.</param>
public readonly record struct MultibootHeader(
    int Offset, uint Flags, uint HeaderAddress, uint LoadAddress, uint LoadEndAddress, uint BssEndAddress, uint EntryAddress)
{
    public bool HasAddresses => (Flags & 0x10000) != 0;

    public bool WantsVideoMode => (Flags & 4) != 0;
}

/// <summary>Direct boot of a multiboot 1 kernel, ELF or with addresses in its header.</summary>
public static class Multiboot1
{
    private const uint HeaderMagic = 0x1badb002;
    private const uint LoaderMagic = 0x2badb002;
    private const int InfoSize = 88;
    private const int ModuleEntrySize = 16;
    private const int MemoryMapEntrySize = 24;

    // Memory sizes, boot device, command line, modules, memory map, loader name.
    private const uint InfoFlags = 0x001 | 0x002 | 0x004 | 0x008 | 0x040 | 0x200;

    /// <summary>Looks for a valid header, 4-byte aligned within the first 8 KiB. Never throws.</summary>
    public static MultibootHeader? FindHeader(ReadOnlySpan<byte> start)
    {
        if (start.Length > KernelLoader.ProbeBytes)
        {
            start = start[..KernelLoader.ProbeBytes];
        }

        for (var at = 0; at + 12 <= start.Length; at += 4)
        {
            var h = start[at..];
            if (U32(h, 0) != HeaderMagic)
            {
                continue;
            }

            var flags = U32(h, 4);
            if (unchecked(HeaderMagic + flags + U32(h, 8)) != 0)
            {
                continue;
            }

            if ((flags & 0x10000) == 0)
            {
                return new MultibootHeader(at, flags, 0, 0, 0, 0, 0);
            }

            if (h.Length >= 32)
            {
                return new MultibootHeader(at, flags, U32(h, 12), U32(h, 16), U32(h, 20), U32(h, 24), U32(h, 28));
            }
        }

        return null;
    }

    /// <summary>Splits the list "file arguments,file arguments"; a doubled comma stands for one comma.</summary>
    public static List<string> SplitModules(string list)
    {
        var result = new List<string>();
        var current = new StringBuilder();
        for (var i = 0; i < list.Length; i++)
        {
            if (list[i] != ',')
            {
                current.Append(list[i]);
            }
            else if (i + 1 < list.Length && list[i + 1] == ',')
            {
                current.Append(',');
                i++;
            }
            else
            {
                result.Add(current.ToString());
                current.Clear();
            }
        }

        if (current.Length > 0)
        {
            result.Add(current.ToString());
        }

        return result;
    }

    internal static BootImage Load(KernelRequest request, BootFile kernel, in MultibootHeader header)
    {
        var segments = new List<BootSegment>();
        var low = new LowMemory();
        KernelLoader.AddFirmwareAreas(request, segments);
        ulong end;
        uint entryAddress;
        IReadOnlyList<RomInfo> roms = [];
        if (header.HasAddresses)
        {
            end = AddPlain(request, kernel, header, segments, low);
            entryAddress = header.EntryAddress;
        }
        else
        {
            var elf = ParseElf(kernel);
            elf.AddTo(segments, kernel, request.Ram, low);
            end = elf.HighestAddress;
            entryAddress = (uint)elf.Entry;
            roms = elf.Describe(request.KernelPath);
        }

        var modules = new List<(BootFile File, string CommandLine, ulong Address)>();
        try
        {
            OpenModules(request, Math.Max(end, 0x100000), modules);
            foreach (var (file, _, address) in modules)
            {
                if (file.Length > 0)
                {
                    segments.Add(BootSegment.FromFile(address, file, 0, (ulong)file.Length));
                }
            }

            var info = AddInfo(request, kernel, segments, low, modules);
            var entry = EntryTables.Protected32(segments, low, entryAddress, rax: LoaderMagic, rbx: info);
            var files = new BootFile[modules.Count + 1];
            files[0] = kernel;
            for (var i = 0; i < modules.Count; i++)
            {
                files[i + 1] = modules[i].File;
            }

            return new BootImage(BootProtocol.Multiboot, segments, entry, files)
            {
                Warnings = header.WantsVideoMode ? ["multiboot knows VBE. we don't"] : [],
                Roms = roms,
            };
        }
        catch
        {
            foreach (var module in modules)
            {
                module.File.Dispose();
            }

            throw;
        }
    }

    private static ElfImage ParseElf(BootFile kernel)
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

        return elf!.Machine == ElfImage.MachineX64
            ? throw new BootLoadException("Cannot load x86-64 image, give a 32bit one.")
            : elf;
    }

    private static ulong AddPlain(
        KernelRequest request, BootFile kernel, in MultibootHeader header, List<BootSegment> segments, LowMemory low)
    {
        if (header.LoadAddress > header.HeaderAddress)
        {
            throw new BootLoadException("invalid load_addr address");
        }

        var distance = header.HeaderAddress - header.LoadAddress;
        if (distance > header.Offset)
        {
            throw new BootLoadException("invalid header_addr address");
        }

        var fileOffset = header.Offset - distance;
        if (fileOffset > kernel.Length)
        {
            throw new BootLoadException("invalid kernel_file_size");
        }

        ulong loadBytes;
        if (header.LoadEndAddress == 0)
        {
            loadBytes = (ulong)(kernel.Length - fileOffset);
        }
        else if (header.LoadEndAddress < header.LoadAddress)
        {
            throw new BootLoadException("invalid load_end_addr address");
        }
        else
        {
            loadBytes = header.LoadEndAddress - header.LoadAddress;
        }

        var end = header.LoadAddress + loadBytes;
        if (header.BssEndAddress != 0)
        {
            if (header.BssEndAddress < end)
            {
                throw new BootLoadException("invalid bss_end_addr address");
            }

            end = header.BssEndAddress;
        }

        if (!request.Ram.IsRam(header.LoadAddress, end - header.LoadAddress) || end > uint.MaxValue)
        {
            throw new BootLoadException("kernel does not fit in address space");
        }

        if (loadBytes > (ulong)(kernel.Length - fileOffset))
        {
            throw new BootLoadException("fread() failed");
        }

        low.Claim(header.LoadAddress, end - header.LoadAddress);
        if (loadBytes > 0)
        {
            segments.Add(BootSegment.FromFile(header.LoadAddress, kernel, fileOffset, loadBytes));
        }

        if (end > header.LoadAddress + loadBytes)
        {
            segments.Add(BootSegment.Zero(header.LoadAddress + loadBytes, end - header.LoadAddress - loadBytes));
        }

        return end;
    }

    private static void OpenModules(KernelRequest request, ulong from, List<(BootFile File, string CommandLine, ulong Address)> modules)
    {
        if (string.IsNullOrEmpty(request.InitrdPath))
        {
            return;
        }

        foreach (var item in SplitModules(request.InitrdPath))
        {
            var commandLine = item.TrimStart(' ');
            var blank = commandLine.IndexOf(' ');
            var path = blank < 0 ? commandLine : commandLine[..blank];
            BootFile file;
            try
            {
                file = BootFile.Open(path);
            }
            catch (BootFileException)
            {
                throw new BootLoadException($"Failed to open file '{path}'");
            }

            var address = (from + 0xfff) & ~0xfffUL;
            modules.Add((file, commandLine, address));
            if (!request.Ram.IsRam(address, (ulong)file.Length) || address + (ulong)file.Length > uint.MaxValue)
            {
                throw new BootLoadException($"Error loading file '{path}'");
            }

            from = address + (ulong)file.Length;
        }
    }

    // The information structure, memory map, module list and strings are one block in low memory.
    private static ulong AddInfo(
        KernelRequest request, BootFile kernel, List<BootSegment> segments, LowMemory low,
        List<(BootFile File, string CommandLine, ulong Address)> modules)
    {
        var map = request.Ram.E820;
        var mapOffset = InfoSize;
        var modulesOffset = mapOffset + map.Count * MemoryMapEntrySize;
        var stringsOffset = modulesOffset + modules.Count * ModuleEntrySize;

        var strings = new MemoryStream();
        var kernelLine = AddString(strings, request.CommandLine.Length == 0 ? kernel.Name + " " : kernel.Name + " " + request.CommandLine);
        var loaderName = AddString(strings, "qemu");
        var lines = new int[modules.Count];
        for (var i = 0; i < lines.Length; i++)
        {
            lines[i] = AddString(strings, modules[i].CommandLine);
        }

        var block = new byte[stringsOffset + (int)strings.Length];
        strings.ToArray().CopyTo(block, stringsOffset);
        var gpa = low.Allocate((ulong)block.Length, 16);
        var text = (uint)gpa + (uint)stringsOffset;
        var info = block.AsSpan();

        W32(info, 0, InfoFlags);
        W32(info, 4, (uint)(LowMemory.AcpiBase >> 10));
        W32(info, 8, (uint)((request.Ram.BelowFourGiB - 0x100000) >> 10));
        W32(info, 12, 0x8000ffff);
        W32(info, 16, text + (uint)kernelLine);
        W32(info, 20, (uint)modules.Count);
        W32(info, 24, (uint)gpa + (uint)modulesOffset);
        W32(info, 44, (uint)(map.Count * MemoryMapEntrySize));
        W32(info, 48, (uint)gpa + (uint)mapOffset);
        W32(info, 64, text + (uint)loaderName);

        for (var i = 0; i < map.Count; i++)
        {
            // The size field counts what follows it.
            var at = mapOffset + i * MemoryMapEntrySize;
            W32(info, at, MemoryMapEntrySize - 4);
            BinaryPrimitives.WriteUInt64LittleEndian(info[(at + 4)..], map[i].Address);
            BinaryPrimitives.WriteUInt64LittleEndian(info[(at + 12)..], map[i].Length);
            W32(info, at + 20, (uint)map[i].Type);
        }

        for (var i = 0; i < modules.Count; i++)
        {
            var at = modulesOffset + i * ModuleEntrySize;
            W32(info, at, (uint)modules[i].Address);
            W32(info, at + 4, (uint)(modules[i].Address + (ulong)modules[i].File.Length));
            W32(info, at + 8, text + (uint)lines[i]);
        }

        segments.Add(BootSegment.FromBytes(gpa, block));
        return gpa;
    }

    private static int AddString(MemoryStream target, string text)
    {
        var at = (int)target.Length;
        target.Write(Encoding.UTF8.GetBytes(text));
        target.WriteByte(0);
        return at;
    }

    private static uint U32(ReadOnlySpan<byte> b, int at) => BinaryPrimitives.ReadUInt32LittleEndian(b[at..]);

    private static void W32(Span<byte> b, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(b[at..], value);
}
