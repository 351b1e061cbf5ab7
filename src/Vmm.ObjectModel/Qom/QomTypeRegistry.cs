using System.Diagnostics.CodeAnalysis;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qom;

/// <summary>
/// The QOM types of the program by wire name. The composition root adds catalogs; they are read the first time a type is
/// looked up, so that a start that names no type pays nothing. Home: the main loop.
/// </summary>
public sealed class QomTypeRegistry
{
    private readonly List<Action<QomTypeRegistry>> _catalogs = [];
    private readonly Dictionary<string, QomTypeInfo> _types = new(StringComparer.Ordinal);
    private readonly Dictionary<QomTypeInfo, QomPropertyInfo[]> _own = [];
    private readonly WireOrderedTable<QomTypeInfo> _ordered = new();
    private readonly Dictionary<string, string> _aliases = new(StringComparer.Ordinal);

    /// <summary>A registry with the built-in types of the object model.</summary>
    public QomTypeRegistry()
    {
        AddCatalog(ObjectModelTypes.Register);
    }

    /// <summary>Adds types from a catalog that calls <see cref="Add"/> for each; run on first use of the registry.</summary>
    public void AddCatalog(Action<QomTypeRegistry> catalog) => _catalogs.Add(catalog);

    /// <summary>Adds a type.</summary>
    /// <exception cref="InvalidOperationException">Two types claim one name.</exception>
    public void Add(QomTypeInfo type)
    {
        if (!_types.TryAdd(type.Name, type))
        {
            throw new InvalidOperationException("QOM type registered twice: " + type.Name);
        }

        _ordered.TryAdd(type.Name, type);
    }

    /// <summary>Adds another name under which -device and device_add find a device type.</summary>
    public void AddDeviceAlias(string alias, string typeName) => _aliases.Add(alias, typeName);

    /// <summary>Takes a type away, for features that are absent at run time.</summary>
    public bool Remove(string name)
    {
        Load();
        _ordered.Remove(name);
        return _types.Remove(name);
    }

    /// <summary>All types, in the order in which clients see them listed.</summary>
    public List<QomTypeInfo> All()
    {
        Load();
        var result = new List<QomTypeInfo>(_types.Count);
        for (int i = -1; _ordered.MoveNext(ref i, out QomTypeInfo? type);)
        {
            result.Add(type);
        }

        return result;
    }

    /// <summary>Finds a type by name.</summary>
    public bool TryGet(string name, [NotNullWhen(true)] out QomTypeInfo? type)
    {
        Load();
        return _types.TryGetValue(name, out type);
    }

    /// <summary>Finds a device type by name or alias.</summary>
    public bool TryGetDevice(string name, [NotNullWhen(true)] out QomTypeInfo? type)
    {
        if (TryGet(name, out type) || (_aliases.TryGetValue(name, out string? real) && TryGet(real, out type)))
        {
            return IsA(type, "device");
        }

        return false;
    }

    /// <summary>An alias of a device type; null when it has none.</summary>
    public string? AliasOf(string typeName)
    {
        Load();
        foreach ((string alias, string real) in _aliases)
        {
            if (real == typeName)
            {
                return alias;
            }
        }

        return null;
    }

    /// <summary>The parent type; null for roots.</summary>
    public QomTypeInfo? ParentOf(QomTypeInfo type) =>
        !string.IsNullOrEmpty(type.Parent) && TryGet(type.Parent, out QomTypeInfo? parent) ? parent : null;

    /// <summary>True when the type is, descends from, or implements <paramref name="name"/>.</summary>
    public bool IsA(QomTypeInfo type, string name)
    {
        for (QomTypeInfo? t = type; t is not null; t = ParentOf(t))
        {
            if (t.Name == name)
            {
                return true;
            }

            foreach (string implemented in t.Interfaces)
            {
                if (implemented == name || (TryGet(implemented, out QomTypeInfo? i) && IsA(i, name)))
                {
                    return true;
                }
            }
        }

        return false;
    }

    /// <summary>QOM type of the bus that devices of a type plug into, its own or its ancestors'; null for none.</summary>
    public string? BusTypeOf(QomTypeInfo type)
    {
        for (QomTypeInfo? t = type; t is not null; t = ParentOf(t))
        {
            if (t.BusType is { } bus)
            {
                return bus;
            }
        }

        return null;
    }

    /// <summary>Properties that a type itself adds, in declaration order.</summary>
    public QomPropertyInfo[] OwnProperties(QomTypeInfo type)
    {
        if (!_own.TryGetValue(type, out QomPropertyInfo[]? own))
        {
            own = type.Properties();
            _own.Add(type, own);
        }

        return own;
    }

    /// <summary>Finds a property of a type or its ancestors; the most derived wins.</summary>
    public QomPropertyInfo? FindProperty(QomTypeInfo type, string name)
    {
        for (QomTypeInfo? t = type; t is not null; t = ParentOf(t))
        {
            foreach (QomPropertyInfo property in OwnProperties(t))
            {
                if (property.Name == name)
                {
                    return property;
                }
            }
        }

        return null;
    }

    /// <summary>Properties of a type and its ancestors in the order in which clients see them: ancestors first.</summary>
    public List<QomPropertyInfo> ListProperties(QomTypeInfo type)
    {
        var chain = new List<QomTypeInfo>();
        for (QomTypeInfo? t = type; t is not null; t = ParentOf(t))
        {
            chain.Add(t);
        }

        var result = new List<QomPropertyInfo>();
        for (int i = chain.Count - 1; i >= 0; i--)
        {
            var table = new WireOrderedTable<QomPropertyInfo>();
            foreach (QomPropertyInfo property in OwnProperties(chain[i]))
            {
                table.TryAdd(property.Name, property);
            }

            AppendReversed(table, result);
        }

        return result;
    }

    /// <summary>Makes an instance with default property values.</summary>
    /// <exception cref="QapiException">Unknown or abstract type.</exception>
    public QomObject Create(string name)
    {
        if (!TryGet(name, out QomTypeInfo? type))
        {
            throw new QapiException($"invalid object type: {name}");
        }

        return type.Factory is { } factory && !type.IsAbstract ? factory() : throw new QapiException($"object type '{name}' is abstract");
    }

    internal static void AppendReversed(WireOrderedTable<QomPropertyInfo> table, List<QomPropertyInfo> result)
    {
        int start = result.Count;
        for (int i = -1; table.MoveNext(ref i, out QomPropertyInfo? property);)
        {
            result.Add(property);
        }

        result.Reverse(start, result.Count - start);
    }

    private void Load()
    {
        for (int i = 0; i < _catalogs.Count; i++)
        {
            _catalogs[i](this);
        }

        _catalogs.Clear();
    }
}
