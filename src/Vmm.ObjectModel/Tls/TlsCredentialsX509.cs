using Vmm.EventLoop;
using Vmm.Interop.Tls;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tls;

/// <summary>
/// TLS credentials with X.509 certificates (QOM <c>tls-creds-x509</c>). A client need not have one; revocations are for servers to look at.
/// </summary>
public sealed class TlsCredentialsX509 : TlsCredentials, IUserCreatable
{
    private static QomTypeInfo? s_typeInfo;

    private bool _isChecked = true;
    private string? _passwordId;

    /// <summary>Type "tls-creds-x509".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "tls-creds-x509",
        Parent = "tls-creds",
        Interfaces = ["user-creatable"],
        Factory = static () => new TlsCredentialsX509(),
        Properties = static () =>
        [
            LoadedProperty,
            new QomPropertyInfo(
                "sanity-check",
                "bool",
                static o => ((TlsCredentialsX509)o)._isChecked,
                static (o, input) => ((TlsCredentialsX509)o)._isChecked = input.ReadBool()),
            new QomPropertyInfo(
                "passwordid",
                "string",
                static o => ((TlsCredentialsX509)o)._passwordId ?? "",
                static (o, input) => ((TlsCredentialsX509)o)._passwordId = input.ReadString()),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        string authority = PathOf("ca-cert.pem", isRequired: true)!;
        string? revocations = IsServer ? PathOf("ca-crl.pem", isRequired: false) : null;
        string? certificate = PathOf(IsServer ? "server-cert.pem" : "client-cert.pem", isRequired: IsServer);
        string? key = PathOf(IsServer ? "server-key.pem" : "client-key.pem", isRequired: IsServer);
        string? dh = IsServer ? PathOf("dh-params.pem", isRequired: false) : null;
        GnuTlsCredentials credentials = Allocate(GnuTlsCredentialsKind.Certificate, "'");
        if (_isChecked)
        {
            new CertificateCheck(IsServer, context.Clocks.NowNs(ClockType.Host) / 1_000_000_000).Run(authority, certificate);
        }

        Require(credentials.TrustFile(authority), $"Cannot load CA certificate '{authority}'");
        if (certificate is not null && key is not null)
        {
            string? password = _passwordId is null ? null : Secret.FindText(context.Tree, _passwordId);
            Require(credentials.KeyFiles(certificate, key, password), $"Cannot load certificate '{certificate}' & key '{key}'");
        }

        if (revocations is not null)
        {
            Require(credentials.RevocationFile(revocations), $"Cannot load CRL '{revocations}'");
        }

        if (IsServer)
        {
            SetDhParameters(credentials, dh);
        }

        Native = credentials;
    }

    private static void Require(int result, string what)
    {
        if (result < 0)
        {
            throw new QapiException($"{what}: {GnuTls.ErrorText(result)}");
        }
    }
}
