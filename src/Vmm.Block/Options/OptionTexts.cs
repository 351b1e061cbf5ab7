using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>What is wrong with options, in the words of their users.</summary>
/// <param name="Text">The message.</param>
/// <param name="Unknown">Path of the option that the driver does not have; null where something else is wrong.</param>
internal readonly record struct OptionFault(string Text, string? Unknown = null);

/// <summary>
/// What is wrong with options that were given as text, in the words that their users know: those are the drivers' own, not the schema's. Pure.
/// </summary>
internal static class OptionTexts
{
    private const string Server = "server.";

    /// <summary>What a fault that the reader has found means; null where the reader's own words are right.</summary>
    /// <param name="fault">The reader's.</param>
    /// <param name="options">What was read.</param>
    /// <param name="isProtocol">They are those of a file or the like.</param>
    internal static OptionFault? Translate(QapiFault fault, QDict options, bool isProtocol)
    {
        string driver = options.GetString("driver") ?? "";
        string path = fault.Path;
        if (fault.Kind == QapiFaultKind.WrongType)
        {
            return driver == "nbd" && path == "server"
                ? new OptionFault("NBD server address missing")
                : Find(options, path) is QDict or QList ? Unsupported(driver, path + FirstMember(Find(options, path)!), isProtocol) : null;
        }

        if (driver == "nbd" && path.StartsWith(Server, StringComparison.Ordinal))
        {
            return new OptionFault((fault with { Path = path[Server.Length..] }).ToString());
        }

        string last = path[(path.LastIndexOf('.') + 1)..];
        if (driver == "blkdebug" && Rule(path) is { } group)
        {
            return fault.Kind switch
            {
                QapiFaultKind.Unexpected => new OptionFault($"[{group}] section doesn't support the option '{last}'", path),
                QapiFaultKind.Missing when last == "event" => new OptionFault("Missing event name for rule"),
                _ => Scalar(driver, fault with { Path = last }),
            };
        }

        return fault.Kind switch
        {
            QapiFaultKind.Unexpected when Find(options, path) is { } value => Unsupported(driver, path + FirstMember(value), isProtocol),
            QapiFaultKind.Missing when path == "throttle-group" => new OptionFault("Please specify a throttle group"),
            _ => Scalar(driver, fault with { Path = last }),
        };
    }

    private static OptionFault? Scalar(string driver, QapiFault fault)
    {
        if (driver == "copy-before-write")
        {
            return null;
        }

        return (fault.Kind, fault.Path, fault.Detail) switch
        {
            (QapiFaultKind.WrongEnum, "overlap-check" or "template", var value) => new OptionFault(
                $"Unsupported value '{value}' for qcow2 option 'overlap-check'. Allowed are any of the following: none, constant, cached, all"),
            (QapiFaultKind.WrongEnum, "format" or "type", _) => null,
            (QapiFaultKind.WrongEnum, _, var value) => new OptionFault("invalid parameter value: " + value),
            (QapiFaultKind.WrongValue, _, "integer") => new OptionFault((fault with { Detail = "a number" }).ToString()),
            (QapiFaultKind.WrongValue, _, "'on' or 'off'") => new OptionFault(fault.ToString()),
            _ => null,
        };
    }

    private static OptionFault Unsupported(string driver, string option, bool isProtocol) => new(
        isProtocol
            ? $"Block protocol '{driver}' doesn't support the option '{option}'"
            : $"Block format '{driver}' does not support the option '{option}'",
        option);

    // The group of a rule whose member it is: inject-error.0.errno.
    private static string? Rule(string path)
    {
        int dot = path.IndexOf('.');
        string group = dot < 0 ? path : path[..dot];
        return group is "inject-error" or "set-state" && (dot >= 0 || path == "event") ? group : path is "event" or "iotype" ? "inject-error" : null;
    }

    private static QValue? Find(QValue at, string path)
    {
        foreach (string name in path.Split('.'))
        {
            if ((at as QDict)?.TryGetValue(name, out QValue? inner) != true)
            {
                return null;
            }

            at = inner!;
        }

        return at;
    }

    private static string FirstMember(QValue value)
    {
        foreach (KeyValuePair<string, QValue> member in value as QDict ?? [])
        {
            return "." + member.Key + FirstMember(member.Value);
        }

        return value is QList { Count: > 0 } list ? ".0" + FirstMember(list[0]) : "";
    }
}
