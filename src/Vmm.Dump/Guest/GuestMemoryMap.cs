using Vmm.Memory;

namespace Vmm.Dump.Guest;

/// <summary>A run of guest RAM: guest-physical addresses that lie one after the other in host memory.</summary>
/// <param name="Start">First guest-physical address.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Block">Memory behind it.</param>
/// <param name="BlockOffset">Offset of <paramref name="Start"/> in the block.</param>
public readonly record struct GuestMemoryRange(ulong Start, ulong Length, RamBlock Block, ulong BlockOffset)
{
    /// <summary>First address behind the range.</summary>
    public ulong End => Start + Length;

    /// <summary>
    /// Bytes from an address of the range on, at most <paramref name="length"/>. Where the guest has never been these are zeroes from elsewhere:
    /// a dump does not make shared memory grow to its full size.
    /// </summary>
    public ReadOnlySpan<byte> Span(ulong address, int length)
    {
        ulong offset = BlockOffset + (address - Start);
        length = (int)Math.Min((ulong)length, End - address);
        return length <= ZeroPages.Bytes && Block.IsHole(offset, (ulong)length) ? ZeroPages.Span[..length] : Block.Span(offset, length);
    }
}

/// <summary>
/// RAM and ROM of a guest as a dump sees it: ranges in ascending order that do not overlap, of the whole machine or of a window of addresses.
/// Immutable; keeps the memory mapped. Any thread.
/// </summary>
public sealed class GuestMemoryMap
{
    private readonly GuestMemoryRange[] _ranges;

    private GuestMemoryMap(GuestMemoryRange[] ranges)
    {
        _ranges = ranges;
        foreach (GuestMemoryRange range in ranges)
        {
            Bytes += range.Length;
        }
    }

    /// <summary>The ranges.</summary>
    public ReadOnlySpan<GuestMemoryRange> Ranges => _ranges;

    /// <summary>Bytes of all ranges.</summary>
    public ulong Bytes { get; }

    /// <summary>First address behind the last range; 0 without ranges.</summary>
    public ulong End => _ranges.Length == 0 ? 0 : _ranges[^1].End;

    /// <summary>The memory of an address space: what is RAM or ROM, not what devices answer. Neighbours in one block become one range.</summary>
    public static GuestMemoryMap Of(FlatView view)
    {
        List<GuestMemoryRange> ranges = [];
        foreach (FlatRange range in view.Ranges)
        {
            if (!range.Region.IsRam || range.Block is not { } block)
            {
                continue;
            }

            GuestMemoryRange next = new(range.Start, (ulong)range.Size, block, range.BlockOffset);
            if (ranges.Count > 0 && ranges[^1] is var last && last.Block == block && last.End == next.Start
                && last.BlockOffset + last.Length == next.BlockOffset)
            {
                ranges[^1] = last with { Length = last.Length + next.Length };
            }
            else
            {
                ranges.Add(next);
            }
        }

        return new GuestMemoryMap([.. ranges]);
    }

    /// <summary>A map of ranges that are in order already.</summary>
    public static GuestMemoryMap Of(ReadOnlySpan<GuestMemoryRange> ranges) => new(ranges.ToArray());

    /// <summary>What lies in [<paramref name="begin"/>, <paramref name="begin"/> + <paramref name="length"/>).</summary>
    public GuestMemoryMap Window(ulong begin, ulong length)
    {
        ulong end = begin + length < begin ? ulong.MaxValue : begin + length;
        List<GuestMemoryRange> ranges = [];
        foreach (GuestMemoryRange range in _ranges)
        {
            ulong start = Math.Max(range.Start, begin);
            ulong stop = Math.Min(range.End, end);
            if (start < stop)
            {
                ranges.Add(new GuestMemoryRange(start, stop - start, range.Block, range.BlockOffset + (start - range.Start)));
            }
        }

        return new GuestMemoryMap([.. ranges]);
    }

    /// <summary>Index of the range that has an address; that of the next range, complemented, when none has.</summary>
    public int IndexOf(ulong address)
    {
        int low = 0;
        int high = _ranges.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            if (address < _ranges[middle].Start)
            {
                high = middle - 1;
            }
            else if (address - _ranges[middle].Start >= _ranges[middle].Length)
            {
                low = middle + 1;
            }
            else
            {
                return middle;
            }
        }

        return ~low;
    }

    /// <summary>The bytes at an address when all of them lie in one range.</summary>
    public bool TryGetSpan(ulong address, int length, out ReadOnlySpan<byte> bytes)
    {
        int index = IndexOf(address);
        if (index < 0 || _ranges[index].End - address < (ulong)length)
        {
            bytes = default;
            return false;
        }

        bytes = _ranges[index].Span(address, length);
        return true;
    }

    /// <summary>Copies the bytes at an address; where there is no memory they are zero.</summary>
    public void Read(ulong address, Span<byte> destination)
    {
        destination.Clear();
        int index = IndexOf(address);
        for (index = index < 0 ? ~index : index; index < _ranges.Length; index++)
        {
            GuestMemoryRange range = _ranges[index];
            ulong start = Math.Max(range.Start, address);
            ulong offset = start - address;
            if (offset >= (ulong)destination.Length)
            {
                return;
            }

            range.Span(start, destination.Length - (int)offset).CopyTo(destination[(int)offset..]);
        }
    }
}
