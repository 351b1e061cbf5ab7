namespace Vmm.Qapi;

/// <summary>A type as query-qmp-schema describes it. Instances are shared; identity means sameness.</summary>
public abstract class SchemaType
{
    private protected SchemaType()
    {
    }
}

/// <summary>A built-in scalar type.</summary>
public sealed class SchemaBuiltin : SchemaType
{
    /// <summary>JSON string.</summary>
    public static readonly SchemaBuiltin Str = new("str", "string");

    /// <summary>Integer of any width.</summary>
    public static readonly SchemaBuiltin Int = new("int", "int");

    /// <summary>JSON number.</summary>
    public static readonly SchemaBuiltin Number = new("number", "number");

    /// <summary>JSON boolean.</summary>
    public static readonly SchemaBuiltin Bool = new("bool", "boolean");

    /// <summary>JSON null.</summary>
    public static readonly SchemaBuiltin Null = new("null", "null");

    /// <summary>Any JSON value.</summary>
    public static readonly SchemaBuiltin Any = new("any", "value");

    private SchemaBuiltin(string name, string jsonType)
    {
        Name = name;
        JsonType = jsonType;
    }

    /// <summary>Name on the wire.</summary>
    public string Name { get; }

    /// <summary>The "json-type" on the wire.</summary>
    public string JsonType { get; }
}

/// <summary>A list type.</summary>
public sealed class SchemaArray(SchemaType element) : SchemaType
{
    /// <summary>Type of the elements.</summary>
    public SchemaType Element { get; } = element;
}

/// <summary>An enumeration.</summary>
/// <param name="values">Wire names in declaration order.</param>
public sealed class SchemaEnum(SchemaEnumValue[] values) : SchemaType
{
    /// <summary>The values in declaration order.</summary>
    public SchemaEnumValue[] Values { get; } = values;
}

/// <summary>A value of an enumeration.</summary>
public readonly record struct SchemaEnumValue(string Name, string[]? Features = null);

/// <summary>A member of an object.</summary>
/// <param name="Name">Name on the wire.</param>
/// <param name="Type">Its type, resolved when the schema is built.</param>
/// <param name="Optional">Whether it may be absent.</param>
/// <param name="Features">Introspected features.</param>
public readonly record struct SchemaMember(string Name, Func<SchemaType> Type, bool Optional = false, string[]? Features = null);

/// <summary>A branch of a union.</summary>
/// <param name="Case">Discriminator value.</param>
/// <param name="Type">The members that the branch adds.</param>
public readonly record struct SchemaVariant(string Case, Func<SchemaType> Type);

/// <summary>An object type.</summary>
public sealed class SchemaObject : SchemaType
{
    /// <summary>The object without members.</summary>
    public static readonly SchemaObject Empty = new([]);

    /// <summary>A struct.</summary>
    public SchemaObject(SchemaMember[] members, string[]? features = null)
    {
        Members = members;
        Features = features;
    }

    /// <summary>A flat union.</summary>
    public SchemaObject(SchemaMember[] members, string tag, SchemaVariant[] variants, string[]? features = null)
        : this(members, features)
    {
        Tag = tag;
        Variants = variants;
    }

    /// <summary>The members, in declaration order.</summary>
    public SchemaMember[] Members { get; }

    /// <summary>Wire name of the discriminator; null for a struct.</summary>
    public string? Tag { get; }

    /// <summary>Branches in the order of the discriminator's values; those that add nothing may be absent.</summary>
    public SchemaVariant[]? Variants { get; }

    /// <summary>Introspected features.</summary>
    public string[]? Features { get; }
}

/// <summary>A choice by JSON type.</summary>
public sealed class SchemaAlternate(Func<SchemaType>[] members) : SchemaType
{
    /// <summary>The possible types.</summary>
    public Func<SchemaType>[] Members { get; } = members;
}
