using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Interop.Tls;
using Vmm.ObjectModel.Authz;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tls;

/// <summary>What a session asks of the peer besides its credentials' own demands.</summary>
/// <param name="Objects">Finds an operator's objects by their ids; called on the loop of the session.</param>
/// <param name="HostName">A client's: the name that the server's certificate must be for; null when the operator named none.</param>
/// <param name="AuthorizationId">A server's: id of the object that decides about the client's distinguished name; null to let all in.</param>
public sealed record TlsPeerPolicy(Func<string, QomObject?> Objects, string? HostName = null, string? AuthorizationId = null);

/// <summary>
/// TLS over a connected, non-blocking stream socket: the caller watches the socket and calls on; nothing here waits. First
/// <see cref="Handshake"/> until it is done, which includes that the peer is who it should be; then <see cref="Read(Span{byte})"/> and
/// <see cref="Write(ReadOnlySpan{byte})"/>. The socket stays the caller's. One loop at a time; nothing is allocated per record.
/// </summary>
public sealed class TlsSession : IDisposable
{
    private readonly TlsCredentials _credentials;
    private readonly TlsPeerPolicy _policy;
    private readonly Clocks _clocks;
    private readonly GnuTlsSession _session;
    private QapiException? _failure;

    private TlsSession(TlsCredentials credentials, TlsPeerPolicy policy, Clocks clocks, GnuTlsSession session)
    {
        _credentials = credentials;
        _policy = policy;
        _clocks = clocks;
        _session = session;
    }

    /// <summary>The handshake is done and the peer is who it should be.</summary>
    public bool IsEstablished { get; private set; }

    /// <summary>Bytes wait for room in the socket: when it can be written to, call <see cref="Flush"/>.</summary>
    public bool HasOutput => _session.HasOutput;

    /// <summary>A session of the end that the credentials are for.</summary>
    /// <param name="credentials">The credentials.</param>
    /// <param name="policy">What is asked of the peer.</param>
    /// <param name="clocks">For the validity of certificates.</param>
    /// <param name="socket">The socket.</param>
    /// <exception cref="QapiException">The credentials cannot be used, for instance because their priority string is not understood.</exception>
    public static TlsSession Create(TlsCredentials credentials, TlsPeerPolicy policy, Clocks clocks, SafeFd socket)
    {
        GnuTlsCredentials native = credentials.Native!;
        if (native.IsServer != credentials.IsServer)
        {
            throw new QapiException("Credentials endpoint doesn't match session");
        }

        int result = GnuTlsSession.Create(native, out GnuTlsSession session);
        try
        {
            Require(result, "Cannot initialize TLS session");
            string priority = (credentials.Priority ?? "NORMAL") + credentials.PriorityAddition;
            Require(
                session.SetPriority(priority),
                credentials.PriorityAddition.Length == 0 ? $"Cannot set default TLS session priority {priority}" : $"Unable to set TLS session priority {priority}");
            Require(session.UseCredentials(), "Cannot set session credentials");
            if (native is { Kind: GnuTlsCredentialsKind.Certificate, IsServer: true })
            {
                session.AskForCertificate();
            }

            session.SetSocket(socket.Fd);
        }
        catch (QapiException)
        {
            session.Dispose();
            throw;
        }

        return new TlsSession(credentials, policy, clocks, session);
    }

    /// <summary>Gives bytes of the peer that were read from the socket before the session; at most 32768.</summary>
    public void Feed(ReadOnlySpan<byte> data) => _session.Feed(data);

    /// <summary>Goes on with the handshake as far as what has arrived allows.</summary>
    /// <returns>0 when it is done, though output may wait; -EAGAIN when the socket must be readable (or writable, while output waits).</returns>
    /// <exception cref="QapiException">It failed, or the peer is not who it should be: the connection is to be closed.</exception>
    public int Handshake()
    {
        if (_failure is not null)
        {
            throw _failure;
        }

        if (IsEstablished)
        {
            _session.Flush();
            return 0;
        }

        try
        {
            return GoOn();
        }
        catch (QapiException e)
        {
            _failure = e;
            throw;
        }
    }

