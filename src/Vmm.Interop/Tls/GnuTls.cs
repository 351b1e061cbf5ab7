using System.Runtime.InteropServices;

namespace Vmm.Interop.Tls;

/// <summary>
/// The system's GnuTLS, which is loaded when it is first asked for: a process without TLS does not pay for it, and one on a system without
/// the library only lacks TLS. Results of the library are 0 or greater, or one of its negative error codes. Any thread.
/// </summary>
public static unsafe class GnuTls
{
    /// <summary>The certificate was not signed by one that is trusted (gnutls_certificate_status_t).</summary>
    public const uint CertificateInvalid = 1 << 1;

    /// <summary>The certificate has been revoked.</summary>
    public const uint CertificateRevoked = 1 << 5;

    /// <summary>The certificate's issuer is not known.</summary>
    public const uint CertificateSignerNotFound = 1 << 6;

    /// <summary>The certificate is signed by an algorithm that is not secure.</summary>
    public const uint CertificateInsecureAlgorithm = 1 << 8;

    /// <summary>What was asked for is not in the certificate.</summary>
    public const int NotAvailable = -56;

    internal const int Again = -28;
    internal const int WarningAlert = -16;
    internal const int ShortBuffer = -51;
    internal const int Interrupted = -52;
    internal const int PrematureTermination = -110;

    private static readonly Lazy<GnuTlsApi?> s_api = new(static () =>
        NativeLibrary.TryLoad("libgnutls.so.30", out nint library) ? GnuTlsApi.Load(library) : null);

    /// <summary>The library is there.</summary>
    public static bool IsAvailable => s_api.Value is not null;

    internal static GnuTlsApi Api => s_api.Value ?? throw new NotSupportedException("GnuTLS is not installed");

    /// <summary>What the library says of one of its errors.</summary>
    public static string ErrorText(int result) => Marshal.PtrToStringUTF8((nint)Api.StrError(result)) ?? "";

    /// <summary>Whether the library takes a priority string.</summary>
    /// <returns>0 or an error.</returns>
    public static int CheckPriority(string priority)
    {
        nint cache = 0;
        nint text = Marshal.StringToCoTaskMemUTF8(priority);
        int result = Api.PriorityInit(&cache, (byte*)text, null);
        Marshal.FreeCoTaskMem(text);
        if (result >= 0)
        {
            Api.PriorityDeinit(cache);
        }

        return result;
    }
}

/// <summary>gnutls_datum_t.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GnuTlsDatum
{
    internal byte* Data;
    internal uint Size;
}

