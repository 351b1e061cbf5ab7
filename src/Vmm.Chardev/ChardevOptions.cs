using Vmm.Qapi;
using Vmm.Qapi.Options;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <summary>The <c>-chardev</c> option and how it becomes a <see cref="ChardevBackend"/>.</summary>
public static class ChardevOptions
{
    private static OptionGroup? s_group;

    /// <summary>Parameters of <c>-chardev</c>; those of kinds of back ends that this program does not serve are checked like the others.</summary>
    public static OptionGroup Group => s_group ??= new OptionGroup(
        "chardev",
        "backend",
        mergeLists: false,
        new("backend", OptionType.String),
        new("path", OptionType.String),
        new("host", OptionType.String),
        new("port", OptionType.String),
        new("fd", OptionType.String),
        new("localaddr", OptionType.String),
        new("localport", OptionType.String),
        new("to", OptionType.Number),
        new("ipv4", OptionType.Boolean),
        new("ipv6", OptionType.Boolean),
        new("wait", OptionType.Boolean),
        new("server", OptionType.Boolean),
        new("delay", OptionType.Boolean),
        new("nodelay", OptionType.Boolean),
        new("reconnect", OptionType.Number),
        new("telnet", OptionType.Boolean),
        new("tn3270", OptionType.Boolean),
        new("tls-creds", OptionType.String),
        new("tls-authz", OptionType.String),
        new("websocket", OptionType.Boolean),
        new("width", OptionType.Number),
        new("height", OptionType.Number),
        new("cols", OptionType.Number),
        new("rows", OptionType.Number),
        new("mux", OptionType.Boolean),
        new("signal", OptionType.Boolean),
        new("name", OptionType.String),
        new("debug", OptionType.Number),
        new("size", OptionType.Size),
        new("chardev", OptionType.String),
        new("append", OptionType.Boolean),
        new("logfile", OptionType.String),
        new("logappend", OptionType.Boolean),
        new("mouse", OptionType.Boolean),
        new("clipboard", OptionType.Boolean),
        new("tight", OptionType.Boolean, null, "on"),
        new("abstract", OptionType.Boolean));

    /// <summary>Names of the kinds of back ends, in the order in which they are listed to users.</summary>
    public static ReadOnlySpan<string> HelpNames => s_helpNames;

    private static readonly string[] s_helpNames =
        ["stdio", "ringbuf", "mux", "pipe", "null", "socket", "udp", "memory", "file", "pty"];

    /// <summary>What <c>-chardev help</c> prints.</summary>
    public static string HelpText => "Available chardev backend types: \n  " + string.Join("\n  ", s_helpNames) + "\n";

    /// <summary>True when the back end asked for is a request for the list.</summary>
    public static bool IsHelp(QemuOpts opts) => opts.Get("backend") is "help" or "?";

    /// <summary>Reads the options of one back end.</summary>
    /// <exception cref="QapiException">Unknown kind, or a missing or contradictory option.</exception>
    public static ChardevBackend Parse(QemuOpts opts)
    {
        string? name = opts.Get("backend");
        if (opts.Id is null)
        {
            throw new QapiException("chardev: no id specified");
        }

        if (name is null)
        {
            throw new QapiException($"chardev: \"{opts.Id}\" missing backend");
        }

        string? logfile = opts.Get("logfile");
        bool? logappend = opts.GetBool("logappend");
        var common = new ChardevCommon { Logfile = logfile, Logappend = logappend };
        switch (name)
        {
            case "null":
                return new ChardevBackend { Type = ChardevBackendKind.Null, Null = common };
            case "pty":
                return new ChardevBackend { Type = ChardevBackendKind.Pty, Pty = common };
            case "file":
                return new ChardevBackend
                {
                    Type = ChardevBackendKind.File,
                    File = new ChardevFile
                    {
                        Logfile = logfile,
                        Logappend = logappend,
                        Out = Required(opts, "path", "chardev: file: no filename given"),
                        Append = opts.GetBool("append"),
                    },
                };
            case "pipe":
                return new ChardevBackend
                {
                    Type = ChardevBackendKind.Pipe,
                    Pipe = new ChardevHostdev
                    {
                        Logfile = logfile,
                        Logappend = logappend,
                        Device = Required(opts, "path", "chardev: pipe: no device path given"),
                    },
                };
            case "stdio":
                return new ChardevBackend
                {
                    Type = ChardevBackendKind.Stdio,
                    Stdio = new ChardevStdio { Logfile = logfile, Logappend = logappend, Signal = opts.GetBool("signal") },
                };
            case "mux":
                return new ChardevBackend
                {
                    Type = ChardevBackendKind.Mux,
                    Mux = new ChardevMux
                    {
                        Logfile = logfile,
                        Logappend = logappend,
                        Chardev = Required(opts, "chardev", "chardev: mux: no chardev given"),
                    },
                };
            case "ringbuf" or "memory":
                ulong size = opts.GetSize("size", 0);
                var ring = new ChardevRingbuf { Logfile = logfile, Logappend = logappend, Size = size == 0 ? null : (long)size };
                return name == "memory"
                    ? new ChardevBackend { Type = ChardevBackendKind.Memory, Memory = ring }
                    : new ChardevBackend { Type = ChardevBackendKind.Ringbuf, Ringbuf = ring };
            case "udp":
                return new ChardevBackend { Type = ChardevBackendKind.Udp, Udp = ParseUdp(opts, common) };
            case "socket":
                return new ChardevBackend { Type = ChardevBackendKind.Socket, Socket = ParseSocket(opts, common) };
            default:
                throw new QapiException($"'{name}' is not a valid char driver name");
        }
    }

