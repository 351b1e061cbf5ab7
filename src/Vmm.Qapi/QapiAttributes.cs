namespace Vmm.Qapi;

/// <summary>The wire name of a record member, enum value or command parameter; without it the name in kebab-case is used.</summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Field | AttributeTargets.Parameter | AttributeTargets.Enum | AttributeTargets.Class)]
public sealed class QapiNameAttribute(string name) : Attribute
{
    /// <summary>The name on the wire.</summary>
    public string Name { get; } = name;
}

/// <summary>
/// A partial record whose properties, in declaration order after those of its base record, are the members of a JSON object.
/// A nullable property is optional. The generator adds QapiRead, QapiWrite, QapiToValue and QapiSchema.
/// </summary>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Struct)]
public sealed class QapiStructAttribute : Attribute;

/// <summary>An enum whose values are JSON strings. The generator adds a class of the enum's name plus "Qapi" with ToWire, TryParse and more.</summary>
[AttributeUsage(AttributeTargets.Enum)]
public sealed class QapiEnumAttribute : Attribute;

/// <summary>
/// A partial record that is a flat union: ordinary properties are common members, one of them the discriminator (an enum); properties with
/// <see cref="QapiBranchAttribute"/> hold the members of the chosen branch.
/// </summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class QapiUnionAttribute : Attribute
{
    /// <summary>Wire name of the discriminating member.</summary>
    public string Discriminator { get; set; } = "type";
}

/// <summary>A nullable property of a union that holds the members of one branch.</summary>
[AttributeUsage(AttributeTargets.Property, AllowMultiple = true)]
public sealed class QapiBranchAttribute(string tag) : Attribute
{
    /// <summary>Wire name of the discriminator's value.</summary>
    public string Tag { get; } = tag;

    /// <summary>The branch has one member "data" that is the property, rather than the property's members.</summary>
    public bool Wrapped { get; set; }
}

/// <summary>A partial record with one nullable property per JSON type, of which exactly one is set.</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class QapiAlternateAttribute : Attribute;

/// <summary>A property that is not a member of the JSON object.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class QapiIgnoreAttribute : Attribute;

/// <summary>Marks a type, member, value, command or event with a feature that introspection shows ("deprecated", "unstable", ...).</summary>
[AttributeUsage(AttributeTargets.All, AllowMultiple = true)]
public sealed class QapiFeatureAttribute(string name) : Attribute
{
    /// <summary>Name of the feature.</summary>
    public string Name { get; } = name;
}

/// <summary>
/// A QMP command: a public or internal method, static or of an instance that the composition root registers. Parameters are the members of the arguments
/// object, in order (<see cref="QapiNameAttribute"/> or kebab-case names; nullable or defaulted is optional), or one
/// record with <see cref="QapiStructAttribute"/> or <see cref="QapiUnionAttribute"/>. A parameter of type <see cref="IMonitorSession"/>
/// receives the calling monitor. Returns void, a QAPI type, or Task/ValueTask of these.
/// </summary>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
public sealed class QmpCommandAttribute(string name) : Attribute
{
    /// <summary>Name on the wire.</summary>
    public string Name { get; } = name;

    /// <summary>Declared parameters: comma separated name:letter, '?' for optional; checked against the method when it is compiled.</summary>
    public string ArgsType { get; set; } = "";

    /// <summary>May be run out of band: never blocks and is safe beside any other command.</summary>
    public bool AllowOob { get; set; }

    /// <summary>May be run before the machine is created.</summary>
    public bool AllowPreconfig { get; set; }

    /// <summary>Version of the interface in which the command appeared.</summary>
    public string Since { get; set; } = "";

    /// <summary>Whether a success is answered; false only for commands that answer through an event of their own.</summary>
    public bool SuccessResponse { get; set; } = true;

    /// <summary>Type that introspection shows for the arguments, where the method takes them as a dictionary.</summary>
    public Type? ArgsSchema { get; set; }

    /// <summary>Type that introspection shows for the result, where the method returns a run-time value.</summary>
    public Type? RetSchema { get; set; }
}

/// <summary>A partial record that is a QMP event; its properties are the members of the event's data.</summary>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Struct)]
public sealed class QmpEventAttribute(string name) : Attribute
{
    /// <summary>Name on the wire.</summary>
    public string Name { get; } = name;

    /// <summary>At most one event per this many milliseconds; the last one within the interval is sent at its end. 0: no limit.</summary>
    public int RateLimitMs { get; set; }

    /// <summary>Wire name of the member by whose value events are limited separately.</summary>
    public string? RateKey { get; set; }
}

/// <summary>
/// An HMP command: a method whose first parameter is <see cref="HmpContext"/> and whose others are the declared arguments by name.
/// </summary>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
public sealed class HmpCommandAttribute(string names) : Attribute
{
    /// <summary>Name with aliases after '|'; sub-commands are written after their group: "info status".</summary>
    public string Names { get; } = names;

    /// <summary>Declared arguments: comma separated name:letter, '?' for optional, '/' for a format.</summary>
    public string ArgsType { get; set; } = "";

    /// <summary>Arguments as the help text shows them.</summary>
    public string Params { get; set; } = "";

    /// <summary>One line of help.</summary>
    public string Help { get; set; } = "";

    /// <summary>May be run before the machine is created.</summary>
    public bool AllowPreconfig { get; set; }
}

/// <summary>An unsigned 64-bit number of bytes: key=value input takes suffixes.</summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Parameter)]
public sealed class QapiSizeAttribute : Attribute;

/// <summary>An argument that a command's ArgsType declares as required and that later versions of the interface made optional.</summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Parameter)]
public sealed class QapiRelaxedAttribute : Attribute;
