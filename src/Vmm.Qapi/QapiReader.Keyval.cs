using Vmm.Qapi.Options;

namespace Vmm.Qapi;

public sealed partial class QapiReader
{
    private string Scalar(QValue value, string? name) => value is QString s
        ? s.Value
        : throw QapiException.InvalidParameterType(FullName(name), "string");

    private bool ParseBool(string text, string? name) => OptionScalars.TryParseBool(text, out bool value)
        ? value
        : throw QapiException.InvalidParameterValue(FullName(name), "'on' or 'off'");

    private long ParseInt64(string text, string? name) => OptionScalars.TryParseInt64(text, out long value) == ScalarStatus.Ok
        ? value
        : throw QapiException.InvalidParameterValue(FullName(name), Mode switch { QapiInputMode.Options => "an int64 value", QapiInputMode.Terminal => "int64", _ => "integer" });

    private ulong ParseUInt64(string text, string? name)
    {
        // A negative number stands for its two's complement, but not in -object.
        bool options = Mode == QapiInputMode.Options;
        return OptionScalars.TryParseUInt64(text, out ulong value) == ScalarStatus.Ok && !(options && text.Contains('-'))
            ? value
            : throw QapiException.InvalidParameterValue(FullName(name), options ? "a uint64 value" : Mode == QapiInputMode.Terminal ? "uint64" : "integer");
    }

    private ulong ParseSize(string text, string? name) => OptionScalars.TryParseSize(text, out ulong value, out _) == ScalarStatus.Ok
        ? value
        : throw QapiException.InvalidParameterValue(FullName(name), Mode == QapiInputMode.Options ? "a size value" : "size");

    private double ParseNumber(string text, string? name) => OptionScalars.TryParseDouble(text, out double value)
        ? value
        : throw QapiException.InvalidParameterValue(FullName(name), "number");
}
