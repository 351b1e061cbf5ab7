using System.Buffers.Binary;
using Vmm.ObjectModel.Accel;

namespace Vmm.Dump.Guest;

/// <summary>A guest's memory by linear addresses, as the page tables of one processor map it. Any thread; the guest does not run.</summary>
/// <param name="memory">Memory.</param>
/// <param name="cpu">Control registers.</param>
internal sealed class LinearMemory(GuestMemoryMap memory, CpuArchState cpu)
{
    private const ulong PageMask = 4095;

    /// <summary>Reads bytes; false when some are not mapped, or not to memory.</summary>
    internal bool TryRead(ulong linear, Span<byte> destination)
    {
        foreach ((ulong physical, int length) in Locate(linear, destination.Length))
        {
            if (!memory.TryGetSpan(physical, length, out ReadOnlySpan<byte> bytes))
            {
                return false;
            }

            bytes.CopyTo(destination);
            destination = destination[length..];
        }

        return destination.IsEmpty;
    }

    /// <summary>Reads a little-endian number.</summary>
    internal bool TryReadU64(ulong linear, out ulong value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        bool isRead = TryRead(linear, bytes);
        value = isRead ? BinaryPrimitives.ReadUInt64LittleEndian(bytes) : 0;
        return isRead;
    }

    /// <summary>Where bytes are in physical memory, in pieces that cross no page; shorter than asked for when some are not mapped.</summary>
    internal IEnumerable<(ulong Physical, int Length)> Locate(ulong linear, int length)
    {
        Entries entries = new(memory);
        while (length > 0 && PageTables.TryTranslate(cpu, entries, linear, out ulong physical))
        {
            int piece = (int)Math.Min((ulong)length, PageMask + 1 - (linear & PageMask));
            yield return (physical, piece);
            linear += (ulong)piece;
            length -= piece;
        }
    }

    private readonly struct Entries(GuestMemoryMap memory) : PageTables.IEntries
    {
        public uint ReadU32(ulong address)
        {
            Span<byte> bytes = stackalloc byte[sizeof(uint)];
            memory.Read(address, bytes);
            return BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        }

        public ulong ReadU64(ulong address)
        {
            Span<byte> bytes = stackalloc byte[sizeof(ulong)];
            memory.Read(address, bytes);
            return BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        }
    }
}
