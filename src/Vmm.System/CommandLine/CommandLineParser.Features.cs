using System.Globalization;
using Vmm.Block.Options;
using Vmm.Interop;
using Vmm.ObjectModel.Qmp;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

public sealed partial class CommandLineParser
{
    private static Guid ParseUuid(string text)
    {
        bool valid = text.Length == 36;
        for (int i = 0; valid && i < text.Length; i++)
        {
            valid = i is 8 or 13 or 18 or 23 ? text[i] == '-' : char.IsAsciiHexDigit(text[i]);
        }

        return valid ? Guid.ParseExact(text, "D") : throw new QapiException("failed to parse UUID string: wrong format");
    }

    private static bool IsJson(string text) => text.StartsWith('{');

    private static QDict ParseJson(string text) => (QDict)QValue.Parse(text);

    private void ReadMachine(string value)
    {
        KeyvalParser.ParseInto(_machine, value, "type", out bool help);
        if (!help && _machine.GetString("type") is { } type && OptionErrors.IsHelp(type))
        {
            help = true;
        }

        if (help)
        {
            string? subject = _machine.GetString("type");
            bool list = subject == null || OptionErrors.IsHelp(subject);
            _help = list
                ? new HelpRequest(HelpTopic.Machines, null, 0, _location)
                : new HelpRequest(HelpTopic.MachineProperties, subject, 0, _location);
        }
    }

    private void MergeMachineProperty(string group, string property, string value)
    {
        OptionGroup description = OptionGroups.Create(group)!;
        QDict parameters = KeyvalParser.Parse(value, description.ImpliedKey, out bool help);
        if (help)
        {
            _help = new HelpRequest(HelpTopic.Text, description.FormatHelp(), 0, _location);
            return;
        }

        KeyvalParser.Merge(_machine, new QDict { { property, parameters } });
    }

    private void ReadAccel(string value)
    {
        QemuOpts? opts = ReadOpts("accel", value);
        string? name = opts?.Get("accel");
        if (name == null || OptionErrors.IsHelp(name))
        {
            _help = new HelpRequest(HelpTopic.Accelerators, null, 0, _location);
        }
    }

    private void ReadDevice(string value)
    {
        if (IsJson(value))
        {
            _jsonDevices.Add(new DeviceOption(ParseJson(value), true, _location));
        }
        else
        {
            ReadOpts("device", value);
        }
    }

    private void ReadBlockdev(string value)
    {
        bool json = IsJson(value);
        bool help = false;
        QDict properties = json ? ParseJson(value) : KeyvalParser.Parse(value, "driver", out help);
        if (help)
        {
            throw new QapiException("Help is not available for this option");
        }

        BlockdevOptions options = BlockdevOptions.QapiRead(
            properties, new QapiReader(json ? QapiInputMode.Json : QapiInputMode.Keyval), null);
        _blockdevs.Add(new BlockdevOption(options, _location));
    }

    private QemuOpts AddDrive(string options) =>
        OptsParser.Parse(_lists.Get("drive"), options, true, _location, this) ?? throw new QapiException("Must specify either driver or file");

    private void AddDrive(string? type, int index, string file, string options)
    {
        QemuOpts drive = AddDrive(options);
        if (type is not null)
        {
            drive.Append("if", type);
        }

        if (index >= 0)
        {
            drive.Append("index", index.ToString(CultureInfo.InvariantCulture));
        }

        drive.Append("file", file);
    }

    private void ReadObject(string value)
    {
        bool json = IsJson(value);
        QDict properties;
        if (json)
        {
            properties = ParseJson(value);
        }
        else
        {
            QemuOpts opts = ReadOpts("object", value)!;
            properties = opts.ToRepeatedDict();
            string? subject = opts.Get("qom-type");
            bool list = subject != null && OptionErrors.IsHelp(subject);
            bool describe = opts.Contains("help") || opts.Contains("?");
            if (subject != null && (list || describe))
            {
                CheckObjectType(list ? null : subject);
                _help = list
                    ? new HelpRequest(HelpTopic.Objects, null, 0, _location)
                    : new HelpRequest(HelpTopic.ObjectProperties, subject, 0, _location);
                return;
            }
        }

        if (!properties.TryGetValue("qom-type", out QValue? type))
        {
            throw QapiException.MissingParameter("qom-type");
        }

        AddObject(properties, json ? QapiInputMode.Json : QapiInputMode.Options);
    }

