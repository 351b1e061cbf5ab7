using Vmm.Qapi;

namespace Vmm.ObjectModel.Qom;

/// <summary>
/// A value on its way into a property: either strictly typed JSON (QMP, JSON on the command line) or a command line string
/// that is converted as it is read ("keyval"). Each reader throws a <see cref="QapiException"/> in QEMU's words when the
/// value does not fit.
/// </summary>
public readonly struct PropertyInput
{
    private readonly QapiReader _reader;

    /// <summary>Wraps a value.</summary>
    /// <param name="name">Property name, for error texts.</param>
    /// <param name="value">The value; in keyval mode a string (or a list of strings for a repeated key).</param>
    /// <param name="isKeyval">Scalars are strings to convert.</param>
    /// <param name="tree">The tree in which links are resolved; null where no links are expected.</param>
    public PropertyInput(string name, QValue value, bool isKeyval, QomTree? tree = null)
        : this(name, value, isKeyval ? QapiInputMode.Keyval : QapiInputMode.Json, tree)
    {
    }

    /// <summary>Wraps a value.</summary>
    /// <param name="name">Property name, for error texts.</param>
    /// <param name="value">The value.</param>
    /// <param name="mode">How scalars arrive.</param>
    /// <param name="tree">The tree in which links are resolved; null where no links are expected.</param>
    public PropertyInput(string name, QValue value, QapiInputMode mode, QomTree? tree = null)
    {
        Name = name;
        Value = value;
        IsKeyval = mode != QapiInputMode.Json;
        Tree = tree;
        _reader = new QapiReader(mode);
    }

    /// <summary>Property name.</summary>
    public string Name { get; }

    /// <summary>The value as it came.</summary>
    public QValue Value { get; }

    /// <summary>True when scalars are command line strings.</summary>
    public bool IsKeyval { get; }

    /// <summary>Where links are resolved.</summary>
    public QomTree? Tree { get; }

    /// <summary>Reads a boolean.</summary>
    public bool ReadBool() => _reader.Bool(Value, Name);

    /// <summary>Reads a string.</summary>
    public string ReadString() => _reader.String(Value, Name);

    /// <summary>Reads a signed integer of 64 bits.</summary>
    public long ReadInt64() => _reader.Int64(Value, Name);

    /// <summary>Reads an unsigned integer of 64 bits; a negative number stands for its two's complement.</summary>
    public ulong ReadUInt64() => _reader.UInt64(Value, Name);

    /// <summary>Reads an unsigned integer of 32 bits.</summary>
    public uint ReadUInt32() => _reader.UInt32(Value, Name);

    /// <summary>Reads an unsigned integer of 16 bits.</summary>
    public ushort ReadUInt16() => _reader.UInt16(Value, Name);

    /// <summary>Reads an unsigned integer of 8 bits.</summary>
    public byte ReadUInt8() => _reader.UInt8(Value, Name);

    /// <summary>Reads a signed integer of 32 bits.</summary>
    public int ReadInt32() => _reader.Int32(Value, Name);

    /// <summary>Reads a signed integer of 16 bits.</summary>
    public short ReadInt16() => _reader.Int16(Value, Name);

    /// <summary>Reads a signed integer of 8 bits.</summary>
    public sbyte ReadInt8() => _reader.Int8(Value, Name);

    /// <summary>Reads a size in bytes; in keyval mode with a suffix (B, K, M, G, T, P, E, powers of 1024), bytes by default.</summary>
    public ulong ReadSize() => _reader.Size(Value, Name);

    /// <summary>Reads a floating-point number.</summary>
    public double ReadDouble() => _reader.Number(Value, Name);

    /// <summary>Reads one of the given wire names; the result is its index.</summary>
    public int ReadEnum(ReadOnlySpan<string> names)
    {
        string text = ReadString();
        int i = names.IndexOf(text);
        return i >= 0 ? i : throw QapiException.InvalidEnumValue(Name, text);
    }

    /// <summary>Reads a list of unsigned 16-bit integers.</summary>
    public List<ushort> ReadUInt16List()
    {
        var result = new List<ushort>();
        QList list = _reader.BeginList(Value, Name);
        foreach (QValue item in list)
        {
            _reader.NextElement();
            result.Add(_reader.UInt16(item, null));
        }

        _reader.EndList();
        return result;
    }

    /// <summary>
    /// Reads a link: a path (or unique partial path) to an object that is a <paramref name="typeName"/>; the empty string for none.
    /// </summary>
    public QomObject? ReadLink(string typeName)
    {
        string path = ReadString();
        if (path.Length == 0)
        {
            return null;
        }

        QomTree tree = Tree ?? throw new InvalidOperationException("link property set without a tree: " + Name);
        return tree.ResolveLink(Name, path, typeName);
    }
}
