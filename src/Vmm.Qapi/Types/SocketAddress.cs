namespace Vmm.Qapi.Types;

/// <summary>Families of socket addresses.</summary>
[QapiEnum]
public enum SocketAddressType
{
    /// <summary>IPv4 or IPv6.</summary>
    Inet,

    /// <summary>Unix domain.</summary>
    Unix,

    /// <summary>A descriptor that was inherited or passed in.</summary>
    Fd,
}

/// <summary>An Internet address.</summary>
[QapiStruct]
public sealed partial record InetSocketAddress
{
    /// <summary>Host name or numeric address; empty for any address.</summary>
    public required string Host { get; init; }

    /// <summary>Port number or service name.</summary>
    public required string Port { get; init; }

    /// <summary>Host and port are numeric: no name is looked up.</summary>
    public bool? Numeric { get; init; }

    /// <summary>Listening: the highest port to try when the lower ones are taken, 0 to 65535.</summary>
    public ushort? To { get; init; }

    /// <summary>Whether IPv4 addresses are used; both when neither is said.</summary>
    public bool? Ipv4 { get; init; }

    /// <summary>Whether IPv6 addresses are used; both when neither is said.</summary>
    public bool? Ipv6 { get; init; }

    /// <summary>Whether idle connections are probed.</summary>
    public bool? KeepAlive { get; init; }

    /// <summary>Multipath TCP, where the host has it.</summary>
    public bool? Mptcp { get; init; }
}

/// <summary>A unix domain address.</summary>
[QapiStruct]
public sealed partial record UnixSocketAddress
{
    /// <summary>Path, or name in the abstract namespace.</summary>
    public required string Path { get; init; }

    /// <summary>The path is a name in the abstract namespace.</summary>
    public bool? Abstract { get; init; }

    /// <summary>An abstract name ends with its last character instead of being padded with NULs; true by default.</summary>
    public bool? Tight { get; init; }
}

/// <summary>A string, wrapped in an object.</summary>
[QapiStruct]
public sealed partial record StringWrapper
{
    /// <summary>The string.</summary>
    public required string Str { get; init; }
}

/// <summary>A socket address in the form whose details are one level down, in "data".</summary>
[QapiUnion]
public sealed partial record SocketAddressLegacy
{
    /// <summary>The family.</summary>
    public required SocketAddressType Type { get; init; }

    /// <summary>Internet address.</summary>
    [QapiBranch("inet", Wrapped = true)]
    public InetSocketAddress? Inet { get; init; }

    /// <summary>Unix domain address.</summary>
    [QapiBranch("unix", Wrapped = true)]
    public UnixSocketAddress? Unix { get; init; }

    /// <summary>Name or number of a descriptor.</summary>
    [QapiBranch("fd", Wrapped = true)]
    public StringWrapper? Fd { get; init; }
}

/// <summary>A socket address in the form whose details are beside "type".</summary>
[QapiUnion]
public sealed partial record SocketAddress
{
    /// <summary>The family.</summary>
    public required SocketAddressType Type { get; init; }

    /// <summary>Internet address.</summary>
    [QapiBranch("inet")]
    public InetSocketAddress? Inet { get; init; }

    /// <summary>Unix domain address.</summary>
    [QapiBranch("unix")]
    public UnixSocketAddress? Unix { get; init; }

    /// <summary>Name or number of a descriptor.</summary>
    [QapiBranch("fd")]
    public StringWrapper? Fd { get; init; }

    /// <summary>The same address in the other form.</summary>
    public SocketAddressLegacy ToLegacy() => new() { Type = Type, Inet = Inet, Unix = Unix, Fd = Fd };
}
