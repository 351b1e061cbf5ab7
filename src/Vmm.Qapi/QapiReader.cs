using System.Numerics;

namespace Vmm.Qapi;

/// <summary>How scalars arrive.</summary>
public enum QapiInputMode
{
    /// <summary>Typed JSON values; nothing is converted.</summary>
    Json,

    /// <summary>Every scalar is a string, as key=value options give it.</summary>
    Keyval,

    /// <summary>As <see cref="Keyval"/>, with the error texts of -object, and "1-3" as a list of integers.</summary>
    Options,

    /// <summary>As <see cref="Keyval"/>, with the error texts of -global and of the terminal's qom-set.</summary>
    Terminal,
}

/// <summary>
/// Checks run-time values against the schema for generated readers, with QEMU's error texts: members in schema order, full paths such as
/// 'backend.data.addr.type' or 'keys[1].data', members nobody asked for refused at the end of their object. Not synchronised.
/// </summary>
public sealed partial class QapiReader
{
    [ThreadStatic]
    private static QapiReader? s_cached;

    private Frame[] _frames = new Frame[8];
    private int _depth;

    /// <summary>A reader with no object entered.</summary>
    public QapiReader(QapiInputMode mode = QapiInputMode.Json) => Mode = mode;

    /// <summary>How scalars arrive.</summary>
    public QapiInputMode Mode { get; }

    /// <summary>Takes warnings about deprecated spellings of options; null for nobody.</summary>
    public Options.IOptionDiagnostics? Diagnostics { get; init; }

    /// <summary>The calling thread's JSON reader, positioned in the arguments object of a command.</summary>
    public static QapiReader ForArguments(QDict args)
    {
        QapiReader reader = s_cached ?? new QapiReader();
        s_cached = null;
        reader._depth = 0;
        reader.Push(args, null);
        return reader;
    }

    /// <summary>Ends reading of the arguments.</summary>
    /// <exception cref="QapiException">There are members that were not read.</exception>
    public void EndArguments()
    {
        EndStruct();
        s_cached = this;
    }

    /// <summary>Enters an object.</summary>
    /// <param name="value">The value that must be an object.</param>
    /// <param name="name">Its member name; null for a list element or the outermost value.</param>
    /// <exception cref="QapiException">It is not an object.</exception>
    public void BeginStruct(QValue value, string? name)
    {
        if (value is not QDict dict)
        {
            // -object has no way to write an object: what is named like one is not known.
            throw Mode == QapiInputMode.Options
                ? QapiException.InvalidParameter(FullName(name))
                : QapiException.InvalidParameterType(FullName(name), "object");
        }

        Push(dict, name);
    }

    /// <summary>Leaves the object.</summary>
    /// <exception cref="QapiException">There are members that were not read.</exception>
    public void EndStruct()
    {
        ref Frame frame = ref _frames[_depth - 1];
        if (frame.VisitedCount != frame.Dict!.Count)
        {
            for (int i = 0; i < frame.Dict.Count; i++)
            {
                if (!frame.IsVisited(i))
                {
                    string unknown = FullName(frame.Dict.InsertionAt(i).Key);
                    throw Mode == QapiInputMode.Options ? QapiException.InvalidParameter(unknown) : QapiException.UnexpectedParameter(unknown);
                }
            }
        }

        _frames[--_depth] = default;
    }

    /// <summary>Enters a list and returns it; <see cref="NextElement"/> goes before each element.</summary>
    /// <exception cref="QapiException">The value is not a list.</exception>
    public QList BeginList(QValue value, string? name)
    {
        if (value is not QList list)
        {
            throw QapiException.InvalidParameterType(FullName(name), "array");
        }

        Push(null, name);
        _frames[_depth - 1].Index = -1;
        return list;
    }

    /// <summary>Tells that the next value is the list's next element.</summary>
    public void NextElement() => _frames[_depth - 1].Index++;

    /// <summary>Leaves the list.</summary>
    public void EndList() => _frames[--_depth] = default;

    /// <summary>A member of the entered object, or null when it is absent.</summary>
    public QValue? Optional(string name)
    {
        ref Frame frame = ref _frames[_depth - 1];
        int i = frame.Dict!.IndexOf(name);
        if (i < 0)
        {
            return null;
        }

        frame.Visit(i);
        return frame.Dict.InsertionAt(i).Value;
    }

