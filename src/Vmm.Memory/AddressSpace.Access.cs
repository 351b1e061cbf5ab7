using System.Numerics;
using System.Runtime.CompilerServices;

namespace Vmm.Memory;

/// <content>
/// Accesses. The address alone picks the region: an access that starts in a register block is not cut at its end, as on a real bus, while
/// memory is cut at range boundaries. What a region does not accept reads as zero.
/// </content>
public sealed unsafe partial class AddressSpace
{
    /// <summary>Finds the range at <paramref name="address"/>, trying the one that the caller found last.</summary>
    /// <param name="address">Address to look up.</param>
    /// <param name="cache">The caller's own cache; start with <c>default</c>.</param>
    public FlatRange? Find(ulong address, ref LookupCache cache)
    {
        FlatView view = View;
        FlatRange? last = cache.Range;
        if (last is not null && ReferenceEquals(cache.View, view) && last.Contains(address))
        {
            return last;
        }

        last = view.Find(address);
        if (last is not null)
        {
            cache.View = view;
            cache.Range = last;
        }

        return last;
    }

    /// <summary>Reads <paramref name="destination"/>.Length bytes; what nobody answers reads as zero.</summary>
    public MemTxResult Read(ulong address, Span<byte> destination)
    {
        LookupCache cache = default;
        return Read(address, destination, ref cache);
    }

    /// <inheritdoc cref="Read(ulong, Span{byte})"/>
    public MemTxResult Read(ulong address, Span<byte> destination, ref LookupCache cache)
    {
        MemTxResult result = MemTxResult.Ok;
        while (destination.Length > 0)
        {
            FlatRange? range = Find(address, ref cache);
            int done;
            if (range is { ReadsDirectly: true })
            {
                ulong offset = address - range.Start;
                done = (int)Math.Min((ulong)destination.Length - 1, range.Last - address) + 1;
                new ReadOnlySpan<byte>((byte*)range.HostAddress + offset, done).CopyTo(destination);
                GC.KeepAlive(range);
            }
            else if (range is null)
            {
                done = PieceSize(IoConstraints.Default, address, destination.Length);
                destination[..done].Clear();
                result = MemTxResult.DecodeError;
            }
            else
            {
                MemoryRegion region = range.Region;
                ulong offset = range.OffsetInRegion + (address - range.Start);
                done = PieceSize(region.Constraints, offset, destination.Length);
                MemTxResult one = ReadRegion(region, offset, done, out ulong value);
                Store(destination, value, done);
                result = one > result ? one : result;
            }

            destination = destination[done..];
            address += (ulong)done;
        }

        return result;
    }

    /// <summary>Writes all of <paramref name="source"/>.</summary>
    public MemTxResult Write(ulong address, ReadOnlySpan<byte> source)
    {
        LookupCache cache = default;
        return Write(address, source, ref cache);
    }

    /// <inheritdoc cref="Write(ulong, ReadOnlySpan{byte})"/>
    public MemTxResult Write(ulong address, ReadOnlySpan<byte> source, ref LookupCache cache)
    {
        MemTxResult result = MemTxResult.Ok;
        while (source.Length > 0)
        {
            FlatRange? range = Find(address, ref cache);
            int done;
            if (range is { WritesDirectly: true })
            {
                ulong offset = address - range.Start;
                done = (int)Math.Min((ulong)source.Length - 1, range.Last - address) + 1;
                source[..done].CopyTo(new Span<byte>((byte*)range.HostAddress + offset, done));
                if (range.DirtyLog != DirtyClients.None)
                {
                    range.Block!.MarkDirty(range.BlockOffset + offset, (ulong)done, range.DirtyLog);
                }

                GC.KeepAlive(range);
            }
            else if (range is null)
            {
                done = PieceSize(IoConstraints.Default, address, source.Length);
                result = MemTxResult.DecodeError;
            }
            else
            {
                MemoryRegion region = range.Region;
                ulong offset = range.OffsetInRegion + (address - range.Start);
                done = PieceSize(region.Constraints, offset, source.Length);
                MemTxResult one = WriteRegion(region, offset, Load(source, done), done);
                result = one > result ? one : result;
            }

            source = source[done..];
            address += (ulong)done;
        }

        return result;
    }

