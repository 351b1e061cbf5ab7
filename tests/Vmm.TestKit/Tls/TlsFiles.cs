using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Vmm.TestKit.Tls;

/// <summary>What a certificate for a test says; by default that of the host "localhost".</summary>
public sealed record TestCertificate
{
    public const string ServerPurpose = "1.3.6.1.5.5.7.3.1";
    public const string ClientPurpose = "1.3.6.1.5.5.7.3.2";

    public string Subject { get; init; } = "CN=localhost";

    public bool? IsAuthority { get; init; } = false;

    public X509KeyUsageFlags? Usage { get; init; } = X509KeyUsageFlags.DigitalSignature;

    public bool IsUsageCritical { get; init; } = true;

    public string? Purpose { get; init; } = ServerPurpose;

    public bool IsPurposeCritical { get; init; }

    public int FromDays { get; init; } = -1;

    public int ToDays { get; init; } = 100;

    public static TestCertificate Authority { get; } = new()
    {
        Subject = "CN=Test authority",
        IsAuthority = true,
        Usage = X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign,
        Purpose = null,
    };

    public static TestCertificate Server { get; } = new();

    public static TestCertificate Client { get; } = new() { Subject = "CN=guest,O=Acme", Purpose = ClientPurpose };
}

/// <summary>
/// Folders with the files of TLS credentials. Keys are made once for all tests of a process; every certificate is signed by the same key,
/// whatever the folder's ca-cert.pem says.
/// </summary>
public sealed class TlsFiles
{
    private static readonly ECDsa s_authorityKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private static readonly ECDsa s_otherKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private static readonly ECDsa s_serverKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private static readonly ECDsa s_clientKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    // The group of 2048 bits of RFC 7919: a peer that is given none makes its own, which takes it long.
    private const string DhParameters =
        """
        -----BEGIN DH PARAMETERS-----
        MIIBDAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
        +8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
        87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
        YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
        7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
        ssbzSibBsu/6iGtCOGEoXJf//////////wIBAgICAQA=
        -----END DH PARAMETERS-----

        """;

    private static int s_serial;

    public TlsFiles(string folder)
    {
        Folder = folder;
        Directory.CreateDirectory(folder);
    }

    public string Folder { get; }

    /// <summary>Everything that both ends need: certificates, and keys of "alice" and "qemu".</summary>
    public static TlsFiles Full(string folder) => new TlsFiles(folder).Authority().Server().Client().Psk().Put("dh-params.pem", DhParameters);

    public string PathOf(string name) => Path.Combine(Folder, name);

    public TlsFiles Put(string name, string text)
    {
        File.WriteAllText(PathOf(name), text);
        return this;
    }

    /// <param name="certificate">What it says.</param>
    /// <param name="isOther">Of another key than the one that signs.</param>
    public TlsFiles Authority(TestCertificate? certificate = null, bool isOther = false) =>
        Put("ca-cert.pem", Make(certificate ?? TestCertificate.Authority, isOther ? s_otherKey : s_authorityKey, isOther ? s_otherKey : s_authorityKey));

    public TlsFiles Server(TestCertificate? certificate = null) =>
        Put("server-cert.pem", Make(certificate ?? TestCertificate.Server, s_serverKey, s_authorityKey))
            .Put("server-key.pem", s_serverKey.ExportPkcs8PrivateKeyPem());

    public TlsFiles Client(TestCertificate? certificate = null) =>
        Put("client-cert.pem", Make(certificate ?? TestCertificate.Client, s_clientKey, s_authorityKey))
            .Put("client-key.pem", s_clientKey.ExportPkcs8PrivateKeyPem());

    public TlsFiles EncryptServerKey(string password) => Put(
        "server-key.pem",
        s_serverKey.ExportEncryptedPkcs8PrivateKeyPem(password, new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)));

    public TlsFiles Psk(string text = "alice:00112233445566778899aabbccddeeff\nqemu:ffeeddccbbaa99887766554433221100\n") => Put("keys.psk", text);

    private static string Make(TestCertificate what, ECDsa key, ECDsa signer)
    {
        var request = new CertificateRequest(what.Subject, key, HashAlgorithmName.SHA256);
        if (what.IsAuthority is { } isAuthority)
        {
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(isAuthority, false, 0, true));
        }

        if (what.Usage is { } usage)
        {
            request.CertificateExtensions.Add(new X509KeyUsageExtension(usage, what.IsUsageCritical));
        }

        if (what.Purpose is { } purpose)
        {
            request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(purpose)], what.IsPurposeCritical));
        }

        if (what.IsAuthority != true)
        {
            var names = new SubjectAlternativeNameBuilder();
            names.AddDnsName("localhost");
            names.AddIpAddress(IPAddress.Loopback);
            request.CertificateExtensions.Add(names.Build());
        }

        byte[] serial = new byte[8];
        System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(serial.AsSpan(4), Interlocked.Increment(ref s_serial));
        serial[0] = 1;
        DateTimeOffset now = DateTimeOffset.UtcNow;
        using X509Certificate2 certificate = request.Create(
            new X500DistinguishedName(TestCertificate.Authority.Subject),
            X509SignatureGenerator.CreateForECDsa(signer),
            now.AddDays(what.FromDays),
            now.AddDays(what.ToDays),
            serial);
        return certificate.ExportCertificatePem() + "\n";
    }
}