    /// <summary>Reads what has arrived.</summary>
    /// <returns>Bytes; 0 at the end of the stream; -EAGAIN when the socket must be readable first; another -errno when the connection is broken.</returns>
    public int Read(Span<byte> into) => _session.Read(into);

    /// <summary>As <see cref="Read(Span{byte})"/>, into a piece of native memory.</summary>
    public int Read(IoVec into) => _session.Read(into);

    /// <summary>Writes a first part.</summary>
    /// <returns>Bytes taken, some of which may still wait; -EAGAIN when the socket must be writable first; another -errno when the connection is broken.</returns>
    public int Write(ReadOnlySpan<byte> data) => _session.Write(data);

    /// <summary>As <see cref="Write(ReadOnlySpan{byte})"/>, from scattered memory.</summary>
    public int Write(ReadOnlySpan<IoVec> data) => _session.Write(data);

    /// <summary>Sends what waits: 0 when nothing waits any more, -EAGAIN, or another -errno.</summary>
    public int Flush() => _session.Flush();

    /// <summary>Ends the session; the peer is told if that is possible at once.</summary>
    public void Dispose()
    {
        if (!_session.IsClosed)
        {
            if (IsEstablished)
            {
                _session.Bye();
            }

            _session.Dispose();
        }
    }

    private int GoOn()
    {
        int result = _session.Handshake();
        int flushed = _session.Flush();
        if (flushed < 0 && flushed != -(int)Errno.EAGAIN && result is 0 or -(int)Errno.EAGAIN)
        {
            throw new QapiException("TLS handshake failed: " + ErrnoText.FromResult(flushed).Message());
        }

        if (result < 0 && result != -(int)Errno.EAGAIN)
        {
            throw new QapiException("TLS handshake failed: " + GnuTls.ErrorText(result));
        }

        if (result == 0)
        {
            CheckPeer();
            IsEstablished = true;
        }

        return result;
    }

    private static void Require(int result, string what)
    {
        if (result < 0)
        {
            throw new QapiException($"{what}: {GnuTls.ErrorText(result)}");
        }
    }

    // Only certificates say who the peer is; with a common key it is one of those who have it.
    private void CheckPeer()
    {
        if (_credentials.Native!.Kind != GnuTlsCredentialsKind.Certificate || !_credentials.VerifyPeer)
        {
            return;
        }

        Require(_session.VerifyPeer(out uint status), "Verify failed");
        if (status != 0)
        {
            throw new QapiException(CertificateCheck.Reason(status, "Invalid certificate"));
        }

        byte[][] chain = _session.PeerCertificates();
        if (chain.Length == 0)
        {
            throw new QapiException("No certificate peers");
        }

        long now = _clocks.NowNs(ClockType.Host) / 1_000_000_000;
        for (int i = 0; i < chain.Length; i++)
        {
            Require(GnuTlsCertificate.Import(chain[i], GnuTlsFormat.Der, out GnuTlsCertificate? made), "Cannot import certificate");
            using GnuTlsCertificate certificate = made!;
            if (certificate.Expiration < now)
            {
                throw new QapiException("The certificate has expired");
            }

            if (certificate.Activation > now)
            {
                throw new QapiException("The certificate is not yet activated");
            }

            if (i == 0)
            {
                CheckIdentity(certificate);
            }
        }
    }

    private void CheckIdentity(GnuTlsCertificate certificate)
    {
        Require(certificate.GetDistinguishedName(out string name), "Cannot get client distinguished name");
        if (_policy.AuthorizationId is { } id && !Authorization.IsAllowed(_policy.Objects, id, name))
        {
            throw new QapiException($"TLS x509 authz check for {name} is denied");
        }

        if (_policy.HostName is { } host)
        {
            if (!certificate.IsForHost(host))
            {
                throw new QapiException($"Certificate does not match the hostname {host}");
            }
        }
        else if (!_credentials.IsServer)
        {
            throw new QapiException("No hostname for certificate validation");
        }
    }
}