    /// <summary>
    /// Writes host-side data that the guest could not write itself: also ROM and the memory of ROM devices are written. Registers are not
    /// touched. For firmware and kernel loading and debuggers.
    /// </summary>
    public MemTxResult WriteRom(ulong address, ReadOnlySpan<byte> source)
    {
        LookupCache cache = default;
        MemTxResult result = MemTxResult.Ok;
        while (source.Length > 0)
        {
            FlatRange? range = Find(address, ref cache);
            int done;
            if (range is { Block: { } block })
            {
                ulong offset = address - range.Start;
                done = (int)Math.Min((ulong)source.Length - 1, range.Last - address) + 1;
                source[..done].CopyTo(new Span<byte>((byte*)range.HostAddress + offset, done));
                if (range.DirtyLog != DirtyClients.None)
                {
                    block.MarkDirty(range.BlockOffset + offset, (ulong)done, range.DirtyLog);
                }

                GC.KeepAlive(range);
            }
            else
            {
                result = MemTxResult.DecodeError;
                done = 1;
            }

            source = source[done..];
            address += (ulong)done;
        }

        return result;
    }

    /// <summary>Reads a little-endian value of 1, 2, 4 or 8 bytes, in one access where the address is in memory.</summary>
    public ulong ReadValue(ulong address, int size, ref LookupCache cache)
    {
        FlatRange? range = Find(address, ref cache);
        if (range is not null && (uint)(size - 1) <= range.Last - address)
        {
            if (range.ReadsDirectly)
            {
                byte* p = (byte*)range.HostAddress + (address - range.Start);
                ulong value = size switch
                {
                    1 => *p,
                    2 => Unsafe.ReadUnaligned<ushort>(p),
                    4 => Unsafe.ReadUnaligned<uint>(p),
                    _ => Unsafe.ReadUnaligned<ulong>(p),
                };
                GC.KeepAlive(range);
                return value;
            }

            ulong offset = range.OffsetInRegion + (address - range.Start);
            if (PieceSize(range.Region.Constraints, offset, size) == size)
            {
                ReadRegion(range.Region, offset, size, out ulong value);
                return value;
            }
        }

        ulong bytes = 0;
        Read(address, new Span<byte>(&bytes, size), ref cache);
        return bytes;
    }

    /// <summary>Writes a little-endian value of 1, 2, 4 or 8 bytes, in one access where the address is in memory.</summary>
    public void WriteValue(ulong address, ulong value, int size, ref LookupCache cache)
    {
        FlatRange? range = Find(address, ref cache);
        if (range is not null && (uint)(size - 1) <= range.Last - address)
        {
            ulong inRange = address - range.Start;
            if (range.WritesDirectly)
            {
                byte* p = (byte*)range.HostAddress + inRange;
                switch (size)
                {
                    case 1:
                        *p = (byte)value;
                        break;
                    case 2:
                        Unsafe.WriteUnaligned(p, (ushort)value);
                        break;
                    case 4:
                        Unsafe.WriteUnaligned(p, (uint)value);
                        break;
                    default:
                        Unsafe.WriteUnaligned(p, value);
                        break;
                }

                if (range.DirtyLog != DirtyClients.None)
                {
                    range.Block!.MarkDirty(range.BlockOffset + inRange, (ulong)size, range.DirtyLog);
                }

                GC.KeepAlive(range);
                return;
            }

            ulong offset = range.OffsetInRegion + inRange;
            if (PieceSize(range.Region.Constraints, offset, size) == size)
            {
                WriteRegion(range.Region, offset, value, size);
                return;
            }
        }

        Write(address, new ReadOnlySpan<byte>(&value, size), ref cache);
    }

