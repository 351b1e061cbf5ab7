using System.Runtime.CompilerServices;

namespace Vmm.Qapi;

/// <summary>The JSON type of a <see cref="QValue"/>.</summary>
public enum QType
{
    /// <summary>JSON null.</summary>
    Null,

    /// <summary>JSON true or false.</summary>
    Bool,

    /// <summary>JSON number.</summary>
    Num,

    /// <summary>JSON string.</summary>
    String,

    /// <summary>JSON array.</summary>
    List,

    /// <summary>JSON object.</summary>
    Dict,
}

/// <summary>A JSON value whose shape is known only at run time. Values are not synchronised; scalars are immutable.</summary>
public abstract class QValue
{
    private protected QValue()
    {
    }

    /// <summary>The JSON type.</summary>
    public abstract QType Type { get; }

    /// <summary>Writes the value, members of dictionaries in the order of <see cref="QDict"/>.</summary>
    public abstract void WriteTo(JsonWriter writer);

    /// <summary>The compact JSON text of the value.</summary>
    public string ToJson(bool pretty = false)
    {
        var writer = new JsonWriter(pretty);
        WriteTo(writer);
        return writer.ToString();
    }

    /// <inheritdoc/>
    public override string ToString() => ToJson();

    /// <summary>Parses one JSON value that fills the whole text (white space around it allowed).</summary>
    /// <exception cref="QapiException">The text is not one JSON value; the message is the one a monitor would send.</exception>
    public static QValue Parse(string json) => JsonStreamParser.ParseSingle(json);

    /// <summary>Parses one JSON value that fills the whole UTF-8 text (white space around it allowed).</summary>
    /// <exception cref="QapiException">The text is not one JSON value; the message is the one a monitor would send.</exception>
    public static QValue Parse(ReadOnlySpan<byte> json) => JsonStreamParser.ParseSingle(json);

    /// <summary>A deep copy of lists and dictionaries; scalars are shared.</summary>
    public virtual QValue Clone() => this;

    /// <summary>Whether both values are the same JSON value: numbers compare by value, dictionaries without regard to order.</summary>
    public abstract bool ValueEquals(QValue other);

    /// <summary>Wraps a string.</summary>
    public static implicit operator QValue(string value) => new QString(value);

    /// <summary>Wraps a boolean.</summary>
    public static implicit operator QValue(bool value) => QBool.From(value);

    /// <summary>Wraps a signed integer.</summary>
    public static implicit operator QValue(int value) => QNum.From(value);

    /// <summary>Wraps a signed integer.</summary>
    public static implicit operator QValue(long value) => QNum.From(value);

    /// <summary>Wraps an unsigned integer.</summary>
    public static implicit operator QValue(uint value) => QNum.From((long)value);

    /// <summary>Wraps an unsigned integer.</summary>
    public static implicit operator QValue(ulong value) => QNum.From(value);

    /// <summary>Wraps a floating-point number.</summary>
    public static implicit operator QValue(double value) => QNum.From(value);
}

/// <summary>JSON null.</summary>
public sealed class QNull : QValue
{
    /// <summary>The only instance.</summary>
    public static readonly QNull Instance = new();

    private QNull()
    {
    }

    /// <inheritdoc/>
    public override QType Type => QType.Null;

    /// <inheritdoc/>
    public override void WriteTo(JsonWriter writer) => writer.WriteNull();

    /// <inheritdoc/>
    public override bool ValueEquals(QValue other) => other is QNull;
}

/// <summary>JSON true or false.</summary>
public sealed class QBool : QValue
{
    /// <summary>JSON true.</summary>
    public static readonly QBool True = new(true);

    /// <summary>JSON false.</summary>
    public static readonly QBool False = new(false);

    private QBool(bool value) => Value = value;

    /// <summary>The value.</summary>
    public bool Value { get; }

    /// <inheritdoc/>
    public override QType Type => QType.Bool;

    /// <summary>The instance for a value.</summary>
    public static QBool From(bool value) => value ? True : False;

    /// <inheritdoc/>
    public override void WriteTo(JsonWriter writer) => writer.WriteBool(Value);

    /// <inheritdoc/>
    public override bool ValueEquals(QValue other) => ReferenceEquals(this, other);
}

/// <summary>JSON string; any sequence of Unicode scalar values, U+0000 included.</summary>
public sealed class QString : QValue
{
    /// <summary>Wraps a string.</summary>
    public QString(string value) => Value = value;

    /// <summary>The value.</summary>
    public string Value { get; }

    /// <inheritdoc/>
    public override QType Type => QType.String;

    /// <inheritdoc/>
    public override void WriteTo(JsonWriter writer) => writer.WriteString(Value);

    /// <inheritdoc/>
    public override bool ValueEquals(QValue other) => other is QString s && s.Value == Value;
}

