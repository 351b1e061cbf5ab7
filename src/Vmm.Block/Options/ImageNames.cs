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

    /// <summary>The options in a "json:" name; null for other names.</summary>
    public static BlockdevOptions? ReadJson(string name)
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

        return value is QDict
            ? BlockdevOptions.QapiRead(value, new QapiReader(), null)
            : throw new QapiException("Invalid JSON object given");
    }

    /// <summary>The options of the protocol that reads a name.</summary>
    public static BlockdevOptions ProtocolFor(string name)
    {
        if (HasProtocol(name))
        {
            string protocol = name[..name.IndexOf(':')];
            return protocol == "file" ? ForPath(name[5..]) : throw new QapiException($"Unknown protocol '{protocol}'");
        }

        return ForPath(name);
    }

    /// <summary>The options of a format over a node.</summary>
    public static BlockdevOptions FormatOver(string format, string node) => BlockdevOptions.QapiRead(
        new QDict
        {
            ["driver"] = new QString(BlockdevDriverQapi.TryParse(format, out _) ? format : throw new QapiException($"Unknown driver '{format}'")),
            ["file"] = new QString(node),
        },
        new QapiReader(),
        null);

    private static BlockdevOptions ForPath(string path)
    {
        BlockdevOptionsFile file = new() { Filename = path };
        bool isDevice = Libc.Stat(path, out FileStatus status) == Errno.OK && (status.IsBlockDevice || status.IsCharDevice);
        return isDevice
            ? new BlockdevOptions { Driver = BlockdevDriver.HostDevice, HostDevice = file }
            : new BlockdevOptions { Driver = BlockdevDriver.File, File = file };
    }

    // "nbd:..." and the like: a colon before the first slash.
    private static bool HasProtocol(string name)
    {
        int colon = name.IndexOf(':');
        int slash = name.IndexOf('/');
        return colon > 0 && (slash < 0 || colon < slash);
    }
}