    /// <inheritdoc cref="ReadValue(ulong, int, ref LookupCache)"/>
    public ulong ReadValue(ulong address, int size)
    {
        LookupCache cache = default;
        return ReadValue(address, size, ref cache);
    }

    /// <inheritdoc cref="WriteValue(ulong, ulong, int, ref LookupCache)"/>
    public void WriteValue(ulong address, ulong value, int size)
    {
        LookupCache cache = default;
        WriteValue(address, value, size, ref cache);
    }

    /// <summary>Byte at <paramref name="address"/>.</summary>
    public byte ReadU8(ulong address) => (byte)ReadValue(address, 1);

    /// <summary>Little-endian 16 bits at <paramref name="address"/>.</summary>
    public ushort ReadU16(ulong address) => (ushort)ReadValue(address, 2);

    /// <summary>Little-endian 32 bits at <paramref name="address"/>.</summary>
    public uint ReadU32(ulong address) => (uint)ReadValue(address, 4);

    /// <summary>Little-endian 64 bits at <paramref name="address"/>.</summary>
    public ulong ReadU64(ulong address) => ReadValue(address, 8);

    /// <summary>Writes a byte.</summary>
    public void WriteU8(ulong address, byte value) => WriteValue(address, value, 1);

    /// <summary>Writes 16 bits, little-endian.</summary>
    public void WriteU16(ulong address, ushort value) => WriteValue(address, value, 2);

    /// <summary>Writes 32 bits, little-endian.</summary>
    public void WriteU32(ulong address, uint value) => WriteValue(address, value, 4);

    /// <summary>Writes 64 bits, little-endian.</summary>
    public void WriteU64(ulong address, ulong value) => WriteValue(address, value, 8);

    /// <summary>
    /// Host memory behind <paramref name="length"/> bytes at <paramref name="address"/>, when all of it is in one range that the guest may
    /// read (or write, with <paramref name="forWrite"/>). After writing, call <see cref="MarkDirty"/>. The span stays valid while
    /// <see cref="View"/> as read before the call is kept.
    /// </summary>
    public bool TryMap(ulong address, int length, bool forWrite, out Span<byte> memory)
    {
        LookupCache cache = default;
        ulong available = (ulong)length;
        if (length >= 0 && TryMapHost(address, ref available, forWrite, ref cache, out nint host) && available == (ulong)length)
        {
            memory = new Span<byte>((void*)host, length);
            return true;
        }

        memory = default;
        return false;
    }

    /// <summary>
    /// Host address of guest memory at <paramref name="address"/>; <paramref name="length"/> is cut to what is contiguous. False for what
    /// is
    /// not plain memory.
    /// </summary>
    public bool TryMapHost(ulong address, ref ulong length, bool forWrite, ref LookupCache cache, out nint host)
    {
        FlatRange? range = Find(address, ref cache);
        if (range is null || !(forWrite ? range.WritesDirectly : range.ReadsDirectly) || length == 0)
        {
            host = 0;
            return false;
        }

        length = Math.Min(length - 1, range.Last - address) + 1;
        host = range.HostAddress + (nint)(address - range.Start);
        return true;
    }

    /// <summary>Logs a write that was made through a mapping.</summary>
    public void MarkDirty(ulong address, ulong length)
    {
        LookupCache cache = default;
        while (length > 0 && Find(address, ref cache) is { Block: { } block } range)
        {
            ulong done = Math.Min(length - 1, range.Last - address) + 1;
            if (range.DirtyLog != DirtyClients.None)
            {
                block.MarkDirty(range.BlockOffset + (address - range.Start), done, range.DirtyLog);
            }

            length -= done;
            address += done;
        }
    }

    /// <summary>
    /// Size of the next piece of an access of <paramref name="length"/> bytes at <paramref name="offset"/> of a register block.
    /// </summary>
    internal static int PieceSize(IoConstraints constraints, ulong offset, int length)
    {
        uint max = constraints.ValidMax == 0 ? 4u : constraints.ValidMax;
        if (!constraints.Unaligned)
        {
            ulong alignment = offset & (~offset + 1);
            if (alignment != 0 && alignment < max)
            {
                max = (uint)alignment;
            }
        }

        uint size = Math.Min((uint)length, max);
        return (int)(1u << BitOperations.Log2(size));
    }

