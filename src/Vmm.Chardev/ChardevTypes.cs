using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <summary>Kinds of back ends.</summary>
[QapiEnum]
public enum ChardevBackendKind
{
    /// <summary>Output to a file.</summary>
    File,

    /// <summary>A pair of FIFOs.</summary>
    Pipe,

    /// <summary>A stream socket.</summary>
    Socket,

    /// <summary>Datagrams.</summary>
    Udp,

    /// <summary>A new pseudo terminal.</summary>
    Pty,

    /// <summary>Nothing.</summary>
    Null,

    /// <summary>Several front ends on one back end.</summary>
    Mux,

    /// <summary>Standard input and output.</summary>
    Stdio,

    /// <summary>A buffer in memory.</summary>
    Ringbuf,

    /// <summary>The same as ringbuf.</summary>
    Memory,
}

/// <summary>What every back end takes.</summary>
[QapiStruct]
public partial record ChardevCommon
{
    /// <summary>File to which everything written is logged.</summary>
    public string? Logfile { get; init; }

    /// <summary>Append to the log instead of truncating it; false by default.</summary>
    public bool? Logappend { get; init; }
}

/// <summary>Options of a file back end.</summary>
[QapiStruct]
public sealed partial record ChardevFile : ChardevCommon
{
    /// <summary>File that input is read from.</summary>
    public string? In { get; init; }

    /// <summary>File that output goes to.</summary>
    public required string Out { get; init; }

    /// <summary>Append to the output file instead of truncating it; false by default.</summary>
    public bool? Append { get; init; }
}

/// <summary>Options of a back end on a host device or FIFO.</summary>
[QapiStruct]
public sealed partial record ChardevHostdev : ChardevCommon
{
    /// <summary>Path.</summary>
    public required string Device { get; init; }
}

/// <summary>Options of a stream socket.</summary>
[QapiStruct]
public sealed partial record ChardevSocket : ChardevCommon
{
    /// <summary>Where to listen or connect.</summary>
    public required SocketAddressLegacy Addr { get; init; }

    /// <summary>Id of TLS credentials.</summary>
    public string? TlsCreds { get; init; }

    /// <summary>Id of an authorisation object for TLS clients.</summary>
    public string? TlsAuthz { get; init; }

    /// <summary>Listen rather than connect; true by default.</summary>
    public bool? Server { get; init; }

    /// <summary>Server: wait for the first client before going on; false by default.</summary>
    public bool? Wait { get; init; }

    /// <summary>Send without waiting for more (TCP_NODELAY); false by default.</summary>
    public bool? Nodelay { get; init; }

    /// <summary>Server: speak telnet; false by default.</summary>
    public bool? Telnet { get; init; }

    /// <summary>Server: speak websocket; false by default.</summary>
    public bool? Websocket { get; init; }

    /// <summary>Client: seconds between attempts to connect; 0, the default, for a single attempt.</summary>
    public long? Reconnect { get; init; }
}

/// <summary>Options of a datagram socket.</summary>
[QapiStruct]
public sealed partial record ChardevUdp : ChardevCommon
{
    /// <summary>Where datagrams are sent.</summary>
    public required SocketAddressLegacy Remote { get; init; }

    /// <summary>Where they are received; any port by default.</summary>
    public SocketAddressLegacy? Local { get; init; }
}

/// <summary>Options of a multiplexer.</summary>
[QapiStruct]
public sealed partial record ChardevMux : ChardevCommon
{
    /// <summary>Id of the back end to share.</summary>
    public required string Chardev { get; init; }
}

/// <summary>Options of standard input and output.</summary>
[QapiStruct]
public sealed partial record ChardevStdio : ChardevCommon
{
    /// <summary>Keys such as C-c make signals; true by default.</summary>
    public bool? Signal { get; init; }
}

/// <summary>Options of a ring buffer.</summary>
[QapiStruct]
public sealed partial record ChardevRingbuf : ChardevCommon
{
    /// <summary>Capacity in bytes, a power of two; 65536 by default.</summary>
    public long? Size { get; init; }
}

/// <summary>A back end and its options.</summary>
[QapiUnion]
public sealed partial record ChardevBackend
{
    /// <summary>The kind.</summary>
    public required ChardevBackendKind Type { get; init; }

    /// <summary>Options of a file.</summary>
    [QapiBranch("file", Wrapped = true)]
    public ChardevFile? File { get; init; }

    /// <summary>Options of FIFOs.</summary>
    [QapiBranch("pipe", Wrapped = true)]
    public ChardevHostdev? Pipe { get; init; }

    /// <summary>Options of a stream socket.</summary>
    [QapiBranch("socket", Wrapped = true)]
    public ChardevSocket? Socket { get; init; }

    /// <summary>Options of a datagram socket.</summary>
    [QapiBranch("udp", Wrapped = true)]
    public ChardevUdp? Udp { get; init; }

    /// <summary>Options of a pseudo terminal.</summary>
    [QapiBranch("pty", Wrapped = true)]
    public ChardevCommon? Pty { get; init; }

    /// <summary>Options of nothing.</summary>
    [QapiBranch("null", Wrapped = true)]
    public ChardevCommon? Null { get; init; }

    /// <summary>Options of a multiplexer.</summary>
    [QapiBranch("mux", Wrapped = true)]
    public ChardevMux? Mux { get; init; }

    /// <summary>Options of standard input and output.</summary>
    [QapiBranch("stdio", Wrapped = true)]
    public ChardevStdio? Stdio { get; init; }

    /// <summary>Options of a ring buffer.</summary>
    [QapiBranch("ringbuf", Wrapped = true)]
    public ChardevRingbuf? Ringbuf { get; init; }

    /// <summary>Options of a ring buffer.</summary>
    [QapiBranch("memory", Wrapped = true)]
    public ChardevRingbuf? Memory { get; init; }

    /// <summary>The options that do not depend on the kind.</summary>
    [QapiIgnore]
    public ChardevCommon Common => Type switch
    {
        ChardevBackendKind.File => File!,
        ChardevBackendKind.Pipe => Pipe!,
        ChardevBackendKind.Socket => Socket!,
        ChardevBackendKind.Udp => Udp!,
        ChardevBackendKind.Pty => Pty!,
        ChardevBackendKind.Null => Null!,
        ChardevBackendKind.Mux => Mux!,
        ChardevBackendKind.Stdio => Stdio!,
        ChardevBackendKind.Ringbuf => Ringbuf!,
        _ => Memory!,
    };
}

/// <summary>One entry of query-chardev.</summary>
[QapiStruct]
public sealed partial record ChardevInfo
{
    /// <summary>Id of the back end.</summary>
    public required string Label { get; init; }

    /// <summary>What it is connected to.</summary>
    public required string Filename { get; init; }

    /// <summary>Whether the device on the other side has opened it.</summary>
    public required bool FrontendOpen { get; init; }
}

/// <summary>One entry of query-chardev-backends.</summary>
[QapiStruct]
public sealed partial record ChardevBackendInfo
{
    /// <summary>Name of the kind.</summary>
    public required string Name { get; init; }
}

/// <summary>Result of chardev-add and chardev-change.</summary>
[QapiStruct]
public sealed partial record ChardevReturn
{
    /// <summary>Path of the slave side of a pty.</summary>
    public string? Pty { get; init; }
}

/// <summary>How bytes are written in JSON strings.</summary>
[QapiEnum]
public enum DataFormat
{
    /// <summary>As the text that they encode.</summary>
    Utf8,

    /// <summary>RFC 4648 section 4.</summary>
    Base64,
}
