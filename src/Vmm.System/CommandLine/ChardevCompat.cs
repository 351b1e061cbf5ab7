using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>
/// Reads the character device syntax of -serial, -monitor, -qmp and their like ("tcp:host:port,server=on,wait=off", "mon:stdio", "pty") into
/// options of -chardev. Pure function over text.
/// </summary>
public static class ChardevCompat
{
    private const int MaxHost = 64;
    private const int MaxPort = 32;

    /// <summary>Reads a text into new options with the label as id.</summary>
    /// <param name="list">The -chardev options; unchanged when reading fails.</param>
    /// <param name="label">Id of the character device.</param>
    /// <param name="text">The argument.</param>
    /// <param name="location">Where it was given.</param>
    /// <param name="opts">The options.</param>
    /// <param name="error">What is wrong, or null where the syntax has nothing to say but that it fails.</param>
    /// <returns>False when the text is not valid.</returns>
    public static bool TryParse(OptsList list, string label, string text, string? location, out QemuOpts opts, out QapiException? error)
    {
        error = null;
        opts = null!;
        try
        {
            opts = list.Create(label, location);
        }
        catch (QapiException exception)
        {
            error = exception;
            return false;
        }

        try
        {
            if (Read(opts, text))
            {
                return true;
            }
        }
        catch (QapiException exception)
        {
            error = exception;
        }

        list.Remove(opts);
        return false;
    }

    private static bool Read(QemuOpts opts, string text)
    {
        if (text.StartsWith("mon:", StringComparison.Ordinal))
        {
            text = text[4..];
            opts.Append("mux", "on");
            if (text == "stdio")
            {
                // A monitor on the terminal has its own way to quit, so that Ctrl-C belongs to the guest.
                opts.Append("signal", "off");
            }
        }

        if (text is "null" or "pty" or "msmouse" or "wctablet" or "braille" or "testdev" or "stdio")
        {
            opts.Append("backend", text);
            return true;
        }

        if (text.StartsWith("vc", StringComparison.Ordinal))
        {
            opts.Append("backend", "vc");
            return text.Length == 2 || text[2] != ':' || ReadConsoleSize(opts, text.AsSpan(3));
        }

        if (text == "con:")
        {
            opts.Append("backend", "console");
            return true;
        }

        if (After(text, "file:") is { } file)
        {
            opts.Append("backend", "file");
            opts.Append("path", file);
            return true;
        }

        if (After(text, "pipe:") is { } pipe)
        {
            opts.Append("backend", "pipe");
            opts.Append("path", pipe);
            return true;
        }

        if ((After(text, "tcp:") ?? After(text, "telnet:") ?? After(text, "tn3270:") ?? After(text, "websocket:")) is { } tcp)
        {
            return ReadTcp(opts, text, tcp);
        }

        if (After(text, "udp:") is { } udp)
        {
            return ReadUdp(opts, udp);
        }

        if (After(text, "unix:") is { } unix)
        {
            opts.Append("backend", "socket");
            OptsParser.ParseInto(opts, unix, "path", SilentOptionDiagnostics.Instance);
            return true;
        }

        if (text.StartsWith("/dev/parport", StringComparison.Ordinal) || text.StartsWith("/dev/ppi", StringComparison.Ordinal))
        {
            opts.Append("backend", "parallel");
            opts.Append("path", text);
            return true;
        }

        if (text.StartsWith("/dev/", StringComparison.Ordinal) || text.StartsWith("COM", StringComparison.Ordinal))
        {
            opts.Append("backend", "serial");
            opts.Append("path", text);
            return true;
        }

        throw new QapiException($"'{text}' is not a valid char driver");
    }

    private static string? After(string text, string prefix) => text.StartsWith(prefix, StringComparison.Ordinal) ? text[prefix.Length..] : null;

    private static bool ReadConsoleSize(QemuOpts opts, ReadOnlySpan<char> size)
    {
        int i = ScanDigits(size);
        if (i == 0)
        {
            return false;
        }

        string first = size[..i].ToString();
        bool chars = i < size.Length && size[i] == 'C';
        i += chars ? 1 : 0;
        if (i >= size.Length || size[i] != 'x')
        {
            return false;
        }

        size = size[(i + 1)..];
        i = ScanDigits(size);
        if (i == 0)
        {
            return false;
        }

        opts.Append(chars ? "cols" : "width", first);
        opts.Append(chars ? "rows" : "height", size[..i].ToString());
        return true;
    }

    private static int ScanDigits(ReadOnlySpan<char> text)
    {
        int i = 0;
        while (i < text.Length && i < 7 && char.IsAsciiDigit(text[i]))
        {
            i++;
        }

        return i;
    }

    private static bool ReadTcp(QemuOpts opts, string text, string address)
    {
        if (!ReadHostPort(address, 0, ",", out string host, out string port, out int end))
        {
            return false;
        }

        opts.Append("backend", "socket");
        opts.Append("host", host);
        opts.Append("port", port);
        if (end < address.Length && address[end] == ',')
        {
            OptsParser.ParseInto(opts, address[(end + 1)..], null, SilentOptionDiagnostics.Instance);
        }

        string kind = text[..text.IndexOf(':')];
        if (kind != "tcp")
        {
            opts.Append(kind, "on");
        }

        return true;
    }

    private static bool ReadUdp(QemuOpts opts, string address)
    {
        if (!ReadHostPort(address, 0, "@,", out string host, out string port, out int end))
        {
            return false;
        }

        opts.Append("backend", "udp");
        opts.Append("host", host);
        opts.Append("port", port);
        if (end >= address.Length || address[end] != '@')
        {
            return true;
        }

        if (!ReadHostPort(address, end + 1, ",", out string localHost, out string localPort, out _))
        {
            return false;
        }

        opts.Append("localaddr", localHost);
        opts.Append("localport", localPort);
        return true;
    }

    // host:port or :port, the port up to one of the given characters.
    private static bool ReadHostPort(string text, int start, string portEnds, out string host, out string port, out int end)
    {
        port = "";
        end = start;
        int colon = text.IndexOf(':', start);
        host = colon < 0 ? "" : text[start..colon];
        if (colon < 0 || host.Length > MaxHost)
        {
            return false;
        }

        end = colon + 1;
        while (end < text.Length && end - colon - 1 < MaxPort && !portEnds.Contains(text[end]))
        {
            end++;
        }

        port = text[(colon + 1)..end];
        return port.Length > 0;
    }
}