    private static string Required(QemuOpts opts, string name, string error) => opts.Get(name) ?? throw new QapiException(error);

    private static ChardevUdp ParseUdp(QemuOpts opts, ChardevCommon common)
    {
        const string NoPort = "chardev: udp: remote port not specified";
        string host = opts.Get("host") ?? "";
        string port = opts.Get("port") ?? "";
        if (port.Length == 0)
        {
            throw new QapiException(NoPort);
        }

        string? localHost = opts.Get("localaddr");
        string? localPort = opts.Get("localport");
        return new ChardevUdp
        {
            Logfile = common.Logfile,
            Logappend = common.Logappend,
            Remote = Inet(new InetSocketAddress
            {
                Host = host.Length == 0 ? "localhost" : host,
                Port = port,
                Ipv4 = opts.GetBool("ipv4"),
                Ipv6 = opts.GetBool("ipv6"),
            }),
            Local = localHost is null && localPort is null
                ? null
                : Inet(new InetSocketAddress { Host = localHost ?? "", Port = string.IsNullOrEmpty(localPort) ? "0" : localPort }),
        };
    }

    private static ChardevSocket ParseSocket(QemuOpts opts, ChardevCommon common)
    {
        string? path = opts.Get("path");
        string? host = opts.Get("host");
        string? fd = opts.Get("fd");
        if ((path is null ? 0 : 1) + (host is null ? 0 : 1) + (fd is null ? 0 : 1) > 1)
        {
            throw new QapiException("None or one of 'path', 'fd' or 'host' option required.");
        }

        if (host is not null && opts.Get("port") is null)
        {
            throw new QapiException("chardev: socket: no port given");
        }

        if (opts.Contains("delay") && opts.Contains("nodelay"))
        {
            throw new QapiException("'delay' and 'nodelay' are mutually exclusive");
        }

        if (opts.GetBool("tn3270", false))
        {
            throw new QapiException("chardev: socket: tn3270 is not supported by this build");
        }

        bool server = opts.GetBool("server", false);
        ulong? reconnect = opts.GetNumber("reconnect");
        return new ChardevSocket
        {
            Logfile = common.Logfile,
            Logappend = common.Logappend,
            Addr = ParseAddress(opts, path, host, fd),
            TlsCreds = opts.Get("tls-creds"),
            TlsAuthz = opts.Get("tls-authz"),
            Server = server,
            Wait = server ? opts.GetBool("wait", true) : opts.GetBool("wait"),
            Nodelay = opts.Contains("delay") ? !opts.GetBool("delay", false) : opts.GetBool("nodelay"),
            Telnet = opts.GetBool("telnet"),
            Websocket = opts.GetBool("websocket"),
            Reconnect = reconnect is { } seconds ? unchecked((long)seconds) : null,
        };
    }

    private static SocketAddressLegacy ParseAddress(QemuOpts opts, string? path, string? host, string? fd)
    {
        if (path is not null)
        {
            return new SocketAddressLegacy
            {
                Type = SocketAddressType.Unix,
                Unix = new UnixSocketAddress { Path = path, Abstract = opts.GetBool("abstract"), Tight = opts.GetBool("tight") },
            };
        }

        if (host is not null)
        {
            ulong? to = opts.GetNumber("to");
            return Inet(new InetSocketAddress
            {
                Host = host,
                Port = opts.Get("port")!,
                To = to is { } last ? (ushort)Math.Min(last, ushort.MaxValue) : null,
                Ipv4 = opts.GetBool("ipv4"),
                Ipv6 = opts.GetBool("ipv6"),
            });
        }

        return new SocketAddressLegacy { Type = SocketAddressType.Fd, Fd = new StringWrapper { Str = fd ?? "" } };
    }

    private static SocketAddressLegacy Inet(InetSocketAddress address) => new() { Type = SocketAddressType.Inet, Inet = address };
}