    // What the schema refuses belongs to the option; what the object itself refuses later does not.
    private void AddObject(QDict properties, QapiInputMode mode)
    {
        if (properties.ContainsKey("props"))
        {
            throw mode == QapiInputMode.Options ? QapiException.InvalidParameter("props") : QapiException.UnexpectedParameter("props");
        }

        _objects.Add(new ObjectOption(ObjectOptions.QapiRead(properties, new QapiReader(mode) { Diagnostics = this }, null).QapiToValue()));
    }

    private void CheckObjectType(string? type)
    {
        if (type != null && _environment.IsObjectType?.Invoke(type) == false)
        {
            throw QapiException.InvalidEnumValue("qom-type", type);
        }
    }

    private void ReadDisplay(string value)
    {
        if (OptionErrors.IsHelp(value))
        {
            _help = new HelpRequest(HelpTopic.Text, "Available display backend types:\nnone\n", 0, _location);
            return;
        }

        if (value.StartsWith("vnc", StringComparison.Ordinal) && value.Length > 3 && value[3] is '=')
        {
            throw new QapiException("VNC displays are not supported by this build");
        }

        QDict display = IsJson(value) ? ParseJson(value) : KeyvalParser.Parse(value, "type");
        if (!display.TryGetValue("type", out QValue? type))
        {
            throw QapiException.MissingParameter("type");
        }

        string name = type is QString text ? text.Value : throw QapiException.InvalidParameterType("type", "string");
        if (name is not ("none" or "default"))
        {
            throw QapiException.InvalidEnumValue("type", name);
        }

        foreach (KeyValuePair<string, QValue> member in display)
        {
            if (member.Key != "type")
            {
                throw QapiException.UnexpectedParameter(member.Key);
            }
        }
    }

    private static void CheckVga(string? value)
    {
        string? missing = value switch
        {
            null or "none" => null,
            "std" => "standard VGA",
            "cirrus" => "Cirrus VGA",
            "vmware" => "VMWare SVGA",
            "qxl" => "QXL VGA",
            "virtio" => "Virtio VGA",
            "xenfb" => "Xen paravirtualized framebuffer",
            "tcx" => "TCX framebuffer",
            "cg3" => "CG3 framebuffer",
            _ => throw new QapiException($"unknown vga type: {value}"),
        };
        if (missing != null)
        {
            throw new QapiException($"{missing} not available");
        }
    }

    private static void ReadNet(string value)
    {
        int comma = value.IndexOf(',');
        string type = comma < 0 ? value : value[..comma];
        if (type.StartsWith("type=", StringComparison.Ordinal))
        {
            type = type[5..];
        }

        switch (type)
        {
            case "none" when comma < 0:
                break;
            case "none":
                int end = value.IndexOfAny(['=', ','], comma + 1);
                throw QapiException.InvalidParameter(value[(comma + 1)..(end < 0 ? value.Length : end)]);
            case "":
                throw QapiException.MissingParameter("type");
            case "nic" or "user" or "tap" or "l2tpv3" or "socket" or "stream" or "dgram" or "vde" or "bridge" or "hubport" or "netmap"
                or "vhost-user" or "vhost-vdpa":
                throw new QapiException($"network backend '{type}' is not compiled into this binary");
            default:
                throw QapiException.InvalidEnumValue("type", type);
        }
    }

    private static void ReadParallel(string value)
    {
        if (value != "none")
        {
            throw new QapiException("parallel ports are not supported by this build");
        }
    }

    private void ReadMessageOptions(string value)
    {
        if (ReadOpts("msg", value) is { } opts)
        {
            _timestamp = opts.GetBool("timestamp", false);
            _showGuestName = opts.GetBool("guest-name", false);
        }
    }

    // driver.property=value; anything else is in the long form.
    private void ReadGlobal(string value)
    {
        const int MaxName = 63;
        OptsList list = _lists.Get("global");
        int dot = value.AsSpan().IndexOfAny('.', '=');
        if (dot is > 0 and <= MaxName && value[dot] == '.')
        {
            int equals = value.IndexOf('=', dot + 1);
            if (equals > dot + 1 && equals - dot - 1 <= MaxName)
            {
                QemuOpts global = list.Create(null, _location);
                global.Append("driver", value[..dot]);
                global.Append("property", value[(dot + 1)..equals]);
                global.Append("value", value[(equals + 1)..]);
                return;
            }
        }

        if (ReadOpts("global", value) is { } opts
            && (opts.Get("driver") == null || opts.Get("property") == null || opts.Get("value") == null))
        {
            throw new QapiException("options 'driver', 'property', and 'value' are required");
        }
    }

