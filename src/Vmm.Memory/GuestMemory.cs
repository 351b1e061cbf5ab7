namespace Vmm.Memory;

/// <summary>
/// Guest memory as a bus master sees it (DMA): little-endian values and byte runs, with written pages logged. A device has its own
/// instance, which remembers the range it used last; usable from any thread. Nothing here throws for what a guest asks.
/// </summary>
public sealed class GuestMemory(AddressSpace space) : IDmaMemory
{
    private FlatRange? _last;

    /// <inheritdoc/>
    public object? Current => Space.View;

    /// <summary>The space that is accessed.</summary>
    public AddressSpace Space { get; } = space;

    /// <summary>Reads <paramref name="destination"/>.Length bytes; false when part of it is not there (those bytes are zero).</summary>
    public bool TryRead(ulong address, Span<byte> destination)
    {
        LookupCache cache = Begin();
        MemTxResult result = Space.Read(address, destination, ref cache);
        _last = cache.Range;
        return result == MemTxResult.Ok;
    }

    /// <summary>Writes <paramref name="source"/>; false when part of it went nowhere.</summary>
    public bool TryWrite(ulong address, ReadOnlySpan<byte> source)
    {
        LookupCache cache = Begin();
        MemTxResult result = Space.Write(address, source, ref cache);
        _last = cache.Range;
        return result == MemTxResult.Ok;
    }

    /// <summary>Byte at <paramref name="address"/>; 0 where nothing is.</summary>
    public byte ReadU8(ulong address) => (byte)ReadValue(address, 1);

    /// <summary>16 bits at <paramref name="address"/>; one access when aligned.</summary>
    public ushort ReadU16(ulong address) => (ushort)ReadValue(address, 2);

    /// <summary>32 bits at <paramref name="address"/>; one access when aligned.</summary>
    public uint ReadU32(ulong address) => (uint)ReadValue(address, 4);

    /// <summary>64 bits at <paramref name="address"/>; one access when aligned.</summary>
    public ulong ReadU64(ulong address) => ReadValue(address, 8);

    /// <summary>Writes a byte.</summary>
    public void WriteU8(ulong address, byte value) => WriteValue(address, value, 1);

    /// <summary>Writes 16 bits; one access when aligned.</summary>
    public void WriteU16(ulong address, ushort value) => WriteValue(address, value, 2);

    /// <summary>Writes 32 bits; one access when aligned.</summary>
    public void WriteU32(ulong address, uint value) => WriteValue(address, value, 4);

    /// <summary>Writes 64 bits; one access when aligned.</summary>
    public void WriteU64(ulong address, ulong value) => WriteValue(address, value, 8);

    /// <inheritdoc cref="AddressSpace.TryMap"/>
    public bool TryMap(ulong address, int length, bool forWrite, out Span<byte> memory) =>
        Space.TryMap(address, length, forWrite, out memory);

    /// <summary>
    /// Host address of guest memory for system calls; <paramref name="length"/> is cut to what is contiguous. False for what is not plain
    /// memory. After the kernel has written there, call <see cref="MarkDirty"/>.
    /// </summary>
    public bool TryMapHost(ulong address, ref ulong length, bool forWrite, out nint host)
    {
        LookupCache cache = Begin();
        bool found = Space.TryMapHost(address, ref length, forWrite, ref cache, out host);
        _last = cache.Range;
        return found;
    }

    /// <inheritdoc cref="AddressSpace.MarkDirty"/>
    public void MarkDirty(ulong address, ulong length) => Space.MarkDirty(address, length);

    private ulong ReadValue(ulong address, int size)
    {
        LookupCache cache = Begin();
        ulong value = Space.ReadValue(address, size, ref cache);
        _last = cache.Range;
        return value;
    }

    private void WriteValue(ulong address, ulong value, int size)
    {
        LookupCache cache = Begin();
        Space.WriteValue(address, value, size, ref cache);
        _last = cache.Range;
    }

    // A range tells its own view, so that one reference, which threads read and write in one piece, is the whole cache.
    private LookupCache Begin()
    {
        FlatRange? last = _last;
        return new LookupCache { Range = last, View = last?.View };
    }
}
