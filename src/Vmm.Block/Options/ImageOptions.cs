using System.Globalization;
using Vmm.Block.Drivers;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Block.Options;

/// <summary>What opening by name tells the node beside its options.</summary>
/// <param name="IsProbed">The contents alone said that it is raw: they must not come to look like another format.</param>
/// <param name="Backing">Options of the backing file that complete or change what the image says of it; null for none.</param>
/// <param name="Texts">The options as they were given, scalars as text or as JSON has them; null when their spelling is of no interest.</param>
internal readonly record struct OpenHints(bool IsProbed, QDict? Backing, QDict? Texts = null);

/// <summary>Nested options of an image in which things may be left out, as drives and "json:" names have them. Pure but for the kind of a path.</summary>
internal static class ImageOptions
{
    // Text of these may have a suffix.
    private static readonly string[] s_sizes =
        ["size", "offset", "align", "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard", "max-discard", "readahead", "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "prealloc-size", "prealloc-align"];

    private static readonly string[] s_common = ["read-only", "auto-read-only", "force-share", "cache", "discard"];

    /// <summary>Adds what is not there yet; nested options member by member.</summary>
    internal static void Merge(QDict into, QDict from)
    {
        foreach (KeyValuePair<string, QValue> member in from)
        {
            if (!into.TryGetValue(member.Key, out QValue? present))
            {
                into[member.Key] = member.Value;
            }
            else if (present is QDict dict && member.Value is QDict more)
            {
                Merge(dict, more);
            }
        }
    }

    /// <summary>The driver that the options name; null when they name none.</summary>
    internal static BlockDriverInfo? FindDriver(BlockDriverRegistry registry, QDict options)
    {
        if (options.GetString("driver") is not { } name)
        {
            return null;
        }

        return BlockdevDriverQapi.TryParse(name, out BlockdevDriver driver) && registry.TryFind(driver) is { } info
            ? info
            : throw new QapiException($"Unknown driver '{name}'");
    }

    /// <summary>The options that all drivers have, as far as children inherit them. Spellings of old become those of today.</summary>
    internal static NodeOptions ReadCommon(QDict options, NodeOptions? inherited)
    {
        if (options.TryGetValue("discard", out QValue? given) && (ToText(given) as QString)?.Value is { } discard)
        {
            options["discard"] = discard switch
            {
                "on" or "unmap" => "unmap",
                "off" or "ignore" => "ignore",
                _ => throw new QapiException("Invalid discard option"),
            };
        }

        QDict common = new() { ["driver"] = "null-co" };
        foreach (string name in s_common)
        {
            if (options.TryGetValue(name, out QValue? value))
            {
                common[name] = ToText(value);
            }
        }

        if (common.GetDict("cache") is { } cache)
        {
            QDict known = [];
            foreach (string name in (ReadOnlySpan<string>)["direct", "no-flush"])
            {
                if (cache.TryGetValue(name, out QValue? value))
                {
                    known[name] = value;
                }
            }

            common["cache"] = known;
        }

        return NodeOptions.Resolve(BlockdevOptions.QapiRead(common, new QapiReader(QapiInputMode.Keyval), null), inherited);
    }

    /// <summary>The options of a file or the like: the protocol comes from the name where it is not said.</summary>
    internal static BlockdevOptions CompleteProtocol(BlockDriverRegistry registry, string? name, QDict options)
    {
        bool isParsed = name is not null;
        if (name is null)
        {
            name = options.GetString("filename");
        }
        else if (options.ContainsKey("filename"))
        {
            throw new QapiException("Can't specify 'file' and 'filename' options at the same time");
        }

        if (!options.ContainsKey("driver"))
        {
            options["driver"] = registry.ProtocolOf(name ?? throw new QapiException("Must specify either driver or file"), isParsed).ToWire();
        }

        BlockDriverInfo info = FindDriver(registry, options)!;
        if (isParsed)
        {
            if (info.ParseName is { } parse)
            {
                parse(name!, options);
            }
            else
            {
                options["filename"] = name!;
            }
        }

        if (info.NeedsFilename && string.IsNullOrEmpty(options.GetString("filename")))
        {
            throw new QapiException($"The '{options.GetString("driver")}' block driver requires a file name");
        }

        info.Normalise?.Invoke(options);
        return Read(options, isProtocol: true);
    }

    /// <summary>A node is wanted that compares an image with a file.</summary>
    internal static bool IsBlkverify(BlockDriverRegistry registry, string? name, QDict options) => options.ContainsKey("driver")
        ? options.GetString("driver") == "blkverify"
        : name is not null && registry.ProtocolOf(name, hasPrefix: true) == BlockdevDriver.Blkverify;

    /// <summary>Options in which the members 0, 1, ... of a dictionary, when it has no others, are a list.</summary>
    internal static QValue ListsOfNumbers(QValue value)
    {
        if (value is not QDict dict)
        {
            return value;
        }

        QDict copy = [];
        QList list = [];
        foreach (KeyValuePair<string, QValue> member in dict)
        {
            copy[member.Key] = ListsOfNumbers(member.Value);
        }

        while (copy.TryGetValue(list.Count.ToString(CultureInfo.InvariantCulture), out QValue? item))
        {
            list.Add(item);
        }

        return list.Count > 0 && list.Count == copy.Count ? list : copy;
    }

    /// <summary>The same options as text, to be changed.</summary>
    internal static QDict Copy(QDict options) => (QDict)ToText(options);

    /// <summary>Puts options of a line "a=1,b.c=2" over those that are there.</summary>
    /// <exception cref="QapiException">It is no such line.</exception>
    internal static void Override(QDict options, string line)
    {
        static void Put(QDict into, QDict from)
        {
            foreach (KeyValuePair<string, QValue> member in from)
            {
                if (into.TryGetValue(member.Key, out QValue? present) && present is QDict dict && member.Value is QDict more)
                {
                    Put(dict, more);
                }
                else
                {
                    into[member.Key] = member.Value;
                }
            }
        }

        Put(options, KeyvalParser.Parse(line, null));
    }

    /// <summary>Reads the options that a node is to have from now on.</summary>
    /// <exception cref="QapiException">They are none.</exception>
    internal static BlockdevOptions ReadChanged(QDict options)
    {
        BlockdevOptions? complete = TryRead(options, isProtocol: false, out OptionFault fault);
        return complete ?? throw new QapiException(fault.Unknown is { } option ? $"Cannot change the option '{option}'" : fault.Text);
    }

    /// <summary>Takes the options of a backing file out, unless they name a node or say that there is none.</summary>
    internal static QDict? TakeBacking(QDict options, Action<string> warn)
    {
        if (!options.TryGetValue("backing", out QValue? value))
        {
            return null;
        }

        if (value is QDict dict)
        {
            options.Remove("backing");
            return dict;
        }

        if (value is QString { Value: "" })
        {
            warn("Use of \"backing\": \"\" is deprecated; use \"backing\": null instead");
            options["backing"] = QNull.Instance;
        }

        return null;
    }

    /// <summary>Reads complete options.</summary>
    /// <exception cref="QapiException">They are none.</exception>
    internal static BlockdevOptions Read(QDict options, bool isProtocol) =>
        TryRead(options, isProtocol, out OptionFault fault) ?? throw new QapiException(fault.Text);

    // Null when something is wrong that has other words than the reader's, which are thrown.
    private static BlockdevOptions? TryRead(QDict options, bool isProtocol, out OptionFault fault)
    {
        QDict text = (QDict)ToText(options);
        foreach (string name in s_sizes)
        {
            if (text.GetString(name) is { } size)
            {
                text[name] = OptionErrors.ParseSize(name, size, SilentOptionDiagnostics.Instance).ToString(CultureInfo.InvariantCulture);
            }
        }

        fault = default;
        bool isKindOfImage = text.GetString("driver") == "qcow2" && text.GetDict("encrypt") is { } encrypt && encrypt.TryAdd("format", new QString("luks"));
        try
        {
            BlockdevOptions read = BlockdevOptions.QapiRead(text, new QapiReader(QapiInputMode.Keyval), null);
            if (isKindOfImage)
            {
                read.Qcow2!.Encrypt!.IsKindOfImage = true;
            }

            return read;
        }
        catch (QapiException e) when (e.Fault is not null)
        {
            if (OptionTexts.Translate(e.Fault, text, isProtocol) is not { } translated)
            {
                throw;
            }

            fault = translated;
            return null;
        }
    }

    // All scalars as text, as the reader of text takes them; what JSON has typed means the same.
    private static QValue ToText(QValue value)
    {
        switch (value)
        {
            case QDict dict:
                QDict copy = [];
                foreach (KeyValuePair<string, QValue> member in dict)
                {
                    // Null says something of a backing file alone.
                    if (member.Value is not QNull || member.Key == "backing")
                    {
                        copy[member.Key] = ToText(member.Value);
                    }
                }

                return copy;
            case QList list:
                QList items = new();
                foreach (QValue item in list)
                {
                    items.Add(ToText(item));
                }

                return items;
            case QBool flag:
                return flag.Value ? "on" : "off";
            case QNum number:
                return number.ToJson();
            default:
                return value;
        }
    }
}
