using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>Names of images as headers and old commands have them.</summary>
public static class ImageNames
{
    private const string JsonPrefix = "json:";

    /// <summary>A name in an image, which may be relative to the image itself.</summary>
    /// <param name="name">As the image says it.</param>
    /// <param name="image">The image's own name; null when only options can say it.</param>
    public static string Resolve(string name, string? image)
    {
        if (name.StartsWith('/') || HasProtocol(name))
        {
            return name;
        }

        if (image is null)
        {
            throw new QapiException("Cannot use relative paths with a protocol");
        }

        if (image.StartsWith(JsonPrefix, StringComparison.Ordinal))
        {
            throw new QapiException("Cannot use relative backing file names for '" + image + "'");
        }

        int slash = image.LastIndexOf('/');
        return slash < 0 ? name : string.Concat(image.AsSpan(0, slash + 1), name);
    }

    /// <summary>As <see cref="Resolve"/>; null where it cannot be said.</summary>
    public static string? TryResolve(string name, string? image)
    {
        try
        {
            return Resolve(name, image);
        }
        catch (QapiException)
        {
            return null;
        }
    }

    /// <summary>The options in a "json:" name; null for other names.</summary>
    public static QDict? ReadJson(string name)
    {
        if (!name.StartsWith(JsonPrefix, StringComparison.Ordinal))
        {
            return null;
        }

        QValue value;
        try
        {
            value = QValue.Parse(name[JsonPrefix.Length..]);
        }
        catch (QapiException e)
        {
            throw new QapiException("Could not parse the JSON options: " + e.Desc);
        }

        return value as QDict is { } options ? (QDict)ImageOptions.ListsOfNumbers(Nest(options)) : throw new QapiException("Invalid JSON object given");
    }

    /// <summary>Options in which "a.b" is the member b of a.</summary>
    private static QDict Nest(QDict options)
    {
        QDict nested = [];
        foreach (KeyValuePair<string, QValue> member in options)
        {
            QDict at = nested;
            string key = member.Key;
            for (int dot; (dot = key.IndexOf('.')) > 0; key = key[(dot + 1)..])
            {
                string outer = key[..dot];
                if (!at.TryGetValue(outer, out QValue? inner) || inner is not QDict)
                {
                    at[outer] = inner = new QDict();
                }

                at = (QDict)inner;
            }

            QValue value = member.Value is QDict dict ? Nest(dict) : member.Value;
            if (value is QDict more && at.TryGetValue(key, out QValue? present) && present is QDict known)
            {
                ImageOptions.Merge(known, more);
            }
            else
            {
                at[key] = value;
            }
        }

        return nested;
    }

    /// <summary>"blkdebug:CONFIG:IMAGE", where CONFIG may be empty.</summary>
    internal static void ParseBlkdebug(Drivers.BlockDriverRegistry registry, string name, QDict options)
    {
        const string prefix = "blkdebug:";
        string rest = name.StartsWith(prefix, StringComparison.Ordinal) ? name[prefix.Length..] : name;
        int colon = rest.IndexOf(':');
        if (colon < 0)
        {
            throw new QapiException("blkdebug requires both config file and image path");
        }

        if (colon > 0)
        {
            options["config"] = rest[..colon];
        }

        QDict image = [];
        ImageOptions.CompleteProtocol(registry, rest[(colon + 1)..], image);
        options["image"] = image;
    }

    /// <summary>"blkverify:RAW:IMAGE" as the options x-raw and x-image; names without the prefix are those of images.</summary>
    internal static void ParseBlkverify(string name, QDict options)
    {
        const string prefix = "blkverify:";
        string rest = name;
        if (name.StartsWith(prefix, StringComparison.Ordinal))
        {
            rest = name[prefix.Length..];
            int colon = rest.IndexOf(':');
            if (colon < 0)
            {
                throw new QapiException("blkverify requires raw copy and original image path");
            }

            options["x-raw"] = rest[..colon];
            rest = rest[(colon + 1)..];
        }

        options["x-image"] = rest;
    }

    /// <summary>The path names a device of the host.</summary>
    public static bool IsDevice(string path) =>
        Libc.Stat(path, out FileStatus status) == Errno.OK && (status.IsBlockDevice || status.IsCharDevice);

    /// <summary>A path, which may have its protocol before it.</summary>
    public static void ParsePath(string name, QDict options)
    {
        string prefix = options.GetString("driver") + ":";
        options["filename"] = name.StartsWith(prefix, StringComparison.Ordinal) ? name[prefix.Length..] : name;
    }

    /// <summary>The one name of a node without contents.</summary>
    public static void ParseNull(string name, QDict options)
    {
        string only = options.GetString("driver") + "://";
        if (name != only)
        {
            throw new QapiException($"The only allowed filename for this driver is '{only}'");
        }
    }

    /// <summary>A name like "nbd:...": a colon before the first slash.</summary>
    public static bool HasProtocol(string name)
    {
        int colon = name.IndexOf(':');
        int slash = name.IndexOf('/');
        return colon > 0 && (slash < 0 || colon < slash);
    }
}