/// <summary>JSON number: a signed or unsigned 64-bit integer, or a double when it is written with a fraction, an exponent or more digits.</summary>
public sealed class QNum : QValue
{
    private static readonly QNum?[] s_small = new QNum?[257];
    private readonly long _bits;
    private readonly NumKind _kind;

    private QNum(NumKind kind, long bits)
    {
        _kind = kind;
        _bits = bits;
    }

    private enum NumKind : byte
    {
        Signed,
        Unsigned,
        Double,
    }

    /// <inheritdoc/>
    public override QType Type => QType.Num;

    /// <summary>Whether the number was written with a fraction or exponent, or exceeds 64 bits.</summary>
    public bool IsDouble => _kind == NumKind.Double;

    /// <summary>A signed integer.</summary>
    public static QNum From(long value)
    {
        if ((ulong)value < (ulong)s_small.Length)
        {
            return s_small[value] ??= new QNum(NumKind.Signed, value);
        }

        return new QNum(NumKind.Signed, value);
    }

    /// <summary>An unsigned integer.</summary>
    public static QNum From(ulong value) => value <= long.MaxValue ? From((long)value) : new QNum(NumKind.Unsigned, (long)value);

    /// <summary>A floating-point number.</summary>
    public static QNum From(double value) => new(NumKind.Double, BitConverter.DoubleToInt64Bits(value));

    /// <summary>The value as a signed integer; false for doubles and for integers above 2^63-1.</summary>
    public bool TryGetInt64(out long value)
    {
        value = _bits;
        return _kind == NumKind.Signed;
    }

    /// <summary>The value as an unsigned integer; false for doubles and negative numbers.</summary>
    public bool TryGetUInt64(out ulong value)
    {
        value = (ulong)_bits;
        return _kind == NumKind.Unsigned || (_kind == NumKind.Signed && _bits >= 0);
    }

    /// <summary>The nearest double.</summary>
    public double GetDouble() => _kind switch
    {
        NumKind.Signed => _bits,
        NumKind.Unsigned => (ulong)_bits,
        _ => BitConverter.Int64BitsToDouble(_bits),
    };

    /// <inheritdoc/>
    public override void WriteTo(JsonWriter writer)
    {
        switch (_kind)
        {
            case NumKind.Signed:
                writer.WriteNumber(_bits);
                break;
            case NumKind.Unsigned:
                writer.WriteNumber((ulong)_bits);
                break;
            default:
                writer.WriteNumber(BitConverter.Int64BitsToDouble(_bits));
                break;
        }
    }

    /// <inheritdoc/>
    public override bool ValueEquals(QValue other) => other is QNum n
        && ((_kind == n._kind && _bits == n._bits)
            || ((_kind == NumKind.Double || n._kind == NumKind.Double) && GetDouble() == n.GetDouble()));
}

/// <summary>JSON array.</summary>
[CollectionBuilder(typeof(QList), nameof(Create))]
public sealed class QList : QValue, IReadOnlyList<QValue>
{
    private readonly List<QValue> _items;

    /// <summary>An empty list.</summary>
    public QList() => _items = [];

    private QList(List<QValue> items) => _items = items;

    /// <inheritdoc/>
    public override QType Type => QType.List;

    /// <summary>The number of elements.</summary>
    public int Count => _items.Count;

    /// <summary>The element at an index from 0.</summary>
    public QValue this[int index]
    {
        get => _items[index];
        set => _items[index] = value;
    }

    /// <summary>A list of the given elements.</summary>
    public static QList Create(ReadOnlySpan<QValue> items)
    {
        var list = new List<QValue>(items.Length);
        list.AddRange(items);
        return new QList(list);
    }

    /// <summary>Appends an element.</summary>
    public void Add(QValue value) => _items.Add(value);

    /// <inheritdoc/>
    public override void WriteTo(JsonWriter writer)
    {
        writer.WriteStartArray();
        foreach (QValue item in _items)
        {
            item.WriteTo(writer);
        }

        writer.WriteEndArray();
    }

    /// <inheritdoc/>
    public override QValue Clone()
    {
        var copy = new List<QValue>(_items.Count);
        foreach (QValue item in _items)
        {
            copy.Add(item.Clone());
        }

        return new QList(copy);
    }

    /// <inheritdoc/>
    public override bool ValueEquals(QValue other)
    {
        if (other is not QList list || list.Count != Count)
        {
            return false;
        }

        for (int i = 0; i < Count; i++)
        {
            if (!_items[i].ValueEquals(list._items[i]))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Enumerates the elements.</summary>
    public List<QValue>.Enumerator GetEnumerator() => _items.GetEnumerator();

    IEnumerator<QValue> IEnumerable<QValue>.GetEnumerator() => _items.GetEnumerator();

    System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => _items.GetEnumerator();
}