/// <summary>The functions of the library that are used, by their addresses.</summary>
internal sealed unsafe class GnuTlsApi
{
    internal readonly delegate* unmanaged<int, byte*> StrError;
    internal readonly delegate* unmanaged<nint*, uint, int> Init;
    internal readonly delegate* unmanaged<nint, void> Deinit;
    internal readonly delegate* unmanaged<nint, int, nint, int> CredentialsSet;
    internal readonly delegate* unmanaged<nint, byte*, byte**, int> PrioritySetDirect;
    internal readonly delegate* unmanaged<nint*, byte*, byte**, int> PriorityInit;
    internal readonly delegate* unmanaged<nint, void> PriorityDeinit;
    internal readonly delegate* unmanaged<nint, int, void> ServerSetRequest;
    internal readonly delegate* unmanaged<nint, void*, void> TransportSetPtr;
    internal readonly delegate* unmanaged<nint, delegate* unmanaged<void*, void*, nuint, nint>, void> SetPull;
    internal readonly delegate* unmanaged<nint, delegate* unmanaged<void*, uint, int>, void> SetPullTimeout;
    internal readonly delegate* unmanaged<nint, delegate* unmanaged<void*, IoVec*, int, nint>, void> SetPush;
    internal readonly delegate* unmanaged<nint, int, void> SetErrno;
    internal readonly delegate* unmanaged<nint, int> Handshake;
    internal readonly delegate* unmanaged<nint, void*, nuint, nint> RecordSend;
    internal readonly delegate* unmanaged<nint, void*, nuint, nint> RecordRecv;
    internal readonly delegate* unmanaged<nint, int, int> Bye;
    internal readonly delegate* unmanaged<nint, nuint, void> SetMaxHandshake;
    internal readonly delegate* unmanaged<nint, uint*, int> VerifyPeers;
    internal readonly delegate* unmanaged<nint, uint*, GnuTlsDatum*> GetPeers;
    internal readonly delegate* unmanaged<nint*, int> CertificateAllocate;
    internal readonly delegate* unmanaged<nint, void> CertificateFree;
    internal readonly delegate* unmanaged<nint, byte*, int, int> SetTrustFile;
    internal readonly delegate* unmanaged<nint, byte*, int, int> SetCrlFile;
    internal readonly delegate* unmanaged<nint, byte*, byte*, int, byte*, uint, int> SetKeyFile;
    internal readonly delegate* unmanaged<nint, nint, void> CertificateSetDh;
    internal readonly delegate* unmanaged<nint*, int> AnonServerAllocate;
    internal readonly delegate* unmanaged<nint, void> AnonServerFree;
    internal readonly delegate* unmanaged<nint*, int> AnonClientAllocate;
    internal readonly delegate* unmanaged<nint, void> AnonClientFree;
    internal readonly delegate* unmanaged<nint, nint, void> AnonSetDh;
    internal readonly delegate* unmanaged<nint, int, int> AnonSetKnownDh;
    internal readonly delegate* unmanaged<nint*, int> PskServerAllocate;
    internal readonly delegate* unmanaged<nint, void> PskServerFree;
    internal readonly delegate* unmanaged<nint*, int> PskClientAllocate;
    internal readonly delegate* unmanaged<nint, void> PskClientFree;
    internal readonly delegate* unmanaged<nint, byte*, int> PskSetServerFile;
    internal readonly delegate* unmanaged<nint, byte*, GnuTlsDatum*, int, int> PskSetClient;
    internal readonly delegate* unmanaged<nint, nint, void> PskSetDh;
    internal readonly delegate* unmanaged<nint, int, int> PskSetKnownDh;
    internal readonly delegate* unmanaged<nint*, int> DhInit;
    internal readonly delegate* unmanaged<nint, void> DhDeinit;
    internal readonly delegate* unmanaged<nint, GnuTlsDatum*, int, int> DhImport;
    internal readonly delegate* unmanaged<nint*, int> CrtInit;
    internal readonly delegate* unmanaged<nint, void> CrtDeinit;
    internal readonly delegate* unmanaged<nint, GnuTlsDatum*, int, int> CrtImport;
    internal readonly delegate* unmanaged<nint*, uint*, GnuTlsDatum*, int, uint, int> CrtListImport;
    internal readonly delegate* unmanaged<nint, long> CrtActivation;
    internal readonly delegate* unmanaged<nint, long> CrtExpiration;
    internal readonly delegate* unmanaged<nint, byte*, nuint*, int> CrtGetDn;
    internal readonly delegate* unmanaged<nint, byte*, uint> CrtCheckHostname;
    internal readonly delegate* unmanaged<nint, uint*, uint*, int*, int> CrtBasicConstraints;
    internal readonly delegate* unmanaged<nint, uint*, uint*, int> CrtKeyUsage;
    internal readonly delegate* unmanaged<nint, uint, byte*, nuint*, uint*, int> CrtKeyPurpose;
    internal readonly delegate* unmanaged<nint*, uint, nint*, uint, nint*, uint, uint, uint*, int> CrtListVerify;

