using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Tls;

namespace Vmm.Block.Nbd;

/// <summary>TLS for connections of one end.</summary>
/// <param name="Credentials">By what the end is known.</param>
/// <param name="Policy">What it asks of its peers.</param>
public sealed record NbdTls(TlsCredentials Credentials, TlsPeerPolicy Policy)
{
    /// <summary>Goes over to TLS.</summary>
    /// <returns>0 or a negative errno.</returns>
    /// <exception cref="Qapi.QapiException">The handshake failed, or the peer is not who it should be.</exception>
    internal IoTask<int> StartAsync(NbdSocket socket) =>
        socket.StartTlsAsync(TlsSession.Create(Credentials, Policy, socket.Loop.Clocks, socket.Fd));
}
