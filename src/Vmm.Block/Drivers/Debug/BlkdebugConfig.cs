using System.Globalization;
using System.Text;
using Vmm.Block.Options;
using Vmm.Interop;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Drivers.Debug;

/// <summary>Rules in a file: groups [inject-error] and [set-state], with the members of the options of the same names as text.</summary>
internal static class BlkdebugConfig
{
    private const int MaxBytes = 1 << 20;

    /// <summary>Reads a file.</summary>
    /// <exception cref="QapiException">There is none, or it cannot be understood.</exception>
    internal static void ReadFile(string path, BlkdebugRules rules)
    {
        Errno errno = Libc.ReadFile(path, MaxBytes, out byte[] content);
        if (errno != Errno.OK)
        {
            throw new QapiException($"Could not read blkdebug config file: {errno.Message()}");
        }

        Read(Encoding.UTF8.GetString(content), rules);
    }

    /// <summary>Reads the text of a file.</summary>
    /// <exception cref="QapiException">It cannot be understood.</exception>
    internal static void Read(string text, BlkdebugRules rules)
    {
        try
        {
            List<ConfigGroup> groups = [];
            foreach (ConfigGroup group in ConfigFileParser.Parse(text))
            {
                CheckNames(group);
                groups.Add(group);
            }

            // Errors come before changes of the state, however the file has them.
            groups.ForEach(group => AddError(group, rules));
            groups.ForEach(group => AddState(group, rules));
        }
        catch (ConfigFileException e)
        {
            throw new QapiException(e.Message);
        }
    }

    private static void CheckNames(ConfigGroup group)
    {
        bool isError = group.Name == "inject-error";
        if (!isError && group.Name != "set-state")
        {
            throw new QapiException($"There is no option group '{group.Name}'");
        }

        foreach ((string name, QValue? value) in group.Values)
        {
            string text = Text(value);
            switch (name)
            {
                case "event":
                case "iotype" when isError:
                    break;
                case "state":
                case "errno" or "sector" when isError:
                case "new_state" when !isError:
                    Number(name, text);
                    break;
                case "once" or "immediately" when isError:
                    Switch(name, text);
                    break;
                default:
                    throw new QapiException($"Invalid parameter '{name}'");
            }
        }
    }

    private static void AddError(ConfigGroup group, BlkdebugRules rules)
    {
        if (group.Name != "inject-error")
        {
            return;
        }

        rules.Add(new BlkdebugInjectErrorOptions
        {
            Event = Event(group),
            State = MaybeNumber(group, "state"),
            Iotype = Find(group, "iotype") is { } type ? IoType(type) : null,
            Errno = MaybeNumber(group, "errno"),
            Sector = MaybeNumber(group, "sector"),
            Once = Find(group, "once") is { } once ? Switch("once", once) : null,
            Immediately = Find(group, "immediately") is { } immediately ? Switch("immediately", immediately) : null,
        });
    }

    private static void AddState(ConfigGroup group, BlkdebugRules rules)
    {
        if (group.Name == "set-state")
        {
            rules.Add(new BlkdebugSetStateOptions
            {
                Event = Event(group),
                State = MaybeNumber(group, "state"),
                NewState = MaybeNumber(group, "new_state") ?? 0,
            });
        }
    }

    private static BlkdebugEvent Event(ConfigGroup group)
    {
        string name = Find(group, "event") ?? throw new QapiException("Missing event name for rule");
        return BlkdebugEventQapi.TryParse(name, out BlkdebugEvent found) ? found : throw BadValue(name);
    }

    private static BlkdebugIoType IoType(string name) =>
        BlkdebugIoTypeQapi.TryParse(name, out BlkdebugIoType found) ? found : throw BadValue(name);

    private static QapiException BadValue(string value) => new($"invalid parameter value: {value}");

    private static string? Find(ConfigGroup group, string name) => group.Values.TryGetValue(name, out QValue? value) ? Text(value) : null;

    private static string Text(QValue? value) => value is QString text ? text.Value : "";

    private static long? MaybeNumber(ConfigGroup group, string name) => Find(group, name) is { } text ? Number(name, text) : null;

    private static long Number(string name, string text)
    {
        bool isHex = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        return ulong.TryParse(
            isHex ? text.AsSpan(2) : text, isHex ? NumberStyles.AllowHexSpecifier : NumberStyles.None, CultureInfo.InvariantCulture, out ulong number)
            ? unchecked((long)number)
            : throw new QapiException($"Parameter '{name}' expects a number");
    }

    private static bool Switch(string name, string text) => text switch
    {
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        _ => throw new QapiException($"Parameter '{name}' expects 'on' or 'off'"),
    };
}
