namespace Vmm.Block.Drivers.Qcow2;

/// <summary>
/// A table of 64-bit numbers: an L1 or the refcount table. Memory is taken for pages that have a number other than zero only, so that it is
/// bounded by what the file has, not by what its header says.
/// </summary>
internal sealed class Qcow2Table
{
    private const int PageBits = 9;
    private const int PageEntries = 1 << PageBits;

    private readonly ulong[]?[] _pages;

    /// <summary>A table of zeroes.</summary>
    internal Qcow2Table(int length)
    {
        Length = length;
        _pages = new ulong[]?[(int)(((long)length + PageEntries - 1) >> PageBits)];
    }

    /// <summary>Number of entries.</summary>
    internal int Length { get; }

    /// <summary>Bytes that the table takes in the file.</summary>
    internal long Bytes => 8L * Length;

    /// <summary>An entry.</summary>
    internal ulong this[int index]
    {
        get => _pages[index >> PageBits] is { } page ? page[index & (PageEntries - 1)] : 0;
        set
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Length);
            ref ulong[]? page = ref _pages[index >> PageBits];
            if (page is null)
            {
                if (value == 0)
                {
                    return;
                }

                page = new ulong[PageEntries];
            }

            page[index & (PageEntries - 1)] = value;
        }
    }

    /// <summary>Index of the first entry from an index on that is not zero; the length when there is none.</summary>
    internal int Next(int from)
    {
        for (int i = from; i < Length; i = ((i >> PageBits) + 1) << PageBits)
        {
            if (_pages[i >> PageBits] is { } page)
            {
                int found = page.AsSpan(i & (PageEntries - 1)).IndexOfAnyExcept(0UL);
                if (found >= 0)
                {
                    return i + found;
                }
            }
        }

        return Length;
    }

    /// <summary>True when an entry has that value, which is not zero.</summary>
    internal bool Contains(ulong value)
    {
        foreach (ulong[]? page in _pages)
        {
            if (page is not null && page.AsSpan().Contains(value))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>A copy with another length.</summary>
    /// <param name="length">The length; entries behind it are lost.</param>
    /// <param name="mask">Bits that are kept of each entry.</param>
    internal Qcow2Table Copy(int length, ulong mask = ulong.MaxValue)
    {
        Qcow2Table copy = new(length);
        for (int i = Next(0); i < Math.Min(Length, length); i = Next(i + 1))
        {
            copy[i] = this[i] & mask;
        }

        return copy;
    }
}
