using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Tls;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <content>
/// TLS over the connection: the client is known to the front end only when the handshake is done; one that fails in it is hung up on. Telnet
/// and websockets are inside of it.
/// </content>
public sealed partial class SocketChardev
{
    private readonly TlsSetup? _tlsSetup;
    private TlsSession? _tls;
    private Action? _resumeTls;
    private bool _mayHoldInput;
    private bool _isResuming;

    // Also when there is no session, because it could not be made: nothing that comes in the clear may get through.
    private bool IsTlsPending => _tlsSetup is not null && _tls is not { IsEstablished: true };

    /// <summary>Checks options against each other; the TLS that they ask for, null for none.</summary>
    /// <exception cref="QapiException">They contradict, or the credentials are not there.</exception>
    internal static TlsSetup? Validate(ChardevHost host, ChardevSocket options, bool isServer)
    {
        TlsSetup? setup = null;
        if (options.TlsCreds is { } id)
        {
            TlsCredentials credentials = TlsCredentials.Find(host.Objects, id, isServer);
            setup = new TlsSetup(
                credentials,
                isServer ? new TlsPeerPolicy(host.Objects, null, options.TlsAuthz) : new TlsPeerPolicy(host.Objects, options.Addr.Inet?.Host));
        }

        if (options.Addr.Type == SocketAddressType.Fd && options.Reconnect is not null)
        {
            throw new QapiException("'reconnect' option is incompatible with 'fd' address type");
        }

        if (setup is not null && options.Addr.Type == SocketAddressType.Fd && !isServer)
        {
            throw new QapiException("'tls_creds' option is incompatible with 'fd' address type as client");
        }

        if (setup is not null && options.Addr.Type == SocketAddressType.Unix)
        {
            throw new QapiException("'tls_creds' option is incompatible with 'unix' address type");
        }

        if (options.TlsAuthz is not null && setup is null)
        {
            throw new QapiException("'tls_authz' option requires 'tls_creds' option");
        }

        if (isServer && options.Reconnect is not null)
        {
            throw new QapiException("'reconnect' option is incompatible with socket in server listen mode");
        }

        if (!isServer && options.Wait is not null)
        {
            throw new QapiException("'wait' option is incompatible with socket in client connect mode");
        }

        if (!isServer && options.Websocket == true)
        {
            throw new QapiException("Websocket client is not implemented");
        }

        return setup;
    }

    private void BeginTls(SafeFd connection)
    {
        try
        {
            _tls = _tlsSetup!.CreateSession(Host.Loop.Clocks, connection);
        }
        catch (QapiException)
        {
        }

        // What has failed already is found out by the loop, as the end of a handshake would be.
        if (!GoOnWithTls())
        {
            Libc.Shutdown(connection.Fd, Libc.SHUT_RDWR);
        }

        UpdateInterest();
    }

    // False: the connection is over.
    private bool GoOnWithTls()
    {
        if (_tls is null)
        {
            return false;
        }

        try
        {
            if (_tls.Handshake() == 0)
            {
                // What came behind the handshake may be in the session already.
                _mayHoldInput = true;
                Agree();
            }

            return true;
        }
        catch (QapiException)
        {
            return false;
        }
    }

    private int ReadTls(Span<byte> buffer)
    {
        int n = _tls!.Read(buffer);
        _mayHoldInput = n > 0;
        return n;
    }

    // All that the socket has room for.
    private int WriteTls(ReadOnlySpan<byte> data)
    {
        int taken = 0;
        while (taken < data.Length)
        {
            int n = _tls!.Write(data[taken..]);
            if (n <= 0)
            {
                return taken > 0 ? taken : n;
            }

            taken += n;
        }

        return taken;
    }

    // The session may hold bytes of which the socket knows nothing any more.
    private void ResumeTls()
    {
        if (_mayHoldInput && !_isResuming && _tls is not null)
        {
            _isResuming = true;
            Host.Loop.Post(_resumeTls ??= () =>
            {
                _isResuming = false;
                if (_tls is not null && _mayHoldInput)
                {
                    OnConnection(FdEvents.Readable);
                }
            });
        }
    }

    // A request is taken up to its empty line; what follows it stays in the session.
    private bool HandshakeOverTls(WebSocketLink link, byte[] buffer)
    {
        int count = 0;
        int n = 1;
        while (count < buffer.Length && !buffer.AsSpan(0, count).EndsWith("\r\n\r\n"u8) && n > 0)
        {
            n = ReadTls(buffer.AsSpan(count, 1));
            count += Math.Max(n, 0);
        }

        if (n <= 0 && n != -(int)Errno.EAGAIN)
        {
            return false;
        }

        bool goOn = count == 0 || link.Handshake(buffer.AsSpan(0, count), out _);
        if (goOn && link.IsEstablished)
        {
            Open();
        }

        return goOn;
    }

    private void EndTls()
    {
        _tls?.Dispose();
        _tls = null;
        _mayHoldInput = false;
    }
}