    private static bool IsValid(IoConstraints constraints, ulong offset, int size)
    {
        if (!constraints.Unaligned && (offset & (uint)(size - 1)) != 0)
        {
            return false;
        }

        return constraints.ValidMax == 0 || (size >= constraints.ValidMin && size <= constraints.ValidMax);
    }

    private static int ImplSize(IoConstraints constraints, int size)
    {
        int min = constraints.ImplMin == 0 ? 1 : constraints.ImplMin;
        int max = constraints.ImplMax == 0 ? 4 : constraints.ImplMax;
        return Math.Max(Math.Min(size, max), min);
    }

    private MemTxResult ReadRegion(MemoryRegion region, ulong offset, int size, out ulong value)
    {
        value = 0;
        if (region.Handler is not { } handler || !IsValid(region.Constraints, offset, size))
        {
            return MemTxResult.DecodeError;
        }

        int step = ImplSize(region.Constraints, size);
        bool locked = EnterIo(region);
        try
        {
            if (step >= size)
            {
                value = handler.Read(offset, step);
            }
            else
            {
                for (int i = 0; i < size; i += step)
                {
                    ulong part = handler.Read(offset + (uint)i, step) & (ulong.MaxValue >> (64 - (step * 8)));
                    value |= part << (i * 8);
                }
            }
        }
        finally
        {
            if (locked)
            {
                IoLock!.Exit();
            }
        }

        value &= ulong.MaxValue >> (64 - (size * 8));
        return MemTxResult.Ok;
    }

    private MemTxResult WriteRegion(MemoryRegion region, ulong offset, ulong value, int size)
    {
        if (region.Handler is not { } handler || !IsValid(region.Constraints, offset, size))
        {
            return MemTxResult.DecodeError;
        }

        value &= ulong.MaxValue >> (64 - (size * 8));
        if (region.IoEventFds is { } entries && SignalIoEventFd(entries, offset, value, size))
        {
            return MemTxResult.Ok;
        }

        int step = ImplSize(region.Constraints, size);
        bool locked = EnterIo(region);
        try
        {
            if (step >= size)
            {
                handler.Write(offset, value, step);
            }
            else
            {
                for (int i = 0; i < size; i += step)
                {
                    handler.Write(offset + (uint)i, (value >> (i * 8)) & (ulong.MaxValue >> (64 - (step * 8))), step);
                }
            }
        }
        finally
        {
            if (locked)
            {
                IoLock!.Exit();
            }
        }

        return MemTxResult.Ok;
    }

    private bool EnterIo(MemoryRegion region)
    {
        if (region.ThreadSafe || IoLock is not { } ioLock || ioLock.IsHeldByCurrentThread)
        {
            return false;
        }

        ioLock.Enter();
        return true;
    }

    private static bool SignalIoEventFd(IoEventFdEntry[] entries, ulong offset, ulong value, int size)
    {
        foreach (IoEventFdEntry entry in entries)
        {
            if (entry.Offset == offset && (entry.Size == size || entry.Size == 0) && (entry.DataMatch is null || entry.DataMatch == value))
            {
                entry.Fd.Signal();
                return true;
            }
        }

        return false;
    }

    private static ulong Load(ReadOnlySpan<byte> source, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++)
        {
            value |= (ulong)source[i] << (i * 8);
        }

        return value;
    }

    private static void Store(Span<byte> destination, ulong value, int size)
    {
        for (int i = 0; i < size; i++)
        {
            destination[i] = (byte)(value >> (i * 8));
        }
    }
}

/// <summary>The range that a caller found last. Each thread or device has its own; start with <c>default</c>.</summary>
public struct LookupCache
{
    internal FlatView? View;
    internal FlatRange? Range;
}
