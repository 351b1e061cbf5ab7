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

        return value as QDict ?? throw new QapiException("Invalid JSON object given");
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