    private GnuTlsApi(nint library)
    {
        nint Find(string name) => NativeLibrary.GetExport(library, "gnutls_" + name);

        StrError = (delegate* unmanaged<int, byte*>)Find("strerror");
        Init = (delegate* unmanaged<nint*, uint, int>)Find("init");
        Deinit = (delegate* unmanaged<nint, void>)Find("deinit");
        CredentialsSet = (delegate* unmanaged<nint, int, nint, int>)Find("credentials_set");
        PrioritySetDirect = (delegate* unmanaged<nint, byte*, byte**, int>)Find("priority_set_direct");
        PriorityInit = (delegate* unmanaged<nint*, byte*, byte**, int>)Find("priority_init");
        PriorityDeinit = (delegate* unmanaged<nint, void>)Find("priority_deinit");
        ServerSetRequest = (delegate* unmanaged<nint, int, void>)Find("certificate_server_set_request");
        TransportSetPtr = (delegate* unmanaged<nint, void*, void>)Find("transport_set_ptr");
        SetPull = (delegate* unmanaged<nint, delegate* unmanaged<void*, void*, nuint, nint>, void>)Find("transport_set_pull_function");
        SetPullTimeout = (delegate* unmanaged<nint, delegate* unmanaged<void*, uint, int>, void>)Find("transport_set_pull_timeout_function");
        SetPush = (delegate* unmanaged<nint, delegate* unmanaged<void*, IoVec*, int, nint>, void>)Find("transport_set_vec_push_function");
        SetErrno = (delegate* unmanaged<nint, int, void>)Find("transport_set_errno");
        Handshake = (delegate* unmanaged<nint, int>)Find("handshake");
        RecordSend = (delegate* unmanaged<nint, void*, nuint, nint>)Find("record_send");
        RecordRecv = (delegate* unmanaged<nint, void*, nuint, nint>)Find("record_recv");
        Bye = (delegate* unmanaged<nint, int, int>)Find("bye");
        SetMaxHandshake = (delegate* unmanaged<nint, nuint, void>)Find("handshake_set_max_packet_length");
        VerifyPeers = (delegate* unmanaged<nint, uint*, int>)Find("certificate_verify_peers2");
        GetPeers = (delegate* unmanaged<nint, uint*, GnuTlsDatum*>)Find("certificate_get_peers");
        CertificateAllocate = (delegate* unmanaged<nint*, int>)Find("certificate_allocate_credentials");
        CertificateFree = (delegate* unmanaged<nint, void>)Find("certificate_free_credentials");
        SetTrustFile = (delegate* unmanaged<nint, byte*, int, int>)Find("certificate_set_x509_trust_file");
        SetCrlFile = (delegate* unmanaged<nint, byte*, int, int>)Find("certificate_set_x509_crl_file");
        SetKeyFile = (delegate* unmanaged<nint, byte*, byte*, int, byte*, uint, int>)Find("certificate_set_x509_key_file2");
        CertificateSetDh = (delegate* unmanaged<nint, nint, void>)Find("certificate_set_dh_params");
        AnonServerAllocate = (delegate* unmanaged<nint*, int>)Find("anon_allocate_server_credentials");
        AnonServerFree = (delegate* unmanaged<nint, void>)Find("anon_free_server_credentials");
        AnonClientAllocate = (delegate* unmanaged<nint*, int>)Find("anon_allocate_client_credentials");
        AnonClientFree = (delegate* unmanaged<nint, void>)Find("anon_free_client_credentials");
        AnonSetDh = (delegate* unmanaged<nint, nint, void>)Find("anon_set_server_dh_params");
        AnonSetKnownDh = (delegate* unmanaged<nint, int, int>)Find("anon_set_server_known_dh_params");
        PskServerAllocate = (delegate* unmanaged<nint*, int>)Find("psk_allocate_server_credentials");
        PskServerFree = (delegate* unmanaged<nint, void>)Find("psk_free_server_credentials");
        PskClientAllocate = (delegate* unmanaged<nint*, int>)Find("psk_allocate_client_credentials");
        PskClientFree = (delegate* unmanaged<nint, void>)Find("psk_free_client_credentials");
        PskSetServerFile = (delegate* unmanaged<nint, byte*, int>)Find("psk_set_server_credentials_file");
        PskSetClient = (delegate* unmanaged<nint, byte*, GnuTlsDatum*, int, int>)Find("psk_set_client_credentials");
        PskSetDh = (delegate* unmanaged<nint, nint, void>)Find("psk_set_server_dh_params");
        PskSetKnownDh = (delegate* unmanaged<nint, int, int>)Find("psk_set_server_known_dh_params");
        DhInit = (delegate* unmanaged<nint*, int>)Find("dh_params_init");
        DhDeinit = (delegate* unmanaged<nint, void>)Find("dh_params_deinit");
        DhImport = (delegate* unmanaged<nint, GnuTlsDatum*, int, int>)Find("dh_params_import_pkcs3");
        CrtInit = (delegate* unmanaged<nint*, int>)Find("x509_crt_init");
        CrtDeinit = (delegate* unmanaged<nint, void>)Find("x509_crt_deinit");
        CrtImport = (delegate* unmanaged<nint, GnuTlsDatum*, int, int>)Find("x509_crt_import");
        CrtListImport = (delegate* unmanaged<nint*, uint*, GnuTlsDatum*, int, uint, int>)Find("x509_crt_list_import");
        CrtActivation = (delegate* unmanaged<nint, long>)Find("x509_crt_get_activation_time");
        CrtExpiration = (delegate* unmanaged<nint, long>)Find("x509_crt_get_expiration_time");
        CrtGetDn = (delegate* unmanaged<nint, byte*, nuint*, int>)Find("x509_crt_get_dn");
        CrtCheckHostname = (delegate* unmanaged<nint, byte*, uint>)Find("x509_crt_check_hostname");
        CrtBasicConstraints = (delegate* unmanaged<nint, uint*, uint*, int*, int>)Find("x509_crt_get_basic_constraints");
        CrtKeyUsage = (delegate* unmanaged<nint, uint*, uint*, int>)Find("x509_crt_get_key_usage");
        CrtKeyPurpose = (delegate* unmanaged<nint, uint, byte*, nuint*, uint*, int>)Find("x509_crt_get_key_purpose_oid");
        CrtListVerify = (delegate* unmanaged<nint*, uint, nint*, uint, nint*, uint, uint, uint*, int>)Find("x509_crt_list_verify");
    }

    /// <summary>Null when the library is too old to have them all.</summary>
    internal static GnuTlsApi? Load(nint library)
    {
        try
        {
            return new GnuTlsApi(library);
        }
        catch (EntryPointNotFoundException)
        {
            return null;
        }
    }
}
