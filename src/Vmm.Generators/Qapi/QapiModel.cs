namespace Vmm.Generators.Qapi;

/// <summary>How a C# type looks on the wire.</summary>
internal enum WireKind
{
    String,
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Size,
    Number,
    Null,
    Any,
    Dict,
    List,
    Struct,
    Union,
    Alternate,
    Enum,
}

/// <summary>A C# type with its wire form.</summary>
/// <param name="Kind">The wire form.</param>
/// <param name="Name">Fully qualified C# name without the nullable annotation.</param>
/// <param name="IsValueType">Whether null means Nullable&lt;T&gt;.</param>
/// <param name="Element">Element type of a list.</param>
/// <param name="Collection">"array" or "list": how a list is constructed.</param>
internal sealed record WireType(WireKind Kind, string Name, bool IsValueType, WireType? Element = null, string Collection = "array");

/// <summary>A member of an object or a parameter of a command.</summary>
internal sealed record MemberModel(
    string WireName,
    string CsName,
    WireType Type,
    bool Optional,
    EquatableArray<string> Features,
    string? Default = null);

/// <summary>A property that holds the members of one or more branches of a union.</summary>
internal sealed record BranchModel(
    string CsName,
    WireType Type,
    EquatableArray<string> Tags,
    bool Wrapped,
    EquatableArray<MemberModel> Members,
    bool MembersKnown);

/// <summary>A discriminator value.</summary>
internal sealed record EnumValueModel(string WireName, string CsName, EquatableArray<string> Features);

/// <summary>A struct, union, alternate or event.</summary>
internal sealed record ObjectModel(
    string Namespace,
    string Name,
    string FullName,
    string Declaration,
    string Accessibility,
    WireKind Kind,
    bool Positional,
    bool IsStruct,
    bool HidesBase,
    string WireName,
    EquatableArray<MemberModel> Members,
    EquatableArray<BranchModel> Branches,
    string Discriminator,
    EquatableArray<EnumValueModel> Tags,
    EquatableArray<string> Features,
    EventModel? Event,
    EquatableArray<DiagnosticInfo> Errors);

/// <summary>What makes an object an event.</summary>
internal sealed record EventModel(string Name, int RateLimitMs, string? RateKey, string Doc);

/// <summary>An enumeration.</summary>
internal sealed record EnumModel(
    string Namespace,
    string Name,
    string FullName,
    string Accessibility,
    EquatableArray<EnumValueModel> Values,
    EquatableArray<DiagnosticInfo> Errors);
