using System.Text;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>
/// Sensitive data such as a password, plain or base64, optionally encrypted with another secret (AES-256-CBC, PKCS#7 padding) (QOM
/// <c>secret_common</c>). Home: main loop.
/// </summary>
public abstract class SecretCommon : QomObject, IUserCreatable
{
    private static readonly string[] s_formats = ["raw", "base64"];
    private static QomTypeInfo? s_typeInfo;

    private string? _keyId;
    private string? _iv;
    private int _format;
    private byte[]? _bytes;

    /// <summary>Type "secret_common".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "secret_common",
        Parent = "object",
        IsAbstract = true,
        Interfaces = ["user-creatable"],
        Properties = static () =>
        [
            new QomPropertyInfo("loaded", "bool", static o => ((SecretCommon)o)._bytes is not null, null),
            new QomPropertyInfo(
                "format",
                "QCryptoSecretFormat",
                static o => s_formats[((SecretCommon)o)._format],
                static (o, input) => ((SecretCommon)o)._format = input.ReadEnum(s_formats)),
            Text("keyid", static s => s._keyId, static (s, v) => s._keyId = v),
            Text("iv", static s => s._iv, static (s, v) => s._iv = v),
        ],
    };

    /// <inheritdoc/>
    public virtual IReadOnlyList<string> RequiredProperties => [];

    /// <summary>The decoded, decrypted bytes; empty before completion.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>Finds a secret by id.</summary>
    /// <exception cref="QapiException">There is none, or the object is something else.</exception>
    public static SecretCommon Find(QomTree tree, string id) => tree.Objects.FindChild(id) switch
    {
        null => throw new QapiException($"No secret with id '{id}'"),
        SecretCommon secret => secret,
        _ => throw new QapiException($"Object with id '{id}' is not a secret"),
    };

    /// <summary>Finds a secret by id and returns it as text.</summary>
    /// <exception cref="QapiException">As <see cref="Find"/>, or the secret is not UTF-8.</exception>
    public static string FindText(QomTree tree, string id)
    {
        try
        {
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(Find(tree, id).Bytes);
        }
        catch (DecoderFallbackException)
        {
            throw new QapiException($"Data from secret {id} is not valid UTF-8");
        }
    }

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        byte[] input = Load();
        if (_keyId is not null)
        {
            _bytes = Decrypt(input, context.Tree);
        }
        else
        {
            _bytes = _format == 1 ? DecodeBase64(input) : input;
        }
    }

    /// <summary>The bytes as they are kept.</summary>
    /// <exception cref="QapiException">They cannot be had.</exception>
    protected abstract byte[] Load();

    private static QomPropertyInfo Text(string name, Func<SecretCommon, string?> get, Action<SecretCommon, string?> set) =>
        new(name, "string", o => get((SecretCommon)o) ?? "", (o, input) => set((SecretCommon)o, input.ReadString()));

    private static byte[] DecodeBase64(ReadOnlySpan<byte> text)
    {
        var chars = new char[text.Length];
        int count = 0;
        foreach (byte b in text)
        {
            if (b is (byte)'\n' or (byte)'\r' && count > 0)
            {
                continue;
            }

            if (!char.IsAsciiLetterOrDigit((char)b) && b is not ((byte)'+' or (byte)'/' or (byte)'='))
            {
                throw new QapiException("Base64 data contains invalid characters");
            }

            chars[count++] = (char)b;
        }

        // Incomplete groups at the end are decoded as far as they go.
        string body = new string(chars, 0, count).TrimEnd('=');
        if (body.Contains('='))
        {
            throw new QapiException("Base64 data contains invalid characters");
        }

        if (body.Length % 4 == 1)
        {
            body = body[..^1];
        }

        var result = new byte[(body.Length * 3 / 4) + 3];
        body = body.PadRight((body.Length + 3) / 4 * 4, '=');
        return Convert.TryFromBase64String(body, result, out int written)
            ? result[..written]
            : throw new QapiException("Base64 data contains invalid characters");
    }

    private byte[] Decrypt(byte[] input, QomTree tree)
    {
        ReadOnlySpan<byte> key = Find(tree, _keyId!).Bytes;
        if (key.Length != AesCbc.KeySize)
        {
            throw new QapiException($"Key should be {AesCbc.KeySize} bytes in length");
        }

        if (_iv is null)
        {
            throw new QapiException("IV is required to decrypt secret");
        }

        byte[] iv = DecodeBase64(Encoding.UTF8.GetBytes(_iv));
        if (iv.Length != AesCbc.BlockSize)
        {
            throw new QapiException($"IV should be {AesCbc.BlockSize} bytes in length not {iv.Length}");
        }

        byte[] cipher = _format == 1 ? DecodeBase64(input) : input;
        if (cipher.Length % AesCbc.BlockSize != 0)
        {
            throw new QapiException($"Length {cipher.Length} must be a multiple of block size {AesCbc.BlockSize}");
        }

        byte[] plain = AesCbc.Decrypt(key, iv, cipher);
        int padding = plain.Length > 0 ? plain[^1] : 0;
        if (padding > AesCbc.BlockSize || padding > plain.Length)
        {
            throw new QapiException($"Incorrect number of padding bytes ({padding}) found on decrypted data");
        }

        return plain[..^padding];
    }
}
