using System.Diagnostics.CodeAnalysis;

namespace Vmm.ObjectModel.Qom;

/// <summary>
/// A map from names to values whose enumeration order is the one that QOM clients observe: that of an open addressing hash table with
/// triangular probing over a prime modulus, which depends on the names, on their order of insertion and on removals.
/// Conversations recorded from QEMU list properties in this order. Not synchronised.
/// </summary>
public sealed class WireOrderedTable<T>
    where T : class
{
    private const int MinimumShift = 3;
    private const uint Unused = 0;
    private const uint Tombstone = 1;

    private uint[] _hashes = [];
    private string?[] _names = [];
    private T?[] _values = [];
    private int _shift = MinimumShift;
    private int _occupied;

    /// <summary>Number of entries.</summary>
    public int Count { get; private set; }

    /// <summary>Finds an entry.</summary>
    public bool TryGetValue(string name, [NotNullWhen(true)] out T? value)
    {
        value = null;
        if (Count == 0)
        {
            return false;
        }

        int slot = Find(name, Hash(name), out bool found);
        value = found ? _values[slot] : null;
        return found;
    }

    /// <summary>Adds an entry; false when the name exists.</summary>
    public bool TryAdd(string name, T value)
    {
        if (_hashes.Length == 0)
        {
            _hashes = new uint[1 << MinimumShift];
            _names = new string?[1 << MinimumShift];
            _values = new T?[1 << MinimumShift];
        }

        uint hash = Hash(name);
        int slot = Find(name, hash, out bool found);
        if (found)
        {
            return false;
        }

        bool fresh = _hashes[slot] == Unused;
        _hashes[slot] = hash;
        _names[slot] = name;
        _values[slot] = value;
        Count++;
        if (fresh)
        {
            _occupied++;
            ResizeIfNeeded();
        }

        return true;
    }

    /// <summary>Removes an entry; false when there is none of that name.</summary>
    public bool Remove(string name)
    {
        if (Count == 0)
        {
            return false;
        }

        int slot = Find(name, Hash(name), out bool found);
        if (!found)
        {
            return false;
        }

        _hashes[slot] = Tombstone;
        _names[slot] = null;
        _values[slot] = null;
        Count--;
        ResizeIfNeeded();
        return true;
    }

    /// <summary>The entry after a position in table order; start with -1. False at the end.</summary>
    public bool MoveNext(ref int position, [NotNullWhen(true)] out T? value)
    {
        while (++position < _hashes.Length)
        {
            if (_hashes[position] > Tombstone)
            {
                value = _values[position]!;
                return true;
            }
        }

        value = null;
        return false;
    }

    private static uint Hash(string name)
    {
        uint hash = 5381;
        foreach (char c in name)
        {
            if (c < 0x80)
            {
                hash = (hash * 33) + c;
                continue;
            }

            return HashUtf8(name);
        }

        return Math.Max(hash, 2);
    }

    private static uint HashUtf8(string name)
    {
        uint hash = 5381;
        foreach (byte b in System.Text.Encoding.UTF8.GetBytes(name))
        {
            hash = (hash * 33) + (uint)(sbyte)b;
        }

        return Math.Max(hash, 2);
    }

    private int Home(uint hash)
    {
        ReadOnlySpan<int> modulus =
        [
            1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287, 1048573,
            2097143, 4194301, 8388593, 16777213,
        ];
        return (int)(unchecked(hash * 11) % (uint)modulus[_shift]);
    }

    private int Find(string name, uint hash, out bool found)
    {
        int mask = _hashes.Length - 1;
        int slot = Home(hash);
        int reusable = -1;
        for (int step = 1; _hashes[slot] != Unused; step++)
        {
            if (_hashes[slot] == hash && _names[slot] == name)
            {
                found = true;
                return slot;
            }

            if (_hashes[slot] == Tombstone && reusable < 0)
            {
                reusable = slot;
            }

            slot = (slot + step) & mask;
        }

        found = false;
        return reusable >= 0 ? reusable : slot;
    }

    private void ResizeIfNeeded()
    {
        int size = _hashes.Length;
        if ((size > Count * 4 && size > 1 << MinimumShift) || size <= _occupied + (_occupied / 16))
        {
            Resize();
        }
    }

    private void Resize()
    {
        int shift = 0;
        for (int wanted = (int)(Count * 1.333); wanted > 0; wanted >>= 1)
        {
            shift++;
        }

        int oldSize = _hashes.Length;
        _shift = Math.Max(shift, MinimumShift);
        int size = 1 << _shift;
        if (size > oldSize)
        {
            Array.Resize(ref _hashes, size);
            Array.Resize(ref _names, size);
            Array.Resize(ref _values, size);
        }

        // Entries are moved in place; one that meets an entry not yet moved evicts it, which is moved next.
        var settled = new bool[Math.Max(size, oldSize)];
        for (int i = 0; i < oldSize; i++)
        {
            if (_hashes[i] <= Tombstone)
            {
                _hashes[i] = Unused;
                continue;
            }

            if (settled[i])
            {
                continue;
            }

            (uint hash, string? name, T? value) = (_hashes[i], _names[i], _values[i]);
            (_hashes[i], _names[i], _values[i]) = (Unused, null, null);
            while (true)
            {
                int slot = Home(hash);
                for (int step = 1; settled[slot]; step++)
                {
                    slot = (slot + step) & (size - 1);
                }

                settled[slot] = true;
                (uint evictedHash, string? evictedName, T? evictedValue) = (_hashes[slot], _names[slot], _values[slot]);
                (_hashes[slot], _names[slot], _values[slot]) = (hash, name, value);
                if (evictedHash <= Tombstone)
                {
                    break;
                }

                (hash, name, value) = (evictedHash, evictedName, evictedValue);
            }
        }

        if (size < oldSize)
        {
            Array.Resize(ref _hashes, size);
            Array.Resize(ref _names, size);
            Array.Resize(ref _values, size);
        }

        _occupied = Count;
    }
}
