using Vmm.Dump.Guest;

namespace Vmm.Dump.Kdump;

/// <summary>
/// The pages that have memory, numbered without the holes between them. A page of which only a part is memory counts, with zeroes for the rest.
/// Immutable. Any thread.
/// </summary>
internal sealed class PageList
{
    private const int PageBits = 12;

    private readonly GuestMemoryMap _memory;
    private readonly List<Run> _runs = [];

    /// <summary>The pages of <paramref name="memory"/>.</summary>
    internal PageList(GuestMemoryMap memory)
    {
        _memory = memory;
        foreach (GuestMemoryRange range in memory.Ranges)
        {
            ulong first = range.Start >> PageBits;
            ulong end = (range.End - 1 >> PageBits) + 1;
            if (_runs.Count > 0 && _runs[^1] is var last && last.FirstPage + (ulong)last.Count >= first)
            {
                _runs[^1] = last with { Count = (long)(end - last.FirstPage) };
            }
            else
            {
                _runs.Add(new Run(first, (long)(end - first), Count));
            }

            Count = _runs[^1].FirstIndex + _runs[^1].Count;
        }
    }

    /// <summary>Number of pages.</summary>
    internal long Count { get; }

    /// <summary>The contents of a page: those of memory itself where it is one piece, otherwise a copy in <paramref name="scratch"/>.</summary>
    /// <param name="index">Number of the page in this list.</param>
    /// <param name="scratch">A page.</param>
    internal ReadOnlySpan<byte> Contents(long index, Span<byte> scratch)
    {
        int low = 0;
        for (int high = _runs.Count - 1; low < high;)
        {
            int middle = (low + high + 1) >>> 1;
            if (_runs[middle].FirstIndex <= index)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        ulong address = _runs[low].FirstPage + (ulong)(index - _runs[low].FirstIndex) << PageBits;
        if (_memory.TryGetSpan(address, 1 << PageBits, out ReadOnlySpan<byte> bytes))
        {
            return bytes;
        }

        _memory.Read(address, scratch);
        return scratch;
    }

    /// <summary>A part of the bitmap of pages: bit n % 8 of byte n / 8 for page n of the guest's.</summary>
    /// <param name="firstByte">Offset in the bitmap.</param>
    /// <param name="bitmap">The part.</param>
    internal void WriteBitmap(long firstByte, Span<byte> bitmap)
    {
        bitmap.Clear();
        ulong firstPage = (ulong)firstByte * 8;
        ulong endPage = firstPage + ((ulong)bitmap.Length * 8);
        foreach (Run run in _runs)
        {
            ulong start = Math.Max(run.FirstPage, firstPage);
            ulong end = Math.Min(run.FirstPage + (ulong)run.Count, endPage);
            while (start < end)
            {
                int bit = (int)(start - firstPage);
                if ((bit & 7) == 0 && end - start >= 8)
                {
                    int whole = (int)((end - start) / 8);
                    bitmap.Slice(bit / 8, whole).Fill(0xff);
                    start += (ulong)whole * 8;
                }
                else
                {
                    bitmap[bit / 8] |= (byte)(1 << (bit & 7));
                    start++;
                }
            }
        }
    }

    private readonly record struct Run(ulong FirstPage, long Count, long FirstIndex);
}
