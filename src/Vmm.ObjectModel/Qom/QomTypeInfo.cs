namespace Vmm.ObjectModel.Qom;

/// <summary>
/// What is known of a QOM type without an instance of it: name, ancestry, properties, how to make one. Generated from
/// <see cref="QomTypeAttribute"/>, immutable, and cheap: nothing in it runs before it is asked for.
/// </summary>
public sealed class QomTypeInfo
{
    /// <summary>Wire name, e.g. <c>isa-serial</c>.</summary>
    public required string Name { get; init; }

    /// <summary>Wire name of the parent type; null for a root (<c>object</c>, <c>interface</c>).</summary>
    public string? Parent { get; init; }

    /// <summary>Abstract types are listed but cannot be instantiated.</summary>
    public bool IsAbstract { get; init; }

    /// <summary>Interface types that instances implement, e.g. <c>user-creatable</c>, <c>hotplug-handler</c>.</summary>
    public string[] Interfaces { get; init; } = [];

    /// <summary>Makes a fresh instance with default property values; null for abstract types.</summary>
    public Func<QomObject>? Factory { get; init; }

    /// <summary>Properties that this type adds to those of its parent, in declaration order. Called once, when first needed.</summary>
    public Func<QomPropertyInfo[]> Properties { get; init; } = static () => [];

    /// <summary>One line for <c>-device help</c>; null for none.</summary>
    public string? Description { get; init; }

    /// <summary>For devices: may be created by <c>-device</c> and device_add.</summary>
    public bool UserCreatable { get; init; } = true;

    /// <summary>For devices: may be added and removed while the machine runs.</summary>
    public bool Hotpluggable { get; init; } = true;

    /// <summary>For devices: QOM type of the bus it plugs into (<c>ISA</c>, <c>System</c>, <c>PCI</c>, …); null for none.</summary>
    public string? BusType { get; init; }

    /// <summary>For devices: heading in <c>-device help</c> (Storage, Input, Misc, …).</summary>
    public string? Category { get; init; }
}

/// <summary>Declares a QOM type. The generator emits <c>static QomTypeInfo TypeInfo</c> into the (partial) class.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class QomTypeAttribute(string name) : Attribute
{
    /// <summary>Wire name.</summary>
    public string Name { get; } = name;

    /// <summary>Wire name of the parent type; by default that of the nearest base class which has the attribute.</summary>
    public string? Parent { get; init; }

    /// <summary>Interfaces implemented, by wire name.</summary>
    public string[] Interfaces { get; init; } = [];

    /// <inheritdoc cref="QomTypeInfo.Description"/>
    public string? Description { get; init; }

    /// <inheritdoc cref="QomTypeInfo.UserCreatable"/>
    public bool UserCreatable { get; init; } = true;

    /// <inheritdoc cref="QomTypeInfo.Hotpluggable"/>
    public bool Hotpluggable { get; init; } = true;

    /// <inheritdoc cref="QomTypeInfo.BusType"/>
    public string? BusType { get; init; }

    /// <inheritdoc cref="QomTypeInfo.Category"/>
    public string? Category { get; init; }
}

/// <summary>
/// Declares a C# property as a QOM property. bool, (s)byte..(u)long, string, enums with QAPI names, and links
/// (a <see cref="QomObject"/>-typed property: assigned by path or id) are supported.
/// </summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class QomPropertyAttribute(string name) : Attribute
{
    /// <summary>Wire name.</summary>
    public string Name { get; } = name;

    /// <summary>Type string; by default derived from the C# type ("bool", "uint8", "int32", "uint64", "str", enum name, "link&lt;T&gt;").</summary>
    public string? Type { get; init; }

    /// <summary>Help text.</summary>
    public string? Description { get; init; }

    /// <summary>True: a size in bytes with suffixes (type "size").</summary>
    public bool IsSize { get; init; }

    /// <summary>True: object-level property that device-list-properties leaves out of the device's own settings.</summary>
    public bool ObjectOnly { get; init; }

    /// <summary>True: may change after realize.</summary>
    public bool SettableAfterRealize { get; init; }

    /// <summary>Literal default to announce (JSON text), e.g. "true" or "1016"; null to announce none.</summary>
    public string? Default { get; init; }
}

/// <summary>Says why a device has no vmstate. A device class must have either this or a vmstate record.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class NotMigratableAttribute(string reason) : Attribute
{
    /// <summary>The reason, shown when a migration is refused.</summary>
    public string Reason { get; } = reason;
}
