namespace Vmm.Qapi;

/// <summary>The error classes that exist on the wire; the member names are the wire names.</summary>
public enum QapiErrorClass
{
    /// <summary>No class of its own.</summary>
    GenericError,

    /// <summary>The command does not exist or is not available in this session state.</summary>
    CommandNotFound,

    /// <summary>The device exists but is not in use.</summary>
    DeviceNotActive,

    /// <summary>The named device does not exist.</summary>
    DeviceNotFound,

    /// <summary>The KVM of this host lacks a capability.</summary>
    KVMMissingCap,
}

/// <summary>What can be wrong with one parameter.</summary>
public enum QapiFaultKind
{
    /// <summary>It is required and absent.</summary>
    Missing,

    /// <summary>It is not in the schema.</summary>
    Unexpected,

    /// <summary>It has another type; the detail is the one that it should have.</summary>
    WrongType,

    /// <summary>Its value is none that it takes; the detail says what it takes.</summary>
    WrongValue,

    /// <summary>It is not a value of its enumeration; the detail is what it is.</summary>
    WrongEnum,
}

/// <summary>What is wrong with one parameter.</summary>
/// <param name="Kind">Kind.</param>
/// <param name="Path">Full path of the parameter.</param>
/// <param name="Detail">More, as the kind says; empty for those that have nothing more to say.</param>
public sealed record QapiFault(QapiFaultKind Kind, string Path, string Detail = "")
{
    /// <summary>The text on the wire.</summary>
    public override string ToString() => Kind switch
    {
        QapiFaultKind.Missing => $"Parameter '{Path}' is missing",
        QapiFaultKind.Unexpected => $"Parameter '{Path}' is unexpected",
        QapiFaultKind.WrongType => $"Invalid parameter type for '{Path}', expected: {Detail}",
        QapiFaultKind.WrongValue => $"Parameter '{Path}' expects {Detail}",
        _ => $"Parameter '{Path}' does not accept value '{Detail}'",
    };
}

/// <summary>
/// A request of an operator (command line, QMP, HMP) cannot be carried out; nothing has changed. Class and message go on the wire unchanged.
/// </summary>
public sealed class QapiException : Exception
{
    /// <summary>An error of class GenericError.</summary>
    public QapiException(string desc)
        : this(QapiErrorClass.GenericError, desc)
    {
    }

    /// <summary>An error of class GenericError about one parameter.</summary>
    public QapiException(QapiFault fault)
        : this(fault.ToString())
    {
        Fault = fault;
    }

    /// <summary>An error of any class.</summary>
    /// <param name="errorClass">The class on the wire.</param>
    /// <param name="desc">The text on the wire: one sentence without a full stop.</param>
    /// <param name="hint">Further lines for humans (command line, HMP), never on the wire.</param>
    public QapiException(QapiErrorClass errorClass, string desc, string? hint = null)
        : base(desc)
    {
        ErrorClass = errorClass;
        Hint = hint;
    }

    /// <summary>The class on the wire.</summary>
    public QapiErrorClass ErrorClass { get; }

    /// <summary>The text on the wire.</summary>
    public string Desc => Message;

    /// <summary>What is wrong with one parameter; null where that is not all that is wrong.</summary>
    public QapiFault? Fault { get; }

    /// <summary>Further lines for humans, shown after the message on terminals.</summary>
    public string? Hint { get; }

    /// <summary>The wire name of a class.</summary>
    public static ReadOnlySpan<byte> WireName(QapiErrorClass errorClass) => errorClass switch
    {
        QapiErrorClass.CommandNotFound => "CommandNotFound"u8,
        QapiErrorClass.DeviceNotActive => "DeviceNotActive"u8,
        QapiErrorClass.DeviceNotFound => "DeviceNotFound"u8,
        QapiErrorClass.KVMMissingCap => "KVMMissingCap"u8,
        _ => "GenericError"u8,
    };

    /// <summary>A required member is absent.</summary>
    public static QapiException MissingParameter(string path) => new(new QapiFault(QapiFaultKind.Missing, path));

    /// <summary>A member has the wrong JSON type.</summary>
    /// <param name="path">Full path of the member.</param>
    /// <param name="expected">"string", "boolean", "integer", "number", "object", "array", "null" or an alternate's name.</param>
    public static QapiException InvalidParameterType(string path, string expected) =>
        new(new QapiFault(QapiFaultKind.WrongType, path, expected));

    /// <summary>A member that is not in the schema.</summary>
    public static QapiException UnexpectedParameter(string path) => new(new QapiFault(QapiFaultKind.Unexpected, path));

    /// <summary>A parameter that the called function does not know.</summary>
    public static QapiException InvalidParameter(string name) => new($"Invalid parameter '{name}'");

    /// <summary>A value outside of what a parameter takes.</summary>
    public static QapiException InvalidParameterValue(string name, string expected) => new(new QapiFault(QapiFaultKind.WrongValue, name, expected));

    /// <summary>A string that is not a value of the parameter's enumeration.</summary>
    public static QapiException InvalidEnumValue(string name, string value) => new(new QapiFault(QapiFaultKind.WrongEnum, name, value));

    /// <summary>No device of that id; class DeviceNotFound.</summary>
    public static QapiException DeviceNotFound(string device) => new(QapiErrorClass.DeviceNotFound, $"Device '{device}' not found");

    /// <summary>A device that exists but is not activated by its guest driver; class DeviceNotActive.</summary>
    public static QapiException DeviceNotActive(string device) =>
        new(QapiErrorClass.DeviceNotActive, $"No {device} device has been activated");

    /// <summary>No such command; class CommandNotFound.</summary>
    public static QapiException CommandNotFound(string name) =>
        new(QapiErrorClass.CommandNotFound, $"The command {name} has not been found");

    /// <summary>The bus of a device cannot take devices at run time.</summary>
    public static QapiException BusNoHotplug(string bus) => new($"Bus '{bus}' does not support hotplugging");

    /// <summary>The device has no hot-plug support.</summary>
    public static QapiException DeviceNoHotplug(string device) => new($"Device '{device}' does not support hotplugging");

    /// <summary>A feature that this build or configuration does not have.</summary>
    public static QapiException Unsupported() => new("this feature or command is not currently supported");
}
