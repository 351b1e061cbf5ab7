using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>The program and its libraries as they are mapped into the process.</summary>
public static unsafe class ProgramImage
{
    private const uint PT_LOAD = 1;
    private const uint PF_W = 2;
    private const int PageBytes = 4096;
    private const nuint PageMask = PageBytes - 1;
    private const int ChunkPages = 512;

    /// <summary>
    /// Takes the pages of code and constants out of the process's memory; they are files and come back, from the page cache, as they are used.
    /// To be called when the process has started: most of what it needed for that it never needs again. Pages that are locked stay, and so do
    /// those that differ from the file, such as code with a debugger's breakpoints. Any thread.
    /// </summary>
    /// <remarks>Linux, Documentation/admin-guide/mm/pagemap.rst.</remarks>
    public static void ReleasePages()
    {
        if (Libc.Open("/proc/self/pagemap", Libc.O_RDONLY | Libc.O_CLOEXEC, 0, out SafeFd pages) == Errno.OK)
        {
            int fd = pages.Fd;
            _ = Native.dl_iterate_phdr(&ReleaseObject, &fd);
        }

        pages.Dispose();
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int ReleaseObject(DlPhdrInfo* info, nuint size, void* data)
    {
        for (int i = 0; i < info->HeaderCount; i++)
        {
            ElfProgramHeader* header = info->Headers + i;

            // What the linker says is written is never the file's alone.
            if (header->Type == PT_LOAD && (header->Flags & PF_W) == 0)
            {
                nuint start = (info->Address + (nuint)header->Address) & ~PageMask;
                nuint end = (info->Address + (nuint)(header->Address + header->MemorySize) + PageMask) & ~PageMask;
                Release(*(int*)data, start, end);
            }
        }

        return 0;
    }

    private static void Release(int pages, nuint start, nuint end)
    {
        const ulong FileBit = 1UL << 61;
        const ulong SwappedBit = 1UL << 62;
        const ulong PresentBit = 1UL << 63;
        Span<ulong> states = stackalloc ulong[ChunkPages];
        while (start < end)
        {
            int count = (int)Math.Min((end - start) / PageBytes, ChunkPages);
            Span<byte> bytes = MemoryMarshal.AsBytes(states[..count]);
            if (Libc.PRead(pages, bytes, (long)(start / PageBytes * sizeof(ulong))) != bytes.Length)
            {
                return;
            }

            int first = 0;
            for (int i = 0; i <= count; i++)
            {
                bool isOwn = i == count || (states[i] & SwappedBit) != 0 || (states[i] & (PresentBit | FileBit)) == PresentBit;
                if (isOwn)
                {
                    if (i > first)
                    {
                        _ = Native.madvise((void*)(start + (nuint)(first * PageBytes)), (nuint)((i - first) * PageBytes), Libc.MADV_DONTNEED);
                    }

                    first = i + 1;
                }
            }

            start += (nuint)(count * PageBytes);
        }
    }
}

/// <summary>struct dl_phdr_info, the part that all versions have.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct DlPhdrInfo
{
    internal nuint Address;
    internal byte* Name;
    internal ElfProgramHeader* Headers;
    internal ushort HeaderCount;
}

/// <summary>Elf64_Phdr.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ElfProgramHeader
{
    internal uint Type;
    internal uint Flags;
    internal ulong Offset;
    internal ulong Address;
    internal ulong PhysicalAddress;
    internal ulong FileSize;
    internal ulong MemorySize;
    internal ulong Alignment;
}