    /// <summary>A member of the entered object.</summary>
    /// <exception cref="QapiException">It is absent.</exception>
    public QValue Required(string name) => Optional(name) ?? throw QapiException.MissingParameter(FullName(name));

    /// <summary>The members of the entered object that were not read so far, as a new dictionary; they count as read.</summary>
    public QDict Rest()
    {
        ref Frame frame = ref _frames[_depth - 1];
        var rest = new QDict(frame.Dict!.Count);
        for (int i = 0; i < frame.Dict.Count; i++)
        {
            if (!frame.IsVisited(i))
            {
                frame.Visit(i);
                KeyValuePair<string, QValue> member = frame.Dict.InsertionAt(i);
                rest.Add(member.Key, member.Value);
            }
        }

        return rest;
    }

    /// <summary>A string.</summary>
    /// <exception cref="QapiException">The value has another type.</exception>
    public string String(QValue value, string? name) =>
        Mode == QapiInputMode.Options ? Scalar(value, name)
        : value is QString s ? s.Value
        : throw QapiException.InvalidParameterType(FullName(name), "string");

    /// <summary>A boolean.</summary>
    /// <exception cref="QapiException">The value has another type.</exception>
    public bool Bool(QValue value, string? name)
    {
        if (Mode != QapiInputMode.Json)
        {
            return ParseBool(Scalar(value, name), name);
        }

        return value is QBool b ? b.Value : throw QapiException.InvalidParameterType(FullName(name), "boolean");
    }

    /// <summary>A signed 64-bit integer.</summary>
    /// <exception cref="QapiException">The value has another type or is out of range.</exception>
    public long Int64(QValue value, string? name)
    {
        if (Mode != QapiInputMode.Json)
        {
            return ParseInt64(Scalar(value, name), name);
        }

        return value is QNum n && n.TryGetInt64(out long i) ? i : throw QapiException.InvalidParameterType(FullName(name), "integer");
    }

    /// <summary>An unsigned 64-bit integer; a negative number stands for its two's complement.</summary>
    /// <exception cref="QapiException">The value has another type or is out of range.</exception>
    public ulong UInt64(QValue value, string? name)
    {
        if (Mode != QapiInputMode.Json)
        {
            return ParseUInt64(Scalar(value, name), name);
        }

        if (value is QNum n)
        {
            if (n.TryGetUInt64(out ulong u))
            {
                return u;
            }

            if (n.TryGetInt64(out long i))
            {
                return (ulong)i;
            }
        }

        throw QapiException.InvalidParameterValue(FullName(name), "uint64");
    }

    /// <summary>A size in bytes; with suffixes in key=value input.</summary>
    /// <exception cref="QapiException">The value has another type or is out of range.</exception>
    public ulong Size(QValue value, string? name) =>
        Mode != QapiInputMode.Json ? ParseSize(Scalar(value, name), name) : UInt64(value, name);

    /// <summary>An 8-bit integer.</summary>
    public sbyte Int8(QValue value, string? name) => Narrow<sbyte>(Int64(value, name), name, "int8_t");

    /// <summary>A 16-bit integer.</summary>
    public short Int16(QValue value, string? name) => Narrow<short>(Int64(value, name), name, "int16_t");

    /// <summary>A 32-bit integer.</summary>
    public int Int32(QValue value, string? name) => Narrow<int>(Int64(value, name), name, "int32_t");

    /// <summary>An unsigned 8-bit integer.</summary>
    public byte UInt8(QValue value, string? name) => Narrow<byte>(UInt64(value, name), name, "uint8_t");

    /// <summary>An unsigned 16-bit integer.</summary>
    public ushort UInt16(QValue value, string? name) => Narrow<ushort>(UInt64(value, name), name, "uint16_t");

    /// <summary>An unsigned 32-bit integer.</summary>
    public uint UInt32(QValue value, string? name) => Narrow<uint>(UInt64(value, name), name, "uint32_t");

    /// <summary>A number.</summary>
    /// <exception cref="QapiException">The value has another type.</exception>
    public double Number(QValue value, string? name)
    {
        if (Mode != QapiInputMode.Json)
        {
            return ParseNumber(Scalar(value, name), name);
        }

        return value is QNum n ? n.GetDouble() : throw QapiException.InvalidParameterType(FullName(name), "number");
    }

