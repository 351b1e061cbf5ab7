using Vmm.Interop.Tls;
using Vmm.ObjectModel.Objects;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tls;

/// <summary>
/// Finds the mistakes in own certificates that would have every peer refuse them, when they can still be told to the operator (RFC 5280,
/// 4.1.2.5 and 4.2.1). Errors are in QEMU's words.
/// </summary>
/// <param name="isServer">They are a server's.</param>
/// <param name="now">Seconds since 1970.</param>
internal sealed class CertificateCheck(bool isServer, long now)
{
    private const int MaxAuthorities = 16;
    private const string ServerPurpose = "1.3.6.1.5.5.7.3.1";
    private const string ClientPurpose = "1.3.6.1.5.5.7.3.2";
    private const string AnyPurpose = "2.5.29.37.0";

    private string Side => isServer ? "server" : "client";

    /// <summary>What is wrong with a certificate that does not lead to a trusted one.</summary>
    /// <param name="status">Bits of the library.</param>
    /// <param name="otherwise">Text for what has no bit of its own.</param>
    internal static string Reason(uint status, string otherwise) =>
        (status & GnuTls.CertificateInsecureAlgorithm) != 0 ? "The certificate uses an insecure algorithm"
        : (status & GnuTls.CertificateRevoked) != 0 ? "The certificate has been revoked"
        : (status & GnuTls.CertificateSignerNotFound) != 0 ? "The certificate hasn't got a known issuer"
        : (status & GnuTls.CertificateInvalid) != 0 ? "The certificate is not trusted"
        : otherwise;

    /// <summary>Checks certificates in files.</summary>
    /// <param name="authority">The trusted ones.</param>
    /// <param name="own">The own one; null for none.</param>
    /// <exception cref="QapiException">Something is wrong with them.</exception>
    internal void Run(string authority, string? own)
    {
        GnuTlsCertificate? certificate = null;
        List<GnuTlsCertificate> authorities = [];
        try
        {
            if (own is not null)
            {
                certificate = Load(own);
            }

            if (GnuTlsCertificate.ImportList(SmallFile.Read(authority, $"Cannot load CA cert list {authority}"), MaxAuthorities, authorities) < 0)
            {
                throw new QapiException($"Unable to import CA certificate list {authority}");
            }

            foreach (GnuTlsCertificate item in authorities)
            {
                Check(item, authority, isAuthority: true);
            }

            if (certificate is not null)
            {
                Check(certificate, own!, isAuthority: false);
                CheckPair(certificate, own!, authorities, authority);
            }
        }
        finally
        {
            certificate?.Dispose();
            authorities.ForEach(static a => a.Dispose());
        }
    }

    private GnuTlsCertificate Load(string path)
    {
        int result = GnuTlsCertificate.Import(SmallFile.Read(path, $"Cannot load CA cert list {path}"), GnuTlsFormat.Pem, out GnuTlsCertificate? made);
        return made ?? throw new QapiException($"Unable to import {Side} certificate {path}: {GnuTls.ErrorText(result)}");
    }

    private void Check(GnuTlsCertificate certificate, string path, bool isAuthority)
    {
        string who = isAuthority ? "CA" : Side;
        if (certificate.Expiration < now)
        {
            throw new QapiException($"The {who} certificate {path} has expired");
        }

        if (certificate.Activation > now)
        {
            throw new QapiException($"The {who} certificate {path} is not yet active");
        }

        CheckConstraints(certificate, path, isAuthority);
        CheckUsage(certificate, path, isAuthority);
        if (!isAuthority)
        {
            CheckPurpose(certificate, path);
        }
    }

    private void CheckConstraints(GnuTlsCertificate certificate, string path, bool isAuthority)
    {
        int result = certificate.GetBasicConstraints();
        if (result > 0 && !isAuthority)
        {
            throw new QapiException($"The certificate {path} basic constraints show a CA, but we need one for a {Side}");
        }

        if (result == 0 && isAuthority)
        {
            throw new QapiException($"The certificate {path} basic constraints do not show a CA");
        }

        if (result == GnuTls.NotAvailable && isAuthority)
        {
            throw new QapiException($"The certificate {path} is missing basic constraints for a CA");
        }

        if (result < 0 && result != GnuTls.NotAvailable)
        {
            throw new QapiException($"Unable to query certificate {path} basic constraints: {GnuTls.ErrorText(result)}");
        }
    }

    private static void CheckUsage(GnuTlsCertificate certificate, string path, bool isAuthority)
    {
        uint needed = isAuthority ? GnuTlsCertificate.CertificateSign : GnuTlsCertificate.DigitalSignature;
        int result = certificate.GetKeyUsage(out uint usage, out bool isCritical);
        if (result == GnuTls.NotAvailable)
        {
            return;
        }

        if (result < 0)
        {
            throw new QapiException($"Unable to query certificate {path} key usage: {GnuTls.ErrorText(result)}");
        }

        // What is not critical may be disregarded.
        if ((usage & needed) == 0 && isCritical)
        {
            throw new QapiException($"Certificate {path} usage does not permit {(isAuthority ? "certificate signing" : "digital signature")}");
        }
    }

    private void CheckPurpose(GnuTlsCertificate certificate, string path)
    {
        bool isAllowed = false;
        bool isCritical = false;
        for (int i = 0; ; i++)
        {
            int result = certificate.GetKeyPurpose(i, out string purpose, out bool critical);
            if (result == GnuTls.NotAvailable)
            {
                isAllowed |= i == 0;
                break;
            }

            if (result < 0)
            {
                throw new QapiException($"Unable to query certificate {path} key purpose: {GnuTls.ErrorText(result)}");
            }

            isAllowed |= purpose == AnyPurpose || purpose == (isServer ? ServerPurpose : ClientPurpose);
            isCritical |= critical;
        }

        if (!isAllowed && isCritical)
        {
            throw new QapiException($"Certificate {path} purpose does not allow use with a TLS {Side}");
        }
    }

    private void CheckPair(GnuTlsCertificate certificate, string path, List<GnuTlsCertificate> authorities, string authority)
    {
        int result = GnuTlsCertificate.Verify([certificate], authorities.ToArray(), out uint status);
        if (result < 0)
        {
            throw new QapiException($"Unable to verify {Side} certificate {path} against CA certificate {authority}");
        }

        if (status != 0)
        {
            throw new QapiException($"Our own certificate {path} failed validation against {authority}: {Reason(status, "Invalid certificate")}");
        }
    }
}
