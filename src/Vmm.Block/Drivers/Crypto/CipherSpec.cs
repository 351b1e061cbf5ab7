using System.Security.Cryptography;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>How blocks of a cipher make a sector.</summary>
internal enum CipherMode
{
    /// <summary>Each for itself.</summary>
    Ecb,

    /// <summary>Each with the one before.</summary>
    Cbc,

    /// <summary>Each with its number, by a second key.</summary>
    Xts,
}

/// <summary>What sectors begin with.</summary>
internal enum VectorKind
{
    /// <summary>Their number, 32 bits.</summary>
    Plain,

    /// <summary>Their number, 64 bits.</summary>
    Plain64,

    /// <summary>Their number, encrypted with a hash of the key.</summary>
    Essiv,
}

/// <summary>A cipher for sectors: AES in a mode, with a rule for initial vectors.</summary>
/// <param name="KeyBytes">Bytes of a single AES key: 16, 24 or 32.</param>
/// <param name="Mode">Mode.</param>
/// <param name="Vector">Initial vectors.</param>
/// <param name="VectorHash">Hash of <see cref="VectorKind.Essiv"/>; null for others.</param>
internal sealed record CipherSpec(int KeyBytes, CipherMode Mode, VectorKind Vector, string? VectorHash)
{
    /// <summary>Bytes of the whole key.</summary>
    internal int TotalKeyBytes => Mode == CipherMode.Xts ? 2 * KeyBytes : KeyBytes;

    internal string AlgorithmName => $"aes-{8 * KeyBytes}";

    internal string ModeName => Mode.ToString().ToLowerInvariant();

    internal string VectorName => Vector.ToString().ToLowerInvariant();

    /// <summary>Mode and vectors as a header has them.</summary>
    internal string HeaderMode => VectorHash is null ? $"{ModeName}-{VectorName}" : $"{ModeName}-{VectorName}:{VectorHash}";

    /// <summary>Reads names of a header.</summary>
    /// <param name="algorithm">Cipher.</param>
    /// <param name="modeAndVector">Mode, "-", rule for vectors.</param>
    /// <param name="keyBytes">Bytes of the whole key.</param>
    /// <param name="hash">Hash of the header.</param>
    /// <exception cref="QapiException">One of them is not known.</exception>
    internal static CipherSpec Parse(string algorithm, string modeAndVector, uint keyBytes, string hash)
    {
        int dash = modeAndVector.IndexOf('-');
        if (dash < 0)
        {
            throw new QapiException($"Unexpected cipher mode string format '{modeAndVector}'");
        }

        string modeName = modeAndVector[..dash];
        string vector = modeAndVector[(dash + 1)..];
        int colon = vector.IndexOf(':');
        string? vectorHash = colon < 0 ? null : vector[(colon + 1)..];
        vector = colon < 0 ? vector : vector[..colon];
        if (vectorHash is not null)
        {
            HashOf(vectorHash);
        }

        CipherMode mode = modeName switch
        {
            "ecb" => CipherMode.Ecb,
            "cbc" => CipherMode.Cbc,
            "xts" => CipherMode.Xts,
            _ => throw new QapiException($"Cipher mode '{modeName}' not supported"),
        };
        uint single = mode == CipherMode.Xts ? keyBytes / 2 : keyBytes;
        if (algorithm != "aes" || single is not (16 or 24 or 32) || (mode == CipherMode.Xts && keyBytes % 2 != 0))
        {
            throw new QapiException($"Algorithm '{algorithm}' with key size {single} bytes not supported");
        }

        HashOf(hash);
        VectorKind kind = vector switch
        {
            "plain" => VectorKind.Plain,
            "plain64" => VectorKind.Plain64,
            "essiv" => VectorKind.Essiv,
            _ => throw new QapiException($"IV generator '{vector}' not supported"),
        };
        if (kind == VectorKind.Essiv && vectorHash is null)
        {
            throw new QapiException("Missing IV generator hash specification");
        }

        return new CipherSpec((int)single, mode, kind, kind == VectorKind.Essiv ? vectorHash : null);
    }

    /// <summary>The hash of that name.</summary>
    /// <exception cref="QapiException">There is none.</exception>
    internal static HashAlgorithmName HashOf(string name) => name switch
    {
        "sha1" => HashAlgorithmName.SHA1,
        "sha256" => HashAlgorithmName.SHA256,
        "sha384" => HashAlgorithmName.SHA384,
        "sha512" => HashAlgorithmName.SHA512,
        _ => throw new QapiException($"Hash algorithm '{name}' not supported"),
    };
}