    /// <summary>JSON null.</summary>
    /// <exception cref="QapiException">The value has another type.</exception>
    public QNull Null(QValue value, string? name) =>
        value as QNull ?? throw QapiException.InvalidParameterType(FullName(name), "null");

    /// <summary>An object of any members.</summary>
    /// <exception cref="QapiException">The value has another type.</exception>
    public QDict Dict(QValue value, string? name) =>
        value as QDict ?? throw QapiException.InvalidParameterType(FullName(name), "object");

    /// <summary>A list whose elements a function reads.</summary>
    /// <exception cref="QapiException">The value has another type, or an element is refused.</exception>
    public T[] List<T>(QValue value, string? name, Func<QValue, QapiReader, T> readElement)
    {
        QList list = BeginList(Mode == QapiInputMode.Options ? Repeated(value, name, ranges: typeof(T) != typeof(string)) : value, name);
        var items = new T[list.Count];
        for (int i = 0; i < items.Length; i++)
        {
            NextElement();
            items[i] = readElement(list[i], this);
        }

        EndList();
        return items;
    }

    /// <summary>The error of a string that is no value of its enumeration; it names the member without its path.</summary>
    public static QapiException InvalidEnum(string? name, string value) => QapiException.InvalidEnumValue(name ?? "null", value);

    /// <summary>The error of a value that none of an alternate's types takes; it names the member without its path.</summary>
    public static QapiException InvalidAlternate(string? name, string alternate) =>
        QapiException.InvalidParameterType(name ?? "null", alternate);

    /// <summary>The path of a member of the entered object, or of the current list element for null.</summary>
    public string FullName(string? name)
    {
        string path = name ?? "";
        bool separate = name != null;
        for (int i = _depth - 1; i >= 0; i--)
        {
            ref Frame frame = ref _frames[i];
            if (frame.Dict == null)
            {
                string index = Mode != QapiInputMode.Json ? "." + frame.Index : "[" + frame.Index + "]";
                path = index + (separate ? "." : "") + path;
                separate = false;
            }

            if (frame.Name is { } part)
            {
                path = part + (separate ? "." : "") + path;
                separate = true;
            }
        }

        return path.Length == 0 ? "null" : path;
    }

    private static T Narrow<T>(long value, string? name, string type)
        where T : struct, IBinaryInteger<T>, IMinMaxValue<T>
    {
        T narrow = T.CreateTruncating(value);
        return long.CreateTruncating(narrow) == value ? narrow : throw QapiException.InvalidParameterValue(name ?? "null", type);
    }

    private static T Narrow<T>(ulong value, string? name, string type)
        where T : struct, IBinaryInteger<T>, IMinMaxValue<T>
    {
        T narrow = T.CreateTruncating(value);
        return ulong.CreateTruncating(narrow) == value ? narrow : throw QapiException.InvalidParameterValue(name ?? "null", type);
    }

    private void Push(QDict? dict, string? name)
    {
        if (_depth == _frames.Length)
        {
            Array.Resize(ref _frames, _depth * 2);
        }

        _frames[_depth++] = new Frame { Dict = dict, Name = name };
    }

    private struct Frame
    {
        public QDict? Dict;
        public string? Name;
        public int Index;
        public int VisitedCount;
        private ulong _visited;
        private HashSet<int>? _visitedBeyond;

        public readonly bool IsVisited(int i) => i < 64 ? (_visited >> i & 1) != 0 : _visitedBeyond?.Contains(i) == true;

        public void Visit(int i)
        {
            if (IsVisited(i))
            {
                return;
            }

            VisitedCount++;
            if (i < 64)
            {
                _visited |= 1UL << i;
            }
            else
            {
                (_visitedBeyond ??= []).Add(i);
            }
        }
    }
}

/// <summary>Lists for generated conversions.</summary>
public static class QapiList
{
    /// <summary>The list as a run-time value.</summary>
    public static QList ToValue<T>(IEnumerable<T> items, Func<T, QValue> convert)
    {
        var list = new QList();
        foreach (T item in items)
        {
            list.Add(convert(item));
        }

        return list;
    }
}
