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
    private const string Parameter = "Parameter '";
    private const string BadType = "Invalid parameter type for '";
    private const string Server = "server.";

    /// <summary>What an error of the reader means; null where the reader's own words are right.</summary>
    /// <param name="message">Of the reader.</param>
    /// <param name="options">What was read.</param>
    /// <param name="isProtocol">They are those of a file or the like.</param>
    internal static OptionFault? Translate(string message, QDict options, bool isProtocol)
    {
        string driver = options.GetString("driver") ?? "";
        if (Split(message, BadType, out string path, out string rest))
        {
            if (driver == "nbd" && path == "server")
            {
                return new OptionFault("NBD server address missing");
            }

            return Find(options, path) is QDict or QList ? Unsupported(driver, path + FirstMember(Find(options, path)!), isProtocol) : null;
        }

        if (!Split(message, Parameter, out path, out rest))
        {
            return null;
        }

        string last = path[(path.LastIndexOf('.') + 1)..];
        if (driver == "nbd" && path.StartsWith(Server, StringComparison.Ordinal))
        {
            return new OptionFault(Parameter + path[Server.Length..] + "'" + rest);
        }

        if (driver == "blkdebug" && Rule(path) is { } group)
        {
            return rest switch
            {
                " is unexpected" => new OptionFault($"[{group}] section doesn't support the option '{last}'", path),
                " is missing" when last == "event" => new OptionFault("Missing event name for rule"),
                _ => Scalar(driver, last, rest),
            };
        }

        return rest switch
        {
            " is unexpected" when Find(options, path) is { } value => Unsupported(driver, path + FirstMember(value), isProtocol),
            " is missing" when path == "throttle-group" => new OptionFault("Please specify a throttle group"),
            _ => Scalar(driver, last, rest),
        };
    }

    private static OptionFault? Scalar(string driver, string name, string rest)
    {
        const string enumeration = " does not accept value '";
        if (driver == "copy-before-write")
        {
            return null;
        }

        if (rest.StartsWith(enumeration, StringComparison.Ordinal))
        {
            string value = rest[enumeration.Length..^1];
            return name switch
            {
                "overlap-check" or "template" => new OptionFault(
                    $"Unsupported value '{value}' for qcow2 option 'overlap-check'. Allowed are any of the following: none, constant, cached, all"),
                "format" or "type" => null,
                _ => new OptionFault("invalid parameter value: " + value),
            };
        }

        return rest switch
        {
            " expects integer" => new OptionFault($"{Parameter}{name}' expects a number"),
            " expects 'on' or 'off'" => new OptionFault($"{Parameter}{name}'{rest}"),
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

    private static bool Split(string message, string prefix, out string path, out string rest)
    {
        path = "";
        rest = "";
        int end = message.StartsWith(prefix, StringComparison.Ordinal) ? message.IndexOf('\'', prefix.Length) : -1;
        if (end < 0)
        {
            return false;
        }

        path = message[prefix.Length..end];
        rest = message[(end + 1)..];
        return true;
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
