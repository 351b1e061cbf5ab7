using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace Vmm.Qapi;

/// <summary>
/// JSON object. Enumeration and output follow <see cref="WireOrder"/>, so that a dictionary built at run time is written as clients know it.
/// </summary>
public sealed class QDict : QValue, IEnumerable<KeyValuePair<string, QValue>>
{
    // Up to this many members a linear search is faster than hashing and costs no index.
    private const int IndexThreshold = 12;

    private readonly List<Entry> _entries;
    private Dictionary<string, int>? _index;
    private int[]? _order;

    /// <summary>An empty dictionary.</summary>
    public QDict() => _entries = [];

    /// <summary>An empty dictionary with room for some members.</summary>
    public QDict(int capacity) => _entries = new List<Entry>(capacity);

    /// <inheritdoc/>
    public override QType Type => QType.Dict;

    /// <summary>The number of members.</summary>
    public int Count => _entries.Count;

    /// <summary>The value of a member; setting replaces an existing value in place.</summary>
    /// <exception cref="KeyNotFoundException">The member read does not exist.</exception>
    public QValue this[string key]
    {
        get => TryGetValue(key, out QValue? value) ? value : throw new KeyNotFoundException(key);
        set
        {
            int i = IndexOf(key);
            if (i >= 0)
            {
                CollectionsMarshal.AsSpan(_entries)[i].Value = value;
            }
            else
            {
                Append(key, value);
            }
        }
    }

    /// <summary>Adds a member unless the name exists.</summary>
    public bool TryAdd(string key, QValue value)
    {
        if (IndexOf(key) >= 0)
        {
            return false;
        }

        Append(key, value);
        return true;
    }

    /// <summary>Adds a member (collection initialiser form).</summary>
    /// <exception cref="ArgumentException">The name exists.</exception>
    public void Add(string key, QValue value)
    {
        if (!TryAdd(key, value))
        {
            throw new ArgumentException("duplicate member " + key, nameof(key));
        }
    }

    /// <summary>Whether a member exists.</summary>
    public bool ContainsKey(string key) => IndexOf(key) >= 0;

    /// <summary>Finds a member.</summary>
    public bool TryGetValue(string key, [NotNullWhen(true)] out QValue? value)
    {
        int i = IndexOf(key);
        value = i >= 0 ? _entries[i].Value : null;
        return i >= 0;
    }

    /// <summary>The string member of that name, or null when it is absent or of another type.</summary>
    public string? GetString(string key) => TryGetValue(key, out QValue? v) && v is QString s ? s.Value : null;

    /// <summary>The boolean member of that name, or null when it is absent or of another type.</summary>
    public bool? GetBool(string key) => TryGetValue(key, out QValue? v) && v is QBool b ? b.Value : null;

    /// <summary>The integer member of that name, or null when it is absent, of another type or out of range.</summary>
    public long? GetInt64(string key) => TryGetValue(key, out QValue? v) && v is QNum n && n.TryGetInt64(out long i) ? i : null;

    /// <summary>The dictionary member of that name, or null when it is absent or of another type.</summary>
    public QDict? GetDict(string key) => TryGetValue(key, out QValue? v) ? v as QDict : null;

    /// <summary>The list member of that name, or null when it is absent or of another type.</summary>
    public QList? GetList(string key) => TryGetValue(key, out QValue? v) ? v as QList : null;

    /// <summary>Removes a member; false when it does not exist. Linear in the number of members.</summary>
    public bool Remove(string key) => Remove(key, out _);

    /// <summary>Removes a member and hands it out; false when it does not exist. Linear in the number of members.</summary>
    public bool Remove(string key, [NotNullWhen(true)] out QValue? value)
    {
        int i = IndexOf(key);
        if (i < 0)
        {
            value = null;
            return false;
        }

        value = _entries[i].Value;
        _entries.RemoveAt(i);
        _index = null;
        _order = null;
        return true;
    }

    /// <inheritdoc/>
    public override void WriteTo(JsonWriter writer)
    {
        writer.WriteStartObject();
        foreach (KeyValuePair<string, QValue> member in this)
        {
            writer.WriteName(member.Key);
            member.Value.WriteTo(writer);
        }

        writer.WriteEndObject();
    }

    /// <inheritdoc/>
    public override QDict Clone()
    {
        var copy = new QDict(_entries.Count);
        foreach (ref readonly Entry entry in CollectionsMarshal.AsSpan(_entries))
        {
            copy._entries.Add(new Entry(entry.Key, entry.Value.Clone()));
        }

        return copy;
    }

    /// <inheritdoc/>
    public override bool ValueEquals(QValue other)
    {
        if (other is not QDict dict || dict.Count != Count)
        {
            return false;
        }

        foreach (ref readonly Entry entry in CollectionsMarshal.AsSpan(_entries))
        {
            if (!dict.TryGetValue(entry.Key, out QValue? value) || !entry.Value.ValueEquals(value))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Enumerates the members in wire order.</summary>
    public Enumerator GetEnumerator() => new(this);

    IEnumerator<KeyValuePair<string, QValue>> IEnumerable<KeyValuePair<string, QValue>>.GetEnumerator() => GetEnumerator();

    System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>The member added as number <paramref name="index"/>, counted over the members that still exist.</summary>
    internal KeyValuePair<string, QValue> InsertionAt(int index) => new(_entries[index].Key, _entries[index].Value);

    internal int IndexOf(string key)
    {
        Span<Entry> entries = CollectionsMarshal.AsSpan(_entries);
        if (entries.Length <= IndexThreshold)
        {
            for (int i = 0; i < entries.Length; i++)
            {
                if (entries[i].Key == key)
                {
                    return i;
                }
            }

            return -1;
        }

        if (_index == null)
        {
            _index = new Dictionary<string, int>(entries.Length * 2);
            for (int i = 0; i < entries.Length; i++)
            {
                _index.Add(entries[i].Key, i);
            }
        }

        return _index.TryGetValue(key, out int found) ? found : -1;
    }

    private void Append(string key, QValue value)
    {
        _index?.Add(key, _entries.Count);
        _entries.Add(new Entry(key, value));
        _order = null;
    }

    private int[] Order()
    {
        if (_order is { } ready)
        {
            return ready;
        }

        int count = _entries.Count;
        var order = new int[count];
        var keys = new long[count];
        for (int i = 0; i < count; i++)
        {
            order[i] = i;
            keys[i] = ((long)WireOrder.Bucket(_entries[i].Key) << 32) | (uint)(int.MaxValue - i);
        }

        Array.Sort(keys, order);
        return _order = order;
    }

    private struct Entry(string key, QValue value)
    {
        public readonly string Key = key;
        public QValue Value = value;
    }

    /// <summary>Enumerator in wire order.</summary>
    public struct Enumerator : IEnumerator<KeyValuePair<string, QValue>>
    {
        private readonly QDict _dict;
        private readonly int[] _order;
        private int _next;

        internal Enumerator(QDict dict)
        {
            _dict = dict;
            _order = dict.Order();
        }

        /// <inheritdoc/>
        public readonly KeyValuePair<string, QValue> Current => _dict.InsertionAt(_order[_next - 1]);

        readonly object System.Collections.IEnumerator.Current => Current;

        /// <inheritdoc/>
        public bool MoveNext() => _next++ < _order.Length;

        /// <inheritdoc/>
        public void Reset() => _next = 0;

        /// <inheritdoc/>
        public readonly void Dispose()
        {
        }
    }
}
