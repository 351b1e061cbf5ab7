using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Block.Options;

/// <summary>An export of an NBD server.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsNbd
{
    /// <summary>Where the server is.</summary>
    public required SocketAddress Server { get; init; }

    /// <summary>Name of the export; the default one without.</summary>
    public string? Export { get; init; }

    /// <summary>Id of TLS credentials; without any the connection is in the clear.</summary>
    public string? TlsCreds { get; init; }

    /// <summary>Name that the server's certificate must be for; by default the host of an Internet address.</summary>
    public string? TlsHostname { get; init; }

    /// <summary>Context that answers for what is data instead of base:allocation: what a bitmap has as dirty is no data then.</summary>
    public string? XDirtyBitmap { get; init; }

    /// <summary>Seconds for which requests wait for a connection that was lost; 0, the default, has them fail at once.</summary>
    public uint? ReconnectDelay { get; init; }

    /// <summary>Seconds for which opening is tried again when the server does not answer; 0 by default.</summary>
    public uint? OpenTimeout { get; init; }
}
