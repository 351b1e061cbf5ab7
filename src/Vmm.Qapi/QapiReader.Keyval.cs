using Vmm.Qapi.Options;

namespace Vmm.Qapi;

public sealed partial class QapiReader
{
    // The most elements of one range.
    private const ulong MaxRange = 65536;

    // Of an option that is given several times the last one counts.
    private string Scalar(QValue value, string? name) => value switch
    {
        QString s => s.Value,
        QList { Count: > 0 } list when Mode == QapiInputMode.Options && list[^1] is QString last => last.Value,
        _ => throw QapiException.InvalidParameterType(FullName(name), "string"),
    };

    // One element for each time that the option is given, or several for a range such as "1-3".
    private QList Repeated(QValue value, string? name, bool ranges)
    {
        QList given = value as QList ?? [value];
        if (!ranges)
        {
            return given;
        }

        QList result = [];
        foreach (QValue item in given)
        {
            string text = Scalar(item, name);
            int dash = text.IndexOf('-', StringComparison.Ordinal);
            if (OptionScalars.TryParseUInt64(dash < 0 ? text : text[..dash], out ulong first) != ScalarStatus.Ok
                || OptionScalars.TryParseUInt64(dash < 0 ? text : text[(dash + 1)..], out ulong last) != ScalarStatus.Ok
                || first > last || last - first >= MaxRange)
            {
                throw QapiException.InvalidParameterValue(FullName(name), "a uint64 value or range");
            }

            for (ulong i = first; ; i++)
            {
                result.Add(i.ToString(System.Globalization.CultureInfo.InvariantCulture));
                if (i == last)
                {
                    break;
                }
            }
        }

        return result;
    }

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

    private ulong ParseSize(string text, string? name)
    {
        ScalarStatus status = OptionScalars.TryParseSize(text, out ulong value, out bool hexSuffix);
        if (hexSuffix)
        {
            Diagnostics?.Warning(OptionErrors.HexSuffixWarning(text));
        }

        return status == ScalarStatus.Ok
            ? value
            : throw QapiException.InvalidParameterValue(FullName(name), Mode == QapiInputMode.Options ? "a size value" : "size");
    }

    private double ParseNumber(string text, string? name) => OptionScalars.TryParseDouble(text, out double value)
        ? value
        : throw QapiException.InvalidParameterValue(FullName(name), "number");
}
