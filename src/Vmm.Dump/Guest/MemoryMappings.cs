namespace Vmm.Dump.Guest;

/// <summary>Guest-physical memory and where the guest has it in its linear address space.</summary>
/// <param name="Physical">Guest-physical address.</param>
/// <param name="Linear">Linear address; equal to the physical one where the guest does not page.</param>
/// <param name="Length">Bytes.</param>
public readonly record struct MemoryMapping(ulong Physical, ulong Linear, ulong Length)
{
    /// <summary>What linear addresses have more than physical ones.</summary>
    public ulong Shift => Linear - Physical;

    /// <summary>Last linear address.</summary>
    public ulong LastLinear => Linear + (Length - 1);
}

/// <summary>
/// Mappings as they are found in page tables, and as a core file lists them: ascending by physical address, those that lie one behind the
/// other or overlap in both spaces as one. What a hostile guest makes of its tables takes no more memory than <see cref="MaxCount"/> entries.
/// </summary>
/// <param name="maxCount">Most runs of pages that are kept; at least 2.</param>
public sealed class MemoryMappings(int maxCount = MemoryMappings.MaxCount)
{
    /// <summary>Most runs of pages that are kept: a guest of 4 GiB whose pages are scattered as badly as can be.</summary>
    public const int MaxCount = 1 << 20;

    // Those that become one with others included: how often runs are merged is bounded by this.
    private const int AddedPerKept = 4;

    private readonly List<MemoryMapping> _found = [];
    private long _added;

    /// <summary>Runs of pages that are kept now.</summary>
    public int Count => _found.Count;

    /// <summary>Adds pages; false when there are too many runs.</summary>
    public bool TryAdd(ulong physical, ulong linear, ulong length)
    {
        if (_found.Count > 0 && _found[^1] is var last && last.Physical + last.Length == physical
            && last.LastLinear + 1 == linear && linear != 0)
        {
            _found[^1] = last with { Length = last.Length + length };
            return true;
        }

        if (++_added > (long)AddedPerKept * maxCount)
        {
            return false;
        }

        if (_found.Count >= maxCount)
        {
            Merge();
            if (_found.Count > maxCount / 2)
            {
                return false;
            }
        }

        _found.Add(new MemoryMapping(physical, linear, length));
        return true;
    }

    /// <summary>The mappings in order.</summary>
    public MemoryMapping[] ToSorted()
    {
        Merge();
        MemoryMapping[] sorted = [.. _found];
        Array.Sort(sorted, static (a, b) => a.Physical != b.Physical ? a.Physical.CompareTo(b.Physical) : a.Linear.CompareTo(b.Linear));
        return sorted;
    }

    // Only mappings that are shifted alike can be one.
    private void Merge()
    {
        _found.Sort(static (a, b) => a.Shift != b.Shift ? a.Shift.CompareTo(b.Shift) : a.Physical.CompareTo(b.Physical));
        int kept = 0;
        for (int i = 1; i < _found.Count; i++)
        {
            MemoryMapping last = _found[kept];
            MemoryMapping next = _found[i];
            if (next.Shift == last.Shift && next.Physical - last.Physical <= last.Length && next.Linear >= last.Linear)
            {
                ulong length = Math.Max(last.Length, next.Physical - last.Physical + next.Length);
                _found[kept] = last with { Length = length };
            }
            else
            {
                _found[++kept] = next;
            }
        }

        if (_found.Count > 0)
        {
            _found.RemoveRange(kept + 1, _found.Count - kept - 1);
        }
    }
}
