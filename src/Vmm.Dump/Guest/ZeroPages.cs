using Vmm.Interop;

namespace Vmm.Dump.Guest;

/// <summary>Zeroes that take no memory: pages that are only read are the kernel's one page of zeroes. Any thread.</summary>
internal static class ZeroPages
{
    /// <summary>How many there are: the longest piece in which dumps read memory.</summary>
    internal const int Bytes = 2 << 20;

    private static readonly MappedMemory s_memory = Map();

    internal static ReadOnlySpan<byte> Span => s_memory.AsSpan(0, Bytes);

    private static MappedMemory Map()
    {
        Errno errno = MappedMemory.Map(Bytes, Libc.PROT_READ, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS, -1, 0, out MappedMemory? memory);
        return memory ?? throw new InvalidOperationException($"no address space: {errno.Message()}");
    }
}