    // group.id.arg=value
    private void SetOption(string value)
    {
        const int MaxName = 63;
        int first = value.IndexOf('.');
        int second = first < 0 ? -1 : value.IndexOf('.', first + 1);
        int equals = second < 0 ? -1 : value.IndexOf('=', second + 1);
        if (first is < 1 or > MaxName || second - first is < 2 or > MaxName + 1 || equals - second is < 2 or > MaxName + 1)
        {
            throw new QapiException($"can't parse: \"{value}\"");
        }

        string group = value[..first];
        string id = value[(first + 1)..second];
        if (OptionGroups.IsNested(group))
        {
            throw new QapiException($"-set is not supported with {group}");
        }

        OptsList list = _lists.Find(group) ?? throw new QapiException($"There is no option group '{group}'");
        QemuOpts opts = list.Find(id) ?? throw new QapiException($"there is no {group} \"{id}\" defined");
        opts.Set(value[(second + 1)..equals], value[(equals + 1)..], this);
    }

    private void ReadTrace(string value)
    {
        OptsList list = _lists.Get("trace");
        if (ReadOpts("trace", value) is not { } opts)
        {
            return;
        }

        list.Remove(opts);
        if (opts.Get("enable") is { } enable)
        {
            AddTrace(enable);
        }

        if (opts.Get("events") is { } path)
        {
            string? location = _location;
            string text = ReadFile(path, $":{path}");
            foreach (string line in text.Split('\n'))
            {
                string pattern = line.Trim();
                if (pattern.Length > 0 && pattern[0] != '#')
                {
                    AddTrace(pattern);
                }
            }

            _location = location;
        }

        // Events are written to the log.
        _logFile = opts.Get("file") ?? _logFile;
    }

    private void AddTrace(string pattern)
    {
        if (OptionErrors.IsHelp(pattern))
        {
            _help = new HelpRequest(HelpTopic.TraceEvents, null, 0, _location);
        }
        else
        {
            _traces.Add(TraceSwitch.Parse(pattern, _location));
        }
    }

    private string ReadFile(string path, string location)
    {
        string? text = _environment.ReadFile(path, out string reason);
        if (text == null)
        {
            _location = location;
            throw new QapiException(reason);
        }

        return text;
    }

    private void ReadConfigFile(string path)
    {
        string? text = _environment.ReadFile(path, out string reason);
        if (text == null)
        {
            // A directory can be opened.
            throw new QapiException(reason == Errno.EISDIR.Message() ? $"Cannot read config file: {reason}" : $"Could not open '{path}': {reason}");
        }

        try
        {
            foreach (ConfigGroup group in ConfigFileParser.Parse(text))
            {
                _location = group.Line == 0 ? null : $":{path}:{group.Line}";
                ReadConfigGroup(group);
            }
        }
        catch (QapiException exception) when (exception.Hint != null)
        {
            throw new QapiException(exception.Desc);
        }
        catch (ConfigFileException exception)
        {
            _location = $":{path}:{exception.Line}";
            throw new QapiException(exception.Message);
        }
    }

    private void ReadConfigGroup(ConfigGroup group)
    {
        if (OptionGroups.IsNested(group.Name))
        {
            QDict flat = group.Values;
            if (group.Id != null && !flat.ContainsKey("id"))
            {
                flat["id"] = group.Id;
            }

            if (KeyvalParser.Crumple(flat) is not QDict nested)
            {
                throw new QapiException("Lists cannot be at top level of a configuration section");
            }

            switch (group.Name)
            {
                case "machine":
                    KeyvalParser.Merge(_machine, nested);
                    break;
                case "object":
                    AddConfigObject(nested);
                    break;
                default:
                    KeyvalParser.Merge(_machine, new QDict { { group.Name[..^"-opts".Length], nested } });
                    break;
            }

            return;
        }

        OptsList list = _lists.Find(group.Name) ?? throw new QapiException($"There is no option group '{group.Name}'");
        QemuOpts opts = list.Create(group.Values.GetString("id") ?? group.Id, _location);
        try
        {
            foreach (KeyValuePair<string, QValue> member in group.Values)
            {
                if (member.Key == "id")
                {
                    continue;
                }

                opts.Set(member.Key, ((QString)member.Value).Value, this);
            }
        }
        catch (QapiException)
        {
            list.Remove(opts);
            throw;
        }
    }

    private void AddConfigObject(QDict properties)
    {
        AddObject(properties, QapiInputMode.Keyval);
    }
}
