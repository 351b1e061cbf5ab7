using System.Runtime.InteropServices;
using System.Text;

namespace Vmm.Interop.Tls;

/// <summary>Encoding of a certificate.</summary>
public enum GnuTlsFormat
{
    /// <summary>Binary.</summary>
    Der,

    /// <summary>Text.</summary>
    Pem,
}

/// <summary>An X.509 certificate (gnutls_x509_crt_t). One thread at a time.</summary>
public sealed unsafe class GnuTlsCertificate : SafeHandle
{
    /// <summary>Key usage: digital signatures.</summary>
    public const uint DigitalSignature = 128;

    /// <summary>Key usage: encipherment of keys.</summary>
    public const uint KeyEncipherment = 32;

    /// <summary>Key usage: signing certificates.</summary>
    public const uint CertificateSign = 4;

    private GnuTlsCertificate(nint certificate)
        : base(0, ownsHandle: true) => SetHandle(certificate);

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Begin of validity, seconds since 1970; -1 when it cannot be told.</summary>
    public long Activation => GnuTls.Api.CrtActivation(handle);

    /// <summary>End of validity, seconds since 1970; -1 when it cannot be told.</summary>
    public long Expiration => GnuTls.Api.CrtExpiration(handle);

    /// <summary>Reads one certificate.</summary>
    /// <returns>0 or an error.</returns>
    public static int Import(ReadOnlySpan<byte> data, GnuTlsFormat format, out GnuTlsCertificate? certificate)
    {
        certificate = null;
        nint made = 0;
        int result = GnuTls.Api.CrtInit(&made);
        if (result < 0)
        {
            return result;
        }

        var holder = new GnuTlsCertificate(made);
        fixed (byte* p = data)
        {
            GnuTlsDatum datum = new() { Data = p, Size = (uint)data.Length };
            result = GnuTls.Api.CrtImport(made, &datum, (int)format);
        }

        if (result < 0)
        {
            holder.Dispose();
            return result;
        }

        certificate = holder;
        return 0;
    }

    /// <summary>Reads up to so many certificates in PEM.</summary>
    /// <returns>0 or an error.</returns>
    public static int ImportList(ReadOnlySpan<byte> data, int most, List<GnuTlsCertificate> into)
    {
        var made = new nint[most];
        uint count = (uint)most;
        int result;
        fixed (byte* p = data)
        fixed (nint* to = made)
        {
            GnuTlsDatum datum = new() { Data = p, Size = (uint)data.Length };
            result = GnuTls.Api.CrtListImport(to, &count, &datum, (int)GnuTlsFormat.Pem, 0);
        }

        for (int i = 0; i < result; i++)
        {
            into.Add(new GnuTlsCertificate(made[i]));
        }

        return Math.Min(result, 0);
    }

    /// <summary>Whether certificates lead to trusted ones.</summary>
    /// <param name="chain">The certificate, and those that lead to its issuer.</param>
    /// <param name="trusted">The trusted ones.</param>
    /// <param name="status">Bits that say what is wrong; 0 for nothing.</param>
    /// <returns>0 or an error.</returns>
    public static int Verify(ReadOnlySpan<GnuTlsCertificate> chain, ReadOnlySpan<GnuTlsCertificate> trusted, out uint status)
    {
        nint[] certificates = Handles(chain);
        nint[] anchors = Handles(trusted);
        uint found = 0;
        int result;
        fixed (nint* c = certificates)
        fixed (nint* a = anchors)
        {
            result = GnuTls.Api.CrtListVerify(c, (uint)certificates.Length, a, (uint)anchors.Length, null, 0, 0, &found);
        }

        status = found;
        return result;
    }

    /// <summary>The subject's distinguished name, as RFC 4514 writes it.</summary>
    /// <returns>0 or an error.</returns>
    public int GetDistinguishedName(out string name)
    {
        nuint size = 1024;
        while (true)
        {
            var buffer = new byte[size];
            fixed (byte* p = buffer)
            {
                nuint capacity = size;
                int result = GnuTls.Api.CrtGetDn(handle, p, &size);
                if (result == GnuTls.ShortBuffer && size > capacity && size < 1 << 20)
                {
                    continue;
                }

                name = result < 0 ? "" : Encoding.UTF8.GetString(buffer, 0, (int)size).TrimEnd('\0');
                return Math.Min(result, 0);
            }
        }
    }

    /// <summary>Whether the certificate is that of a host (RFC 6125).</summary>
    public bool IsForHost(string host)
    {
        nint text = Marshal.StringToCoTaskMemUTF8(host);
        bool isMatch = GnuTls.Api.CrtCheckHostname(handle, (byte*)text) != 0;
        Marshal.FreeCoTaskMem(text);
        return isMatch;
    }

    /// <summary>The basic constraints: 1 for an issuer, 0 for none, or an error; <see cref="GnuTls.NotAvailable"/> when the certificate does not say.</summary>
    public int GetBasicConstraints() => GnuTls.Api.CrtBasicConstraints(handle, null, null, null);

    /// <summary>The key usage.</summary>
    /// <returns>0 or an error; <see cref="GnuTls.NotAvailable"/> when the certificate does not say.</returns>
    public int GetKeyUsage(out uint usage, out bool isCritical)
    {
        uint bits = 0;
        uint critical = 0;
        int result = GnuTls.Api.CrtKeyUsage(handle, &bits, &critical);
        (usage, isCritical) = (bits, critical != 0);
        return result;
    }

    /// <summary>A purpose of the key, as an object identifier.</summary>
    /// <returns>0 or an error; <see cref="GnuTls.NotAvailable"/> behind the last.</returns>
    public int GetKeyPurpose(int index, out string purpose, out bool isCritical)
    {
        Span<byte> buffer = stackalloc byte[256];
        nuint size = (nuint)buffer.Length;
        uint critical = 0;
        int result;
        fixed (byte* p = buffer)
        {
            result = GnuTls.Api.CrtKeyPurpose(handle, (uint)index, p, &size, &critical);
        }

        purpose = result < 0 ? "" : Encoding.ASCII.GetString(buffer[..(int)Math.Min(size, 256)]).TrimEnd('\0');
        isCritical = critical != 0;
        return Math.Min(result, 0);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        GnuTls.Api.CrtDeinit(handle);
        return true;
    }

    private static nint[] Handles(ReadOnlySpan<GnuTlsCertificate> certificates)
    {
        var handles = new nint[certificates.Length];
        for (int i = 0; i < handles.Length; i++)
        {
            handles[i] = certificates[i].handle;
        }

        return handles;
    }
}
