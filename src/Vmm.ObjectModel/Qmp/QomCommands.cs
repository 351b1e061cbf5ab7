using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>A property as it is listed.</summary>
[QapiStruct]
public sealed partial record ObjectPropertyInfo
{
    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>A scalar type, "child&lt;T&gt;", "link&lt;T&gt;" or the name of an enumeration or structure.</summary>
    public required string Type { get; init; }

    /// <summary>What it is, for people.</summary>
    public string? Description { get; init; }

    /// <summary>Value of a fresh object.</summary>
    public QValue? DefaultValue { get; init; }
}

/// <summary>A QOM type as it is listed.</summary>
[QapiStruct]
public sealed partial record ObjectTypeInfo
{
    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>True when there are no objects of exactly this type.</summary>
    public bool? Abstract { get; init; }

    /// <summary>Name of the parent type.</summary>
    public string? Parent { get; init; }
}

/// <summary>Commands on the object tree and its types.</summary>
public sealed partial class QomCommands(QomTree tree)
{
    /// <summary>Lists the properties of an object.</summary>
    [QmpCommand("qom-list", ArgsType = "path:s", AllowPreconfig = true, Since = "1.2")]
    public List<ObjectPropertyInfo> QomList(string path)
    {
        QomObject? obj = tree.Resolve(path, null, out bool ambiguous);
        if (obj is null)
        {
            throw ambiguous ? new QapiException($"Path '{path}' is ambiguous") : QapiException.DeviceNotFound(path);
        }

        List<QomPropertyInfo> properties = tree.ListProperties(obj);
        var result = new List<ObjectPropertyInfo>(properties.Count);
        foreach (QomPropertyInfo property in properties)
        {
            result.Add(new ObjectPropertyInfo { Name = property.Name, Type = property.Type });
        }

        return result;
    }

    /// <summary>Reads a property of an object.</summary>
    [QmpCommand("qom-get", ArgsType = "path:s,property:s", AllowPreconfig = true, Since = "1.2")]
    public QValue QomGet(string path, string property) => tree.GetProperty(tree.ResolveOrThrow(path), property);

    /// <summary>Assigns a property of an object.</summary>
    [QmpCommand("qom-set", ArgsType = "path:s,property:s,value:q", AllowPreconfig = true, Since = "1.2")]
    public void QomSet(string path, string property, QValue value) => tree.SetProperty(tree.ResolveOrThrow(path), property, value);

    /// <summary>Lists the types, or those that are or implement a type.</summary>
    [QmpCommand("qom-list-types", ArgsType = "implements:s?,abstract:b?", AllowPreconfig = true, Since = "1.1")]
    public List<ObjectTypeInfo> QomListTypes(string? implements = null, bool @abstract = false)
    {
        List<QomTypeInfo> types = tree.Types.All();
        var result = new List<ObjectTypeInfo>(types.Count);
        for (int i = types.Count - 1; i >= 0; i--)
        {
            QomTypeInfo type = types[i];
            if ((type.IsAbstract && !@abstract) || (implements is not null && !tree.Types.IsA(type, implements)))
            {
                continue;
            }

            result.Add(new ObjectTypeInfo
            {
                Name = type.Name,
                Abstract = type.IsAbstract ? true : null,
                Parent = string.IsNullOrEmpty(type.Parent) ? null : type.Parent,
            });
        }

        return result;
    }

    /// <summary>Lists the properties that objects of a type have.</summary>
    [QmpCommand("qom-list-properties", ArgsType = "typename:s", AllowPreconfig = true, Since = "2.12")]
    public List<ObjectPropertyInfo> QomListProperties(string typename)
    {
        if (!tree.Types.TryGet(typename, out QomTypeInfo? type))
        {
            throw new QapiException(QapiErrorClass.DeviceNotFound, $"Class '{typename}' not found");
        }

        if (!tree.Types.IsA(type, "object"))
        {
            throw QapiException.InvalidParameterValue("typename", "a QOM type");
        }

        return Describe(PropertiesOf(type), withDefaults: false);
    }

    /// <summary>Lists the properties that a device of a type can be given.</summary>
    [QmpCommand("device-list-properties", ArgsType = "typename:s", Since = "1.2")]
    public List<ObjectPropertyInfo> DeviceListProperties(string typename) =>
        Describe(Devices.DeviceHelp.Properties(tree, typename), withDefaults: true);

    private static List<ObjectPropertyInfo> Describe(List<QomPropertyInfo> properties, bool withDefaults)
    {
        var result = new List<ObjectPropertyInfo>(properties.Count);
        foreach (QomPropertyInfo property in properties)
        {
            result.Add(new ObjectPropertyInfo
            {
                Name = property.Name,
                Type = property.Type,
                Description = property.Description,
                DefaultValue = withDefaults ? property.DefaultValue?.Invoke() : null,
            });
        }

        return result;
    }

    private List<QomPropertyInfo> PropertiesOf(QomTypeInfo type)
    {
        List<QomPropertyInfo> properties = tree.Types.ListProperties(type);
        if (!type.IsAbstract && type.Factory is { } factory)
        {
            // Some properties belong to the instance, such as the parts of a composed device.
            factory().AppendDynamic(properties);
        }

        return properties;
    }
}
