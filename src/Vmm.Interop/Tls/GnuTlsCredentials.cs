using System.Runtime.InteropServices;

namespace Vmm.Interop.Tls;

/// <summary>By what the ends of a connection know each other (gnutls_credentials_type_t).</summary>
public enum GnuTlsCredentialsKind
{
    /// <summary>X.509 certificates.</summary>
    Certificate = 1,

    /// <summary>Nothing.</summary>
    Anonymous = 2,

    /// <summary>Keys that both have.</summary>
    Psk = 4,
}

/// <summary>
/// Credentials of the library. They are changed before the first session uses them; sessions keep them alive. One thread at a time, but
/// sessions of several threads may share them.
/// </summary>
public sealed unsafe class GnuTlsCredentials : SafeHandle
{
    private const int PskHexKey = 1;
    private const int MediumSecurity = 35;

    private nint _dh;

    private GnuTlsCredentials(GnuTlsCredentialsKind kind, bool isServer)
        : base(0, ownsHandle: true) => (Kind, IsServer) = (kind, isServer);

    /// <summary>The kind.</summary>
    public GnuTlsCredentialsKind Kind { get; }

    /// <summary>For the end that is connected to.</summary>
    public bool IsServer { get; }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Empty credentials.</summary>
    /// <returns>0 or an error.</returns>
    public static int Create(GnuTlsCredentialsKind kind, bool isServer, out GnuTlsCredentials credentials)
    {
        GnuTlsApi api = GnuTls.Api;
        credentials = new GnuTlsCredentials(kind, isServer);
        nint made = 0;
        int result = (kind, isServer) switch
        {
            (GnuTlsCredentialsKind.Certificate, _) => api.CertificateAllocate(&made),
            (GnuTlsCredentialsKind.Anonymous, true) => api.AnonServerAllocate(&made),
            (GnuTlsCredentialsKind.Anonymous, _) => api.AnonClientAllocate(&made),
            (_, true) => api.PskServerAllocate(&made),
            _ => api.PskClientAllocate(&made),
        };
        credentials.SetHandle(made);
        return result;
    }

    /// <summary>Certificates: trusts the issuers in a file.</summary>
    /// <returns>Their number, or an error.</returns>
    public int TrustFile(string path) => WithText(path, p => GnuTls.Api.SetTrustFile(handle, (byte*)p, (int)GnuTlsFormat.Pem));

    /// <summary>Certificates: refuses those that a file lists as revoked.</summary>
    /// <returns>Their number, or an error.</returns>
    public int RevocationFile(string path) => WithText(path, p => GnuTls.Api.SetCrlFile(handle, (byte*)p, (int)GnuTlsFormat.Pem));

    /// <summary>Certificates: takes the own certificate and its key from files.</summary>
    /// <returns>0 or an error.</returns>
    public int KeyFiles(string certificate, string key, string? password) => WithText(
        certificate,
        c => WithText(
            key,
            k => WithText(password, p => GnuTls.Api.SetKeyFile(handle, (byte*)c, (byte*)k, (int)GnuTlsFormat.Pem, (byte*)p, 0))));

    /// <summary>Keys: serves those whose names and keys are in a file.</summary>
    /// <returns>0 or an error.</returns>
    public int PskFile(string path) => WithText(path, p => GnuTls.Api.PskSetServerFile(handle, (byte*)p));

    /// <summary>Keys: a client's name and key.</summary>
    /// <param name="user">Name.</param>
    /// <param name="hexKey">Key in hexadecimal digits.</param>
    /// <returns>0 or an error.</returns>
    public int PskClient(string user, ReadOnlySpan<byte> hexKey)
    {
        nint name = Marshal.StringToCoTaskMemUTF8(user);
        int result;
        fixed (byte* p = hexKey)
        {
            GnuTlsDatum key = new() { Data = p, Size = (uint)hexKey.Length };
            result = GnuTls.Api.PskSetClient(handle, (byte*)name, &key, PskHexKey);
        }

        Marshal.FreeCoTaskMem(name);
        return result;
    }

    /// <summary>Servers: takes Diffie-Hellman parameters in PEM (PKCS #3).</summary>
    /// <returns>0 or an error.</returns>
    public int DhParameters(ReadOnlySpan<byte> pem)
    {
        GnuTlsApi api = GnuTls.Api;
        nint made = 0;
        int result = api.DhInit(&made);
        if (result < 0)
        {
            return result;
        }

        _dh = made;
        fixed (byte* p = pem)
        {
            GnuTlsDatum datum = new() { Data = p, Size = (uint)pem.Length };
            result = api.DhImport(made, &datum, (int)GnuTlsFormat.Pem);
        }

        if (result < 0)
        {
            return result;
        }

        switch (Kind)
        {
            case GnuTlsCredentialsKind.Certificate:
                api.CertificateSetDh(handle, made);
                break;
            case GnuTlsCredentialsKind.Anonymous:
                api.AnonSetDh(handle, made);
                break;
            default:
                api.PskSetDh(handle, made);
                break;
        }

        return 0;
    }

    /// <summary>Servers: takes well-known Diffie-Hellman parameters (RFC 7919), for clients that negotiate none.</summary>
    /// <returns>0 or an error.</returns>
    public int KnownDhParameters() => Kind switch
    {
        GnuTlsCredentialsKind.Anonymous => GnuTls.Api.AnonSetKnownDh(handle, MediumSecurity),
        GnuTlsCredentialsKind.Psk => GnuTls.Api.PskSetKnownDh(handle, MediumSecurity),
        _ => 0,
    };

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        GnuTlsApi api = GnuTls.Api;
        switch (Kind, IsServer)
        {
            case (GnuTlsCredentialsKind.Certificate, _):
                api.CertificateFree(handle);
                break;
            case (GnuTlsCredentialsKind.Anonymous, true):
                api.AnonServerFree(handle);
                break;
            case (GnuTlsCredentialsKind.Anonymous, _):
                api.AnonClientFree(handle);
                break;
            case (_, true):
                api.PskServerFree(handle);
                break;
            default:
                api.PskClientFree(handle);
                break;
        }

        if (_dh != 0)
        {
            api.DhDeinit(_dh);
        }

        return true;
    }

    private static int WithText(string? text, Func<nint, int> call)
    {
        nint native = text is null ? 0 : Marshal.StringToCoTaskMemUTF8(text);
        int result = call(native);
        Marshal.ZeroFreeCoTaskMemUTF8(native);
        return result;
    }
}
