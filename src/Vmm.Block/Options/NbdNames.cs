using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>Names of NBD exports: URIs, and "nbd:HOST:PORT" or "nbd:unix:PATH", with ":exportname=NAME" behind them. Pure.</summary>
internal static class NbdNames
{
    private const string ExportMark = ":exportname=";

    /// <summary>Puts what a name says into options.</summary>
    /// <exception cref="QapiException">The name is malformed, or the options say it too.</exception>
    internal static void Parse(string name, QDict options)
    {
        foreach (string key in (ReadOnlySpan<string>)["host", "port", "path", "server"])
        {
            if (options.ContainsKey(key))
            {
                throw new QapiException("host/port/path and file names may not be specified at the same time");
            }
        }

        if (name.Contains("://", StringComparison.Ordinal))
        {
            ParseUri(name, options);
            return;
        }

        string rest = name[(name.IndexOf(':') + 1)..];
        int mark = rest.IndexOf(ExportMark, StringComparison.Ordinal);
        if (mark >= 0)
        {
            options["export"] = rest[(mark + ExportMark.Length)..];
            rest = rest[..mark];
        }

        if (rest.Length == 0)
        {
            return;
        }

        if (rest.StartsWith("unix:", StringComparison.Ordinal))
        {
            options["server"] = new QDict { ["type"] = "unix", ["path"] = rest[5..] };
            return;
        }

        int colon = rest.LastIndexOf(':');
        if (colon < 0)
        {
            throw new QapiException($"error parsing address '{rest}'");
        }

        string host = rest[..colon];
        options["server"] = Inet(host.StartsWith('[') && host.EndsWith(']') ? host[1..^1] : host, rest[(colon + 1)..]);
    }

    /// <summary>Makes "host", "port" and "path" a "server".</summary>
    internal static void Normalise(QDict options)
    {
        string? path = Take(options, "path");
        string? host = Take(options, "host");
        string? port = Take(options, "port");
        bool isLegacy = path is not null || host is not null || port is not null;
        if (options.ContainsKey("server"))
        {
            if (isLegacy)
            {
                throw new QapiException("Cannot use 'server' and path/host/port at the same time");
            }

            return;
        }

        if (path is not null && host is not null)
        {
            throw new QapiException("path and host may not be used at the same time");
        }

        if (path is null && host is null)
        {
            throw new QapiException("NBD server address missing");
        }

        options["server"] = path is not null ? new QDict { ["type"] = "unix", ["path"] = path } : Inet(host!, port ?? "10809");
    }

    private static QDict Inet(string host, string port) => new() { ["type"] = "inet", ["host"] = host, ["port"] = port };

    private static void ParseUri(string name, QDict options)
    {
        int scheme = name.IndexOf("://", StringComparison.Ordinal);
        bool isUnix = name.AsSpan(0, scheme).SequenceEqual("nbd+unix");
        string rest = name[(scheme + 3)..];
        int question = rest.IndexOf('?');
        string query = question < 0 ? "" : rest[(question + 1)..];
        string path = question < 0 ? rest : rest[..question];
        int slash = path.IndexOf('/');
        string authority = slash < 0 ? path : path[..slash];
        string export = slash < 0 ? "" : Uri.UnescapeDataString(path[(slash + 1)..]);
        if (export.Length > 0)
        {
            options["export"] = export;
        }

        if (isUnix)
        {
            if (authority.Length > 0 || !query.StartsWith("socket=", StringComparison.Ordinal) || query.Contains('&'))
            {
                throw new QapiException("Invalid URI");
            }

            options["server"] = new QDict { ["type"] = "unix", ["path"] = Uri.UnescapeDataString(query["socket=".Length..]) };
            return;
        }

        if (authority.Length == 0 || query.Length > 0)
        {
            throw new QapiException("Invalid URI");
        }

        int colon = authority.EndsWith(']') ? -1 : authority.LastIndexOf(':');
        string host = colon < 0 ? authority : authority[..colon];
        options["server"] = Inet(host.StartsWith('[') && host.EndsWith(']') ? host[1..^1] : host, colon < 0 ? "10809" : authority[(colon + 1)..]);
    }

    private static string? Take(QDict options, string name) =>
        options.Remove(name, out QValue? value) ? value is QString text ? text.Value : value.ToJson() : null;
}
