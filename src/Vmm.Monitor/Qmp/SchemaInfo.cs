using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>Kinds of schema entry.</summary>
[QapiEnum]
public enum SchemaMetaType
{
    /// <summary>A built-in type.</summary>
    Builtin,

    /// <summary>An enumeration.</summary>
    Enum,

    /// <summary>An array.</summary>
    Array,

    /// <summary>An object.</summary>
    Object,

    /// <summary>A choice by JSON type.</summary>
    Alternate,

    /// <summary>A command.</summary>
    Command,

    /// <summary>An event.</summary>
    Event,
}

/// <summary>JSON types of built-in types.</summary>
[QapiEnum]
[QapiName("JSONType")]
public enum SchemaJsonType
{
    /// <summary>A string.</summary>
    String,

    /// <summary>A number.</summary>
    Number,

    /// <summary>A number without fraction.</summary>
    Int,

    /// <summary>true or false.</summary>
    Boolean,

    /// <summary>null.</summary>
    Null,

    /// <summary>An object.</summary>
    Object,

    /// <summary>An array.</summary>
    Array,

    /// <summary>Any value.</summary>
    Value,
}

/// <summary>A schema entry.</summary>
[QapiUnion(Discriminator = "meta-type")]
public sealed partial record SchemaInfo
{
    /// <summary>The entry's name.</summary>
    public required string Name { get; init; }

    /// <summary>Its kind.</summary>
    public required SchemaMetaType MetaType { get; init; }

    /// <summary>Its features.</summary>
    public string[]? Features { get; init; }

    /// <summary>A built-in type.</summary>
    [QapiBranch("builtin")]
    public SchemaInfoBuiltin? Builtin { get; init; }

    /// <summary>An enumeration.</summary>
    [QapiBranch("enum")]
    public SchemaInfoEnum? Enum { get; init; }

    /// <summary>An array.</summary>
    [QapiBranch("array")]
    public SchemaInfoArray? Array { get; init; }

    /// <summary>An object.</summary>
    [QapiBranch("object")]
    public SchemaInfoObject? Object { get; init; }

    /// <summary>A choice by JSON type.</summary>
    [QapiBranch("alternate")]
    public SchemaInfoAlternate? Alternate { get; init; }

    /// <summary>A command.</summary>
    [QapiBranch("command")]
    public SchemaInfoCommand? Command { get; init; }

    /// <summary>An event.</summary>
    [QapiBranch("event")]
    public SchemaInfoEvent? Event { get; init; }
}

/// <summary>What a built-in type is.</summary>
[QapiStruct]
public sealed partial record SchemaInfoBuiltin(SchemaJsonType JsonType);

/// <summary>A value of an enumeration.</summary>
[QapiStruct]
public sealed partial record SchemaInfoEnumMember(string Name, string[]? Features);

/// <summary>The values of an enumeration.</summary>
[QapiStruct]
public sealed partial record SchemaInfoEnum
{
    /// <summary>The values.</summary>
    public required SchemaInfoEnumMember[] Members { get; init; }

    /// <summary>The names of the values.</summary>
    [QapiFeature("deprecated")]
    public required string[] Values { get; init; }
}

/// <summary>The element type of an array.</summary>
[QapiStruct]
public sealed partial record SchemaInfoArray(string ElementType);

/// <summary>A member of an object.</summary>
[QapiStruct]
public sealed partial record SchemaInfoObjectMember(string Name, string Type, QValue? Default, string[]? Features);

/// <summary>A branch of a union.</summary>
[QapiStruct]
public sealed partial record SchemaInfoObjectVariant(string Case, string Type);

/// <summary>The members and branches of an object.</summary>
[QapiStruct]
public sealed partial record SchemaInfoObject(SchemaInfoObjectMember[] Members, string? Tag, SchemaInfoObjectVariant[]? Variants);

/// <summary>A type among the choices.</summary>
[QapiStruct]
public sealed partial record SchemaInfoAlternateMember(string Type);

/// <summary>The choices.</summary>
[QapiStruct]
public sealed partial record SchemaInfoAlternate(SchemaInfoAlternateMember[] Members);

/// <summary>The types of a command.</summary>
[QapiStruct]
public sealed partial record SchemaInfoCommand(string ArgType, string RetType, bool? AllowOob);

/// <summary>The type of an event's data.</summary>
[QapiStruct]
public sealed partial record SchemaInfoEvent(string ArgType);
