using Vmm.EventLoop;
using Vmm.Interop;

namespace Vmm.ObjectModel.Tls;

/// <summary>TLS for the connections of one end.</summary>
/// <param name="Credentials">By what the end is known.</param>
/// <param name="Policy">What it asks of its peers.</param>
public sealed record TlsSetup(TlsCredentials Credentials, TlsPeerPolicy Policy)
{
    /// <summary>A session over a connected, non-blocking socket.</summary>
    /// <exception cref="Qapi.QapiException">The credentials cannot be used.</exception>
    public TlsSession CreateSession(Clocks clocks, SafeFd socket) => TlsSession.Create(Credentials, Policy, clocks, socket);
}
